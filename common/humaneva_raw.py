"""The raw HumanEva-I: which frames are labelled, how the cameras are synchronised, and the exported files, checked.

A file such as `Train/S1/Walking_1.mat` holds `poses_3d` (frames, 15 or 20, 3) in millimetres and `poses_2d` (3, frames,
joints, 2) in pixels of the colour cameras, NaN where the motion capture failed. Frame numbers are those of the
synchronised videos and count from 0. Source: Sigal et al., IJCV 2010; figures as VideoPose3D publishes them.
"""
from dataclasses import dataclass

import numpy as np

from common import mat5
from common.mpi3dhp_raw import kind_of
from common.utils import DataError, progress, require

SPLITS = ("Train", "Validate")
CAMERAS = ("C1", "C2", "C3")
JOINTS = (15, 20)
MM_PER_METRE = 1000
# Per person and take a < b < c: validation has the frames a to b, without b, and training those from b to c.
RANGES = {
    "S1": {"Walking 1": (5, 590, 1203), "Jog 1": (5, 367, 740), "ThrowCatch 1": (5, 473, 945),
           "Gestures 1": (5, 395, 801), "Box 1": (5, 385, 789)},
    "S2": {"Walking 1": (5, 438, 876), "Jog 1": (5, 398, 795), "ThrowCatch 1": (5, 550, 1128),
           "Gestures 1": (5, 500, 901), "Box 1": (5, 382, 734)},
    "S3": {"Walking 1": (5, 448, 939), "Jog 1": (5, 401, 842), "ThrowCatch 1": (5, 493, 1027),
           "Gestures 1": (5, 533, 1102), "Box 1": (5, 512, 1021)},
}
# Frames of C1, C2 and C3 to skip: the video frame, counted from 0, that is the first synchronised one.
FIRST_FRAMES = {
    "S1": {"Walking 1": (82, 81, 82), "Jog 1": (51, 51, 50), "ThrowCatch 1": (61, 61, 60), "Gestures 1": (45, 45, 44),
           "Box 1": (57, 57, 56)},
    "S2": {"Walking 1": (115, 115, 114), "Jog 1": (100, 100, 99), "ThrowCatch 1": (127, 127, 127),
           "Gestures 1": (122, 122, 121), "Box 1": (119, 119, 117)},
    "S3": {"Walking 1": (80, 80, 80), "Jog 1": (65, 65, 65), "ThrowCatch 1": (79, 79, 79), "Gestures 1": (83, 83, 82),
           "Box 1": (1, 1, 1)},
    "S4": {},
}
SUBJECTS = tuple(f"{split}/{person}" for split in SPLITS for person in RANGES)
LARGEST_VARIABLE = 10**8  # numbers; a take has some 100,000
AGAIN = "export it again by data/export_humaneva.m"


@dataclass
class Labels:
    """What the files hold, in runs of whole frames: {subject "Train/S1": {"Walking 1 chunk0": ...}} each.

    positions: (n, joints, 3) float32 metres; views: per camera (n, joints, 2) float32 pixels; frames: (first, end) of
    the synchronised video, without the end.
    """

    joints: int
    positions: dict
    views: dict
    frames: dict


def frame_range(subject, take):
    """(first, end) of the labelled frames of ("Train/S1", "Walking 1"), without the end."""
    split, person = subject.split("/")
    first, middle, end = RANGES[person][take]
    return (middle, end) if split == "Train" else (first, middle)


def frame_offsets(person, take):
    """Of C1, C2 and C3: video frame = synchronised frame + offset, both from 0; 0 where it is not known."""
    return list(FIRST_FRAMES.get(person, {}).get(take, (0,) * len(CAMERAS)))


def runs_of(whole):
    """The runs of equal values in `whole` (frames,), bool: [(first, end, value)], in order."""
    edges = np.flatnonzero(np.diff(whole)) + 1
    edges = [0, *edges.tolist(), len(whole)]
    return [(first, end, bool(whole[first])) for first, end in zip(edges, edges[1:], strict=False) if end > first]


def find_root(path):
    """The folder with Train and Validate: `path`, its parent if it is one of them, or the one such folder in it."""
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; -p names the folder with Train/S1/Walking_1.mat and so on")
    path = path.resolve()
    for root in (path, path.parent) if path.name in SPLITS else (path,):
        if any((root / split).is_dir() for split in SPLITS):
            return root
    below = [folder for folder in sorted(path.iterdir()) if any((folder / split).is_dir() for split in SPLITS)]
    if len(below) > 1:
        raise DataError(f"{path}: several folders in it hold {' or '.join(SPLITS)}: "
                        f"{', '.join(folder.name for folder in below)}; name one of them by -p")
    if not below:
        raise DataError(f"{path}: neither {' nor '.join(SPLITS)} is in it; -p names the folder with "
                        "Train/S1/Walking_1.mat and so on, made by data/export_humaneva.m")
    return below[0]


def find_takes(root):
    """{("Train/S1", "Walking 1"): path} of what is labelled, and the names of the other .mat files there."""
    found, others = {}, []
    for path in sorted(path for split in SPLITS for path in root.glob(f"{split}/*/*.mat")):
        if path.name.startswith("."):
            continue
        subject, take = "/".join(path.parts[-3:-1]), path.stem.replace("_", " ")
        if subject not in SUBJECTS or take not in RANGES[subject.split("/")[1]]:
            others.append(f"{subject}/{path.name}")
        elif (subject, take) in found:
            raise DataError(f"{path}: {found[subject, take].name} is the same take; remove one of the two")
        else:
            found[subject, take] = path
    return {name: found[name] for name in all_takes() if name in found}, others


def all_takes():
    """[("Train/S1", "Walking 1")] of everything that is labelled, in order."""
    return [(subject, take) for subject in SUBJECTS for take in RANGES[subject.split("/")[1]]]


def read_variables(path):
    """`poses_3d` and `poses_2d` of a MATLAB file, as MATLAB shows them. Raises DataError."""
    names, kind = ("poses_3d", "poses_2d"), kind_of(path)
    hdf5 = require("h5py", "h5py") if kind in ("MATLAB 7.3", "HDF5") else None
    try:
        if hdf5:
            with hdf5.File(path) as file:
                content = {name: _of_hdf5(file[name]) for name in names if name in file}
        else:
            content = mat5.read_variables(path, names)
    except Exception as error:  # a damaged file raises about anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged, truncated or no MATLAB file ({reason}); {AGAIN}") from None
    for name in names:
        if name not in content:
            raise DataError(f"{path}: has no variable {name}: truncated, or another file; {AGAIN}")
        if not isinstance(content[name], np.ndarray) or content[name].dtype.kind not in "iuf":
            raise DataError(f"{path}: {name} holds no numbers; {AGAIN}")
    return [content[name] for name in names]


def _of_hdf5(variable):
    """An HDF5 variable with MATLAB's order of axes. ValueError for one that no take can fill."""
    if variable.size > LARGEST_VARIABLE:
        raise ValueError(f"a variable of the shape {variable.shape}")
    return variable[()].T


def read_take(path):
    """A file's poses (frames, 15 or 20, 3), millimetres, and views (3, frames, joints, 2), pixels. Raises DataError."""
    poses, views = read_variables(path)
    if poses.ndim != 3 or poses.shape[1] not in JOINTS or poses.shape[2] != 3:
        raise DataError(f"{path}: poses_3d has the shape {poses.shape}, not (frames, 15 or 20, 3); {AGAIN}")
    if not len(poses):
        raise DataError(f"{path}: holds no frames; {AGAIN}")
    expected = (len(CAMERAS), *poses.shape[:2], 2)
    if views.shape != expected and views.swapaxes(0, min(1, views.ndim - 1)).shape == expected:
        views = views.swapaxes(0, 1)  # frames before cameras
    if views.shape != expected:
        raise DataError(f"{path}: poses_2d has the shape {views.shape}, not {expected} as poses_3d wants it: "
                        f"{len(CAMERAS)} cameras, {len(poses)} frames, {poses.shape[1]} joints; {AGAIN}")
    return poses, views


def labelled_frames(path, subject, take):
    """`read_take`, cut to the labelled frames where the file holds the whole take. Raises DataError."""
    poses, views = read_take(path)
    first, end = frame_range(subject, take)
    if len(poses) >= end:
        return poses[first:end], views[:, first:end]
    if len(poses) > end - first:
        raise DataError(f"{path}: has {len(poses)} frames; {subject} {take} has {end - first} labelled ones, and the "
                        f"whole take at least {end}; {AGAIN}")
    return poses, views


def read_labels(files):
    """Read {(subject, take): path}: (Labels, notices {what to know: [where]}). Raises DataError."""
    labels, notices, joints_in = Labels(0, {}, {}, {}), {}, None
    for (subject, take), path in progress(files.items(), desc="labels", unit="take"):
        poses, views = labelled_frames(path, subject, take)
        joints_in = joints_in or path
        labels.joints = labels.joints or poses.shape[1]
        if poses.shape[1] != labels.joints:
            raise DataError(f"{path}: has {poses.shape[1]} joints and {joints_in} {labels.joints}; keep the two in "
                            "folders of their own")
        first, end = frame_range(subject, take)
        if len(poses) < end - first:
            notices.setdefault("fewer frames than published, a part of the dataset or demo people", []).append(
                f"{subject} {take} ({len(poses)} of {end - first})")
        if not _add_chunks(labels, subject, take, poses, views):
            notices.setdefault("no whole frame is labelled", []).append(f"{subject} {take}")
    if not labels.frames:
        raise DataError(f"{joints_in.parents[2]}: no frame of any file is whole; {AGAIN}")
    return labels, notices


def _add_chunks(labels, subject, take, poses, views):
    """Put the runs of whole frames into `labels`; returns how many they are. Damaged runs are numbered too."""
    with np.errstate(over="ignore"):  # what single precision cannot hold becomes infinite: damaged
        poses, views = (poses / MM_PER_METRE).astype(np.float32), views.astype(np.float32)
    whole = np.isfinite(poses).all((1, 2)) & np.isfinite(views).all((0, 2, 3))
    start, added = frame_range(subject, take)[0], 0
    for number, (first, end, value) in enumerate(runs_of(whole)):
        if value:
            for part, values in ((labels.positions, poses[first:end]), (labels.views, list(views[:, first:end])),
                                 (labels.frames, (start + first, start + end))):
                part.setdefault(subject, {})[f"{take} chunk{number}"] = values
            added += 1
    return added
