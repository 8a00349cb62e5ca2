import numpy as np
import pytest
import torch
from conftest import GOLDEN

from common.loss import AUC_THRESHOLDS_MM, auc, mean_velocity_error, mpjpe, n_mpjpe, p_mpjpe, pck, pck_curve


@pytest.fixture
def poses():
    rng = np.random.default_rng(3)
    target = rng.normal(size=(20, 17, 3))
    return target + rng.normal(0, 0.1, target.shape), target


def rotation(rng):
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def test_metrics_equal_the_published_ones():
    golden = np.load(GOLDEN / "metrics.npz")
    predicted, target = golden["predicted"], golden["target"]
    assert mpjpe(torch.tensor(predicted), torch.tensor(target)).item() == pytest.approx(golden["mpjpe"], abs=1e-8)
    assert p_mpjpe(predicted, target) == pytest.approx(golden["p_mpjpe"], abs=1e-7)
    assert n_mpjpe(predicted, target) == pytest.approx(golden["n_mpjpe"], abs=1e-8)
    assert mean_velocity_error(predicted, target) == pytest.approx(golden["mpjve"], abs=1e-7)


def test_p_mpjpe_is_zero_after_any_similarity_and_not_after_a_reflection(poses):
    _, target = poses
    rng = np.random.default_rng(0)
    moved = 1.7 * target @ rotation(rng) + rng.normal(size=3)
    assert p_mpjpe(moved, target) == pytest.approx(0, abs=1e-12)
    assert p_mpjpe(target * [-1, 1, 1], target) > 0.1


def test_n_mpjpe_is_invariant_under_scale_only(poses):
    predicted, target = poses
    assert n_mpjpe(3 * predicted, target) == pytest.approx(n_mpjpe(predicted, target))
    assert n_mpjpe(predicted + 1, target) > 2 * n_mpjpe(predicted, target)


def test_velocity_error_ignores_a_constant_offset_and_is_zero_for_one_frame(poses):
    predicted, target = poses
    assert mean_velocity_error(target + 5, target) == pytest.approx(0, abs=1e-12)
    assert mean_velocity_error(predicted[:1], target[:1]) == 0


def test_a_prediction_that_is_one_point_has_finite_errors(poses):
    _, target = poses
    point = np.zeros_like(target)
    assert np.isfinite([p_mpjpe(point, target), n_mpjpe(point, target)]).all()


def test_pck_counts_14_joints_strictly_below_the_threshold():
    errors = np.full((2, 17), 150.0)
    errors[0, :14] = 149.999
    errors[:, 14:] = 0
    assert pck(errors) == 50
    assert auc(np.zeros((1, 17))) == pytest.approx(30 / 31 * 100)


def test_pck_and_auc_equal_the_official_evaluation():
    golden = np.load(GOLDEN / "mpi_inf_3dhp_official.npz")
    tables = {}
    for line in str(golden["sequencewise_csv"]).splitlines():
        cells = [cell for cell in line.split(",") if cell]
        if cells and cells[0] in ("PCK", "AUC"):
            table = tables.setdefault(cells[0], {})
        elif len(cells) == 10 and cells[0].startswith("TestSeq"):
            table[int(cells[0][-1])] = float(cells[-1])
    for i in range(1, 7):
        errors = np.linalg.norm(golden[f"TS{i}_pred"] - golden[f"TS{i}_gt"], axis=-1)
        assert pck(errors) == pytest.approx(tables["PCK"][i], abs=1e-6)
        assert auc(errors) == pytest.approx(tables["AUC"][i], abs=1e-6)


def test_a_pck_curve_holds_the_pck_of_every_threshold_and_its_mean_is_the_auc():
    errors = np.random.default_rng(5).choice(np.arange(0, 200, 2.5), (30, 17))
    for joints in (range(14), [2, 5]):
        curve = pck_curve(errors, AUC_THRESHOLDS_MM, joints)
        counted = [(errors[:, list(joints)] < threshold).mean() * 100 for threshold in range(0, 151, 5)]
        assert curve == pytest.approx(counted, abs=1e-12)
        assert curve == pytest.approx([pck(errors, threshold, joints) for threshold in range(0, 151, 5)])
        assert auc(errors, joints) == pytest.approx(np.mean(counted), abs=1e-12)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        mpjpe(torch.zeros(2, 1, 17, 3), torch.zeros(2, 1, 15, 3))
    with pytest.raises(ValueError, match="expected two arrays"):
        p_mpjpe(np.zeros((2, 17, 3)), np.zeros((2, 15, 3)))
