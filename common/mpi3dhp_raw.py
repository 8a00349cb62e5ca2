"""The raw MPI-INF-3DHP test set: where its annotations lie, and what is in them, checked.

Source: the files of Mehta et al., "Monocular 3D Human Pose Estimation in the Wild Using Improved CNN Supervision", 3DV
2017. Also what training annotations are checked with.
"""
import numpy as np

from common.keypoints import MPI_INF_3DHP_17
from common.mpi3dhp_dataset import ACTIVITIES, GROUND_TRUTH, TEST_SEQUENCES
from common.utils import DataError, require

CHANNELS = {"annot2": 2, GROUND_TRUTH: 3}
TEST_FOLDERS = ("", "mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set", "test")
AGAIN = "copy it again from its owners"


def find_test_files(source, otherwise="prepare the rest by --only train"):
    """{"TS1": path}, in the first of the usual folders that holds any; DataError, with a way out, where none does."""
    folders = [source / folder for folder in TEST_FOLDERS]
    for folder in folders:
        files = {name: folder / name / "annot_data.mat" for name in TEST_SEQUENCES}
        if any(path.exists() for path in files.values()):
            return files
    raise DataError(f"{folders[0] / 'TS1' / 'annot_data.mat'}: the test set (TS1 to TS6) is not there, nor in "
                    f"{', '.join(map(str, folders[1:]))}; put it there, or {otherwise}")


def kind_of(path):
    """What sort of file it is, by its first bytes: "MATLAB 5", "MATLAB 7.3", "HDF5" or "of an unknown kind"."""
    with open(path, "rb") as file:
        start = file.read(1024)
    for kind, text in (("MATLAB 5", b"MATLAB 5.0"), ("MATLAB 7.3", b"MATLAB 7.3")):
        if start.startswith(text):
            return kind
    return "HDF5" if b"\x89HDF" in (start[:4], start[512:516]) else "of an unknown kind"


def source_error(path, error):
    """What to raise for a file that its library could not read."""
    return DataError(f"{path}: damaged or truncated ({type(error).__name__}: {error}); {AGAIN}")


def check_finite(poses, where, frames=slice(None)):
    """DataError names the first of the frames and joint of poses (frames, 17, C) that is not a number."""
    counted = np.arange(len(poses))[frames]
    wrong = np.argwhere(~np.isfinite(poses[counted]).all(-1))
    if len(wrong):
        frame, joint = counted[wrong[0][0]], wrong[0][1]
        raise DataError(f"{where} is not finite at frame {frame} (the first is 0), joint "
                        f"{MPI_INF_3DHP_17.names()[joint]}; {AGAIN}")


def check_lengths(lengths, where):
    """DataError unless what belongs together, {label: frames}, is equally long; it names the first missing frame."""
    shortest, longest = min(lengths, key=lengths.get), max(lengths, key=lengths.get)
    if lengths[shortest] != lengths[longest]:
        raise DataError(f"{where} {shortest} has {lengths[shortest]} frames and {longest} {lengths[longest]}: frame "
                        f"{lengths[shortest]} (the first is 0) is missing in {shortest}; {AGAIN}")


def read_poses(values, where, channels):
    """Poses (frames, 17, channels) out of a test file's array, in whichever order the axes come.

    MATLAB shows (channels, 17, 1, frames), HDF5 the reverse; a single frame may have lost its axes of length one.
    """
    joints, shape = MPI_INF_3DHP_17.num_joints(), values.shape
    if values.ndim == 2:
        values = (values if shape[0] == joints else values.T)[None, None]
    elif values.ndim == 4 and shape[1] != 1:
        values = values.transpose()
    if values.ndim != 4 or values.shape[1:] != (1, joints, channels):
        raise DataError(f"{where} has the shape {shape}, not (frames, 1, {joints}, {channels}) or the reverse: "
                        f"{joints} joints of {channels} numbers; {AGAIN}")
    if len(values) == 0:
        raise DataError(f"{where} is empty; {AGAIN}")
    return np.ascontiguousarray(values[:, 0] * 1.0)  # whole numbers too; double precision stays


def read_labels(values, where, choices):
    """Labels (frames,) out of (frames, 1) or (1, frames): whole numbers among `choices`."""
    if sum(length != 1 for length in values.shape) > 1:
        raise DataError(f"{where} has the shape {values.shape}, not one number per frame; {AGAIN}")
    values = values.reshape(-1)
    wrong = np.flatnonzero(~np.isin(values, choices))
    if len(wrong):
        raise DataError(f"{where} is {values[wrong[0]]:g} at frame {wrong[0]} (the first is 0), and not one of "
                        f"{', '.join(map(str, choices))}; {AGAIN}")
    return values.astype(np.int64)


def read_variables(path, name):
    """The variables {name: array} of a test sequence; `activity_annotation` is left out where the file lacks it."""
    if kind_of(path) not in ("MATLAB 7.3", "HDF5"):
        raise DataError(f"{path}: {name} is {kind_of(path)}, and test annotations are MATLAB 7.3 files (HDF5); {AGAIN} "
                        "(or save it in MATLAB with -v7.3)")
    h5py, content = require("h5py", "h5py"), {}
    try:
        with h5py.File(path, "r") as file:
            for variable in ("annot2", GROUND_TRUTH, "valid_frame", "activity_annotation"):
                if variable in file:
                    content[variable] = np.asarray(file[variable][()])
    except Exception as error:  # a damaged file raises about anything
        raise source_error(path, error) from None
    for variable in ("annot2", GROUND_TRUTH, "valid_frame"):
        if variable not in content:
            raise DataError(f"{path}: {name} has no variable {variable}; {AGAIN}")
    for variable, values in content.items():
        if values.dtype.kind not in "biuf":
            raise DataError(f"{path}: {name} {variable} holds no numbers but {values.dtype}; {AGAIN}")
    return content


def read_test(path, name):
    """A test sequence: ({"data_2d": (n, 17, 2), "data_3d": (n, 17, 3), "valid": (n,), "activity": (n,)}, notices).

    Pixels and millimetres in the precision of the file; valid: bool; activity: its number, absent if the file has none.
    """
    content = read_variables(path, name)
    poses = {variable: read_poses(content[variable], f"{path}: {name} {variable}", channels)
             for variable, channels in CHANNELS.items()}
    sequence, notices = {"data_2d": poses["annot2"], "data_3d": poses[GROUND_TRUTH]}, []
    lengths = {variable: len(values) for variable, values in poses.items()}
    for label, variable, choices in (("valid", "valid_frame", [0, 1]),
                                     ("activity", "activity_annotation", [0, *ACTIVITIES])):  # 0: none
        if variable in content:
            sequence[label] = read_labels(content[variable], f"{path}: {name} {variable}", choices)
            lengths[variable] = len(sequence[label])
        else:
            notices.append(("no activity_annotation, so no table by activity", name))
    check_lengths(lengths, f"{path}: {name}")
    sequence["valid"] = sequence["valid"].astype(bool)
    check_finite(poses["annot2"], f"{path}: {name} annot2")  # windows reach over frames that are not valid
    check_finite(poses[GROUND_TRUTH], f"{path}: {name} {GROUND_TRUTH}", sequence["valid"])
    if not sequence["valid"].any():
        raise DataError(f"{path}: {name} valid_frame marks no frame as valid, so there is nothing to evaluate; {AGAIN}")
    return sequence, notices
