"""The test sequences of MPI-INF-3DHP as ContextPose takes them: how a network trained on Human3.6M does elsewhere.

Read are `TS1/annot_data.mat` and the pictures `TS1/imageSequence/img_000001.jpg` (counted from 1) of the valid frames.
The owners give no cameras with them, so three things are taken from the truth, and every report says so:

- Focal lengths and centre of each sequence's camera are fitted to `univ_annot3` and `annot2` of its valid frames.
- Boxes are squares round `annot2`, 1.2 times as large as the joints' extent. Human3.6M's boxes, squares round the
  person's outline, are about 1.14 times (1.11 to 1.20 in demo people) as large as their joints' extent; here the joints
  reach to the top of the head, and as much cuts feet off.
- The centre of the volume is the true pelvis, or that of precalculated skeletons.

World axes: the network learnt with z pointing up, and how these cameras stand is not given. They are taken as level
(that of TS1 and TS2 is, to 2 degrees, by where feet touch the floor): world x is the camera's x, world y points
forward, world z up. The origin is the camera.

Sources: Mehta et al., 3DV 2017 (the data); Ma et al., CVPR 2021, report PCK and AUC of ContextPose on them.
"""
import json
from pathlib import Path

import numpy as np
import torch

from common.contextpose.evaluation import check_predictions
from common.contextpose.image import LEVEL_CAMERA, crop_view, cropped_camera, erase, read_image
from common.contextpose.labels import read_pelvis
from common.contextpose.samples import Sample
from common.evaluation_3dhp import ScoredSequence, tables, tables_text
from common.h36m_images import scale_box
from common.keypoints import (
    CONTEXTPOSE_17_FROM_MPI_INF_3DHP,
    CONTEXTPOSE_PELVIS,
    MPI_INF_3DHP_FROM_CONTEXTPOSE_17,
)
from common.mpi3dhp_dataset import TEST_IMAGES, TEST_SEQUENCES
from common.mpi3dhp_raw import find_test_files, read_test
from common.refinement import fit_intrinsics
from common.utils import DataError, UsageError

LARGEST_MISFIT = 20.0  # pixels, in the mean; in the published annotations about 1
BOX_SCALE = 1.2  # side of a box over the longer side of the joints' extent
# Settings that are not read here, and the values with which they ask for nothing.
NEUTRAL = {"dataset.data_format": "", "dataset.transfer_cmu_to_human36m": False, "val.ignore_cameras": [],
           "val.undistort_images": True, "val.with_damaged_actions": True, "val.min_n_views": 1, "val.max_n_views": 1}
NOT_FOR_TRAINING = ("dataset.kind mpi_inf_3dhp is for evaluation only: run with --eval, or train with dataset.kind "
                    "human36m")


def boxes_round(joints):
    """Square boxes (n, 4) tlbr, whole pixels, round joints (n, J, 2): `BOX_SCALE` times as large as their extent."""
    low, high = joints.min(1), joints.max(1)
    side = np.ceil(BOX_SCALE * (high - low).max(-1, keepdims=True)) + 1
    # Pixel centres lie at whole coordinates, and the last two numbers are the first row and column outside.
    corner = np.round((low + high)[:, ::-1] / 2 - (side - 1) / 2)
    return np.concatenate([corner, corner + side], axis=1).astype(np.int64)


def fitted_camera(poses, pixels, where):
    """What fits poses (n, 17, 3) in the camera's space and their pixels (n, 17, 2): K (3, 3), mean distance in pixels.

    Raises DataError where they do not fix a camera.
    """
    points, pixels = poses.reshape(-1, 3), pixels.reshape(-1, 2)
    try:
        fx, fy, cx, cy = fit_intrinsics(points, pixels)[:4].astype(np.float64)
    except ValueError as error:
        raise DataError(f"{where}: its valid frames hold {error}; copy it again from its owners") from None
    projected = points[:, :2] / points[:, 2:] * (fx, fy) + (cx, cy)
    misfit = np.linalg.norm(projected - pixels, axis=-1).mean()
    if misfit > LARGEST_MISFIT or min(fx, fy) <= 0:
        raise DataError(f"{where}: no camera maps its univ_annot3 to its annot2: the best one is {misfit:.0f} pixels "
                        "off; copy it again from its owners")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), float(misfit)


class Mpi3dhpTestViews(torch.utils.data.Dataset):
    """Valid frames of the test sequences that are there, one view each; keys are (row, (0,)).

    config: of ContextPose; section: its part with the data keys, `val` unless given; root: put before every path.
    Rows count the valid frames of all sequences found, in their order. keypoints: (rows, 17, 3) float32 world mm in
    ContextPose's order. Raises DataError for what is missing or damaged; UsageError for settings that do not apply.
    """

    def __init__(self, config, section=None, root=""):
        self.section, self.size = section or config.val, tuple(config.model.image_shape)
        for name, neutral in NEUTRAL.items():
            part, _, key = name.partition(".")
            if getattr(config.dataset if part == "dataset" else self.section, key) != neutral:
                raise UsageError(f"{name} does not apply to dataset.kind mpi_inf_3dhp, which has one undistorted "
                                 f"picture of every frame, in folders; set it to {json.dumps(neutral)}")
        self.every = getattr(self.section, "retain_every_n_frames_in_test", 1)
        folder = Path(root, config.dataset.root)
        files = find_test_files(folder, "name its folder in dataset.root")
        self.folder = next(iter(files.values())).parent.parent
        self.missing = [name for name in TEST_SEQUENCES if not files[name].is_file()]
        self.cameras, self.misfits, self.sequences = {}, {}, {}  # by sequence
        for name, path in files.items():
            if name not in self.missing:
                self._read(name, path)
        self._name = np.repeat(list(self.sequences), [len(s["frames"]) for s in self.sequences.values()])
        self._frame, pixels, self._poses = (np.concatenate([s[key] for s in self.sequences.values()])
                                            for key in ("frames", "data_2d", "data_3d"))
        self._boxes = boxes_round(pixels)
        self.keypoints = (self._poses[:, CONTEXTPOSE_17_FROM_MPI_INF_3DHP] @ LEVEL_CAMERA).astype(np.float32)
        self.centre, self.pelvis = self._centres(config.model.volume_net.use_gt_pelvis, root)
        self._check_images()

    def _read(self, name, path):
        sequence, _ = read_test(path, name)
        frames = np.flatnonzero(sequence["valid"])
        activity = sequence.get("activity")
        self.sequences[name] = {"frames": frames, "data_2d": sequence["data_2d"][frames],
                                "data_3d": sequence["data_3d"][frames],
                                "activity": None if activity is None else activity[frames]}
        self.cameras[name], self.misfits[name] = fitted_camera(sequence["data_3d"][frames],
                                                               sequence["data_2d"][frames], path)

    def _centres(self, use_gt_pelvis, root):
        """Where the centres of the volumes are from, in words, and they themselves: (rows, 3) float32."""
        if use_gt_pelvis:
            return "the true pelvis", self.keypoints[:, CONTEXTPOSE_PELVIS]
        path = self.section.pred_results_path
        pelvis = np.full((len(self.keypoints), 3), np.nan, dtype=np.float32)  # rows between those evaluated need none
        pelvis[::self.every] = read_pelvis(path and Path(root, path), "val.pred_results_path",
                                           np.full(len(pelvis), True), self.every)
        return f"the pelvis in {path}", pelvis

    def _check_images(self):
        missing = [path for path in map(self._path, (row for row, _ in self.keys())) if not path.is_file()]
        if missing:
            others = f" (and {len(missing) - 1} other pictures)" if missing[1:] else ""
            raise DataError(f"{missing[0]}: missing{others}; unpack the pictures of the test set there, or remove "
                            f"{missing[0].parent.parent.name} to evaluate without it")

    def _path(self, row):
        return self.folder / self._name[row] / "imageSequence" / f"img_{self._frame[row] + 1:06d}.jpg"

    def __len__(self):
        """The number of rows, of which `keys` may take some only."""
        return len(self.keypoints)

    def keys(self):
        """[(row, (0,))] of every n-th row, n of `retain_every_n_frames_in_test`."""
        return [(row, (0,)) for row in range(0, len(self.keypoints), self.every)]

    def plan(self, *_, **__):
        """There is nothing to train on: UsageError."""
        raise UsageError(NOT_FOR_TRAINING)

    def labels(self, keys):
        """{subjects, actions: (n,) text; frames: (n,)} of keys: the sequence twice, and the frame from 0."""
        rows = [row for row, _ in keys]
        return {"subjects": self._name[rows], "actions": self._name[rows], "frames": self._frame[rows]}

    def _box(self, row):
        """What is cut out of a row's picture, before `scale_bbox`: (4,) tlbr."""
        width, height = TEST_IMAGES[self._name[row]]
        return self._boxes[row] if self.section.crop else np.array([0, 0, height, width])

    def _scale(self):
        return self.section.scale_bbox if self.section.crop else 1.0

    def projections(self, keys):
        """K [R|t] from world mm onto the pixels of the crops: (n, 1, 3, 4) float32."""
        cameras = [cropped_camera(self.cameras[self._name[row]], scale_box(self._box(row), self._scale()), self.size)
                   @ LEVEL_CAMERA for row, _ in keys]
        return np.pad(cameras, ((0, 0), (0, 0), (0, 1)))[:, None].astype(np.float32)

    def __getitem__(self, key):
        row, views = key
        if tuple(views) != (0,):
            raise UsageError(f"MPI-INF-3DHP has one view of each moment, 0; {list(views)} were asked for")
        path, name = self._path(row), self._name[row]
        image = read_image(path)
        if image.shape[1::-1] != TEST_IMAGES[name]:
            width, height = TEST_IMAGES[name]
            raise DataError(f"{path}: is {image.shape[1]} x {image.shape[0]}, but the pictures of {name} are {width} x "
                            f"{height}; unpack the test set again")
        crop, _ = crop_view(image, self.cameras[name], self._box(row), self.size, self._scale())
        projection = self.projections([key])[0]
        if self.section.erase:
            erase(crop, self.keypoints[row], projection[0])
        return Sample(crop[None], projection, self.keypoints[row], self.pelvis[row], key)

    def report(self, predicted, keys):
        """(metrics, text) of predicted world mm (n, 17, 3): PCK, AUC and root-relative errors, see `evaluation_3dhp`.

        metrics: pck and auc in percent, mpjpe_mm, frames, tables, and what was taken from the truth. Raises DataError
        where predictions are not finite.
        """
        predicted = np.asarray(predicted, np.float64)
        check_predictions(predicted)
        rows = np.array([row for row, _ in keys])
        poses = (predicted @ LEVEL_CAMERA.T)[:, MPI_INF_3DHP_FROM_CONTEXTPOSE_17]
        sequences = []
        for name, sequence in self.sequences.items():
            chosen = self._name[rows] == name
            if chosen.any():
                activity, first = sequence["activity"], int(np.argmax(self._name == name))
                sequences.append(ScoredSequence(name, poses[chosen], self._poses[rows[chosen]],
                                                None if activity is None else activity[rows[chosen] - first]))
        result = tables(sequences)
        total, taken = result["all"], self.notes()
        metrics = {"mpjpe_mm": total["mpjpe"], "pck": total["pck"], "auc": total["auc"], "frames": total["frames"],
                   "notes": taken, "tables": result}
        headline = (f"PCK {total['pck']:.1f} %, AUC {total['auc']:.1f} %, MPJPE relative to the pelvis "
                    f"{total['mpjpe']:.1f} mm")
        return metrics, "\n".join([headline, *(f"INFO: {note}" for note in taken), "", tables_text(result)])

    def notes(self):
        """What a reader of the figures must know, in lines: what was taken from the truth and what is missing."""
        cameras = ", ".join(f"{name} f {K[0, 0]:.0f} {K[1, 1]:.0f} c {K[0, 2]:.0f} {K[1, 2]:.0f} "
                            f"({self.misfits[name]:.1f} px off)" for name, K in self.cameras.items())
        notes = [f"cameras fitted to the ground truth, taken as level: {cameras}",
                 f"boxes: squares round the true 2D joints, {BOX_SCALE} times their extent, times scale_bbox "
                 f"{self.section.scale_bbox}" if self.section.crop else "boxes: none, whole pictures",
                 f"centre of the volume: {self.centre}"]
        if self.every > 1:
            notes.append(f"one of {self.every} valid frames only")
        if self.missing:
            notes.append(f"{', '.join(self.missing)} not there, not evaluated: figures of the whole test set differ")
        return notes
