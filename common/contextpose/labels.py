"""What ContextPose reads beside images: the labels of Human3.6M, and the precalculated skeletons. All of it is checked.

The files are described in data/README.md; `common.h36m_labels` makes the labels.
"""
from pathlib import Path

import numpy as np

from common.keypoints import CONTEXTPOSE_17_NAMES, CONTEXTPOSE_PELVIS
from common.safe_io import load_npy, load_pickle
from common.utils import DataError, UsageError

JOINTS = len(CONTEXTPOSE_17_NAMES)
CAMERA_SHAPES = {"R": (3, 3), "t": (3, 1), "K": (3, 3), "dist": (5,)}
LARGEST_BOX = 10_000  # pixels a side; images have 1000, and boxes reach outside
AGAIN = "make the labels again with prepare_data_h36m.py --images"


def read_labels(path):
    """The dictionary of labels in an npy file (see `common.h36m_labels.make_labels`).

    Raises DataError, with the file's name, where it is missing, damaged, hostile or of another layout.
    """
    labels = load_npy(path)
    if not isinstance(labels, dict):
        raise DataError(f"{path}: holds no dictionary of labels; {AGAIN}")
    for name in ("subject_names", "camera_names", "action_names", "cameras", "table"):
        if name not in labels:
            raise DataError(f"{path}: has no {name}; {AGAIN}")
    for name in ("subject_names", "camera_names", "action_names"):
        labels[name] = [str(value) for value in np.asarray(labels[name]).ravel()]
    views = len(labels["camera_names"])
    _check_fields(path, "cameras", labels["cameras"], (len(labels["subject_names"]), views),
                  {name: ("f", shape) for name, shape in CAMERA_SHAPES.items()})
    _check_fields(path, "table", labels["table"], (None,), {
        "subject_idx": ("iu", ()), "action_idx": ("iu", ()), "frame_idx": ("iu", ()), "keypoints": ("f", (JOINTS, 3)),
        "bbox_by_camera_tlbr": ("iu", (views, 4))})
    for name, values in (("subject_idx", labels["subject_names"]), ("action_idx", labels["action_names"])):
        wrong = np.flatnonzero((labels["table"][name] < 0) | (labels["table"][name] >= len(values)))
        if len(wrong):
            raise DataError(f"{path}: {name} of row {wrong[0]} is {labels['table'][name][wrong[0]]}, of "
                            f"{len(values)} names; {AGAIN}")
    return labels


def _check_fields(path, name, array, shape, fields):
    """DataError unless `array` is a table of this shape (None: any size) with these {field: (kinds, shape)}."""
    if not isinstance(array, np.ndarray) or array.dtype.names is None:
        raise DataError(f"{path}: {name} is no structured array; {AGAIN}")
    if array.ndim != len(shape) or any(b not in (a, None) for a, b in zip(array.shape, shape, strict=True)):
        raise DataError(f"{path}: {name} has the shape {array.shape}, not {shape}; {AGAIN}")
    for field, (kinds, wanted) in fields.items():
        if field not in array.dtype.names:
            raise DataError(f"{path}: {name} has no {field}; {AGAIN}")
        dtype = array.dtype[field]
        if dtype.shape != wanted or dtype.base.kind not in kinds:
            raise DataError(f"{path}: {field} in {name} is {dtype.base} of the shape {dtype.shape}, not "
                            f"{'float' if kinds == 'f' else 'int'} of {wanted}; {AGAIN}")


def check_rows(path, labels, rows):
    """DataError where rows (n,) of the table or their cameras hold what no picture and no person has."""
    table, cameras = labels["table"][rows], labels["cameras"]
    boxes = table["bbox_by_camera_tlbr"].astype(np.int64)
    flat = (boxes[..., 2:] <= boxes[..., :2]).any(-1) & (boxes != 0).any(-1)
    checks = {"keypoints are not finite": ~np.isfinite(table["keypoints"]).all((1, 2)),
              "a box has no area": flat.any(1),
              "a box is larger than any image": (boxes[..., 2:] - boxes[..., :2] > LARGEST_BOX).any((1, 2)),
              "frame_idx is less than 0": table["frame_idx"] < 0}
    for what, wrong in checks.items():
        if wrong.any():
            first = rows[np.argmax(wrong)]
            entry = labels["table"][first]
            raise DataError(f"{path}: {what} in row {first} ({labels['subject_names'][entry['subject_idx']]} "
                            f"{labels['action_names'][entry['action_idx']]}, frame {entry['frame_idx']}); {AGAIN}")
    finite = np.logical_and.reduce([np.isfinite(cameras[name]).all((2, 3)) for name in ("R", "t", "K")])
    good = finite & (cameras["K"][:, :, 2] == (0, 0, 1)).all(-1)  # (subjects, cameras)
    for subject in np.unique(table["subject_idx"]):
        if not good[subject].all():
            raise DataError(f"{path}: camera {labels['camera_names'][np.argmin(good[subject])]} of "
                            f"{labels['subject_names'][subject]} is no camera (not finite, or the last row of K is not "
                            f"0 0 1); {AGAIN}")


def read_pelvis(path, setting, kept, step):
    """Pelvis positions (n, 3) float32 in mm out of a file of precalculated skeletons.

    path: a pickle of {keypoints_3d (m, 17, 3), indexes (m)}, in any order; setting: what names it in the
    configuration. kept: (rows of the split,) which of them are used; every `step`th of these n is returned. The file
    may hold the whole split, the rows that are kept, or just those n. Raises UsageError without a path, DataError for
    a file that is missing, damaged or of other rows.
    """
    instead = "or set model.volume_net.use_gt_pelvis to true for the true pelvis"
    if not path:
        raise UsageError(f"there is no centre for the volumes: let {setting} name precalculated skeletons (.pkl), "
                         f"{instead}")
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file of precalculated skeletons; correct {setting}, {instead}")
    content = load_pickle(path)
    if not isinstance(content, dict) or "keypoints_3d" not in content or "indexes" not in content:
        raise DataError(f"{path}: is no dictionary of keypoints_3d and indexes")
    poses, indexes = (_array(path, name, content[name]) for name in ("keypoints_3d", "indexes"))
    if poses.shape[1:] != (JOINTS, 3) or poses.dtype.kind not in "fiu":
        raise DataError(f"{path}: keypoints_3d is {poses.dtype} of the shape {poses.shape}, not numbers of "
                        f"(n, {JOINTS}, 3)")
    if indexes.shape != (len(poses),) or indexes.dtype.kind not in "iu":
        raise DataError(f"{path}: indexes is {indexes.dtype} of the shape {indexes.shape}, not int of ({len(poses)},)")
    pelvis = poses[_order(path, indexes), CONTEXTPOSE_PELVIS].astype(np.float32)
    if not np.isfinite(pelvis).all():
        raise DataError(f"{path}: the pelvis of index {np.argmin(np.isfinite(pelvis).all(1))} is not finite")
    used = np.flatnonzero(kept)[::step]
    places = {len(kept): used, int(kept.sum()): np.arange(len(pelvis))[::step], len(used): slice(None)}
    if len(pelvis) not in places:
        lengths = " or ".join(map(str, sorted(places, reverse=True)))
        raise DataError(f"{path}: holds {len(pelvis)} skeletons where the labels have {lengths} rows: they are of "
                        f"other labels; correct {setting}, {instead}")
    return pelvis[places[len(pelvis)]]


def _array(path, name, value):
    try:
        return np.asarray(value)
    except ValueError:  # rows of several lengths
        raise DataError(f"{path}: {name} is no array") from None


def _order(path, indexes):
    """Where each of 0 to m - 1 stands in `indexes` (m,)."""
    order = np.argsort(indexes, kind="stable")
    wrong = np.flatnonzero(indexes[order] != np.arange(len(indexes)))
    if len(wrong):
        first, found = wrong[0], indexes[order[wrong[0]]]
        # An evaluation of some of the views of a row at a time writes the row once for every choice of them.
        again = (f"has {found} twice", "; predict every row once, from all its views: val.max_n_views=4")
        what, remedy = again if first and found == first - 1 else (f"lacks {first}", "")
        raise DataError(f"{path}: indexes {what}; they must be 0 to {len(indexes) - 1}, each once{remedy}")
    return order
