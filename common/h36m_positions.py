"""Human3.6M's joint positions out of the three formats that people have, and the lifting data made of them.

CDF files as their owners give them out, MATLAB's conversions of those (`Walking 1.cdf.mat`), and the HDF5 files of
`h36m.zip`. Sources: the files of Ionescu et al., TPAMI 2014; VideoPose3D's and 3d-pose-baseline's names for the others.
"""
import io
import tempfile
from pathlib import Path

import numpy as np

from common.h36m_dataset import h36m_cameras
from common.h36m_raw import (
    AGAIN,
    JOINTS,
    READING_SECONDS,
    as_poses,
    check_shape,
    read_positions,
    time_limit,
)
from common.keypoints import H36M_KEPT, layout_metadata
from common.mat5 import variables_of
from common.synthetic import project_views
from common.utils import DataError, WriteError, require

NUMBERS = 3 * JOINTS  # per frame


def read_cdf(content, where):
    """Poses (frames, 32, 3) float32 millimetres of a CDF file's bytes; DataError begins with `where`."""
    with tempfile.TemporaryDirectory(prefix="h36m.") as folder:  # cdflib reads from a disk only
        path = Path(folder, "pose.cdf")
        try:
            path.write_bytes(content)
        except OSError as error:
            raise WriteError(f"{folder}: could not be written ({error.strerror}); free space there, or name another "
                             "place in the environment variable TMPDIR") from None
        return read_positions(path, where)


def read_mat(content, where):
    """Poses (frames, 32, 3) float32 millimetres of a `.cdf.mat`'s bytes: `data`, a cell with (1, frames, 96) numbers.

    MATLAB 5 or 7.3, with a cell or without. DataError begins with `where`.
    """
    if content[:10] != b"MATLAB 5.0":
        if b"\x89HDF" in (content[:4], content[512:516]):
            return read_hdf5(content, where, "data")
        raise DataError(f"{where}: is no MATLAB 5 or 7.3 file; {AGAIN}")
    try:
        found = variables_of(content, ["data"])
    except Exception as error:  # a damaged file raises about anything
        raise _damaged(where, error) from None
    if "data" not in found:
        raise DataError(f"{where}: has no variable data; {AGAIN}")
    values = found["data"]
    if values is not None and values.dtype == object and values.size == 1:
        values = values.item()
    if values is None or values.dtype == object:
        raise DataError(f"{where}: data is no array of numbers, nor a cell of one; {AGAIN}")
    return as_poses(values, f"{where}: data")


def _damaged(where, error):
    return DataError(f"{where}: damaged or truncated ({type(error).__name__}: {error}); {AGAIN}")


def _dataset(file, name, where):
    """The dataset `name` of an open HDF5 file, or what the one reference in it leads to; nothing outside the file."""
    h5py = require("h5py", "h5py")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise DataError(f"{where}: {name} is no dataset of this file; {AGAIN}")
    dataset = file[name]
    if dataset.dtype == h5py.ref_dtype and dataset.size == 1:  # a MATLAB cell
        dataset = file[dataset[()].item()]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise DataError(f"{where}: {name} holds no numbers of its own; {AGAIN}")
    return dataset


def read_hdf5(content, where, name="3D_positions"):
    """Poses (frames, 32, 3) float32 millimetres of an HDF5 file's bytes: `name`, (96, frames).

    Also the axes that MATLAB makes of (1, frames, 96), and the reverse order where it is clear. DataError begins with
    `where`.
    """
    h5py = require("h5py", "h5py")
    try:
        with time_limit(READING_SECONDS), h5py.File(io.BytesIO(content), "r") as file:
            if name not in file:
                raise DataError(f"{where}: has no variable {name} but {', '.join(list(file)[:5]) or 'none'}; {AGAIN}")
            dataset = _dataset(file, name, where)
            turned = len(dataset.shape) > 1 and dataset.shape[0] == NUMBERS
            shape = dataset.shape[::-1] if turned else dataset.shape
            check_shape(shape, dataset.dtype.kind, f"{where}: {name}")  # before memory is asked for
            values = dataset[()]
    except DataError:
        raise
    except Exception as error:  # a damaged file raises about anything
        raise _damaged(where, error) from None
    return as_poses(values.T if turned else values, f"{where}: {name}")


READERS = {"cdf": read_cdf, "mat": read_mat, "archive": read_hdf5}
LIBRARIES = {"cdf": ["cdflib"], "mat": [], "archive": ["h5py"]}  # MATLAB 7.3 files need h5py too


def to_metres(poses):
    """Single-precision millimetres in single-precision metres, rounded once: all sources give the same bits."""
    return (poses.astype(np.float64) / 1000).astype(np.float32)


def make_arrays(positions):
    """The contents of both npz files, ({"positions_3d"}, {"positions_2d", "metadata"}).

    positions: {subject: {action: (frames, 32, 3) float32 world metres}}. The keypoints are the 17 joints' projections
    by the four cameras with their distortion, (frames, 17, 2) float32 pixels, computed in double precision.
    """
    views = {subject: {action: project_views(poses[:, H36M_KEPT].astype(np.float64), h36m_cameras(subject))
                       for action, poses in actions.items()} for subject, actions in positions.items()}
    metadata = np.array(layout_metadata("h36m"), dtype=object)
    return ({"positions_3d": np.array(positions, dtype=object)},
            {"positions_2d": np.array(views, dtype=object), "metadata": metadata})
