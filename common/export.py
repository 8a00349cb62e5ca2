"""A prediction: 3D poses with all that is needed to understand them, and the file that holds it, `.npz` or `.json`.

    prediction = read_prediction("walking.npz")
    prediction.joints, prediction.axes, prediction.skeleton.names(), prediction.fps, prediction.source

Every script that predicts writes such files, and everything that shows or converts poses reads them. Without the suite:

    with np.load("walking.npz") as poses:
        poses["joints"], poses["axes"], poses["joint_names"], poses["fps"]
"""
import hashlib
import json
import re
import shlex
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np

from common.safe_io import load_npz
from common.skeleton import Skeleton
from common.utils import DataError, UsageError, atomic_path, check_place

FORMAT, VERSION = "3d-human-pose", 1
CAMERA_AXES = "x right, y down, z away from the camera"
WORLD_AXES = "z up"
AXES = {"world": WORLD_AXES, "camera": CAMERA_AXES}
ROOT_PATHS = {"ground truth": "the root joint's path is that of the ground truth",
              "predicted": "the root joint's path is predicted",
              "in place": "the root joint's path is not known: the person stays in place",
              "origin": "the root joint is the origin in every frame"}
SOURCE_KEYS = ("checkpoint", "checkpoint_sha256", "command", "dataset", "subject", "action", "camera", "video")
NOT_POSES = "is no file of predicted poses; give one that --viz-export, --export or --predict wrote"
DIGITS = 6  # of metres and seconds in JSON


@dataclass
class Prediction:
    """3D poses of one person over T frames, and what is known of them.

    joints: (T, J, 3) float32 metres; frame: their frame of reference, a key of `AXES`; skeleton: of the J joints; fps:
    mean frames per second; times: (T,) ascending seconds where the frames are uneven in time, else None; root_path: a
    key of `ROOT_PATHS`; source: {key of SOURCE_KEYS: text}; joints_camera: (T, J, 3), the same in the camera's space,
    where `frame` is another; ground_truth: (T, J, 3) in `frame`; keypoints_2d: (T, K, 2) pixels, NaN where there are
    none, of skeleton_2d in pictures of `size` (width, height); extra: {name: array of numbers or text}.
    """

    joints: np.ndarray
    skeleton: Skeleton
    fps: float
    frame: str = "world"
    root_path: str = "in place"
    source: dict = field(default_factory=dict)
    times: np.ndarray | None = None
    joints_camera: np.ndarray | None = None
    ground_truth: np.ndarray | None = None
    keypoints_2d: np.ndarray | None = None
    skeleton_2d: Skeleton | None = None
    size: tuple | None = None
    extra: dict = field(default_factory=dict)

    def __post_init__(self):
        """Raises ValueError where shapes do not fit, or numbers are not finite."""
        self.joints = np.asarray(self.joints, dtype=np.float32)
        shape = (len(self.joints), self.skeleton.num_joints(), 3)
        for name in ("joints", "joints_camera", "ground_truth"):
            value = getattr(self, name)
            if value is None:
                continue
            value = np.asarray(value, dtype=np.float32)
            if value.shape != shape or not shape[0]:
                raise ValueError(f"{name} of shape {value.shape}, expected frames of {shape[1:]} and at least one")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} holds NaN or infinite values")
            setattr(self, name, value)
        self.fps = float(self.fps)
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"{self.fps} frames per second")
        for name, known in (("frame", AXES), ("root_path", ROOT_PATHS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is none of {', '.join(known)}")
        if self.times is not None:
            self.times = np.asarray(self.times, dtype=np.float64)
            if self.times.shape != shape[:1] or not np.isfinite(self.times).all() or (np.diff(self.times) <= 0).any():
                raise ValueError(f"times are not {shape[0]} ascending numbers")
        self._check_2d()

    def _check_2d(self):
        if self.keypoints_2d is None:
            return
        self.keypoints_2d = np.asarray(self.keypoints_2d, dtype=np.float32)
        joints = None if self.skeleton_2d is None else self.skeleton_2d.num_joints()
        if self.keypoints_2d.shape != (len(self.joints), joints or self.keypoints_2d.shape[1], 2):
            raise ValueError(f"keypoints_2d of shape {self.keypoints_2d.shape} for {len(self.joints)} frames"
                             + (f" and {joints} joints" if joints else ""))

    def __len__(self):
        return len(self.joints)

    @property
    def axes(self):
        """Where the axes of `joints` point."""
        return AXES[self.frame]

    def seconds(self):
        """When each frame is shown, (T,) from 0 on."""
        return np.arange(len(self)) / self.fps if self.times is None else self.times - self.times[0]

    def upright(self, poses):
        """Poses (..., 3) of `frame` with z up; a camera is taken as level."""
        if self.frame == "world":
            return poses
        x, y, z = np.moveaxis(poses, -1, 0)
        return np.stack([x, z, -y], axis=-1)

    def errors_mm(self):
        """Distance of every joint from the ground truth (T, J) in mm, relative to the root joint, as protocol 1 has it.

        None where there is no ground truth.
        """
        if self.ground_truth is None:
            return None
        root = self.skeleton.root()
        off = (self.joints - self.joints[:, [root]]) - (self.ground_truth - self.ground_truth[:, [root]])
        return 1000 * np.linalg.norm(off, axis=-1)


def make_source(checkpoint=None, **known):
    """What is known of where poses come from, {key of SOURCE_KEYS: text}; checkpoint: a path, whose hash is taken."""
    source = {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}
    if checkpoint is not None:
        source |= {"checkpoint": str(checkpoint), "checkpoint_sha256": _sha256(checkpoint)}
    source |= {name: str(value) for name, value in known.items() if value is not None}
    unknown = set(source) - set(SOURCE_KEYS)
    if unknown:
        raise ValueError(f"a source has no {', '.join(sorted(unknown))}")
    return source


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# ---- the file


def _contents(prediction):
    """The file's {key: array}."""
    skeleton = prediction.skeleton
    contents = {
        "format": FORMAT, "version": VERSION, "joints": prediction.joints, "frame": prediction.frame,
        "axes": prediction.axes, "root_path": prediction.root_path, "units": "m", "fps": prediction.fps,
        "times": prediction.times, "joint_names": skeleton.names(), "parents": skeleton.parents(),
        "joints_left": skeleton.joints_left(), "joints_right": skeleton.joints_right(),
        "joints_camera": prediction.joints_camera, "axes_camera": CAMERA_AXES,
        "ground_truth": prediction.ground_truth, "keypoints_2d": prediction.keypoints_2d, "size": prediction.size}
    if prediction.joints_camera is None:
        del contents["axes_camera"]
    if prediction.skeleton_2d is not None:
        contents |= {"joint_names_2d": prediction.skeleton_2d.names(), "parents_2d": prediction.skeleton_2d.parents()}
    contents = {name: np.asarray(value) for name, value in contents.items() if value is not None}
    for name, value in prediction.extra.items():
        if name in contents or name == "source":
            raise ValueError(f"{name} is a key of the file itself")
        contents[name] = np.asarray(value)
        if contents[name].dtype.hasobject:
            raise ValueError(f"{name} is not an array of numbers or text")
    return contents


def _write_npz(path, prediction):
    contents = _contents(prediction)
    contents["source"] = np.array(json.dumps(prediction.source))
    in_camera = contents.get("joints_camera", prediction.joints if prediction.frame == "camera" else None)
    if in_camera is not None:
        contents |= {"keypoints_3d": in_camera, "keypoints_3d_camera": in_camera}
    if prediction.frame == "world":
        contents["keypoints_3d_world"] = prediction.joints
    np.savez_compressed(path, **contents)


def _write_json(path, prediction):
    content = {name: _plain(value) for name, value in _contents(prediction).items()}
    path.write_text(json.dumps({**content, "source": prediction.source}, allow_nan=False) + "\n", encoding="utf-8")


def _plain(values):
    """An array as JSON has it: null for what is not finite."""
    if values.dtype.kind != "f":
        return values.tolist()
    rounded = np.round(values.astype(np.float64), DIGITS)
    return rounded.tolist() if np.isfinite(rounded).all() else \
        np.where(np.isfinite(rounded), rounded.astype(object), None).tolist()


def _lazily(module, function):
    def write(path, prediction):
        getattr(import_module(module), function)(path, prediction)
    return write


WRITERS = {".npz": _write_npz, ".json": _write_json, ".csv": _lazily("common.export_tables", "write_csv"),
           ".bvh": _lazily("common.export_bvh", "write_bvh"), ".trc": _lazily("common.export_tables", "write_trc"),
           ".c3d": _lazily("common.export_tables", "write_c3d")}


def write_prediction(path, prediction):
    """Write a prediction in the format of the suffix, one of `WRITERS`. Raises UsageError, WriteError."""
    check_export(path)
    with atomic_path(path) as temporary:
        WRITERS[Path(path).suffix.lower()](temporary, prediction)


def check_export(path):
    """Refuse, before any long work, a path that `write_prediction` would refuse."""
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        raise UsageError(f"{path}: an .npy holds the array alone; give {Path(path).with_suffix('.npz')} and read the "
                         f"same array with np.load(...)['keypoints_3d']")
    if suffix not in WRITERS:
        raise UsageError(f"{path}: the suffix must be one of {', '.join(WRITERS)}, not {suffix or 'none'}")
    check_place(path)


# ---- reading


def read_prediction(path):
    """The `Prediction` in a file that `write_prediction` wrote, `.npz` or `.json`. Raises DataError."""
    path = Path(path)
    content = _read_json(path) if path.suffix.lower() == ".json" else load_npz(path)
    if str(content.get("format", "")) != FORMAT:
        raise DataError(f"{path}: {NOT_POSES}")
    try:
        if int(content["version"]) > VERSION:
            raise DataError(f"{path}: is of version {int(content['version'])}, newer than this program; update it")
        return _prediction(content)
    except KeyError as error:
        raise DataError(f"{path}: has no {error}; export it again") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: is damaged ({error}); export it again") from None


def _read_json(path):
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON, or cut short ({error}); export it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: {NOT_POSES}")
    return content


KNOWN = {"format", "version", "joints", "frame", "axes", "root_path", "units", "fps", "times", "joint_names", "parents",
         "joints_left", "joints_right", "joints_camera", "axes_camera", "ground_truth", "keypoints_2d", "size",
         "joint_names_2d", "parents_2d", "source", "keypoints_3d", "keypoints_3d_camera", "keypoints_3d_world"}


def _prediction(content):
    if str(content["units"]) != "m":
        raise ValueError(f"units {str(content['units'])[:20]!r}, not m")
    source = content["source"]
    source = source if isinstance(source, dict) else json.loads(str(source))
    skeleton_2d = None
    if "parents_2d" in content:
        skeleton_2d = _skeleton(content["parents_2d"], content["joint_names_2d"], (), ())
    return Prediction(
        _numbers(content["joints"]), _skeleton(content["parents"], content["joint_names"], content["joints_left"],
                                               content["joints_right"]),
        float(content["fps"]), str(content["frame"]), str(content["root_path"]),
        {str(name): str(value) for name, value in source.items()}, skeleton_2d=skeleton_2d,
        size=tuple(int(value) for value in content["size"]) if "size" in content else None,
        extra={name: np.asarray(value) for name, value in content.items() if name not in KNOWN},
        **{name: _numbers(content[name]) for name in ("times", "joints_camera", "ground_truth", "keypoints_2d")
           if name in content})


def _numbers(values):
    """Lists or an array as float64; None is NaN."""
    array = np.asarray(values)
    if array.dtype.kind not in "iufO":
        raise ValueError("text where numbers belong")
    return array.astype(np.float64)


def _skeleton(parents, names, left, right):
    """A skeleton out of a file: a tree of one root, joints of different names. Raises ValueError."""
    parents, left, right = (_indices(values) for values in (parents, left, right))
    names = [str(name) for name in names]
    joints = range(len(parents))
    if parents.count(-1) != 1 or any(not -1 <= parent < len(parents) for parent in parents):
        raise ValueError("the parents are no tree of one root")
    for joint in joints:
        steps = 0
        while parents[joint] >= 0:
            joint, steps = parents[joint], steps + 1
            if steps > len(parents):
                raise ValueError("the parents go in circles")
    if any(joint not in joints for joint in left + right):
        raise ValueError("left and right joints that there are not")
    if len(set(names)) != len(names) or not all(re.search(r"\S", name) for name in names):
        raise ValueError("joints without names of their own")
    return Skeleton(parents, left, right, names)


def _indices(values):
    values = [] if len(values) == 0 else np.asarray(values)
    if len(values) and (values.ndim != 1 or values.dtype.kind not in "iu"):
        raise ValueError("joint numbers that are no whole numbers")
    return [int(value) for value in values]
