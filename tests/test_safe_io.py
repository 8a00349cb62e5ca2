import os
import pickle
import zipfile

import numpy as np
import pytest

from common.safe_io import load_npz
from common.utils import DataError


class Hostile:
    """Unpickling it with `pickle.load` makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_nested_dictionaries_come_back_as_numpy_wrote_them(tmp_path):
    poses = {"S1": {"Walking": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "count": np.int64(3)}}
    views = {"S1": {"Walking": [np.zeros((2, 2)), np.ones((2, 2))]}}
    np.savez_compressed(tmp_path / "a.npz", positions_3d=poses, positions_2d=views, plain=np.arange(3),
                        ragged=np.array([np.zeros(2), None, "text", {1, 2}], dtype=object), text=np.array("hello"))
    content = load_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(content["positions_3d"]["S1"]["Walking"], poses["S1"]["Walking"])
    assert content["positions_3d"].item() is content["positions_3d"]
    np.testing.assert_array_equal(content["positions_2d"]["S1"]["Walking"][1], np.ones((2, 2)))
    np.testing.assert_array_equal(content["plain"], np.arange(3))
    np.savez(tmp_path / "again.npz", **content)
    assert "safe_io" not in str((tmp_path / "again.npz").read_bytes())
    assert content["ragged"][2] == "text" and content["ragged"][3] == {1, 2}
    assert str(content["text"]) == "hello"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_pickles_of_numpy_1_and_2_load_in_every_protocol(tmp_path, protocol, core):
    array = np.array({"a": np.arange(3.0), "b": np.float32(2), "c": np.array(["x", "y"])}, dtype=object)
    payload = pickle.dumps(array, protocol)
    if protocol < 4:  # the newer protocols prefix names with their length: NumPy 2 names only
        payload = payload.replace(b"numpy._core", core).replace(b"numpy.core", core)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("value.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        stream.write(payload)
    value = load_npz(tmp_path / "a.npz")["value"]
    np.testing.assert_array_equal(value["a"], np.arange(3.0))
    assert value["b"] == 2 and list(value["c"]) == ["x", "y"]


@pytest.mark.parametrize("nested", [lambda h: h, lambda h: {"S1": {"Walking": [h]}}, lambda h: [np.zeros(2), h]],
                         ids=["bare", "dictionary", "list"])
def test_a_hostile_pickle_runs_nothing_and_is_named(tmp_path, nested):
    trap = tmp_path / "trap"
    np.savez(tmp_path / "a.npz", positions_3d=np.array(nested(Hostile(trap)), dtype=object))
    message = r"a\.npz: positions_3d\.npy refused: its pickle asks for (posix|nt).mkdir"
    with pytest.raises(DataError, match=message) as caught:
        load_npz(tmp_path / "a.npz")
    assert not trap.exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize("module,name", [("os", "system"), ("posix", "system"), ("builtins", "eval"),
                                         ("builtins", "getattr"), ("numpy", "load"), ("numpy.f2py", "compile"),
                                         ("numpy.testing._private.utils", "runstring")])
def test_names_that_data_does_not_need_are_refused(tmp_path, module, name):
    payload = f"c{module}\n{name}\n(S'1'\ntR.".encode()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("value.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        stream.write(payload)
    with pytest.raises(DataError, match=f"{module}.{name}"):
        load_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named_in_one_line(tmp_path, share):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, positions_3d={"S1": {"a": np.random.default_rng(0).normal(size=(100, 17, 3))}})
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(DataError, match=r"a\.npz: damaged or truncated") as caught:
        load_npz(path)
    assert "\n" not in str(caught.value)


def test_flipped_bytes_never_raise_anything_else(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, positions_3d={"S1": {"a": np.zeros((2, 3, 3))}})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(whole)
        for place in rng.integers(len(whole), size=4):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        try:
            load_npz(path)
        except DataError as error:
            assert "\n" not in str(error).strip()


def test_a_missing_file_tells_what_to_do(tmp_path):
    with pytest.raises(DataError, match="no such file; prepare it"):
        load_npz(tmp_path / "none.npz")
