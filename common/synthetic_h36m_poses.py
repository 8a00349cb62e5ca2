"""The demo people as the positions of Human3.6M, whole: all its sequences in each of the formats that people have.

CDF files as their owners give them out, in folders or an archive per subject; MATLAB's conversions of those; and the
archive `h36m.zip` of HDF5 files.
"""
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from common.h36m_raw import SEQUENCES, SUBJECTS, archive_folder, archive_name, file_name
from common.synthetic_h36m import demo_positions, pack, write_cdf
from common.utils import atomic_path, progress, require

KIND = "Poses_D3_Positions"
MODIFIED = (1980, 1, 1, 0, 0, 0)  # of all members: the same people give the same bytes


def write_cdf_mat(path, values):
    """Write values (frames, 96) as MATLAB's `cdfread` gives them: `data`, a cell (1, 1), in a MATLAB 5 file."""
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = values[None].astype(np.float64)  # (1, frames, 96)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        require("scipy.io", "scipy").savemat(file, {"data": cell}, do_compression=True)


def write_h5(path, values):
    """Write values (frames, 96) as the dataset `3D_positions` (96, frames) of an HDF5 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with require("h5py", "h5py").File(path, "w") as file:
        file.create_dataset("3D_positions", data=values.T.astype(np.float32))


def place_of(source, subject, sequence):
    """Where a sequence is in a source's folders: `S1/MyPoseFeatures/D3_Positions/Walking 1.cdf`."""
    name = file_name(subject, sequence)
    if source == "archive":
        return f"h36m/{subject}/MyPoses/3D_positions/{name.replace(' ', '_')}.h5"
    return f"{archive_folder(KIND, subject)}/{name}{'.cdf' if source == 'cdf' else '.cdf.mat'}"


WRITERS = {"cdf": write_cdf, "mat": write_cdf_mat, "archive": write_h5}


def zip_tree(archive, folder):
    """Pack the files below a folder as a zip; the same files give the same bytes."""
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), MODIFIED), path.read_bytes(),
                                zipfile.ZIP_DEFLATED)


def write_h36m_positions(folder, source="cdf", frames=50, seed=0, subjects=SUBJECTS, packed=False):
    """Write the positions of all 30 sequences of every subject into `folder`; see `demo_positions` for what they hold.

    source: "cdf", "mat" (both in folders, or if `packed` in a `.tgz` per subject) or "archive", `h36m.zip`. frames: per
    sequence, 50 a second. Sources of the formats: the files of Ionescu et al., TPAMI 2014, and what VideoPose3D and
    3d-pose-baseline made of them. ValueError names an unknown source.
    """
    if source not in WRITERS:
        raise ValueError(f"unknown source {source!r}; known: {', '.join(WRITERS)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    bar = progress(total=len(subjects) * len(SEQUENCES), desc="recordings", unit="sequence")
    with bar, tempfile.TemporaryDirectory(prefix=".h36m.", dir=folder) as temporary:
        tree = Path(temporary) if packed or source == "archive" else folder
        for subject in subjects:
            for sequence in SEQUENCES:
                positions = demo_positions(subject, sequence, frames, seed)
                WRITERS[source](tree / place_of(source, subject, sequence), positions.reshape(frames, -1))
                bar.update()
            if packed and source != "archive":
                pack(folder / archive_name(KIND, subject), tree, archive_folder(KIND, subject))
        if source == "archive":
            zip_tree(folder / "h36m.zip", tree)
