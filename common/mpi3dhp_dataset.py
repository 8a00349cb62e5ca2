"""MPI-INF-3DHP: its subjects, cameras, joints, activities and scenes.

Source: Mehta et al., "Monocular 3D Human Pose Estimation in the Wild Using Improved CNN Supervision", 3DV 2017.
Poses are `univ_annot3`, the ground truth of people scaled to one height, in millimetres in the camera's space; joints
are those of `common.keypoints.MPI_INF_3DHP_17`, the root is the pelvis.
"""
from pathlib import Path

import numpy as np

from common.camera import normalize_screen_coordinates
from common.keypoints import MPI_INF_3DHP_17
from common.pose_data import PoseSequence, are_positions, checked_view, thinned
from common.safe_io import load_npz
from common.utils import DataError

GROUND_TRUTH = "univ_annot3"
TRAINING_FILE, TEST_FILE = "data_train_3dhp.npz", "data_test_3dhp.npz"
# Frames and frames per second of the training sequences.
TRAINING_SEQUENCES = {
    "S1 Seq1": (6416, 25), "S1 Seq2": (12430, 50), "S2 Seq1": (6502, 25), "S2 Seq2": (6081, 25),
    "S3 Seq1": (12488, 50), "S3 Seq2": (12283, 50), "S4 Seq1": (6171, 25), "S4 Seq2": (6675, 25),
    "S5 Seq1": (12820, 50), "S5 Seq2": (12312, 50), "S6 Seq1": (6188, 25), "S6 Seq2": (6145, 25),
    "S7 Seq1": (6239, 25), "S7 Seq2": (6320, 25), "S8 Seq1": (6468, 25), "S8 Seq2": (6054, 25),
}
TRAINING_CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # of the fourteen, those that published work trains on
TRAINING_IMAGE = 2048, 2048  # pixels, width and height
TEST_IMAGES = {"TS1": (2048, 2048), "TS2": (2048, 2048), "TS3": (2048, 2048), "TS4": (2048, 2048),
               "TS5": (1920, 1080), "TS6": (1920, 1080)}
TEST_SEQUENCES = tuple(TEST_IMAGES)
TEST_FPS = 25  # taken, as that of most training sequences: the test set's files do not tell theirs
# Of the 28 joints in a training annotation, those of the 17 that the test set has, in its order.
JOINTS_OF_28 = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
ACTIVITIES = {1: "Standing/Walking", 2: "Exercising", 3: "Sitting", 4: "Reaching/Crouching", 5: "On The Floor",
              6: "Sports", 7: "Miscellaneous"}
SCENES = {"Studio with green screen": ("TS1", "TS2"), "Studio without green screen": ("TS3", "TS4"),
          "Outdoor": ("TS5", "TS6")}
# The joints that PCK and AUC count, in the groups of the official tables.
JOINT_GROUPS = {"Head": [0], "Neck": [1], "Shou": [2, 5], "Elbow": [3, 6], "Wrist": [4, 7], "Hip": [8, 11],
                "Knee": [9, 12], "Ankle": [10, 13]}
AGAIN = "prepare it again with prepare_data_3dhp.py, or copy it again"


def load_training(folder, subset=1.0, downsample=1):
    """The training sequences of `data_train_3dhp.npz`: [PoseSequence], one per sequence and camera, float32 mm.

    Takes the files of the published code as they are. Raises DataError that names file, sequence and camera.
    """
    path = Path(folder) / TRAINING_FILE
    sequences = []
    for name, content in _sequences_in(path).items():
        pair = isinstance(content, list | tuple | np.ndarray) and len(content) == 2
        cameras = _unwrapped(content[0]) if pair else None
        if not isinstance(cameras, dict) or not cameras:
            raise DataError(f"{path}: {name} is not [{{camera: {{data_2d, data_3d}}}}, fps]; {AGAIN}")
        subject, _, sequence = name.partition(" ")
        for i, (camera, poses) in enumerate(cameras.items()):
            view = _view(f"{path}: {name} camera {camera}", _unwrapped(poses), TRAINING_IMAGE, np.float32)
            sequences.append(thinned(PoseSequence(subject, sequence, i, **view), subset, downsample))
    return sequences


def load_test(folder, downsample=1):
    """The test sequences of `data_test_3dhp.npz`: [PoseSequence] with `valid` and, where the file has it, `activity`.

    Positions keep the file's precision. Raises DataError that names file and sequence.
    """
    path = Path(folder) / TEST_FILE
    sequences = []
    for name, content in _sequences_in(path).items():
        where = f"{path}: {name}"
        if name not in TEST_IMAGES:
            raise DataError(f"{where} is no test sequence; there are {', '.join(TEST_IMAGES)}; {AGAIN}")
        whole = PoseSequence(name, "", 0, **_view(where, content, TEST_IMAGES[name], labels=("valid", "activity")))
        if whole.valid is None:
            raise DataError(f"{where} has no `valid`, which tells the frames that count; {AGAIN}")
        sequence = thinned(whole, 1, downsample)
        if not sequence.valid.any():
            raise DataError(f"{where} has no valid frames{' left; lower --downsample' if downsample > 1 else ''}")
        sequences.append(sequence)
    return sequences


def _sequences_in(path):
    """{sequence: content} of an npz file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; make it with prepare_data_3dhp.py --source PATH, or point --root_path "
                        "to its folder (data/README.md)")
    data = load_npz(path).get("data")
    if not isinstance(data, dict) or not data or not all(isinstance(name, str) for name in data):
        raise DataError(f"{path}: has no `data` of the form {{sequence: ...}}; is it the right file?")
    return {name: _unwrapped(content) for name, content in data.items()}


def _unwrapped(content):
    """What an array without dimensions holds, as NumPy wraps dictionaries."""
    return content.item() if isinstance(content, np.ndarray) and content.ndim == 0 else content


def _view(where, content, image, dtype=None, labels=()):
    """The fields of a PoseSequence for one view, checked; the positions only where they count."""
    if not isinstance(content, dict) or not {"data_2d", "data_3d"} <= content.keys():
        raise DataError(f"{where}: has no `data_2d` and `data_3d`; {AGAIN}")
    poses = content["data_3d"]
    joints = MPI_INF_3DHP_17.num_joints()
    if not are_positions(poses, (joints,)):
        shape = getattr(poses, "shape", type(poses).__name__)
        raise DataError(f"{where}: data_3d is {shape}, expected (frames, {joints}, 3) floats")
    pixels = checked_view(f"{where}: data_2d", content["data_2d"], joints, None)
    if len(pixels) != len(poses):
        raise DataError(f"{where}: data_2d has {len(pixels)} frames, data_3d has {len(poses)}; {AGAIN}")
    labels = {key: _labels(where, content, key, len(poses)) for key in labels}
    with np.errstate(over="ignore"):  # what single precision cannot hold is infinite, and found below
        poses = poses.astype(dtype or poses.dtype)
    finite = np.isfinite(poses).all(axis=(1, 2))
    if labels.get("valid") is not None:
        _check_labels(where, labels)
        finite |= ~labels["valid"]
    if not finite.all():
        raise DataError(f"{where}: data_3d holds NaN or infinite values (first in frame {int(np.argmin(finite))}); "
                        f"{AGAIN}")
    root = MPI_INF_3DHP_17.root()
    trajectory = poses[:, root : root + 1].copy()
    with np.errstate(invalid="ignore"):  # in frames that do not count
        poses -= trajectory
    width, height = image
    return {"camera": {"res_w": width, "res_h": height},
            "keypoints": normalize_screen_coordinates(pixels, width, height).astype(np.float32),
            "positions": poses, "trajectory": trajectory, **labels}


def _check_labels(where, labels):
    """`valid` becomes boolean; DataError for what is neither 0 nor 1, and for activities there are not."""
    valid, activity = labels["valid"], labels.get("activity")
    if not np.isin(valid, (0, 1)).all():
        raise DataError(f"{where}: `valid` holds {valid[~np.isin(valid, (0, 1))][0]:g}, expected 0 or 1; {AGAIN}")
    labels["valid"] = valid.astype(bool)
    if activity is None:
        return
    unknown = activity[labels["valid"] & ~np.isin(activity, (0, *ACTIVITIES))]
    if len(unknown):
        raise DataError(f"{where}: `activity` holds {unknown[0]:g}, expected {min(ACTIVITIES)} to {max(ACTIVITIES)}, "
                        f"or 0 for none; {AGAIN}")


def _labels(where, content, key, frames):
    """One number for each frame, whatever its shape in the file; None where there are none."""
    labels = content.get(key)
    if labels is None:
        return None
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "biuf" or labels.size != frames:
        shape = getattr(labels, "shape", type(labels).__name__)
        raise DataError(f"{where}: `{key}` is {shape}, expected a number for each of the {frames} frames; {AGAIN}")
    return labels.ravel()
