"""MATLAB 5 files: what the usual library writes, whole and damaged."""
import zlib

import numpy as np
import pytest
import scipy.io

from common.mat5 import read_variables


def test_matlab_files_hold_what_the_usual_library_reads_in_them(tmp_path):
    rng, cells = np.random.default_rng(0), np.empty((3, 1), dtype=object)
    for number in range(3):
        cells[number, 0] = rng.normal(size=(number, 5)).astype(np.float32)
    content = {"many": rng.normal(size=(40, 20, 3)), "whole": np.arange(24.0).reshape(2, 3, 4),
               "none": np.zeros((0, 15, 3)), "small": np.array([[1, -2]], dtype=np.int16),
               "single": np.array([[1.5]], dtype=np.float32), "cells": cells, "complex": np.array([[1j]]),
               "text": "text", "structure": {"x": 1}}
    for compressed in (True, False):
        scipy.io.savemat(tmp_path / "file.mat", content, do_compression=compressed)
        found, expected = read_variables(tmp_path / "file.mat", list(content)), scipy.io.loadmat(tmp_path / "file.mat")
        for name in ("many", "whole", "none", "small", "single"):
            assert np.array_equal(found[name], expected[name]) and found[name].dtype == content[name].dtype
        assert found["cells"].shape == (3, 1)
        assert all(np.array_equal(*pair) for pair in zip(found["cells"].flat, expected["cells"].flat, strict=True))
        assert found["complex"] is found["text"] is found["structure"] is None
        assert list(read_variables(tmp_path / "file.mat", ["single", "absent"])) == ["single"]


def test_damaged_files_raise_one_kind_of_error_or_are_read(tmp_path):
    path, rng, wrong = tmp_path / "file.mat", np.random.default_rng(0), 0
    content = {"cells": np.array([[np.ones((3, 2)), np.ones((1, 4))]], dtype=object), "some": np.ones((2, 3, 4))}
    for compressed in (True, False):
        scipy.io.savemat(path, content, do_compression=compressed)
        whole = path.read_bytes()
        for trial in range(300):
            broken = bytearray(whole[: rng.integers(len(whole))] if trial % 3 == 0 else whole)
            for place in rng.integers(0, max(1, len(broken)), 3 * (trial % 3)):
                broken[place] = rng.integers(256)
            path.write_bytes(broken)
            try:
                read_variables(path, ["some", "cells"])
            except ValueError:
                wrong += 1
    assert wrong > 300


def test_a_small_file_does_not_become_a_large_one(tmp_path):
    """What is announced is believed only as far as it can be."""
    path = tmp_path / "file.mat"
    scipy.io.savemat(path, {"some": np.ones((2, 3))}, do_compression=True)
    start = path.read_bytes()[:128]
    bomb = zlib.compress(np.array([14, 0xF0000000], dtype="<u4").tobytes() + bytes(10**7))
    path.write_bytes(start + np.array([15, len(bomb)], dtype="<u4").tobytes() + bomb)
    with pytest.raises(ValueError, match="of 4026531840 bytes"):
        read_variables(path, ["some"])
