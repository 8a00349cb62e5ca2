"""The raw Human3.6M: archives, names with their exceptions, CDF files, and cameras in pixels and millimetres.

A sequence is named by action and trial, `Walking-1`; its files are called otherwise, and not alike for all subjects.
Source: the files of Ionescu et al., TPAMI 2014.
"""
import contextlib
import math
import os
import signal
import threading
import zlib

import numpy as np

from common.camera import project_to_2d
from common.h36m_dataset import H36M_EXTRINSICS, H36M_INTRINSICS
from common.utils import DataError, require

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
TEST_SUBJECTS = ("S9", "S11")
CAMERAS = tuple(camera["id"] for camera in H36M_INTRINSICS)
ACTIONS = ("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases", "Sitting", "SittingDown",
           "Smoking", "TakingPhoto", "Waiting", "Walking", "WalkingDog", "WalkingTogether")
SEQUENCES = tuple(f"{action}-{trial}" for action in ACTIONS for trial in (1, 2))
# Most files of trial 1 are called `Walking 1`, of trial 2 `Walking`, with these actions abbreviated ...
ABBREVIATED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog", "WalkingTogether": "WalkTogether"}
# ... and the others so.
EXCEPTIONS = {
    "S1": {"Eating-1": "Eating 2", "Sitting-2": "Sitting 2", "SittingDown-1": "SittingDown 2",
           "TakingPhoto-1": "TakingPhoto 1", "TakingPhoto-2": "TakingPhoto", "WalkingDog-1": "WalkingDog 1",
           "WalkingDog-2": "WalkingDog"},
    "S5": {"Directions-2": "Directions 2", "Discussion-1": "Discussion 2", "Discussion-2": "Discussion 3",
           "Greeting-2": "Greeting 2", "SittingDown-1": "SittingDown", "SittingDown-2": "SittingDown 1",
           "TakingPhoto-1": "Photo", "TakingPhoto-2": "Photo 2", "Waiting-2": "Waiting 2"},
    "S6": {"Eating-2": "Eating 2", "Posing-1": "Posing 2", "Sitting-2": "Sitting 2", "TakingPhoto-1": "Photo",
           "TakingPhoto-2": "Photo 1", "Waiting-1": "Waiting 3"},
    "S7": {"Phoning-1": "Phoning 2", "SittingDown-1": "SittingDown", "SittingDown-2": "SittingDown 1",
           "TakingPhoto-1": "Photo", "TakingPhoto-2": "Photo 1", "Waiting-2": "Waiting 2", "Walking-2": "Walking 2"},
    "S8": {"SittingDown-1": "SittingDown", "SittingDown-2": "SittingDown 1", "WalkingTogether-2": "WalkTogether 2"},
    "S9": {"Discussion-2": "Discussion 2", "SittingDown-1": "SittingDown", "SittingDown-2": "SittingDown 1"},
    "S11": {"Discussion-2": "Discussion 2", "Greeting-1": "Greeting 2", "Phoning-1": "Phoning 3",
            "Phoning-2": "Phoning 2", "SittingDown-1": "SittingDown", "SittingDown-2": "SittingDown 1",
            "Smoking-1": "Smoking 2"},
}
BROKEN_VIEWS = {("S11", "Directions-2", "54138969")}  # a video that its owners give out broken
NOT_USED = {("S11", "Directions-2")}  # and so nobody lifts or evaluates this recording
# Per kind of archive, the folder in which its files lie once extracted; one archive a subject.
ARCHIVES = {
    "Poses_D2_Positions": "S1/MyPoseFeatures/D2_Positions",
    "Poses_D3_Positions": "S1/MyPoseFeatures/D3_Positions",
    "Poses_D3_Positions_mono": "S1/MyPoseFeatures/D3_Positions_mono",
    "Poses_D3_Positions_mono_universal": "S1/MyPoseFeatures/D3_Positions_mono_universal",
    "Videos": "S1/Videos",
    "Segments_mat_gt_bb": "S1/MySegmentsMat/ground_truth_bb",
}
FPS = 50
JOINTS = 32
READING_SECONDS = 20  # a sequence takes well below one
MOST_FRAMES = 1 << 15  # the labels number them in 16 bits; the longest sequence has 6343
LARGEST_MM = 1e5  # of a coordinate; the laboratory is 6 m long
LARGEST_FILE = 1 << 25  # bytes; so many frames in double precision, and some more
AGAIN = "copy it again from its owners"


def archive_name(kind, subject):
    """`Videos_S1.tgz` of one of `ARCHIVES` and a subject."""
    return f"{kind}_{subject}.tgz"


def archive_folder(kind, subject):
    """The folder of an archive's files, relative to where it is extracted: `S1/Videos`."""
    return f"{subject}/{ARCHIVES[kind].partition('/')[2]}"


def file_name(subject, sequence):
    """What the files of `sequence` are called, without camera and suffix: (S1, Eating-1) -> `Eating 2`."""
    action, _, trial = sequence.partition("-")
    usual = ABBREVIATED.get(action, action) + (" 1" if trial == "1" else "")
    return EXCEPTIONS[subject].get(sequence, usual)


def npz_name(subject, sequence):
    """What `sequence` is called in the lifting data: as its files are, but abbreviated for S1 too."""
    name = file_name(subject, sequence)
    for action, short in ABBREVIATED.items():
        name = name.replace(action, short)
    return name


def find_file(folder, kind, subject, sequence, ending):
    """The path of a file of `sequence` below `folder`, whether S1's names are abbreviated or not; None if not there.

    ending: what follows the name, `.cdf` or `.54138969.mp4`. Archives that somebody packed anew may hold the file in
    another folder than the owners' do: it is looked for in all of them.
    """
    for name in (file_name(subject, sequence), npz_name(subject, sequence)):
        path = folder / archive_folder(kind, subject) / f"{name}{ending}"
        if path.is_file():
            return path
        elsewhere = sorted(path for path in folder.rglob(f"{name}{ending}") if path.is_file())
        if elsewhere:
            return elsewhere[0]
    return None


@contextlib.contextmanager
def time_limit(seconds):
    """TimeoutError where the block takes longer: in a damaged CDF file the library may go round and round."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise TimeoutError(f"not read after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class OtherShape(DataError):
    """Numbers in a whole file, but not the positions of 32 joints."""


def check_shape(shape, kind, where):
    """`OtherShape` unless so many numbers of this kind can be joint positions: (frames, 96), with axes of 1 before."""
    sizes = shape[-2:] if all(size == 1 for size in shape[:-2]) else shape
    if len(sizes) != 2 or sizes[1] != 3 * JOINTS or kind not in "iuf":
        numbers = "" if kind in "iuf" else ", and no numbers"
        raise OtherShape(f"{where} has the shape {tuple(shape)}{numbers}, not (1, frames, {3 * JOINTS}); {AGAIN}")
    if not 0 < sizes[0] <= MOST_FRAMES:
        raise DataError(f"{where.rpartition(': ')[0]}: holds {sizes[0] or 'no'} frames; {AGAIN}")


def as_poses(values, where):
    """Values (frames, 96), also with axes of 1 before, as poses (frames, 32, 3), float32; DataError if they cannot be.

    where: what the error begins with, `FILE: VARIABLE`.
    """
    check_shape(values.shape, values.dtype.kind, where)
    with np.errstate(all="ignore"):  # what single precision cannot hold becomes infinite
        poses = values.reshape(-1, JOINTS, 3).astype(np.float32)
    wrong = np.argwhere(~(np.abs(poses) < LARGEST_MM))  # true for NaN
    if len(wrong):
        frame, joint, axis = wrong[0]
        value, path = poses[frame, joint, axis], where.rpartition(": ")[0]
        what = f"{value:g} mm" if np.isfinite(value) else "not finite"
        raise DataError(f"{path}: {what} at frame {frame} (the first is 0), joint {joint}; {AGAIN}")
    return poses


def _unpacked(content):
    """The bytes of a gzip stream. ValueError where they are more than any sequence's: a few may fill the memory."""
    stream = zlib.decompressobj(wbits=31)
    unpacked = stream.decompress(content, LARGEST_FILE)
    if not stream.eof:
        raise ValueError("packed data that end early, or are more than any sequence")
    return unpacked


@contextlib.contextmanager
def _unpacking_little(cdfread):
    """Let cdflib's module unpack by `_unpacked`; by itself it takes what comes."""
    before = cdfread.gzip_inflate
    cdfread.gzip_inflate = _unpacked
    try:
        yield
    finally:
        cdfread.gzip_inflate = before


def check_length(path):
    """ValueError where a CDF file is shorter than it says: the library reads on as if zeros followed.

    Source: NASA, "CDF Internal Format Description", the fields GDRoffset and eof, of versions 3 and 2.
    """
    with open(path, "rb") as file:
        version, packed = file.read(4), file.read(4) != b"\0\0\xff\xff"
        size = 8 if version == b"\xcd\xf3\0\1" else 4

        def number(place):
            file.seek(place)
            return int.from_bytes(file.read(size), "big")

        end = 0 if packed else number(number(12 + size) + 4 + 4 * size)
    if end > os.path.getsize(path):
        raise ValueError(f"{os.path.getsize(path)} of {end} bytes")


def read_positions(path, name=None):
    """Joint positions (frames, 32, 3) of a CDF file, float32 world millimetres.

    DataError names the file, as `name` if it is given, where it is damaged or holds no such `Pose`.
    """
    cdflib, name = require("cdflib", "cdflib"), name or path
    try:
        with time_limit(READING_SECONDS), _unpacking_little(cdflib.cdfread):
            file = cdflib.CDF(str(path))
            check_length(path)
            if "Pose" not in (variables := file.cdf_info().zVariables + file.cdf_info().rVariables):
                raise DataError(f"{name}: has no variable Pose but {', '.join(variables) or 'none'}; {AGAIN}")
            facts = file.varinq("Pose")
            declared = (int(facts.Last_Rec) + 1, *map(int, facts.Dim_Sizes))
            if math.prod(declared) > 3 * JOINTS * MOST_FRAMES:  # it may declare more than fits into the memory
                check_shape(declared, "f", f"{name}: Pose")
            values = np.asarray(file.varget("Pose"))
    except DataError:
        raise
    except Exception as error:  # a damaged file raises about anything
        raise DataError(f"{name}: damaged or truncated ({type(error).__name__}: {error}); {AGAIN}") from None
    return as_poses(values, f"{name}: Pose")


def rotation_matrix(quaternion):
    """The rotation matrix (3, 3), float64, of a unit quaternion (w, x, y, z)."""
    w, x, y, z = np.asarray(quaternion, dtype=np.float64) / np.linalg.norm(quaternion)
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                     [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                     [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def pixel_camera(camera, subject=None):
    """A camera, by its id: {"K" (3, 3), "dist" (5,), "size" (width, height), "intrinsic" (9,)}, pixels, millimetres.

    dist: k1 k2 p1 p2 k3; intrinsic: what `common.camera.project_to_2d` takes. With a subject also {"R" (3, 3), "t"
    (3, 1)}: a world point X is R X + t in the camera's space. float64.
    """
    number = CAMERAS.index(camera)
    facts = H36M_INTRINSICS[number]
    (fx, fy), (cx, cy) = facts["focal_length"], facts["center"]
    (k1, k2, k3), (p1, p2) = facts["radial_distortion"], facts["tangential_distortion"]
    made = {"K": np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), "dist": np.array([k1, k2, p1, p2, k3]),
            "size": (facts["res_w"], facts["res_h"]), "intrinsic": np.array([fx, fy, cx, cy, k1, k2, k3, p1, p2])}
    if subject is not None:
        extrinsic = H36M_EXTRINSICS[subject][number]
        made["R"] = rotation_matrix(extrinsic["orientation"]).T
        made["t"] = -made["R"] @ np.array(extrinsic["translation"])[:, None]
    return made


def to_camera(positions, camera):
    """World millimetres (..., 3) in the space of a `pixel_camera` with R and t: x right, y down, z forward."""
    return positions @ camera["R"].T + camera["t"][:, 0]


def to_pixels(positions, camera):
    """World millimetres (..., 3) in the distorted image of a `pixel_camera`: (..., 2) pixels, float64."""
    return project_to_2d(to_camera(np.asarray(positions, dtype=np.float64), camera), camera["intrinsic"])
