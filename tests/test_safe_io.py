import os
import pickle
import pickletools
import zipfile

import numpy as np
import pytest

from common.safe_io import load_npy, load_npz, load_pickle
from common.utils import DataError

TABLE = [("index", np.int8), ("frame", ">i2"), ("keypoints", np.float32, (17, 3)), ("name", "U3"), ("seen", bool, (2,))]


class Call:
    """Pickles as the call of a name with arguments, and a state if there is one."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


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


def made_table(n=3):
    rng, table = np.random.default_rng(0), np.zeros(n, dtype=TABLE)
    for name in ("index", "frame", "keypoints"):
        table[name] = rng.integers(0, 100, table[name].shape)
    table["name"], table["seen"] = "abc", rng.random((n, 2)) > 0.5
    return table


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_tables_load_as_both_numpys_write_them_in_every_protocol(tmp_path, monkeypatch, protocol, core):
    apart = np.dtype({"names": ["a", "b"], "formats": ["<f4", ("i2", (2,))], "offsets": [8, 0], "itemsize": 16,
                      "titles": ["A", "B"]})
    aligned = np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True))
    content = {"table": made_table(), "cameras": made_table(6).reshape(2, 3).T, "one": made_table()[1],
               "apart": np.ones(2, dtype=apart), "aligned": aligned, "none": made_table(0)}
    payload = pickle.dumps(content, protocol)
    here = "numpy._core" if b"numpy._core" in payload else "numpy.core"
    assert here.encode() in payload
    if protocol < 4:
        payload = payload.replace(here.encode(), core.encode())
    else:  # these protocols give the length of a name before it, and that of a block of names before that
        payload = pickletools.optimize(payload)
        for module in ("multiarray", "numeric"):
            old, new = (f"{name}.{module}" for name in (here, core))
            payload = payload.replace(bytes([len(old)]) + old.encode(), bytes([len(new)]) + new.encode())
        payload = payload[:2] + payload[11:]  # without its frame, whose length would be wrong
    (tmp_path / "a.pkl").write_bytes(payload)
    loaded = load_pickle(tmp_path / "a.pkl")
    for name, value in content.items():
        assert type(loaded[name]) is type(value) and loaded[name].dtype.names == value.dtype.names
        assert loaded[name].dtype == value.dtype or name == "apart"  # whose titles are left out
        for field in value.dtype.names:
            np.testing.assert_array_equal(loaded[name][field], value[field])
            assert loaded[name][field].dtype == value[field].dtype


def test_an_npy_file_gives_its_array_or_its_dictionary(tmp_path):
    np.save(tmp_path / "a.npy", np.array({"table": made_table(), "names": ["S1"]}, dtype=object))
    np.save(tmp_path / "b.npy", made_table())
    labels = load_npy(tmp_path / "a.npy")
    assert labels["names"] == ["S1"] and labels["table"].tobytes() == made_table().tobytes()
    assert labels["table"].dtype == load_npy(tmp_path / "b.npy").dtype == np.dtype(TABLE)


def dtype_state(names, fields, size, subdtype=None):
    """What a pickle says of a dtype: the flags claim that it is aligned and holds no objects."""
    return Call(np.dtype, f"V{size}", False, True, state=(3, "|", subdtype, names, fields, size, 8, 0))


def array_of(dtype, data, shape=(1,)):
    return Call(np.zeros(0).__reduce__()[0], np.ndarray, (0,), b"b", state=(1, shape, dtype, False, data))


F4, OBJECT = np.dtype("f4"), np.dtype("O")
CRAFTED = {
    "objects in a field": dtype_state(("a",), {"a": (OBJECT, 0)}, 8),
    "objects in a field's array": dtype_state(("a",), {"a": (dtype_state(None, None, 16, (OBJECT, (2,))), 0)}, 16),
    "outside the row": dtype_state(("a",), {"a": (F4, 5)}, 8),
    "before the row": dtype_state(("a",), {"a": (F4, -4)}, 8),
    "over each other": dtype_state(("a", "b"), {"a": (F4, 0), "b": (F4, 2)}, 8),
    "a row that is smaller": dtype_state(("a",), {"a": (F4, 0)}, 2),
    "a row of nothing": dtype_state(("a",), {"a": (np.dtype("S0"), 0)}, 0),
    "an array that is larger": dtype_state(None, None, 8, (F4, (1000,))),
    "an array of negative size": dtype_state(None, None, 8, (F4, (-2,))),
    "an array, not in a field": dtype_state(None, None, 8, (F4, (2,))),
    "a table in a field": dtype_state(("a",), {"a": (dtype_state(("b",), {"b": (F4, 0)}, 8), 0)}, 8),
    "names without fields": dtype_state(("a", "b"), {"a": (F4, 0)}, 8),
    "one name twice": dtype_state(("a", "a"), {"a": (F4, 0)}, 8),
    "void": np.dtype("V8"),
    "an offset that is none": dtype_state(("a",), {"a": (F4, 0.0)}, 8),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_crafted_tables_are_refused(tmp_path, what):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(array_of(CRAFTED[what], b"\1" * 8), 2))
    with pytest.raises(DataError, match=r"a\.pkl: damaged or truncated") as caught:
        load_pickle(tmp_path / "a.pkl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\1" * 7, b"\1" * 9, [1.0]])
def test_tables_whose_data_do_not_fill_them_are_refused(tmp_path, data):
    table = array_of(dtype_state(("a",), {"a": (F4, 4)}, 8), data)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(table, 2))
    with pytest.raises(DataError, match=r"a\.pkl: damaged or truncated"):
        load_pickle(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(array_of(table.reduced[2][2], b"\0" * 8), 2))
    assert load_pickle(tmp_path / "a.pkl")["a"].tolist() == [0]  # the same with its eight bytes


@pytest.mark.parametrize("load, suffix", [(load_pickle, "pkl"), (load_npy, "npy")])
def test_pickles_and_npy_files_are_read_as_safely(tmp_path, load, suffix):
    path, trap = tmp_path / f"a.{suffix}", tmp_path / "trap"
    with pytest.raises(DataError, match=f"a.{suffix}: no such file"):
        load(path)
    content = {"keypoints_3d": np.zeros((20, 17, 3)), "table": made_table()}
    for value in (content, {"a": [Hostile(trap)]}):
        if suffix == "npy":
            np.save(path, np.array(value, dtype=object))
        else:
            path.write_bytes(pickle.dumps(value))
        if value is not content:
            with pytest.raises(DataError, match=rf"a\.{suffix}: refused: its pickle asks for (posix|nt).mkdir"):
                load(path)
            continue
        whole, rng = path.read_bytes(), np.random.default_rng(0)
        for number in range(300):
            broken = bytearray(whole[:int(len(whole) * number / 100)])
            if number >= 100:
                for place in rng.integers(300, size=3):
                    broken[place] = rng.integers(256)
            path.write_bytes(broken)
            try:
                load(path)
            except DataError as error:
                assert "\n" not in str(error)
            else:
                assert number >= 100
    assert not trap.exists()


def test_pickles_of_python_2_load(tmp_path):
    old = (b"\x80\x02}U\x07indexescnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
           b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
           b"K\x00tb\x89U\x04\x01\x00\xff\x00tbs.")
    (tmp_path / "a.pkl").write_bytes(old)
    assert load_pickle(tmp_path / "a.pkl")["indexes"].tolist() == [1, 255]


def test_a_small_pickle_cannot_ask_for_all_memory(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"]r\xff\xff\xff\x7f.")  # an empty list, remembered as number 2147483647
    with pytest.raises(DataError, match="refused the number 2147483647"):
        load_pickle(tmp_path / "a.pkl")
