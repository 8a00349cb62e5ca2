"""Human3.6M for ContextPose: people cut out of the views that show them, with the cameras of the cut-outs.

    dataset = Human36MViews(config, "val")
    dataset[0, (2,)]                # row 0 as camera 2 sees it: a Sample
    dataset.keys()                  # what evaluation goes through
    dataset.plan(seed=0, epoch=1)   # what an epoch of training goes through: batches of keys

Which keys are asked for, and in which order, is decided in one place before anything is read, from the seed and the
number of the epoch alone: a resumed run sees what the uninterrupted one would have seen.
Sources: Iskakov et al., "Learnable Triangulation of Human Pose", ICCV 2019; Ma et al., "Context Modeling in 3D Human
Pose Estimation: A Unified Perspective", CVPR 2021.
"""
import itertools
import os

import numpy as np
from torch.utils.data import Dataset

from common.contextpose.evaluation import describe, pose_metrics, project_joints, rates_2d
from common.contextpose.image import crop_view, cropped_camera, erase
from common.contextpose.image_store import AGAIN, Folder, ZipFile
from common.contextpose.labels import check_rows, read_labels, read_pelvis
from common.contextpose.samples import Sample
from common.h36m_images import image_path, scale_box
from common.h36m_raw import SUBJECTS, TEST_SUBJECTS
from common.keypoints import CONTEXTPOSE_PELVIS
from common.utils import DataError, UsageError, require

SPLITS = {"train": tuple(subject for subject in SUBJECTS if subject not in TEST_SUBJECTS), "val": TEST_SUBJECTS}
DAMAGED = tuple(("S9", sequence) for sequence in ("Greeting-2", "SittingDown-2", "Waiting-1"))


class Human36MViews(Dataset):
    """The labelled moments (rows) of one split; a sample is asked for by its key, (row, views).

    keypoints (n, 17, 3) float32 world millimetres; pelvis (n, 3) float32, centres of the volumes; frames (n,) of the
    videos, the first is 0; available (n, V) bool, which cameras show a row; camera_names. Of every row: subjects
    (`S9`), sequences (`Directions-1`), actions (`Directions`).
    """

    def __init__(self, config, split, section=None, root=""):
        """config: a Config; split: train or val, which has labels and skeletons of its own; section: config.train or
        config.val, how samples are made and drawn (that of the split); root: folder that all paths are relative to.

        Raises UsageError for settings that do not fit together or the data, DataError for files that are missing,
        damaged or do not belong together, among them images, of which the first of every video is looked for.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}")
        data, self.section = config.dataset, section or getattr(config, split)
        if data.transfer_cmu_to_human36m:
            raise UsageError("dataset.transfer_cmu_to_human36m is not supported: it is for networks with the joints of "
                             "CMU's Panoptic, and there is none here; set it to false")
        path = os.path.join(root, getattr(data, f"{split}_labels_path"))
        labels = read_labels(path)
        whole = _rows_of(path, labels, SPLITS[split])
        kept = np.full(len(whole), True) if self.section.with_damaged_actions else ~_damaged(labels, whole)
        step = getattr(self.section, "retain_every_n_frames_in_test", 1) if split == "val" else 1
        rows = whole[kept][::step]
        if not len(rows):
            raise DataError(f"{path}: all its rows of {', '.join(SPLITS[split])} are damaged actions; set "
                            "with_damaged_actions to true")
        check_rows(path, labels, rows)
        self._take(labels, rows)
        self.mean_pose = _mean_training_pose(labels)
        self.size = tuple(config.model.image_shape)
        self.pictures = (ZipFile if data.data_format == "zip" else Folder)(os.path.join(root, data.root))
        self._sizes = {}
        self._find_first_pictures()
        if config.model.volume_net.use_gt_pelvis:
            self.pelvis = self.keypoints[:, CONTEXTPOSE_PELVIS].copy()
        else:
            skeletons = getattr(config, split).pred_results_path
            self.pelvis = read_pelvis(skeletons and os.path.join(root, skeletons), f"{split}.pred_results_path", kept,
                                      step)

    def _take(self, labels, rows):
        """Keep of the labels what samples of these rows need."""
        table, cameras = labels["table"][rows], labels["cameras"]
        self.keypoints = table["keypoints"].astype(np.float32)
        self.frames = table["frame_idx"].astype(np.int64)
        self.camera_names = labels["camera_names"]
        self._names = labels["subject_names"], labels["action_names"]
        self._subject, self._sequence = table["subject_idx"].astype(int), table["action_idx"].astype(int)
        self._boxes = table["bbox_by_camera_tlbr"].copy()
        self._K = cameras["K"].astype(np.float64)  # (subjects, cameras, 3, 3)
        self._Rt = np.concatenate([cameras["R"], cameras["t"]], axis=-1).astype(np.float64)
        count, ignored = len(self.camera_names), list(self.section.ignore_cameras)
        if not set(ignored) <= set(range(count)):
            raise UsageError(f"ignore_cameras {ignored}: there are the cameras 0 to {count - 1}")
        self.available = (self._boxes != 0).any(-1)
        self.available[:, ignored] = False
        scaled = scale_box(self._boxes, self.section.scale_bbox)
        if self.section.crop and (scaled[..., 2:] <= scaled[..., :2])[self.available].any():
            raise UsageError(f"scale_bbox {self.section.scale_bbox} leaves nothing of some boxes; take a larger one")
        if self.available.sum(1).max() < self.section.min_n_views:
            raise UsageError(f"no row has {self.section.min_n_views} views: lower min_n_views, or ignore fewer cameras")

    def __len__(self):
        return len(self.keypoints)

    @property
    def subjects(self):
        """Names (n,): `S9`."""
        return np.array(self._names[0])[self._subject]

    @property
    def sequences(self):
        """Names of actions with their trials (n,): `Directions-1`."""
        return np.array(self._names[1])[self._sequence]

    @property
    def actions(self):
        """Names of actions without their trials (n,): `Directions`."""
        return np.array([name.rpartition("-")[0] or name for name in self._names[1]])[self._sequence]

    def views(self, row):
        """The cameras (view, ...) that show a row, without those that are ignored."""
        return tuple(np.flatnonzero(self.available[row]).tolist())

    def keys(self):
        """[(row, views)] of an evaluation: every row with all its choices of max_n_views of its views.

        Rows with fewer views come once, with all they have, unless these are fewer than min_n_views.
        """
        low, high, found = self.section.min_n_views, self.section.max_n_views, []
        for row in range(len(self)):
            views = self.views(row)
            if len(views) >= low:
                found += [(row, chosen) for chosen in itertools.combinations(views, min(high, len(views)))]
        return found

    def __getitem__(self, key):
        """The Sample of a key, (row, views); IndexError where there are no such rows or views.

        Raises DataError, which names the image, where one is missing or damaged.
        """
        row, views = key
        if not views or not self.available[row, list(views)].all():
            raise IndexError(f"row {row} has the views {self.views(row)}, not {views}")
        crops, projections = [], []
        for view in views:
            image = self.pictures.read(self._picture(row, view))
            box, scale = (self._boxes[row, view], self.section.scale_bbox) if self.section.crop else (
                (0, 0, *image.shape[:2]), 1.0)
            crop, K = crop_view(image, self._K[self._subject[row], view], box, self.size, scale)
            projection = K @ self._Rt[self._subject[row], view]
            if self.section.erase:
                erase(crop, self.keypoints[row], projection)
            crops.append(crop)
            projections.append(projection)
        return Sample(np.stack(crops), np.stack(projections).astype(np.float32), self.keypoints[row], self.pelvis[row],
                      (row, tuple(views)))

    def projections(self, keys):
        """K [R|t] onto the pixels of the crops of n keys with V views each: (n, V, 3, 4) float64.

        Reads no image; without cropping, the size of one of every video. ValueError where the keys have several V.
        """
        if not len(keys):
            return np.zeros((0, 0, 3, 4))
        rows, views = np.array([row for row, _ in keys])[:, None], np.array([views for _, views in keys])
        if self.section.crop:
            boxes = scale_box(self._boxes[rows, views], self.section.scale_bbox)
        else:
            boxes = self._whole_pictures(rows, views)
        subjects = self._subject[rows]
        return cropped_camera(self._K[subjects, views], boxes, self.size) @ self._Rt[subjects, views]

    def labels(self, keys):
        """Of every key: subjects and actions, text (n,); frames (n,) of the videos, from 0."""
        rows = [row for row, _ in keys]
        return {"subjects": self.subjects[rows], "actions": self.actions[rows], "frames": self.frames[rows]}

    def report(self, predicted, keys):
        """(metrics, text) of predicted world mm (n, 17, 3); see `pose_metrics` and `rates_2d`.

        mean_pose_mpjpe_mm, where the labels hold training subjects: of always predicting their mean pose.
        """
        truth, named = self.keypoints[[row for row, _ in keys]], self.labels(keys)
        metrics = pose_metrics(predicted, truth, {"action": named["actions"], "subject": named["subjects"]})
        metrics["rates_2d"] = self._rates(predicted, truth, keys)
        if self.mean_pose is not None:
            relative = truth - truth[:, CONTEXTPOSE_PELVIS:CONTEXTPOSE_PELVIS + 1]
            metrics["mean_pose_mpjpe_mm"] = float(np.linalg.norm(relative - self.mean_pose, axis=-1).mean())
        return metrics, describe(metrics)

    def _rates(self, predicted, truth, keys):
        """`rates_2d` over all views of all keys, whatever their number of views."""
        counts = np.array([len(views) for _, views in keys])
        pixels = [[], []]
        for count in np.unique(counts):
            chosen = np.flatnonzero(counts == count)
            projections = self.projections([keys[i] for i in chosen])
            for found, poses in zip(pixels, (predicted, truth), strict=True):
                found.append(project_joints(poses[chosen], projections))
        return rates_2d(*map(np.concatenate, pixels), self.size)

    def _whole_pictures(self, rows, views):
        """Boxes (n, V, 4) of whole images, all of a video having one size."""
        videos = np.stack(np.broadcast_arrays(self._subject[rows], self._sequence[rows], views), axis=-1)
        distinct, first, inverse = np.unique(videos.reshape(-1, 3), axis=0, return_index=True, return_inverse=True)
        for video, place in zip(map(tuple, distinct.tolist()), first, strict=True):
            if video not in self._sizes:
                name = self._picture(np.broadcast_to(rows, views.shape).flat[place], video[2])
                self._sizes[video] = self.pictures.size(name)
        sizes = np.array([self._sizes[video] for video in map(tuple, distinct.tolist())])
        return np.pad(sizes[inverse.ravel()], ((0, 0), (2, 0))).reshape(*views.shape, 4)

    def _picture(self, row, view):
        subjects, sequences = self._names
        return image_path("", subjects[self._subject[row]], sequences[self._sequence[row]], self.camera_names[view],
                          self.frames[row], self.section.undistort_images).as_posix()

    def _find_first_pictures(self):
        """DataError where the first image of a video is missing: an epoch should not have to go on to find out."""
        videos = self._subject * len(self._names[1]) + self._sequence
        for view in range(len(self.camera_names)):
            rows = np.flatnonzero(self.available[:, view])
            for row in rows[np.unique(videos[rows], return_index=True)[1]]:
                name = self._picture(row, view)
                if not self.pictures.has(name):
                    raise DataError(f"{self.pictures.where(name)}: no such image; {AGAIN}")

    def plan(self, seed, epoch, rank=0, world_size=1, batch_size=None):
        """The batches of process `rank` of `world_size` in an epoch, lists of keys with one number of views a batch.

        batch_size: samples of a process's batch, unless those of the settings.
        They are a function of the arguments and the settings. All processes have as many batches, in which no row
        stands twice; rows go in their order or, with shuffle, in another every epoch; there are n_iters_per_epoch
        batches, else n_objects_per_epoch over the batch size, and never more than one pass over the rows. With
        randomize_n_views a batch has from min_n_views to max_n_views views, drawn from those of each row, else the
        first max_n_views. Rows with too few views for their batch are left out, and so is what is left at the end
        unless it is all there is. Raises UsageError where there is not one batch.
        """
        section, rng = self.section, np.random.default_rng([seed, epoch])
        counts = self.available.sum(1)
        most = min(section.max_n_views, counts.max())
        order = rng.permutation(len(self)) if section.shuffle else np.arange(len(self))
        # Views in the order in which they are taken, those that a row lacks at the end.
        liking = rng.random(self.available.shape) if section.randomize_n_views else np.zeros(self.available.shape)
        preferred = np.argsort(np.where(self.available, liking, np.inf), axis=1, kind="stable")
        batch_size = batch_size or section.batch_size
        batches, place, needed = [], 0, batch_size * world_size
        while place < len(order) and len(batches) < self._batches_wanted(batch_size):
            number = rng.integers(section.min_n_views, most + 1) if section.randomize_n_views else most
            rows = np.zeros(0, dtype=int)
            while len(rows) < needed and place < len(order):
                chunk = order[place:place + needed - len(rows)]
                rows, place = np.concatenate([rows, chunk[counts[chunk] >= number]]), place + len(chunk)
            if len(rows) < needed:
                rows = rows[:len(rows) // world_size * world_size] if not batches else rows[:0]
            if len(rows):
                mine = rows[rank::world_size]
                views = np.sort(preferred[mine, :number], axis=1).tolist()
                batches.append([(row, tuple(seen)) for row, seen in zip(mine.tolist(), views, strict=True)])
        if not batches:
            raise UsageError(f"{len(self)} rows do not make a batch for each of {world_size} processes; take more data "
                             "or fewer processes")
        return batches

    def _batches_wanted(self, batch_size):
        wanted = getattr(self.section, "n_iters_per_epoch", None)
        if wanted is None:
            objects = getattr(self.section, "n_objects_per_epoch", len(self))
            wanted = max(objects // batch_size, 1)
        return wanted


def _rows_of(path, labels, subjects):
    """Numbers of the rows of a table that are of these subjects."""
    names = labels["subject_names"]
    rows = np.flatnonzero(np.isin(labels["table"]["subject_idx"], [names.index(s) for s in subjects if s in names]))
    if not len(rows):
        held = [names[number] for number in np.unique(labels["table"]["subject_idx"])]
        raise DataError(f"{path}: has no rows of {', '.join(subjects)}, only of {', '.join(held) or 'nobody'}; prepare "
                        "those subjects with prepare_data_h36m.py --images")
    return rows


def _damaged(labels, rows):
    """Which of these rows are of sequences whose true positions are wrong."""
    table = labels["table"][rows]
    found = np.full(len(rows), False)
    for subject, sequence in DAMAGED:
        if subject in labels["subject_names"] and sequence in labels["action_names"]:
            found |= ((table["subject_idx"] == labels["subject_names"].index(subject))
                      & (table["action_idx"] == labels["action_names"].index(sequence)))
    return found


def _mean_training_pose(labels):
    """The mean pose (17, 3) of the training subjects' rows, relative to the pelvis, mm; None without any."""
    names = [labels["subject_names"].index(s) for s in SPLITS["train"] if s in labels["subject_names"]]
    poses = labels["table"]["keypoints"][np.isin(labels["table"]["subject_idx"], names)].astype(np.float64)
    return (poses - poses[:, CONTEXTPOSE_PELVIS:CONTEXTPOSE_PELVIS + 1]).mean(0) if len(poses) else None


def limb_lengths(path):
    """(mean, standard deviation) of the lengths of the limbs, (17,) or (16,) float32 millimetres, from an HDF5 file.

    Raises DataError for a file that is missing, damaged or holds anything else.
    """
    h5py = require("h5py", "h5py")
    again = "make it again with prepare_data_h36m.py --images, or correct limb_length_path"
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file of limb lengths; {again}")
    try:
        with h5py.File(path) as file:
            mean, std = (np.asarray(file[name][()], dtype=np.float32) for name in ("mean", "std"))
    except Exception as error:  # a damaged file raises about anything
        raise DataError(f"{path}: damaged, or without mean and std ({' '.join(str(error).split())}); {again}") from None
    if mean.shape != std.shape or mean.shape not in ((16,), (17,)):
        raise DataError(f"{path}: mean and std have the shapes {mean.shape} and {std.shape}, not (17,); {again}")
    if not (np.isfinite(mean) & np.isfinite(std) & (mean > 0) & (std >= 0)).all():
        raise DataError(f"{path}: holds lengths that are not finite or not more than 0; {again}")
    return mean, std
