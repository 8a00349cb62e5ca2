"""ContextPose's figures against plain loops, and the files they are written to."""
import json

import numpy as np
import pytest

from common.contextpose.evaluation import (
    JOINTS,
    check_predictions,
    describe,
    pose_metrics,
    project_joints,
    rates_2d,
    write_results,
)
from common.keypoints import CONTEXTPOSE_17_NAMES, CONTEXTPOSE_LIMBS, CONTEXTPOSE_PELVIS
from common.safe_io import PlainUnpickler, plain
from common.utils import DataError, SuiteError

GROUPS = {"action": ["Walking", "Eating", "Walking", "Walking"], "subject": ["S9", "S9", "S11", "S11"]}


@pytest.fixture
def poses():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 400, (4, 17, 3))
    return truth + rng.normal(0, 30, truth.shape), truth


def test_errors_are_those_of_a_plain_loop(poses):
    metrics = pose_metrics(*poses, GROUPS)
    relative, absolute, limbs = [], [], []
    for predicted, truth in zip(*poses, strict=True):
        for joint in range(17):
            absolute.append(np.linalg.norm(predicted[joint] - truth[joint]))
            relative.append(np.linalg.norm(predicted[joint] - predicted[6] - truth[joint] + truth[6]))
        limbs += [abs(np.linalg.norm(predicted[a] - predicted[b]) - np.linalg.norm(truth[a] - truth[b]))
                  for a, b in CONTEXTPOSE_LIMBS]
    assert metrics["mpjpe_mm"] == pytest.approx(np.mean(relative))
    assert metrics["absolute_mpjpe_mm"] == pytest.approx(np.mean(absolute))
    assert metrics["pelvis_mm"] == pytest.approx(np.mean(absolute[6::17]))
    assert metrics["limb_length_error_mm"] == pytest.approx(np.mean(limbs))
    assert list(metrics["per_joint"]) == CONTEXTPOSE_17_NAMES and metrics["per_joint"]["pelvis"] == 0
    assert metrics["per_joint"]["nose"] == pytest.approx(np.mean(relative[16::17]))
    assert JOINTS[CONTEXTPOSE_PELVIS] == "pelvis"


def test_the_mean_counts_every_frame_once_and_the_action_average_every_action_once(poses):
    metrics = pose_metrics(*poses, GROUPS)
    actions, subjects = metrics["per_action"], metrics["per_subject"]
    assert list(actions) == ["Walking", "Eating"] and list(subjects) == ["S9", "S11"]
    walking, eating = (actions[name]["mpjpe_mm"] for name in ("Walking", "Eating"))
    assert metrics["mpjpe_mm"] == pytest.approx((3 * walking + eating) / 4)
    assert metrics["action_average_mpjpe_mm"] == pytest.approx((walking + eating) / 2)
    assert {name: entry["frames"] for name, entry in subjects["S11"]["per_action"].items()} == {"Walking": 2}
    assert subjects["S9"]["per_action"]["Eating"] == actions["Eating"]
    assert (metrics["frames"], subjects["S9"]["frames"], actions["Walking"]["frames"]) == (4, 2, 3)


def test_moving_a_pose_changes_absolute_errors_only_and_scaling_it_leaves_p_mpjpe(poses):
    truth = poses[1]
    moved = pose_metrics(truth + [30, 40, 0], truth, GROUPS)
    assert moved["mpjpe_mm"] == pytest.approx(0, abs=1e-9) and moved["limb_length_error_mm"] < 1e-9
    assert moved["absolute_mpjpe_mm"] == moved["pelvis_mm"] == pytest.approx(50)
    larger = pose_metrics(1.1 * truth + 5, truth, GROUPS)
    assert larger["p_mpjpe_mm"] < 1e-9 < 1 < larger["mpjpe_mm"]


def test_a_network_that_diverged_is_told_with_its_frames(poses):
    predicted, truth = poses
    predicted[1, 3, 0], predicted[2, :, 1] = np.nan, np.inf
    with pytest.raises(SuiteError, match="2 of 4 frames.*another checkpoint"):
        pose_metrics(predicted, truth, GROUPS)
    with pytest.raises(DataError, match="no frames"):
        check_predictions(np.zeros((0, 17, 3)))
    with pytest.raises(ValueError, match="17, 3"):
        pose_metrics(predicted[:, :16], truth, GROUPS)
    with pytest.raises(ValueError, match="a name for each"):
        pose_metrics(predicted, truth, {"action": GROUPS["action"], "subject": ["S9"]})


def test_joints_are_projected_by_the_cameras_of_their_own_sample():
    rng = np.random.default_rng(1)
    joints, projections = rng.normal(0, 1, (2, 17, 3)), rng.normal(0, 1, (2, 3, 3, 4))
    projections[..., 2, 3] = 9
    pixels = project_joints(joints, projections)
    assert pixels.shape == (6, 17, 2)
    for sample in range(2):
        for view in range(3):
            found = projections[sample, view] @ np.append(joints[sample, 4], 1)
            np.testing.assert_allclose(pixels[3 * sample + view, 4], found[:2] / found[2])
    behind = projections * [[1], [1], [-1]]
    assert np.isnan(project_joints(joints, behind)[:, 4]).all()


def test_rates_count_joints_up_to_each_share_of_a_tenth_of_the_crop():
    true = np.zeros((2, 17, 2))
    predicted = true.copy()
    predicted[0, 0] = [3.84, 0]  # just within 0.1 * 38.4 px
    predicted[1, 0] = [0, 12]  # within 0.4
    predicted[:, 1] = np.nan
    rates = rates_2d(predicted, true, [384, 384])
    assert rates["thresholds"] == [0.1, 0.2, 0.3, 0.4, 0.5] and rates["pixels"][0] == pytest.approx(3.84)
    assert rates["per_joint"]["right_ankle"] == [50, 50, 50, 100, 100]
    assert rates["per_joint"]["right_knee"] == [0] * 5 and rates["per_joint"]["nose"] == [100] * 5
    assert rates["mean"] == pytest.approx(100 * np.array([15.5, 15.5, 15.5, 16, 16]) / 17)
    assert rates == rates_2d(predicted, true, 384)


def test_the_text_has_the_headline_the_actions_by_subject_and_the_rates(poses):
    metrics = pose_metrics(*poses, GROUPS)
    text = describe(metrics)
    lines = text.splitlines()
    assert lines[0].split() == [*"MPJPE, relative to the pelvis:".split(), f"{metrics['mpjpe_mm']:.1f}", "mm"]
    assert any("absolute" in line and f"{metrics['absolute_mpjpe_mm']:.1f} mm" in line for line in lines)
    eating = next(line.split() for line in lines if line.startswith("Eating"))
    error = f"{metrics['per_action']['Eating']['mpjpe_mm']:.1f}"
    assert eating == ["Eating", "1", error, error, "-"]
    rates = rates_2d(np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), 384)
    text = describe(metrics | {"rates_2d": rates})
    assert "t * 38.4 px" in text and text.splitlines()[-1].split()[2:] == ["100.0"] * 5
    assert max(map(len, text.splitlines())) <= 100


def test_results_come_back_from_json_npz_and_pickle(poses, tmp_path):
    predicted, truth = poses
    arrays = {"keypoints_3d": predicted, "keypoints_gt": truth, "indexes": [3, 1, 0, 2], "views": np.zeros((4, 1), int),
              "subjects": GROUPS["subject"], "actions": GROUPS["action"], "frames": np.arange(4)}
    metrics = pose_metrics(predicted, truth, GROUPS)
    paths = write_results(tmp_path / "results", metrics, arrays)
    assert [path.name for path in paths] == ["metric.json", "results.pkl", "results.npz"]
    assert sorted(paths) == sorted(path for path in (tmp_path / "results").iterdir())
    assert json.loads(paths[0].read_text()) == metrics
    with open(paths[1], "rb") as file:
        pickled = plain(PlainUnpickler(file).load())
    with np.load(paths[2], allow_pickle=False) as content:
        for name, values in arrays.items():
            assert np.array_equal(content[name], pickled[name]), name
            assert np.allclose(content[name], values) if content[name].dtype.kind != "U" else values == list(
                content[name])
    assert type(pickled) is dict and pickled["keypoints_3d"].dtype == np.float32
    precalculated = pickled["keypoints_3d"][np.argsort(pickled["indexes"])]
    np.testing.assert_allclose(precalculated, predicted[[2, 1, 3, 0]], rtol=1e-6)
    with pytest.raises(ValueError, match="subjects holds objects"):
        write_results(tmp_path, metrics, arrays | {"subjects": np.array(["S9"], dtype=object)})
