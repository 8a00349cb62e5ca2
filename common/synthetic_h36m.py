"""The demo people as a miniature raw Human3.6M: the archives of its owners, with CDF files, videos and masks."""
import gzip
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from common.h36m_raw import (
    ACTIONS,
    ARCHIVES,
    BROKEN_VIEWS,
    CAMERAS,
    FPS,
    SEQUENCES,
    SUBJECTS,
    archive_folder,
    archive_name,
    file_name,
    pixel_camera,
    to_camera,
    to_pixels,
)
from common.synthetic import make_motion
from common.synthetic_body import SUBJECT_HEIGHTS
from common.synthetic_images import USUAL_HEIGHT, render_background, render_person
from common.synthetic_raw import HEADER_73
from common.utils import atomic_path, progress, require
from common.video import open_writer

# What the demo people do instead.
MOTIONS = dict(zip(ACTIONS, ("Turning", "Waving", "Phoning", "Waving", "Phoning", "Turning", "Crouching", "SittingDown",
                             "SittingDown", "Phoning", "Reaching", "Turning", "Walking", "Walking", "Walking"),
                   strict=True))
DEMO_SUBJECTS, DEMO_SEQUENCES = SUBJECTS, ("Greeting-1", "Walking-1")
CDF_FLOAT = 44
MODIFIED = 10**9  # seconds since 1970 of all members: the same people give the same bytes


def demo_positions(subject, sequence, frames, seed=0):
    """What somebody does in a sequence, `Walking-1`: (frames, 32, 3) float32 world millimetres."""
    motion, trial = MOTIONS[sequence.partition("-")[0]], SEQUENCES.index(sequence) + 1
    return 1000 * make_motion(subject, f"{motion} {trial}", frames, seed)


def write_cdf(path, values):
    """Write values (frames, N) as the variable `Pose` (1, frames, N), single precision, of a CDF file."""
    require("cdflib", "cdflib")
    from cdflib.cdfwrite import CDF

    path.parent.mkdir(parents=True, exist_ok=True)
    file = CDF(str(path))
    file.write_var({"Variable": "Pose", "Data_Type": CDF_FLOAT, "Num_Elements": 1, "Rec_Vary": True, "Compress": 0,
                    "Dim_Sizes": list(values.shape)}, var_data=values[None].astype(np.float32))
    file.close()


def write_masks(path, masks):
    """Write masks, a list of (H, W) bool, as a MATLAB 7.3 file: `Masks`, a reference per frame to one transposed."""
    h5py = require("h5py", "h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_dataset("Masks", (len(masks), 1), dtype=h5py.ref_dtype)
        references.attrs["MATLAB_class"] = np.bytes_("cell")
        for number, mask in enumerate(masks):
            values = file.create_dataset(f"#refs#/{number}", data=mask.T.astype(np.uint8), compression="gzip",
                                         compression_opts=1)
            values.attrs["MATLAB_class"] = np.bytes_("uint8")
            references[number, 0] = values.ref
    with open(path, "r+b") as file:  # text, no subsystem data, version 2.0, byte order
        file.write(HEADER_73.ljust(116) + bytes(8) + b"\x00\x02IM")


def filled_box(mask):
    """The box around a mask (H, W), filled: the owners' `ground_truth_bb` are such masks."""
    rows, columns = mask.any(1), mask.any(0)
    return (np.maximum.accumulate(rows) & np.maximum.accumulate(rows[::-1])[::-1])[:, None] & (
        np.maximum.accumulate(columns) & np.maximum.accumulate(columns[::-1])[::-1])


def write_views(folder, subject, sequence, positions, seed):
    """Write the videos and masks of a sequence below `folder`, in the places they have in the archives."""
    name = file_name(subject, sequence)
    for camera in CAMERAS:
        if (subject, sequence, camera) in BROKEN_VIEWS:
            continue
        width, height = pixel_camera(camera)["size"]
        background, masks = render_background(subject, camera, seed), []
        video = folder / archive_folder("Videos", subject) / f"{name}.{camera}.mp4"
        with open_writer(video, FPS, width, height, bitrate_kbps=20000) as writer:
            for pose in positions:
                image = background.copy()
                masks.append(filled_box(render_person(image, pose, subject, camera)))
                writer.write(image)
        write_masks(folder / archive_folder("Segments_mat_gt_bb", subject) / f"{name}.{camera}.mat", masks)


def write_poses(folder, subject, sequence, positions):
    """Write the CDF files of a sequence below `folder`, in the places they have in the archives."""
    name, frames = file_name(subject, sequence), len(positions)
    write_cdf(folder / archive_folder("Poses_D3_Positions", subject) / f"{name}.cdf", positions.reshape(frames, -1))
    for camera in CAMERAS:
        known = pixel_camera(camera, subject)
        mono = to_camera(positions.astype(np.float64), known)
        for kind, values in (("Poses_D2_Positions", to_pixels(positions, known)), ("Poses_D3_Positions_mono", mono),
                             ("Poses_D3_Positions_mono_universal", mono * USUAL_HEIGHT / SUBJECT_HEIGHTS[subject])):
            write_cdf(folder / archive_folder(kind, subject) / f"{name}.{camera}.cdf", values.reshape(frames, -1))


def pack(archive, folder, place):
    """Pack the files below `folder`/`place` as a .tgz with these members; the same files give the same bytes."""
    def plain(member):
        member.mtime, member.uid, member.gid, member.uname, member.gname = MODIFIED, 0, 0, "", ""
        return member

    with atomic_path(archive) as temporary, open(temporary, "wb") as file:
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
                tar.add(folder / place, place, filter=plain)


def write_h36m(folder, frames=65, seed=0, subjects=DEMO_SUBJECTS, sequences=DEMO_SEQUENCES):
    """Write a miniature of the raw Human3.6M: the archives `Videos_S1.tgz` and so on; see `common.h36m_raw`.

    frames: per sequence, 50 a second; pictures have the size of the real ones, 1000 x 1002 or 1000 x 1000. Source of
    the formats: the files of Ionescu et al., TPAMI 2014. ValueError names an unknown sequence.
    """
    for sequence in sequences:
        if sequence not in SEQUENCES:
            raise ValueError(f"unknown sequence {sequence!r}; known: {', '.join(SEQUENCES)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with progress(total=len(subjects) * len(sequences), desc="recordings", unit="sequence") as bar:
        for subject in subjects:
            with tempfile.TemporaryDirectory(prefix=".h36m.", dir=folder) as temporary:
                made = Path(temporary)
                for sequence in sequences:
                    positions = demo_positions(subject, sequence, frames, seed)
                    write_poses(made, subject, sequence, positions)
                    write_views(made, subject, sequence, positions, seed)
                    bar.update()
                for kind in ARCHIVES:
                    pack(folder / archive_name(kind, subject), made, archive_folder(kind, subject))
