import numpy as np
import pytest
from conftest import TINY, run_script

from common.camera import image_coordinates, project_to_2d
from common.keypoints import H36M_17_FROM_MPII_16, HUMANEVA_15_FROM_COCO_17, MPII_16
from common.pose_data import fetch, load_dataset, load_keypoints, select_actions
from common.safe_io import load_npz
from common.utils import DataError, UsageError


def load(folder, dataset="demo", keypoints="gt"):
    loaded = load_keypoints(folder, dataset, keypoints)
    return load_dataset(folder, dataset, loaded), loaded


def test_demo_poses_project_onto_their_keypoints(demo_data):
    dataset, keypoints = load(demo_data)
    sequences = fetch(dataset, keypoints, ["S9"], ["Walking"])
    assert len(sequences) == 2 * 4
    for sequence in sequences:
        points = sequence.positions + sequence.trajectory
        assert (sequence.positions[:, 0] == 0).all()
        projected = project_to_2d(points, sequence.camera["intrinsic"])
        np.testing.assert_allclose(projected, sequence.keypoints, atol=2e-5)
        size = sequence.camera["res_w"], sequence.camera["res_h"]
        raw = keypoints.positions["S9"][sequence.action][sequence.camera_index]
        np.testing.assert_allclose(image_coordinates(sequence.keypoints, *size), raw, atol=1e-3)


def test_humaneva_keypoints_may_be_longer_than_the_poses(humaneva_data):
    sequences = fetch(*load(humaneva_data, "humaneva15"), ["Train/S1"])
    assert [len(s) for s in sequences] == [n for n in (21, 9, 12, 1) for _ in range(3)]
    assert {s.action_name for s in sequences} == {"Walking", "Box", "Jog"}


def test_action_filters_match_by_prefix_in_their_order():
    available = ["Walking", "WalkDog", "Box 1", "WalkTogether"]
    assert select_actions(available, ["Box", "Walk"]) == ["Box 1", "Walking", "WalkDog", "WalkTogether"]
    assert select_actions(available, None) == available


def test_downsample_and_subset_keep_2d_and_3d_aligned(demo_data):
    dataset, keypoints = load(demo_data)
    whole = fetch(dataset, keypoints, ["S1"])[0]
    third = fetch(dataset, keypoints, ["S1"], downsample=3)[0]
    np.testing.assert_array_equal(third.keypoints, whole.keypoints[::3])
    half = fetch(dataset, keypoints, ["S1"], subset=0.5)[0]
    assert len(half) == 20
    start = int(np.argwhere((whole.keypoints == half.keypoints[0]).all((1, 2)))[0, 0])
    np.testing.assert_array_equal(half.positions, whole.positions[start : start + 20])


@pytest.mark.parametrize("joints", [15, 16, 17])
def test_any_keypoint_set_is_read_by_its_metadata(tmp_path, joints):
    rng = np.random.default_rng(0)
    poses = {"S1": {"Walking": rng.normal(size=(5, 32, 3)).astype(np.float32)}}
    views = {"S1": {"Walking": [rng.uniform(0, 1000, (5, joints, 3)) for _ in range(4)]}}
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=poses)
    # Some published files lack layout_name; some carry a confidence as third coordinate.
    np.savez(tmp_path / "data_2d_h36m_any.npz", positions_2d=views,
             metadata={"num_joints": joints, "keypoints_symmetry": [[1], [2]]})
    dataset, keypoints = load(tmp_path, "h36m", "any")
    assert fetch(dataset, keypoints, ["S1"])[0].keypoints.shape == (5, joints, 2)
    assert dataset["S1"]["Walking"]["positions"].shape == (5, 17, 3)


def test_mpii_joints_map_to_the_named_human36m_joints():
    from common.keypoints import COCO_17_NAMES, H36M_17, HUMANEVA_15_NAMES, MPII_16_NAMES

    same = {"hip": "pelvis", "head": "head_top"}
    for name, group in zip(H36M_17.names(), H36M_17_FROM_MPII_16, strict=True):
        sources = [MPII_16_NAMES[i] for i in group]
        assert sources == [same.get(name, name)] or name == "spine" and sources == ["pelvis", "thorax"]
    for name, group in zip(HUMANEVA_15_NAMES, HUMANEVA_15_FROM_COCO_17, strict=True):
        sources = [COCO_17_NAMES[i] for i in group]
        assert sources == [name] or name in ("pelvis", "thorax", "head")
    assert MPII_16.num_joints() == 16


def _truncate_view(c):
    c["positions_2d"]["S9"]["Walking"][1] = c["positions_2d"]["S9"]["Walking"][1][:-1]


def _set_nan(c):
    c["positions_2d"]["S9"]["Walking"][2][7, 3] = np.nan


DAMAGE_2D = {
    "missing subject": (lambda c: c["positions_2d"].pop("S9"), "subject S9 is missing"),
    "missing action": (lambda c: c["positions_2d"]["S9"].pop("Walking"), "S9 lacks the action Walking"),
    "missing camera": (lambda c: c["positions_2d"]["S9"]["Walking"].pop(), "S9 Walking has 3 cameras"),
    "missing frames": (_truncate_view, "S9 Walking camera 1 has 39 frames, the 3D positions have 40"),
    "NaN": (_set_nan, "S9 Walking camera 2 holds NaN or infinite values (first in frame 7)"),
    "wrong joints": (lambda c: c["metadata"].update(num_joints=18), "(40, 17, 2), expected (frames, 18, 2)"),
    "no metadata": (lambda c: c.pop("metadata"), "has no `metadata`"),
    "symmetry out of range": (lambda c: c["metadata"].update(keypoints_symmetry=[[1], [99]]), "does not pair joints"),
    "not a dictionary": (lambda c: c.update(positions_2d=3), "has no `positions_2d`"),
}


@pytest.mark.parametrize("name", DAMAGE_2D)
def test_damaged_keypoints_are_named(demo_data, tmp_path, name):
    damage, message = DAMAGE_2D[name]
    content = load_npz(demo_data / "data_2d_demo_gt.npz")
    damage(content)
    (tmp_path / "data_3d_demo.npz").write_bytes((demo_data / "data_3d_demo.npz").read_bytes())
    np.savez(tmp_path / "data_2d_demo_gt.npz", **content)
    with pytest.raises(DataError) as caught:
        fetch(*load(tmp_path), ["S9"])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage,message", [
    (lambda p: p["S9"].update(Walking=p["S9"]["Walking"][:, :16]), "expected (frames, 17 or 32, 3)"),
    (lambda p: p["S9"].update(Walking=p["S9"]["Walking"][:0]), "hold no frames"),
    (lambda p: p["S9"]["Walking"].fill(np.inf), "NaN or infinite"),
    (lambda p: np.multiply(p["S9"]["Walking"], 1000, out=p["S9"]["Walking"]), "no metres"),
    (lambda p: p.pop("S9"), "subject S9 is not in the 3D data"),
])
def test_damaged_positions_are_named(demo_data, tmp_path, damage, message):
    positions = load_npz(demo_data / "data_3d_demo.npz")["positions_3d"]
    damage(positions)
    np.savez(tmp_path / "data_3d_demo.npz", positions_3d=positions)
    (tmp_path / "data_2d_demo_gt.npz").write_bytes((demo_data / "data_2d_demo_gt.npz").read_bytes())
    with pytest.raises(DataError) as caught:
        fetch(*load(tmp_path), ["S9"])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_filter_that_matches_nothing_lists_the_actions(demo_data):
    with pytest.raises(UsageError, match="matches no action of S9; there are Walking, Waving"):
        fetch(*load(demo_data), ["S9"], ["Nope"])


def test_the_script_ends_with_3_and_one_line_on_hostile_and_missing_data(demo_data, tmp_path):
    from test_safe_io import Hostile

    run_script("run_s-agcn.py", "-d", "demo", "--data-dir", tmp_path, *TINY, "-e", 1).assert_fails(
        3, "data_2d_demo_gt.npz: no such file")
    for name in ("data_3d_demo.npz", "data_2d_demo_gt.npz"):
        (tmp_path / name).write_bytes((demo_data / name).read_bytes())
    np.savez(tmp_path / "data_3d_demo.npz", positions_3d=np.array({"S1": Hostile(tmp_path / "trap")}, dtype=object))
    run_script("run_s-agcn.py", "-d", "demo", "--data-dir", tmp_path, *TINY, "-e", 1).assert_fails(
        3, "data_3d_demo.npz", "refused")
    assert not (tmp_path / "trap").exists()
