"""A tiny raw Human3.6M of demo people for the tests of its preparation, and how they run it."""
import sys
from unittest import mock

import numpy as np

import prepare_data_h36m
from common.h36m_labels import LABELS, LIMB_LENGTHS  # noqa: F401 - for those who import this module
from common.synthetic_h36m import write_h36m

FRAMES = 7
MADE = (("S1", "Eating-1"), ("S1", "Walking-1"), ("S9", "Walking-1"))


def write_tree(folder):
    """Write the archives of the sequences `MADE`."""
    write_h36m(folder, FRAMES, subjects=("S1",), sequences=("Eating-1", "Walking-1"))
    write_h36m(folder, FRAMES, subjects=("S9",), sequences=("Walking-1",))


def prepare(raw, output, *flags):
    """Run the script in this process."""
    command = ["prepare_data_h36m.py", "--images", "--raw", raw, "--output", output, "--jobs", 1, *flags]
    with mock.patch.object(sys, "argv", list(map(str, command))):
        prepare_data_h36m.main(prepare_data_h36m.get_args())


def labels_of(output):
    """The dictionary of labels in an output folder."""
    return np.load(output / "extra" / LABELS, allow_pickle=True).item()


def contents(folder):
    """{path: bytes} of all files but the lock."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name != ".lock"}
