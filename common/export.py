"""Predicted poses as a file for other programs: one `.npz` that says what it holds.

    with np.load("walking.npz") as poses:
        poses["keypoints_3d_world"], poses["joint_names"], poses["fps"], poses["units"]
"""
from pathlib import Path

import numpy as np

from common.utils import UsageError, atomic_path, check_place

CAMERA_AXES = "x right, y down, z away from the camera"
WORLD_AXES = "z up"


def write_export(path, keypoints_camera, keypoints_world, skeleton, fps, units="m", **extra):
    """Write poses (T, J, 3) in camera and world space, with all that is needed to read them.

    Keys: `keypoints_3d_camera` and `keypoints_3d_world` (T, J, 3) float32 in `units`; `keypoints_3d`, the same as
    `keypoints_3d_camera`, which is what VideoPose3D exports; `joint_names` (J,), `parents` (J,) with -1 for the root,
    `joints_left`, `joints_right`, `fps`, `units`, `axes_camera` and `axes_world`; and each array of `extra` under its
    own name. Nothing is pickled. Raises UsageError for a suffix that is not known, ValueError where shapes do not fit.
    """
    check_export(path)
    camera, world = (np.asarray(pose, dtype=np.float32) for pose in (keypoints_camera, keypoints_world))
    expected = (len(camera), skeleton.num_joints(), 3)
    if camera.shape != expected or world.shape != expected:
        raise ValueError(f"poses of shape {camera.shape} and {world.shape} are not both {expected}")
    contents = {
        "keypoints_3d": camera,
        "keypoints_3d_camera": camera,
        "keypoints_3d_world": world,
        "joint_names": np.array(skeleton.names()),
        "parents": np.array(skeleton.parents(), dtype=np.int64),
        "joints_left": np.array(skeleton.joints_left(), dtype=np.int64),
        "joints_right": np.array(skeleton.joints_right(), dtype=np.int64),
        "fps": np.array(float(fps)),
        "units": np.array(units),
        "axes_camera": np.array(CAMERA_AXES),
        "axes_world": np.array(WORLD_AXES),
    }
    for name, value in extra.items():
        if name in contents:
            raise ValueError(f"{name} is a key of the export itself")
        contents[name] = np.asarray(value)
        if contents[name].dtype.hasobject:
            raise ValueError(f"{name} is not an array of numbers or text")
    with atomic_path(path) as temporary:
        WRITERS[Path(path).suffix.lower()](temporary, contents)


def _write_npz(path, contents):
    np.savez_compressed(path, **contents)


WRITERS = {".npz": _write_npz}


def check_export(path):
    """Refuse, before any long work, a path that `write_export` would refuse."""
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        raise UsageError(f"{path}: an .npy holds the array alone; give {Path(path).with_suffix('.npz')} and read the "
                         f"same array with np.load(...)['keypoints_3d']")
    if suffix not in WRITERS:
        raise UsageError(f"{path}: the suffix must be one of {', '.join(WRITERS)}, not {suffix or 'none'}")
    check_place(path)
