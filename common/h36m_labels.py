"""The labels of Human3.6M's images in one table, as ContextPose and learnable triangulation read them; limb lengths."""
import io
from pathlib import Path

import numpy as np

from common.h36m_images import ANNOTATION, read_annotation
from common.h36m_raw import CAMERAS, SEQUENCES, SUBJECTS, TEST_SUBJECTS, pixel_camera
from common.keypoints import CONTEXTPOSE_LIMBS
from common.utils import atomic_path, progress, require

LABELS, LIMB_LENGTHS = "human36m-multiview-labels-GTbboxes.npy", "mean_and_std_limb_length.h5"
CAMERA_DTYPE = [("R", np.float32, (3, 3)), ("t", np.float32, (3, 1)), ("K", np.float32, (3, 3)),
                ("dist", np.float32, (5,))]
TABLE_DTYPE = [("subject_idx", np.int8), ("action_idx", np.int8), ("frame_idx", np.int16),
               ("keypoints", np.float32, (17, 3)), ("bbox_by_camera_tlbr", np.int16, (4, 4))]
# The files hold 17 values; the seventeenth, which no limb of the network has, is from neck to head.
LIMBS_OF_FILE = (*CONTEXTPOSE_LIMBS, (8, 9))


def prepared_sequences(images, but=()):
    """[(subject, sequence)] in the order of the table that are prepared below `images`, without those in `but`."""
    return [(subject, sequence) for subject in SUBJECTS for sequence in SEQUENCES
            if (subject, sequence) not in but and (Path(images) / subject / sequence / ANNOTATION).is_file()]


def sequence_rows(images, subject, sequence):
    """The rows of one prepared sequence, of dtype `TABLE_DTYPE`."""
    content = read_annotation(Path(images) / subject / sequence / ANNOTATION)
    rows = np.zeros(len(content["frames"]), dtype=TABLE_DTYPE)
    rows["frame_idx"], rows["keypoints"] = content["frames"], content["keypoints"]
    rows["bbox_by_camera_tlbr"] = content["boxes"]
    rows["subject_idx"], rows["action_idx"] = SUBJECTS.index(subject), SEQUENCES.index(sequence)
    return rows


def make_cameras():
    """All cameras, (subjects, cameras) of `CAMERA_DTYPE`: R and t (mm) from world to camera, K in pixels."""
    cameras = np.zeros((len(SUBJECTS), len(CAMERAS)), dtype=CAMERA_DTYPE)
    for s, subject in enumerate(SUBJECTS):
        for c, camera in enumerate(CAMERAS):
            values = pixel_camera(camera, subject)
            for name in cameras.dtype.names:
                cameras[name][s, c] = values[name]
    return cameras


def make_labels(images, sequences):
    """The dictionary of labels of these (subject, sequence), prepared below `images`.

    subject_names, camera_names, action_names: lists (an action is `Directions-1`); cameras: see `make_cameras`; table:
    a row a frame, of `TABLE_DTYPE`: indices into these lists, frame_idx from 0, keypoints (17, 3) in world millimetres
    and ContextPose's order, boxes of the four cameras (a box of zeros: that view is missing).
    """
    rows = [sequence_rows(images, *names) for names in progress(sequences, desc="labels", unit="sequence")]
    table = np.concatenate([np.zeros(0, dtype=TABLE_DTYPE), *rows])
    return {"subject_names": list(SUBJECTS), "camera_names": list(CAMERAS), "action_names": list(SEQUENCES),
            "cameras": make_cameras(), "table": table}


def write_if_new(path, content):
    """Write bytes to `path` unless the file holds just them; True if it was written."""
    if path.is_file() and path.read_bytes() == content:
        return False
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return True


def write_labels(path, labels):
    """Write the labels as an .npy file with a pickled dictionary, as the published ones; True if the file changed."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array(labels, dtype=object), allow_pickle=True)
    return write_if_new(Path(path), stream.getvalue())


def limb_lengths(table):
    """(mean, standard deviation) of the limbs `LIMBS_OF_FILE` over the frames of a table: (17,) float32 millimetres."""
    keypoints = table["keypoints"].astype(np.float64)
    first, second = np.array(LIMBS_OF_FILE).T
    lengths = np.linalg.norm(keypoints[:, first] - keypoints[:, second], axis=-1)
    return lengths.mean(0).astype(np.float32), lengths.std(0).astype(np.float32)


def write_limb_lengths(path, table):
    """Write `mean` and `std` (17,) of the training subjects' limbs as HDF5; True if the file changed, None without any.

    WriteError where it cannot be written.
    """
    h5py, path = require("h5py", "h5py"), Path(path)
    training = [SUBJECTS.index(subject) for subject in SUBJECTS if subject not in TEST_SUBJECTS]
    table = table[np.isin(table["subject_idx"], training)]
    if not len(table):
        return None
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["mean"], file["std"] = limb_lengths(table)
    return write_if_new(path, stream.getvalue())
