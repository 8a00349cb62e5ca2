"""The demo people as a miniature raw HumanEva-I: its exported labels, and a detector's files of its videos.

They move near the middle of HumanEva's room, seen by its cameras. A take's motion is whole: videos begin before its
first synchronised frame and end after the labelled ones, and labels are cut out of it.
"""
import functools
from pathlib import Path

import numpy as np

from common.camera import world_to_camera
from common.humaneva_dataset import humaneva_cameras
from common.humaneva_raw import CAMERAS, FIRST_FRAMES, MM_PER_METRE, RANGES, SUBJECTS, frame_offsets, frame_range
from common.keypoints import COCO_17_NAMES, LAYOUTS
from common.synthetic import make_motion
from common.synthetic_body import JOINT, stream
from common.synthetic_detections import people_of, write_detectron
from common.utils import atomic_path, progress, require

TAKES = tuple(RANGES["S1"])
UNLABELLED = ("Walking 2", "Combo 1")
# Who plays whom, and what they do; 50 frames a second pass for HumanEva's 60.
PEOPLE = {"S1": "S1", "S2": "S5", "S3": "S6", "S4": "S7"}
MOTIONS = {"Walking": "Walking", "Jog": "Walking", "ThrowCatch": "Reaching", "Gestures": "Waving", "Box": "Reaching",
           "Combo": "Turning"}
LEAD = max(first for takes in FIRST_FRAMES.values() for firsts in takes.values() for first in firsts)
LONGEST = LEAD + 1300  # frames of a take, those before the first synchronised one too
TAIL = 12  # frames after the labelled ones
FOCAL, SIZE = 600.0, (640, 480)  # pixels; the dataset's own lenses are not published with its cameras
MIDDLE = (-0.1, 0.05)  # metres; where the cameras look
NO_WHOLE_FRAME = ("Train/S3", "ThrowCatch 1")  # as in the real dataset
# COCO's joints in the face, as weighted sums of the demo people's; all others have their names.
FACE = {"nose": {"neck": 1}} | {
    f"{side}_{name}": {"neck": 1 - up, "head": up, f"{side}_shoulder": out, f"{other}_shoulder": -out}
    for side, other in (("left", "right"), ("right", "left"))
    for name, up, out in (("eye", 0.3, 0.08), ("ear", 0.2, 0.2))}


def take_positions(person, take, first, end, seed=0):
    """World metres (end - first, 32, 3), float64, of the synchronised frames of a take; from -LEAD on."""
    return _take_motion(person, take, seed)[LEAD + first : LEAD + end]


@functools.lru_cache(maxsize=64)
def _take_motion(person, take, seed):
    """All of a take, (LONGEST, 32, 3); kept, as all files of the take are cut out of it."""
    kind, _, trial = take.partition(" ")
    number = 1 + int(trial) + 10 * list(MOTIONS).index(kind)  # jogging is not walking again
    motion = make_motion(PEOPLE[person], f"{MOTIONS[kind]} {number}", LONGEST, seed).astype(np.float64)
    root = motion[:, JOINT["hip"], :2]
    motion[..., :2] += np.array(MIDDLE) - (root.min(0) + root.max(0)) / 2
    motion.setflags(write=False)
    return motion


def weights_of(names):
    """Matrix (len(names), 32) that makes the joints with these names of the demo people's."""
    matrix = np.zeros((len(names), len(JOINT)))
    for row, name in enumerate(names):
        for source, weight in FACE.get(name, {"hip" if name == "pelvis" else name: 1}).items():
            matrix[row, JOINT[source]] = weight
    return matrix


def joints_of(positions, names):
    """The joints (frames, len(names), 3) of demo people (frames, 32, 3)."""
    return np.einsum("kj,fjc->fkc", weights_of(names), positions)


def pixels(poses, person):
    """World metres (frames, J, 3) in the three cameras: (3, frames, J, 2) pixels."""
    seen = [world_to_camera(poses, camera["orientation"], camera["translation"])
            for camera in humaneva_cameras(person if person in RANGES else "S1")]  # S4 has no cameras of its own
    return np.stack([FOCAL * view[..., :2] / view[..., 2:] + np.array(SIZE) / 2 for view in seen])


def damaged_frames(subject, take, frames, seed=0):
    """Which of so many labelled frames (frames,) are damaged: none, or one run or two; bool."""
    rng, damaged = stream(seed, subject, take, "damaged"), np.zeros(frames, dtype=bool)
    if (subject, take) == NO_WHOLE_FRAME:
        return ~damaged
    for number in range(rng.integers(0, 3)):
        start = rng.integers(0, frames) * (number or rng.integers(0, 2))
        damaged[start : start + rng.integers(1, max(2, frames // 8))] = True
    damaged[frames // 2] = False
    return damaged


def end_of_take(person, take, frames=None):
    """How many synchronised frames a take has: to some after its labelled ones, or after `frames` of training."""
    first, middle, end = RANGES[person].get(take, (0, 0, 300)) if person in RANGES else (0, 0, 300)
    return (end if frames is None else min(end, middle + frames)) + TAIL


def labels_of(subject, take, frames=60, seed=0, joints=15, damaged=True, whole=False):
    """What a file holds: `poses_3d` (n, joints, 3) mm and `poses_2d` (3, n, joints, 2) pixels, NaN where damaged."""
    person, (first, end) = subject.split("/")[1], frame_range(subject, take)
    count = end - first if frames is None or whole else min(frames, end - first)
    start, stop = (0, end + TAIL) if whole else (first, first + count)
    poses = joints_of(take_positions(person, take, start, stop, seed), LAYOUTS[f"humaneva{joints}"].names())
    flat, poses = pixels(poses, person), MM_PER_METRE * poses
    if damaged:
        wrong = first - start + np.flatnonzero(damaged_frames(subject, take, count, seed))
        poses[wrong, 3:], flat[:, wrong, 3:] = np.nan, np.nan  # the motion capture lost some joints
    return {"poses_3d": poses, "poses_2d": flat}


def write_humaneva(folder, frames=60, seed=0, joints=15, takes=TAKES, damaged=True, whole=False, subjects=SUBJECTS):
    """Write a miniature of the labels of HumanEva-I: `Train/S1/Walking_1.mat` and so on, MATLAB 5.

    frames: labelled ones a file (None: as many as the real dataset); damaged: with runs of NaN; whole: all files hold
    their take from frame 0 on, beyond the last labelled frame of the real dataset.
    """
    savemat, folder = require("scipy.io", "scipy").savemat, Path(folder)
    for subject in progress(subjects, desc="labels", unit="subject"):
        for take in takes:
            content = labels_of(subject, take, frames, seed, joints, damaged, whole)
            with atomic_path(folder / subject / f"{take.replace(' ', '_')}.mat") as temporary:
                savemat(temporary, content, do_compression=True)


def detections_of(person, take, camera, frames=60, seed=0, noise=2.0, late=0):
    """What a detector finds in one whole video: (frames, 17, 2) pixels of COCO's joints.

    frames: see `end_of_take`; noise: standard deviation in pixels; late: by how many frames the video lags behind the
    published synchronisation.
    """
    number = CAMERAS.index(camera)
    before = frame_offsets(person, take)[number] + late
    end = end_of_take(person, take, frames) + number  # cameras do not end together
    poses = joints_of(take_positions(person, take, -before, end, seed), COCO_17_NAMES)
    rng = stream(seed, person, take, camera)
    flat = pixels(poses, person)[number]
    return flat + noise * rng.standard_normal(flat.shape)


def write_humaneva_detections(folder, frames=60, seed=0, takes=TAKES, unlabelled=UNLABELLED, noise=2.0, misses=0.02,
                              late=0, people=tuple(RANGES)):
    """Write a detector's files of the videos of `write_humaneva`: `S1/Walking_1_(C1).avi.npz` and so on, Detectron's.

    takes, unlabelled: of each person; misses: share of the frames in which nobody is found; else see `detections_of`.
    """
    names = [(person, take, camera) for person in people for take in (*takes, *unlabelled) for camera in CAMERAS]
    for person, take, camera in progress(names, desc="detections", unit="video"):
        keypoints = detections_of(person, take, camera, frames, seed, noise, late)
        found = stream(seed, person, take, camera, "misses").random(len(keypoints)) >= misses
        with atomic_path(Path(folder) / person / f"{take.replace(' ', '_')}_({camera}).avi.npz") as temporary:
            write_detectron(temporary, people_of([np.where(found[:, None, None], keypoints, np.nan)]), SIZE)

