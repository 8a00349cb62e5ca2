"""A prediction: 3D poses with all that is needed to understand them, and the file that holds it, `.npz` or `.json`.

    prediction = read_prediction("walking.npz")
    prediction.joints, prediction.axes, prediction.skeleton.names(), prediction.fps, prediction.source

Every script that predicts writes such files, and everything that shows or converts poses reads them. Without the suite:

    with np.load("walking.npz") as poses:
        poses["joints"], poses["axes"], poses["joint_names"], poses["fps"]
"""
import json
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import numpy as np

from common.plain_values import checked, json_pieces, numbers, numbers_or_text, one, skeleton_of, storable, text
from common.safe_io import load_npz
from common.skeleton import Skeleton
from common.utils import DataError, UsageError, atomic_path, check_place, print_notices, progress, require

FORMAT, VERSION = "3d-human-pose", 1
CAMERA_AXES = "x right, y down, z away from the camera"
WORLD_AXES = "z up"
AXES = {"world": WORLD_AXES, "camera": CAMERA_AXES}
ROOT_PATHS = {"ground truth": "the root joint's path is that of the ground truth",
              "predicted": "the root joint's path is predicted",
              "in place": "the root joint's path is not known: the person stays in place",
              "origin": "the root joint is the origin in every frame"}
FRAMES_OF = ("joints", "times", "joints_camera", "ground_truth", "keypoints_2d")  # what has a row per frame
NOT_POSES = "is no file of predicted poses; give one that --viz-export, --export or --predict wrote"
SLOWEST, FASTEST = 1e-15, 1e15  # frames per second: times that any number can hold


@dataclass
class Prediction:
    """3D poses of one person over T frames, and what is known of them.

    joints: (T, J, 3) float32 metres; frame: their frame of reference, a key of `AXES`; skeleton: of the J joints; fps:
    frames per second, of uneven ones the mean, and where frames are left out those of the whole; times: (T,) ascending
    seconds where the frames are uneven in time or some are left out, else None; root_path: a key of `ROOT_PATHS`;
    source: of `common.source.make_source`; joints_camera: (T, J, 3), the same in the camera's space, where `frame` is
    another; ground_truth: (T, J, 3) in `frame`; keypoints_2d: (T, K, 2) pixels, NaN where there are none, of
    skeleton_2d in pictures of `size` (width, height); extra: {name: array of numbers or text}.
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
        self.joints = _float32(self.joints)
        shape = (len(self.joints), self.skeleton.num_joints(), 3)
        for name in ("joints", "joints_camera", "ground_truth"):
            if getattr(self, name) is None:
                continue
            value = _float32(getattr(self, name))
            if value.shape != shape or not shape[0]:
                raise ValueError(f"{name} of shape {value.shape}, expected frames of {shape[1:]} and at least one")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} holds NaN or infinite values")
            setattr(self, name, value)
        self.fps = float(self.fps)
        if not SLOWEST <= self.fps <= FASTEST:
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
        if self.keypoints_2d is not None:
            self.keypoints_2d = _float32(self.keypoints_2d)
            shape = self.keypoints_2d.shape
            joints = shape[1:2] if self.skeleton_2d is None else (self.skeleton_2d.num_joints(),)
            if shape != (len(self.joints), *joints, 2):
                raise ValueError(f"keypoints_2d of shape {shape}, expected {(len(self.joints), *(joints or 'K'), 2)}")
            if np.isinf(self.keypoints_2d).any():
                raise ValueError("keypoints_2d holds infinite values")
        if self.size is not None:
            self.size = tuple(int(side) for side in self.size)
            if len(self.size) != 2 or min(self.size) < 1:
                raise ValueError(f"size {self.size}, expected (width, height)")

    def __len__(self):
        return len(self.joints)

    @property
    def axes(self):
        """Where the axes of `joints` point."""
        return AXES[self.frame]

    def seconds(self):
        """When each frame is shown, (T,) from 0 on."""
        return np.arange(len(self)) / self.fps if self.times is None else self.times - self.times[0]

    def cut(self, kept, fps):
        """The prediction of the frames `kept` (n,) alone, `fps` of them a second; without `extra`."""
        rows = {name: getattr(self, name)[kept] for name in FRAMES_OF if getattr(self, name) is not None}
        return replace(self, fps=fps, extra={}, **rows)

    def upright(self, poses):
        """Poses (..., 3) of `frame` with z up; a camera is taken as level."""
        if self.frame == "world":
            return poses
        x, y, z = np.moveaxis(poses, -1, 0)
        return np.stack([x, z, -y], axis=-1)

    def relative(self):
        """(joints, ground truth), each (T, J, 3) relative to the root joint, as the protocols compare them.

        Where the root joint's path is that of the ground truth, what the network gave is relative to it as it is: its
        own root joint is where the network put it, and counts, as when a checkpoint is evaluated. Needs ground truth.
        """
        root = [self.skeleton.root()]
        origin = (self.ground_truth if self.root_path == "ground truth" else self.joints)[:, root]
        return self.joints - origin, self.ground_truth - self.ground_truth[:, root]

    def errors_mm(self):
        """Distance of every joint from the ground truth (T, J) in mm, relative to the root joint, as protocol 1 has it.

        None where there is no ground truth.
        """
        if self.ground_truth is None:
            return None
        joints, truth = self.relative()
        return 1000 * np.linalg.norm(joints - truth, axis=-1)


def _float32(values):
    with np.errstate(over="ignore"):  # what single precision cannot hold is infinite, and refused as such
        return np.asarray(values).astype(np.float32)


# ---- the file

OF_EARLIER_VERSIONS = {"keypoints_3d_world", "predictions"}  # what they hold without saying their format
KEYS = {"format", "version", "joints", "frame", "axes", "root_path", "units", "fps", "times", "joint_names", "parents",
        "joints_left", "joints_right", "joints_camera", "axes_camera", "ground_truth", "keypoints_2d", "size",
        "joint_names_2d", "parents_2d", "source", "keypoints_3d", "keypoints_3d_camera", "keypoints_3d_world"}


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
        if name in KEYS:
            raise ValueError(f"{name} is a key of the file itself")
        contents[name] = checked(name, value)
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
    return []


def _write_json(path, prediction):
    contents = _contents(prediction)
    bar = progress(total=sum(map(np.size, contents.values())), desc="writing", unit="number", unit_scale=True)
    with bar, open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("{")
        for name, values in contents.items():
            file.write(f"{json.dumps(name)}: ")
            file.writelines(json_pieces(values, bar))
            file.write(", ")
        file.write(f'"source": {json.dumps(prediction.source)}}}\n')
    return []


def _lazily(module, function):
    def write(path, prediction, **options):
        return getattr(import_module(module), function)(path, prediction, **options)
    return write


RESULTS = {".npz": _write_npz, ".json": _write_json}  # hold all of a prediction, and can be read
WRITERS = RESULTS | {".csv": _lazily("common.export_tables", "write_csv"),
                     ".bvh": _lazily("common.export_bvh", "write_bvh"),
                     ".trc": _lazily("common.export_tables", "write_trc"),
                     ".c3d": _lazily("common.export_tables", "write_c3d")}


def write_prediction(path, prediction, **options):
    """Write a prediction in the format of the suffix, one of `WRITERS`; returns notices, lines to print.

    options: those of the format, such as the unit of `common.export_bvh.write_bvh`. Raises UsageError,
    WriteError, DependencyError, and DataError for what the format cannot hold.
    """
    check_export(path)
    try:
        with atomic_path(path) as temporary:
            return WRITERS[Path(path).suffix.lower()](temporary, prediction, **options)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def export_prediction(prediction, paths, **options):
    """Write a prediction to all of the paths, and print where, with what there is to notice."""
    for path in paths:
        notices = write_prediction(path, prediction, **options)
        print(f"3D coordinates of {len(prediction)} frames written to {path}")
        print_notices(notices)


def check_export(path):
    """Refuse, before any long work, a path that `write_prediction` would refuse."""
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        raise UsageError(f"{path}: an .npy holds the array alone; give {Path(path).with_suffix('.npz')} and read the "
                         f"same array with np.load(...)['keypoints_3d']")
    if suffix not in WRITERS:
        raise UsageError(f"{path}: the suffix must be one of {', '.join(WRITERS)}, not {suffix or 'none'}")
    if suffix == ".c3d":
        require("ezc3d", "ezc3d")
    check_place(path)


def results_paths(output, export):
    """Where a script leaves its prediction: at `export`, if given, and in a results file that can be read, always.

    Where `export` names none, that is `<stem>.results.npz` beside `output`, or without one beside `export`. It comes
    first: whatever a format cannot hold, the prediction is kept.
    """
    paths = [Path(export)] if export else []
    if not any(path.suffix.lower() in RESULTS for path in paths):
        beside = Path(output or export)
        paths.insert(0, beside.with_name(f"{beside.stem}.results.npz"))
    return paths


# ---- reading


def read_prediction(path):
    """The `Prediction` in a file of results, `.npz` or `.json`, told by its content. Raises DataError."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    kind = _kind(path)
    if kind not in RESULTS:
        instead = "export it again by --viz-export FILE.npz" if kind == ".npy" else "give the one written beside it"
        raise DataError(f"{path}: only {' and '.join(RESULTS)} files of results can be read; {instead}")
    content = load_npz(path) if kind == ".npz" else _read_json(path)
    try:
        if "format" not in content and (content.keys() & OF_EARLIER_VERSIONS):
            raise DataError(f"{path}: was exported by an earlier version of this suite, which did not tell all that is "
                            "needed; export it again")
        if str(content.get("format", "")) != FORMAT:
            raise DataError(f"{path}: {NOT_POSES}")
        if int(one(content["version"])) > VERSION:
            raise DataError(f"{path}: is of version {int(one(content['version']))}, newer than this; update it")
        return _prediction(content)
    except KeyError as error:
        raise DataError(f"{path}: has no {error}; export it again") from None
    except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError, MemoryError) as error:
        raise DataError(f"{path}: holds no usable poses ({' '.join(str(error).split())[:200]}); export it "
                        "again") from None


def _kind(path):
    """The suffix that the content of a file should have; where that says nothing, the one that it has."""
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror or error}); check its permissions") from None
    return ".npz" if start.startswith(b"PK") else ".json" if start.startswith(b"{") else path.suffix.lower()


def _read_json(path):
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON, or cut short ({error}); export it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: {NOT_POSES}")
    return content


def _prediction(content):
    if text(content["units"]) != "m":
        raise ValueError(f"units {text(content['units'])[:20]!r}, not m")
    frame = text(content["frame"])
    if "axes" in content and text(content["axes"]) != AXES.get(frame):
        raise ValueError(f"axes {text(content['axes'])[:40]!r}, not {AXES.get(frame)!r} as the {frame[:20]} has them")
    source = content["source"]
    source = source if isinstance(source, dict) else json.loads(text(source))
    skeleton_2d = None
    if "parents_2d" in content:
        skeleton_2d = skeleton_of(content["parents_2d"], content["joint_names_2d"], (), ())
    return Prediction(
        numbers(content["joints"]), skeleton_of(content["parents"], content["joint_names"], content["joints_left"],
                                               content["joints_right"]),
        float(one(content["fps"])), frame, text(content["root_path"]),
        {storable(name): storable(value) for name, value in source.items()}, skeleton_2d=skeleton_2d,
        size=content.get("size"),
        extra={name: numbers_or_text(name, value) for name, value in content.items() if name not in KEYS},
        **{name: numbers(content[name]) for name in FRAMES_OF[1:] if name in content})
