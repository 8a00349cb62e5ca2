"""Miniature trees of the raw HumanEva-I, and the script that prepares them, run in the process of the tests."""
import sys
from unittest import mock

import numpy as np
import pytest
import scipy.io

import prepare_data_humaneva
from common.keypoints import HUMANEVA_15_NAMES
from common.safe_io import load_npz
from common.synthetic_humaneva import joints_of, take_positions, write_humaneva, write_humaneva_detections
from common.utils import DataError

FRAMES = 14
NAME = "detectron_pt_coco"


def write_jogging(folder, people=("S1", "S2", "S3")):
    """Labels of one take, damaged here and there, and detections of these people in it and in others."""
    write_humaneva(folder / "jogging", FRAMES, takes=("Jog 1",))
    for names, takes, unlabelled in ((people, ["Jog 1"], ["Combo 1"]), (["S4"], [], ["Walking 2"])):
        write_humaneva_detections(folder / "videos", FRAMES, takes=takes, unlabelled=unlabelled, people=names, noise=0,
                                  misses=0)


def prepare(output, *flags):
    """Run the script in this process; returns {name: content} of the npz files in `output`."""
    command = ["prepare_data_humaneva.py", "--output-dir", output, *flags]
    with mock.patch.object(sys, "argv", list(map(str, command))):
        prepare_data_humaneva.main(prepare_data_humaneva.get_args())
    return {path.stem: load_npz(path) for path in output.glob("*.npz")}


def refuses(output, flags, words, error=DataError):
    with pytest.raises(error) as caught:
        prepare(output, *flags)
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line
    assert not list(output.glob(".*"))  # nothing half-written


def jogging(raw):
    """Flags for the labels and the detections of the takes that were detected."""
    return "-p", raw / "jogging", "--allow-missing", "--convert-2d", raw / "videos", "-o", NAME


def change(path, variable, function, target=None):
    """Rewrite a .mat file with `function(array)` in place of one variable; None takes it out."""
    content = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    content[variable] = function(content[variable])
    scipy.io.savemat(target or path, {name: value for name, value in content.items() if value is not None})


def assert_equal(one, other):
    """Both are {subject: {chunk: the same arrays}}."""
    assert {subject: list(chunks) for subject, chunks in one.items()} == {
        subject: list(chunks) for subject, chunks in other.items()}
    assert all(np.array_equal(one[subject][chunk], other[subject][chunk]) for subject in one for chunk in one[subject])


def true_poses(subject, take, first, end, names=HUMANEVA_15_NAMES):
    return joints_of(take_positions(subject.split("/")[1], take, first, end), names)
