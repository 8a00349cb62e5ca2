"""Runs of Human3.6M's preparation of positions, for its tests."""
import sys
from unittest import mock

import pytest

import prepare_data_h36m
from common.h36m_run import FILES, FLAGS
from common.safe_io import load_npz
from common.utils import DataError

FRAMES = 3
S1 = ("--subjects", "S1")


def prepare(path, output, *flags, source="cdf"):
    """Run the script in this process; returns the contents of both files."""
    command = ["prepare_data_h36m.py", FLAGS[source], path, "--output", output, *flags]
    with mock.patch.object(sys, "argv", list(map(str, command))):
        prepare_data_h36m.main(prepare_data_h36m.get_args())
    return [load_npz(output / name) for name in FILES]


def refused(path, output, *flags, error=DataError, source="cdf"):
    """The message with which a run ends that writes nothing."""
    before = sorted(output.rglob("*")) if output.exists() else None
    with pytest.raises(error) as caught:
        prepare(path, output, *flags, source=source)
    assert (sorted(output.rglob("*")) if output.exists() else None) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)
