"""Human3.6M's positions in unusual, damaged and hostile files."""
import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from h36m_positions_runs import FRAMES, S1, prepare, refused

from common.h36m_names import wanted_sequences
from common.h36m_positions import read_cdf, read_hdf5, read_mat
from common.h36m_sources import find
from common.synthetic_h36m import demo_positions, write_cdf
from common.synthetic_h36m_poses import write_cdf_mat, write_h36m_positions
from common.utils import DataError, WriteError


def spoiled(value):
    poses = np.ones((FRAMES, 96))
    poses[2, 3 * 7 + 1] = value
    return poses


@pytest.mark.parametrize("poses, words", [
    (spoiled(np.nan), "not finite at frame 2 (the first is 0), joint 7"), (spoiled(1e30), "1e+30 mm at frame 2"),
    (np.ones((FRAMES, 51)), "has the shape (1, 3, 51), not (1, frames, 96)")])
@pytest.mark.parametrize("write, name, source", [(write_cdf, "Walking 1.cdf", "cdf"),
                                                 (write_cdf_mat, "Walking 1.cdf.mat", "mat")])
def test_unusable_values_are_named_with_their_place(tmp_path, poses, words, write, name, source):
    write(tmp_path / "S1" / name, poses)
    message = refused(tmp_path, tmp_path / "none", *S1, "--allow-missing", source=source)
    assert f"S1/{name}: " in message and words in message


def test_matlab_files_of_every_kind_give_the_same_poses():
    motion, files = demo_positions("S1", "Walking-1", 5), []
    flat = motion.reshape(5, 96)
    cell = np.empty((1, 1), dtype=object)
    for value in (flat, flat[None], flat[None, None].astype(np.float64)):
        cell[0, 0] = value
        for content in ({"data": cell}, {"first": 1.0, "data": value}):
            for compress in (False, True):
                files.append(io.BytesIO())
                scipy.io.savemat(files[-1], content, do_compression=compress)
    for values in (flat.T, flat.T[..., None], flat):
        for in_cell in (False, True):
            files.append(io.BytesIO())
            with h5py.File(files[-1], "w", userblock_size=512) as file:
                dataset = file.create_dataset("#refs#/a" if in_cell else "data", data=values)
                if in_cell:
                    file.create_dataset("data", (1, 1), dtype=h5py.ref_dtype)[0, 0] = dataset.ref
    assert len(files) == 18
    assert all(np.array_equal(read_mat(file.getvalue(), "a.mat"), motion) for file in files)


def test_an_hdf5_file_leads_nowhere_else(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["3D_positions"] = np.ones((96, 2))
    contents = {"link": h5py.ExternalLink(str(tmp_path / "other.h5"), "3D_positions"), "group": None}
    for kind, link in contents.items():
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            if link:
                file["3D_positions"] = link
            else:
                file.create_group("3D_positions")
        with pytest.raises(DataError, match="a.h5: (3D_positions is no dataset|has no variable)") as caught:
            read_hdf5(stream.getvalue(), "a.h5")
        assert kind and "\n" not in str(caught.value)


def test_sizes_that_no_sequence_has_are_refused_before_memory_is_asked_for(tmp_path):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("3D_positions", (96, 1 << 40), np.float32, chunks=(96, 1024), compression="gzip")
    with pytest.raises(DataError, match="a.h5: holds 1099511627776 frames"):
        read_hdf5(stream.getvalue(), "a.h5")
    with zipfile.ZipFile(tmp_path / "h36m.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("h36m/S1/MyPoses/3D_positions/Walking_1.h5", bytes((1 << 25) + 1))
    message = refused(tmp_path / "h36m.zip", tmp_path / "none", *S1, "--allow-missing", source="archive")
    assert "h36m.zip: h36m/S1/MyPoses/3D_positions/Walking_1.h5: has 33554433 bytes" in message


def write_zip(path, name, content=b"x", mode=0):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, content)


@pytest.mark.parametrize("name, mode, words", [("../h36m/S1/Walking.h5", 0, "points outside"),
                                               ("/S1/Walking.h5", 0, "points outside"),
                                               ("S1/Walking.h5", 0o120777, "is a link")])
def test_hostile_archives_are_refused(tmp_path, name, mode, words):
    write_zip(tmp_path / "h36m.zip", name, mode=mode)
    assert words in refused(tmp_path / "h36m.zip", tmp_path / "none", "--allow-missing", source="archive")
    member = tarfile.TarInfo(name)
    member.type = tarfile.SYMTYPE if mode else tarfile.REGTYPE
    with tarfile.open(tmp_path / "S1.tgz", "w:gz") as tar:
        tar.addfile(member)
    assert words in refused(tmp_path / "S1.tgz", tmp_path / "none", "--allow-missing")


@pytest.mark.parametrize("name, source, shares", [("Poses_D3_Positions_S1.tgz", "mat", (0, 0.01, 0.5, 0.99)),
                                                  ("h36m.zip", "archive", (0, 0.01, 0.5, 0.999))])
def test_truncated_archives_are_refused(tmp_path, name, source, shares):
    write_h36m_positions(tmp_path, source, 2, subjects=("S1",), packed=True)
    content = (tmp_path / name).read_bytes()
    for share in shares:
        (tmp_path / name).write_bytes(content[:int(share * len(content))])
        message = refused(tmp_path / name, tmp_path / "none", *S1, source=source)
        assert f"{tmp_path / name}: truncated or damaged" in message
    (tmp_path / name).write_bytes(content)
    [positions, _] = prepare(tmp_path / name, tmp_path / "whole", *S1, source=source)
    expected = demo_positions("S1", "Eating-1", 2).astype(np.float64) / 1000
    assert np.array_equal(positions["positions_3d"]["S1"]["Eating 2"], expected.astype(np.float32))


def test_files_of_other_trials_are_an_actions_where_they_are_as_many(tmp_path):
    names = {"S1": ("Eating 1", "Eating", "Walking-1", "TakingPhoto_1", "Photo", "Sitting", "Posing 1", "Posing 7"),
             "S11": ("Phoning 1", "Phoning", "Directions 2", "Directions", "Smoking 2", "Smoking", "Smoking 1")}
    for subject, files in names.items():
        (tmp_path / subject).mkdir()
        for name in files:
            (tmp_path / subject / f"{name}.cdf").write_bytes(b"")
    search, usual = find(tmp_path, "cdf", tuple(names)), wanted_sequences(names)
    assert len(search.wanted) == len(usual) == 59
    assert set(search.wanted) - set(usual) == {("S1", "Eating 1"), ("S1", "Posing 7"), ("S11", "Phoning 1"),
                                               ("S11", "Phoning"), ("S11", "Directions 2")}
    assert ("S11", "Directions") not in search.wanted and ("S1", "Sitting 2") in search.wanted
    assert sorted(search.others) == ["S1 Sitting", "S11 Smoking 1"]
    assert sum(key in search.files for key in search.wanted) == 12


def test_a_cdf_file_that_lacks_its_last_byte_is_refused(tmp_path):
    write_cdf(tmp_path / "pose.cdf", demo_positions("S1", "Walking-1", 3).reshape(3, 96))
    content = (tmp_path / "pose.cdf").read_bytes()
    assert len(read_cdf(content, "a.cdf")) == 3
    with pytest.raises(DataError, match="a.cdf: damaged or truncated"):
        read_cdf(content[:-1], "a.cdf")


def test_a_cdf_file_that_unpacks_to_more_than_a_sequence_is_refused():
    def packed(content):  # as a whole: the magic numbers, the packed file, how it is packed
        stream = gzip.compress(content)
        header = struct.pack(">qiqqi", 32 + len(stream), 10, 40 + len(stream), len(content), 0)
        return b"\xcd\xf3\0\1\xcc\xcc\0\1" + header + stream + struct.pack(">qiiiii", 28, 11, 5, 0, 1, 9)

    for size, words in ((100, "damaged or truncated"), ((1 << 25) + 1, "more than any sequence")):
        with pytest.raises(DataError, match=f"a.cdf: .*{words}"):
            read_cdf(packed(bytes(size)), "a.cdf")


def test_a_full_disk_for_temporary_files_is_not_taken_for_damage(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError, match="No space left on device.*TMPDIR"):
        read_cdf(b"", "a.cdf")
