"""From the npz files to aligned sequences: normalised 2D keypoints and root-relative 3D poses in camera space.

Every file may be wrong. What is used is checked, and a DataError names file, subject, action and camera.
"""
import operator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.camera import normalize_screen_coordinates, world_to_camera
from common.custom_dataset import CustomDataset
from common.h36m_dataset import Human36mDataset
from common.humaneva_dataset import HumanEvaDataset
from common.keypoints import identify_layout
from common.safe_io import load_npz
from common.utils import DataError, UsageError

# Joints that the positions of each dataset may have; demo people have Human3.6M's skeleton and cameras.
DATASET_JOINTS = {"h36m": (17, 32), "demo": (17, 32), "humaneva15": (15,), "humaneva20": (20,)}
DATASETS = (*DATASET_JOINTS, "custom")
LARGEST_PIXEL = 1e9  # beyond any image, and far from where float32 ends
LARGEST_METRES = 100  # of a coordinate in a laboratory; a standing person in millimetres is beyond


@dataclass
class PoseSequence:
    """One sequence seen by one camera.

    keypoints: (T, J_in, 2) screen coordinates. positions: (T, J, 3) camera space relative to the root joint, in the
    dataset's unit, or None. trajectory: (T, 1, 3) the root in camera space, or None. valid: (T,) which frames count in
    an evaluation, or None: all do. activity: (T,) numbers of what is done, or None. intrinsics: (9,) of the camera, for
    networks that take them, or None.
    """

    subject: str
    action: str
    camera_index: int
    camera: dict
    keypoints: np.ndarray
    positions: np.ndarray | None = None
    trajectory: np.ndarray | None = None
    valid: np.ndarray | None = None
    activity: np.ndarray | None = None
    intrinsics: np.ndarray | None = None

    def scored_frames(self):
        """The frames (n,) that count in an evaluation."""
        return np.arange(len(self)) if self.valid is None else np.flatnonzero(self.valid)

    def target(self):
        """The positions (n, J, 3) of the frames that count in an evaluation."""
        return self.positions if self.valid is None else self.positions[self.valid]

    @property
    def action_name(self):
        """The action without its trial and chunk: `Walking` of `Walking 1 chunk0`."""
        return self.action.split(" ")[0]

    def __len__(self):
        return len(self.keypoints)


@dataclass
class Keypoints:
    """A 2D file: positions {subject: {action: [per camera (frames, J_in, 2) pixels]}} and its metadata."""

    path: Path
    positions: dict
    num_joints: int
    left: list
    right: list
    layout: str | None = None  # the name of the joints in common.keypoints.LAYOUTS, where they are known
    video_metadata: dict = field(default_factory=dict)


def keypoints_path(data_dir, dataset, name):
    return Path(data_dir) / f"data_2d_{dataset}_{name}.npz"


def positions_path(data_dir, dataset):
    return Path(data_dir) / f"data_3d_{dataset}.npz"


def load_keypoints(data_dir, dataset, name):
    """Read `data_2d_<dataset>_<name>.npz`. Raises DataError."""
    path = keypoints_path(data_dir, dataset, name)
    content = load_npz(path)
    positions, metadata = content.get("positions_2d"), content.get("metadata")
    _check_nested(path, "positions_2d", positions)
    if not isinstance(metadata, dict) or "keypoints_symmetry" not in metadata:
        raise DataError(f"{path}: has no `metadata` with `keypoints_symmetry`; prepare it again")
    try:
        left, right = ([operator.index(joint) for joint in side] for side in metadata["keypoints_symmetry"])
    except (TypeError, ValueError):
        raise DataError(f"{path}: `keypoints_symmetry` is not a pair of joint lists [left, right]") from None
    all_views = [views for actions in positions.values() for views in actions.values()]
    if not all(isinstance(views, list | tuple | np.ndarray) for views in all_views):
        raise DataError(f"{path}: `positions_2d` does not hold a list of cameras for each action; prepare it again")
    first = next((view for views in all_views for view in views), None)
    try:
        joints = operator.index(metadata.get("num_joints") or (first.shape[1] if getattr(first, "ndim", 0) == 3 else 0))
    except TypeError:
        raise DataError(f"{path}: `num_joints` is {metadata['num_joints']!r}, not a number of joints") from None
    if len(left) != len(right) or not all(0 <= joint < joints for joint in left + right):
        raise DataError(f"{path}: `keypoints_symmetry` does not pair joints among the {joints} of this file")
    layout = identify_layout(str(metadata.get("layout_name", "")), joints, left, right)
    return Keypoints(path, positions, joints, left, right, layout, metadata.get("video_metadata") or {})


def load_dataset(data_dir, name, keypoints):
    """The 3D side: `data_3d_<name>.npz`, or the videos that custom `keypoints` tell of. Raises DataError."""
    if name == "custom":
        if not isinstance(keypoints.video_metadata, dict) or not keypoints.video_metadata:
            raise DataError(f"{keypoints.path}: metadata has no `video_metadata` with the videos' width and height")
        return CustomDataset(keypoints.video_metadata, keypoints.path)
    path = positions_path(data_dir, name)
    positions = load_npz(path).get("positions_3d")
    _check_nested(path, "positions_3d", positions)
    for subject, actions in positions.items():
        for action, poses in actions.items():
            joints = DATASET_JOINTS[name]
            if not are_positions(poses, joints):
                shape = getattr(poses, "shape", type(poses).__name__)
                raise DataError(f"{path}: {subject} {action} is {shape}, expected (frames, "
                                f"{' or '.join(map(str, joints))}, 3) floats for {name}")
    if name.startswith("humaneva"):
        return HumanEvaDataset(positions, DATASET_JOINTS[name][0])
    return Human36mDataset(positions)


def are_positions(poses, joints):
    """Whether `poses` is an array (frames, J, 3) of floats, J one of `joints`."""
    return isinstance(poses, np.ndarray) and poses.ndim == 3 and poses.shape[1] in joints and poses.shape[2] == 3 \
        and poses.dtype.kind == "f"


def _check_nested(path, key, value):
    well_formed = isinstance(value, dict) and value and all(
        isinstance(subject, str) and isinstance(actions, dict) and all(isinstance(action, str) for action in actions)
        for subject, actions in value.items())
    if not well_formed:
        raise DataError(f"{path}: has no `{key}` of the form {{subject: {{action: ...}}}}; is it the right file?")


def select_actions(available, action_filter):
    """The actions that begin with one of `action_filter` (None: all), in the filter's order."""
    if action_filter is None:
        return list(available)
    selected = {}
    for prefix in action_filter:
        selected.update((action, None) for action in available if action.startswith(prefix))
    return list(selected)


def fetch(dataset, keypoints, subjects, action_filter=None, subset=1.0, downsample=1):
    """The sequences of `subjects` whose action begins with one of `action_filter`, one per camera.

    subset: share of every sequence's frames that is kept, a run from a place fixed by its length; downsample: keep
    every n-th frame. Raises DataError where something used is missing or damaged, UsageError where nothing matches.
    """
    sequences, known_actions = [], set()
    for subject in subjects:
        _check_subject(dataset, keypoints, subject)
        known_actions |= {action.split(" ")[0] for action in dataset[subject]}
        selected = select_actions(dataset[subject], action_filter)
        missing = [action for action in selected if action not in keypoints.positions[subject]]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(f"{keypoints.path}: {subject} lacks the action {missing[0]}{more}")
        for action in selected:
            sequences += [thinned(view, subset, downsample) for view in views(dataset, keypoints, subject, action)]
    for prefix in action_filter or [""]:
        if not any(action.startswith(prefix) for action in known_actions):
            raise UsageError(f"-a {prefix}: matches no action of {','.join(subjects)}; there are "
                             f"{', '.join(sorted(known_actions))}")
    return sequences


def _check_subject(dataset, keypoints, subject):
    if subject not in dataset:
        raise DataError(f"subject {subject} is not in the 3D data; there are {', '.join(dataset.subjects())}")
    if subject not in keypoints.positions:
        raise DataError(f"{keypoints.path}: subject {subject} is missing; there are {', '.join(keypoints.positions)}")


def views(dataset, keypoints, subject, action):
    """Yield the sequences of one action, one per camera, checked and aligned. Raises DataError."""
    sequence, pixels_of = dataset[subject][action], keypoints.positions[subject][action]
    where = f"{keypoints.path}: {subject} {action}"
    cameras, world = sequence["cameras"], sequence.get("positions")
    if not cameras:
        raise DataError(f"{subject} has no calibrated cameras in this dataset; leave the subject out")
    if len(pixels_of) != len(cameras):
        raise DataError(f"{where} has {len(pixels_of)} cameras, the dataset has {len(cameras)}")
    if world is not None:
        _check_world(world, f"3D positions of {subject} {action}")
    root = dataset.skeleton().root()
    for i, (view, camera) in enumerate(zip(pixels_of, cameras, strict=True)):
        pixels = checked_view(f"{where} camera {i}", view, keypoints.num_joints, world)
        screen = normalize_screen_coordinates(pixels, camera["res_w"], camera["res_h"]).astype(np.float32)
        if world is None:
            yield PoseSequence(subject, action, i, camera, screen)
            continue
        poses = world_to_camera(world, camera["orientation"], camera["translation"])
        trajectory = poses[:, root : root + 1].copy()
        yield PoseSequence(subject, action, i, camera, screen, poses - trajectory, trajectory)


def _check_world(world, where):
    if len(world) == 0 or not np.isfinite(world).all():
        what = "no frames" if len(world) == 0 else "NaN or infinite values"
        raise DataError(f"{where} hold {what}; prepare the dataset again")
    if (farthest := np.abs(world).max()) > LARGEST_METRES:
        raise DataError(f"{where} reach to {farthest:.0f}, which are no metres; if they are millimetres, divide them "
                        "by 1000 and save the file again")


def checked_view(where, view, joints, world):
    """Pixels (frames, J_in, 2) of one camera, cut to the length of the 3D positions. Raises DataError."""
    if not isinstance(view, np.ndarray) or view.ndim != 3 or view.shape[1] != joints or view.shape[2] < 2 or \
            view.dtype.kind not in "fiu":
        shape = getattr(view, "shape", type(view).__name__)
        raise DataError(f"{where} is {shape}, expected (frames, {joints}, 2) numbers as its metadata says")
    if world is not None:
        if len(view) < len(world):
            raise DataError(f"{where} has {len(view)} frames, the 3D positions have {len(world)}")
        view = view[: len(world)]
    if len(view) == 0:
        raise DataError(f"{where} has no frames")
    view = view[..., :2]
    finite = np.abs(view) < LARGEST_PIXEL  # false for NaN
    if not finite.all():
        frame = int(np.argmin(finite.all(axis=(1, 2))))
        raise DataError(f"{where} holds NaN or infinite values (first in frame {frame}); interpolate or leave it out")
    return view


def thinned(sequence, subset, downsample):
    """`sequence` with a run of `subset` of its frames, every `downsample`-th of them."""
    frames = slice(None, None, downsample)
    if subset < 1:
        kept = max(1, round(len(sequence) // downsample * subset)) * downsample
        # A place that depends on nothing but the length: every run and every camera takes the same frames.
        start = int(np.random.default_rng(len(sequence)).integers(max(1, len(sequence) - kept + 1)))
        frames = slice(start, start + kept, downsample)
    for name in ("keypoints", "positions", "trajectory", "valid", "activity"):
        values = getattr(sequence, name)
        if values is not None:
            setattr(sequence, name, values[frames])
    return sequence
