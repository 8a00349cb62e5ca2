"""The demo people as raw recordings: miniature datasets in exactly the files that the owners of the real ones give out.

The prepare scripts and everything behind them can so be run from the first step on without any licence.
"""
from pathlib import Path

import numpy as np

from common.h36m_images import write_jpeg
from common.keypoints import MPI_INF_3DHP_NAMES
from common.mpi3dhp_dataset import (
    TEST_FPS,
    TEST_IMAGES,
    TEST_SEQUENCES,
    TRAINING_CAMERAS,
    TRAINING_IMAGE,
    TRAINING_SEQUENCES,
)
from common.synthetic import make_motion
from common.synthetic_body import JOINT, stream
from common.synthetic_images import draw_person, draw_room
from common.synthetic_motion import FPS
from common.utils import atomic_path, progress, require

# The 28 joints of an MPI-INF-3DHP annotation, as weighted means of the demo people's; all keep their bones' lengths.
MPI_INF_3DHP_28 = {
    "spine3": {"spine": 0.5, "thorax": 0.5}, "spine4": {"spine": 0.25, "thorax": 0.75},
    "spine2": {"spine": 0.75, "thorax": 0.25}, "spine": {"spine": 1}, "pelvis": {"hip": 1}, "neck": {"thorax": 1},
    "head": {"neck": 1}, "head_top": {"head": 1},
    **{f"{side}_{name}": {source.format(side): weight for source, weight in sources.items()}
       for side in ("left", "right") for name, sources in
       {"clavicle": {"thorax": 0.7, "{}_shoulder": 0.3}, "shoulder": {"{}_shoulder": 1}, "elbow": {"{}_elbow": 1},
        "wrist": {"{}_wrist": 1}, "hand": {"{}_hand": 1}}.items()},
    **{f"{side}_{name}": {f"{side}_{name}": 1}
       for side in ("left", "right") for name in ("hip", "knee", "ankle", "foot", "toe")},
}
NAMES_28 = tuple(MPI_INF_3DHP_28)
UNIVERSAL_HEIGHT = 920.0  # millimetres from knee to neck, along the bones, of everybody in `univ_annot3`
ROLLING = "Rolling"  # Turning, but lying on the floor
# What the people do, and the number of the activity that this is most like.
MOTIONS = {"Walking": 1, "SittingDown": 3, "Waving": 6, "Crouching": 4, "Turning": 1, "Reaching": 4, "Jumping": 2,
           "Phoning": 7, ROLLING: 5}
MOTIONS_A_SEQUENCE = 4  # they go round: any three test sequences hold all activities
TRAINING_PEOPLE, TEST_PEOPLE = ("S1", "S5", "S6", "S7", "S8"), ("S9", "S11")
TRAINING_SUBJECTS = tuple(dict.fromkeys(name.split()[0] for name in TRAINING_SEQUENCES))
FLOOR = 0.1  # metres from the floor to the joints of somebody who lies
# Share of the frames that count, per test sequence: fewer in the studio, as in the real set, but enough of them.
VALID_SHARES = dict(zip(TEST_SEQUENCES, (0.65, 0.6, 0.7, 0.65, 0.9, 0.9), strict=True))
HEADER_73 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 1970 HDF5 schema 1.00 ."


def weights_28():
    """Matrix (28, 32) that makes MPI-INF-3DHP's joints of the demo people's."""
    matrix = np.zeros((len(NAMES_28), len(JOINT)))
    for row, sources in enumerate(MPI_INF_3DHP_28.values()):
        for name, weight in sources.items():
            matrix[row, JOINT[name]] = weight
    return matrix


def look_at(centre, size, focal, target=(0.0, 0.0, 1.0)):
    """A pinhole camera at `centre` (world metres) that looks at `target`; size and focal length in pixels."""
    centre = np.array(centre, dtype=np.float64)
    forward = np.array(target) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return {"rotation": np.stack([right, np.cross(forward, right), forward]), "centre": centre, "focal": focal,
            "size": size}


def training_cameras():
    """The fourteen cameras: those that training uses stand in a ring at chest height, the others higher."""
    cameras, high = [], [number for number in range(14) if number not in TRAINING_CAMERAS]
    for number in range(14):
        if number in TRAINING_CAMERAS:
            angle, distance, height = 2 * np.pi * TRAINING_CAMERAS.index(number) / 8, 3.6, 1.2 + 0.05 * (number % 3)
        else:
            angle, distance, height = 2 * np.pi * (high.index(number) + 0.5) / len(high), 3.2, 2.8
        place = distance * np.cos(angle), distance * np.sin(angle), height
        cameras.append(look_at(place, TRAINING_IMAGE, 1500.0))
    return cameras


def camera_of(name):
    """The camera of one test sequence: in the studio near by, outdoors farther away."""
    number = TEST_SEQUENCES.index(name)
    focal, distance = (1500.0, 3.6) if TEST_IMAGES[name][1] > 1100 else (1680.0, 6.0)
    angle = 0.6 + 2.1 * number
    return look_at((distance * np.cos(angle), distance * np.sin(angle), 1.3), TEST_IMAGES[name], focal)


def camera_space(positions, camera):
    """World metres (..., 3) in the camera's space: millimetres, x right, y down, z forward; float64."""
    return 1000 * (positions - camera["centre"]) @ camera["rotation"].T


def pixels(poses, camera):
    """Camera-space poses (..., 3) in the image: (..., 2) pixels."""
    return camera["focal"] * poses[..., :2] / poses[..., 2:] + np.array(camera["size"]) / 2


def universal_scale(positions):
    """By what a person (frames, 28, 3) in metres is to be multiplied to be as tall as everybody in `univ_annot3`."""
    def bone(a, b):
        return np.linalg.norm(positions[0, NAMES_28.index(a)] - positions[0, NAMES_28.index(b)])

    thigh = (bone("left_hip", "left_knee") + bone("right_hip", "right_knee")) / 2
    return UNIVERSAL_HEIGHT / 1000 / (thigh + bone("pelvis", "spine") + bone("spine", "neck"))


def heading(pose):
    """Angle (radians) of the line from the right to the left hip of a pose (32, 3), seen from above."""
    across = pose[JOINT["left_hip"]] - pose[JOINT["right_hip"]]
    return np.arctan2(across[1], across[0])


def turned(positions, angle):
    """World positions turned about the vertical axis by an angle in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return positions @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])


def _motion(person, motion, trial, frames, step, seed):
    """One motion (frames, 32, 3) of every `step`-th frame, float64 world metres; see `MOTIONS`."""
    kind = "Turning" if motion == ROLLING else motion
    poses = make_motion(person, f"{kind} {trial}", frames * step, seed)[::step].astype(np.float64)
    if motion == ROLLING:
        poses = turned(poses - poses[0, JOINT["hip"]], -heading(poses[0]))
        poses = poses[..., [0, 2, 1]] * [1, 1, -1]  # whoever stood along z lies along y
        poses[..., 2] += FLOOR - poses[..., 2].min()
    return poses


def make_recording(person, trial, motions, frames, fps, seed):
    """Somebody who does the `motions` one after the other, each going on where the one before ended.

    Returns world positions (frames, 32, 3) in metres, float64, about the vertical axis through the origin, and the
    activity (frames,) of each frame.
    """
    pieces, activity = [], []
    for motion, part in zip(motions, np.array_split(np.arange(frames), len(motions)), strict=True):
        if not len(part):
            continue
        piece = _motion(person, motion, trial, len(part), FPS // fps, seed)
        if pieces:
            last = pieces[-1][-1]
            piece = turned(piece, heading(last) - heading(piece[0]))
            piece[..., :2] += last[JOINT["hip"], :2] - piece[0, JOINT["hip"], :2]
        pieces.append(piece)
        activity += [MOTIONS[motion]] * len(part)
    positions = np.concatenate(pieces)
    root = positions[:, JOINT["hip"], :2]
    positions[..., :2] -= (root.min(0) + root.max(0)) / 2
    return positions, np.array(activity)


def recording(name, frames, seed=0):
    """World metres (frames, 28, 3) of a sequence such as `S1 Seq1` or `TS1`, and the activity (frames,) per frame.

    Training and test people differ; a person does the same things at every call.
    """
    positions, activity = body_recording(name, frames, seed)
    return annotated(positions), activity


def annotated(positions):
    """The demo people's joints (frames, 32, 3) as the 28 of an annotation."""
    return np.einsum("kj,fjc->fkc", weights_28(), positions)


def person_of(name):
    """Who is recorded in a sequence."""
    if name in TEST_SEQUENCES:
        return TEST_PEOPLE[TEST_SEQUENCES.index(name) % len(TEST_PEOPLE)]
    return TRAINING_PEOPLE[list(TRAINING_SEQUENCES).index(name) // 2 % len(TRAINING_PEOPLE)]


def body_recording(name, frames, seed=0):
    """`recording` with all joints of the demo people: (frames, 32, 3)."""
    names = list(TEST_SEQUENCES if name in TEST_SEQUENCES else TRAINING_SEQUENCES)
    number, fps, person = names.index(name), TRAINING_SEQUENCES.get(name, (0, TEST_FPS))[1], person_of(name)
    motions = [list(MOTIONS)[(MOTIONS_A_SEQUENCE * number + i) % len(MOTIONS)] for i in range(MOTIONS_A_SEQUENCE)]
    return make_recording(person, number, motions, frames, fps, seed)


def valid_frames(name, activity, seed=0):
    """Which frames (frames,) of a test sequence count: runs of them, of every activity some; bool."""
    noise = stream(seed, name, "valid").standard_normal(len(activity) + 12)
    smooth = np.convolve(noise, np.ones(13), "valid")  # (frames,)
    valid = np.zeros(len(activity), dtype=bool)
    for number in np.unique(activity):
        frames = np.flatnonzero(activity == number)
        kept = max(1, round(VALID_SHARES[name] * len(frames)))
        valid[frames[np.argsort(smooth[frames])[:kept]]] = True
    return valid


def write_training_annotation(path, positions):
    """`annot.mat`, MATLAB 5: `annot2`, `annot3`, `univ_annot3`, `frames` and `cameras`.

    positions: world metres (frames, 28, 3). The first three are cells (14, 1), one per camera, of (frames, 56) pixels
    and (frames, 84) millimetres, single precision.
    """
    frames, scale = len(positions), universal_scale(positions)
    cells = {name: np.empty((14, 1), dtype=object) for name in ("annot2", "annot3", "univ_annot3")}
    for number, camera in enumerate(training_cameras()):
        poses = camera_space(positions, camera)
        for name, values in (("annot2", pixels(poses, camera)), ("annot3", poses), ("univ_annot3", scale * poses)):
            cells[name][number, 0] = values.reshape(frames, -1).astype(np.float32)
    content = cells | {"frames": np.arange(frames, dtype=np.float64)[:, None], "cameras": np.arange(14.0)[None]}
    with atomic_path(path) as temporary:
        require("scipy.io", "scipy").savemat(temporary, content, do_compression=True)


def write_test_annotation(path, positions, camera, activity, valid, transposed=False):
    """`annot_data.mat`, MATLAB 7.3: `annot2`, `annot3`, `univ_annot3`, `valid_frame`, `activity_annotation`.

    positions: world metres (frames, 28, 3); activity, valid: (frames,). MATLAB shows the poses as (2 or 3, 17, 1,
    frames), HDF5 the axes the other way round; `transposed` writes HDF5's axes in the order in which MATLAB shows
    them, as those files have it that were not written by MATLAB.
    """
    joints = [NAMES_28.index(name) for name in MPI_INF_3DHP_NAMES]
    poses = camera_space(positions, camera)[:, None, joints]  # (frames, 1, 17, 3)
    content = {"annot2": pixels(poses, camera), "annot3": poses, "univ_annot3": universal_scale(positions) * poses,
               "valid_frame": valid[:, None].astype(np.float64), "activity_annotation": activity[:, None] * 1.0}
    with atomic_path(path) as temporary:
        with require("h5py", "h5py").File(temporary, "w", userblock_size=512) as file:
            for name, values in content.items():
                variable = file.create_dataset(name, data=values.T if transposed else values)
                variable.attrs["MATLAB_class"] = np.bytes_("double")
        with open(temporary, "r+b") as file:  # text, no subsystem data, version 2.0, byte order
            file.write(HEADER_73.ljust(116) + bytes(8) + b"\x00\x02IM")


def write_test_images(folder, name, positions, frames, seed=0):
    """Write the pictures `imageSequence/img_000001.jpg` (counted from 1) of the frames with these numbers (from 0).

    positions: world metres (frames, 32, 3) of the whole sequence.
    """
    camera, person = camera_of(name), person_of(name)
    (width, height), focal = camera["size"], camera["focal"]
    known = {"K": np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), "size": camera["size"],
             "intrinsic": np.array([focal, focal, width / 2, height / 2, *[0] * 5]), "R": camera["rotation"],
             "t": -1000 * camera["rotation"] @ camera["centre"][:, None]}
    rays = np.stack(np.meshgrid((np.arange(width) - width / 2) / focal, (np.arange(height) - height / 2) / focal),
                    axis=-1).astype(np.float32)
    room = draw_room(known["R"], camera["centre"], rays, seed)
    images = Path(folder) / name / "imageSequence"
    images.mkdir(parents=True, exist_ok=True)
    for number in frames:
        image = room.copy()
        draw_person(image, 1000 * positions[number], person, known, rays)
        write_jpeg(images / f"img_{number + 1:06d}.jpg", image)


def write_mpi_inf_3dhp(folder, frames=300, test_frames=None, seed=0, subjects=TRAINING_SUBJECTS, sequences=(1, 2),
                       test_sequences=TEST_SEQUENCES, transposed=False, images=0):
    """Write a miniature of the raw MPI-INF-3DHP: `S1/Seq1/annot.mat` and so on, `TS1/annot_data.mat` and so on.

    frames, test_frames: per training sequence and per test sequence (as many, if not given); subjects, sequences,
    test_sequences: what is written of each; transposed: see `write_test_annotation`; images: so many frames of each
    test sequence have pictures, and only these are valid (0: no pictures, the usual share is valid). Source of the
    formats: the files of Mehta et al., 3DV 2017.
    """
    folder, test_frames = Path(folder), frames if test_frames is None else test_frames
    names = [f"{subject} Seq{number}" for subject in subjects for number in sequences]
    with progress(total=len(names) + len(test_sequences), desc="recordings", unit="sequence") as bar:
        for name in names:
            write_training_annotation(folder.joinpath(*name.split(), "annot.mat"),
                                      recording(name, frames, seed)[0])
            bar.update()
        for name in test_sequences:
            positions, activity = body_recording(name, test_frames, seed)
            valid = valid_frames(name, activity, seed)
            if images:
                shown = np.flatnonzero(valid)
                shown = shown[np.linspace(0, len(shown) - 1, min(images, len(shown))).astype(int)]
                valid = np.isin(np.arange(len(valid)), shown)
                write_test_images(folder, name, positions, shown, seed)
            write_test_annotation(folder / name / "annot_data.mat", annotated(positions), camera_of(name), activity,
                                  valid, transposed)
            bar.update()
