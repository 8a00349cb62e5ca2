"""Exports: everything needed to read them is inside, and nothing is pickled."""
import numpy as np
import pytest

from common.export import check_export, write_export
from common.keypoints import H36M_17
from common.utils import UsageError


@pytest.fixture
def poses():
    return np.random.default_rng(0).normal(size=(2, 5, 17, 3)).astype(np.float32)


def test_an_export_loads_without_pickle_and_holds_what_was_written(tmp_path, poses):
    camera, world = poses
    write_export(tmp_path / "new folder" / "a.npz", camera, world, H36M_17, 50, subject="S9", error_mm=np.arange(5))
    with np.load(tmp_path / "new folder" / "a.npz", allow_pickle=False) as export:
        np.testing.assert_array_equal(export["keypoints_3d"], camera)
        np.testing.assert_array_equal(export["keypoints_3d_camera"], camera)
        np.testing.assert_array_equal(export["keypoints_3d_world"], world)
        assert export["joint_names"].tolist() == H36M_17.names()
        assert export["parents"].tolist() == H36M_17.parents()
        assert export["joints_left"].tolist() == H36M_17.joints_left()
        assert (export["fps"], export["units"], export["subject"]) == (50, "m", "S9")
        assert "z up" in str(export["axes_world"]) and "y down" in str(export["axes_camera"])
        assert export["error_mm"].sum() == 10


def test_an_npy_is_refused_with_the_way_to_the_array():
    with pytest.raises(UsageError, match=r"a\.npz.*keypoints_3d"):
        check_export("folder/a.npy")


@pytest.mark.parametrize("name", ["a.json", "a"])
def test_an_unknown_suffix_is_refused_by_name(name, poses, tmp_path):
    with pytest.raises(UsageError, match=r"\.npz"):
        write_export(tmp_path / name, *poses, H36M_17, 50)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_leaves_no_file(poses, tmp_path):
    with pytest.raises(ValueError, match="shape"):
        write_export(tmp_path / "a.npz", poses[0], poses[1, :3], H36M_17, 50)
    with pytest.raises(ValueError, match="numbers or text"):
        write_export(tmp_path / "a.npz", *poses, H36M_17, 50, extra=np.array([{}]))
    with pytest.raises(ValueError, match="parents"):
        write_export(tmp_path / "a.npz", *poses, H36M_17, 50, parents=np.arange(3))
    assert not list(tmp_path.iterdir())
