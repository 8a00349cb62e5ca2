import numpy as np
import pytest
import torch

from common.contextpose.config import LossConfig
from common.contextpose.loss import (
    global_attention_loss,
    heatmap_loss,
    joint_l2,
    limb_length_error,
    mae,
    mse,
    mse_smooth,
    pelvis_l2,
    training_loss,
    volumetric_ce,
)
from common.contextpose.model import ContextPoseOutput
from common.contextpose.volumetric import cuboid_points, target_attention
from common.keypoints import CONTEXTPOSE_LIMBS

SHAPE = 3, 17, 3


@pytest.fixture
def joints():
    """Predicted and true joints in mm, and which of them are known."""
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(0, 400, SHAPE), rng.normal(0, 400, SHAPE)
    return torch.from_numpy(predicted), torch.from_numpy(target), torch.from_numpy(rng.random(SHAPE[:2]) < 0.7)


def mean_plainly(joints, penalty):
    total, count = 0, 0
    predicted, target, valid = (array.numpy() for array in joints)
    for sample, joint in zip(*np.nonzero(valid), strict=True):
        total += sum(penalty(a - b) for a, b in zip(predicted[sample, joint], target[sample, joint], strict=True))
        count += 3
    return total / count


@pytest.mark.parametrize("loss, penalty", [
    (mae, abs),
    (mse, lambda error: error**2),
    (lambda *joints: mse_smooth(*joints, threshold=4e4),
     lambda error: error**2 if error**2 < 4e4 else error**0.2 * 4e4**0.9 if error > 0 else (-error)**0.2 * 4e4**0.9),
], ids=["MAE", "MSE", "MSESmooth"])
def test_criteria_equal_loops_over_known_joints(loss, penalty, joints):
    predicted, target, valid = joints
    assert loss(*joints).item() == pytest.approx(mean_plainly(joints, penalty))
    assert loss(predicted, target, valid[..., None].float()).item() == pytest.approx(loss(*joints).item())
    assert loss(predicted, target).item() == pytest.approx(loss(predicted, target, torch.ones(SHAPE[:2])).item())
    assert loss(predicted, target, torch.zeros(SHAPE[:2])).item() == 0


def test_the_smooth_criterion_is_continuous_and_has_finite_slopes_everywhere():
    target = torch.zeros(1, 4, 3, dtype=torch.double)
    predicted = torch.tensor([0.0, 1.999, 2.001, 1e4]).double()[None, :, None].repeat(1, 1, 3).requires_grad_()
    below, above = (mse_smooth(predicted[:, i:i + 1], target[:, :1], threshold=4.0) for i in (1, 2))
    assert below.item() == pytest.approx(above.item(), rel=2e-3)
    mse_smooth(predicted, target, threshold=4.0).backward()
    assert predicted.grad.isfinite().all()


def test_the_volumetric_cross_entropy_reads_the_voxel_nearest_to_each_known_joint(joints):
    _, target, valid = joints
    rng = np.random.default_rng(1)
    volumes = torch.from_numpy(rng.normal(size=(3, 17, 8, 8, 8))).flatten(2).softmax(2).reshape(3, 17, 8, 8, 8)
    points = cuboid_points(torch.zeros(3, 3).double(), 2500.0, 8, torch.tensor([0.0, 1, 2]))
    terms = []
    for sample, joint in zip(*np.nonzero(valid.numpy()), strict=True):
        distance = (points[sample] - target[sample, joint]).square().sum(-1)
        terms.append(-torch.log(volumes[sample, joint].flatten()[distance.argmin()] + 1e-6))
    assert volumetric_ce(volumes, points, target, valid).item() == pytest.approx(sum(terms).item() / len(terms))


def test_limb_lengths_joints_and_the_pelvis_are_compared_in_mm(joints):
    predicted, target, valid = joints
    lengths = [[np.linalg.norm(pose[a] - pose[b]) for a, b in CONTEXTPOSE_LIMBS]
               for poses in (predicted.numpy(), target.numpy()) for pose in poses]
    expected = np.abs(np.array(lengths[:3]) - np.array(lengths[3:])).mean()
    assert limb_length_error(predicted, target).item() == pytest.approx(expected)
    distance = (predicted - target).norm(dim=-1)
    assert joint_l2(predicted, target, valid).item() == pytest.approx(distance[valid].mean().item())
    assert pelvis_l2(predicted, target).item() == pytest.approx(distance[:, 6].mean().item())
    assert limb_length_error(predicted, predicted + 100).item() == pytest.approx(0, abs=1e-9)


def test_the_settings_choose_and_weigh_the_parts(joints):
    predicted, target, valid = joints
    points = cuboid_points(torch.zeros(3, 3).double(), 2500.0, 8)
    volumes = torch.full((3, 17, 8, 8, 8), 1 / 512, dtype=torch.double)
    attention = torch.full((3, 17, 8), 1 / 8, dtype=torch.double)
    output = ContextPoseOutput(predicted, volumes, points, attention, None)
    squared = (attention - target_attention(target, points)).square().mean()
    assert global_attention_loss(attention, points, target).item() == pytest.approx(squared.item())

    total, parts = training_loss(output, target.float(), LossConfig(criterion="MSE"), valid)
    expected = 0.01 * mse(predicted, target, valid) + 0.01 * np.log(512) + 1e6 * squared
    assert total.item() == pytest.approx(expected.item(), rel=1e-3)
    assert set(parts) == {"MSE", "volumetric_ce", "global_attention", "limb_length_error_mm", "joint_l2_mm",
                          "pelvis_l2_mm"}
    total, parts = training_loss(output, target, LossConfig(
        criterion="MSESmooth", mse_smooth_threshold=400, use_volumetric_ce_loss=False, scale_keypoints_3d=1.0,
        use_global_attention_loss=False))
    assert total.item() == pytest.approx(mse_smooth(predicted, target, threshold=400).item())
    assert len(parts) == 4


def test_heatmap_loss_is_the_cross_entropy_at_the_joints_pixels():
    rng = np.random.default_rng(0)
    heatmaps = torch.from_numpy(rng.normal(size=(2, 3, 17, 6, 8)))
    joints = torch.from_numpy(rng.uniform(-900, 900, (2, 17, 3)))
    rotation, K = np.eye(3), np.array([[20.0, 0, 16], [0, 20, 12], [0, 0, 1]])
    shifts = rng.uniform(-200, 200, (2, 3, 3)) + [0, 0, 1500]
    projections = torch.from_numpy(np.stack([[K @ np.c_[rotation, shift] for shift in some] for some in shifts]))
    losses, distances = [], []
    for b in range(2):
        for v in range(3):
            for j in range(17):
                seen = projections[b, v].numpy() @ np.append(joints[b, j].numpy(), 1)
                x, y = seen[:2] / seen[2]
                column, row = round(x / 4), round(y / 4)
                if seen[2] > 0 and 0 <= column < 8 and 0 <= row < 6:
                    scores = heatmaps[b, v, j].numpy()
                    losses.append(np.log(np.exp(scores).sum()) - scores[row, column])
                    top, left = np.unravel_index(scores.argmax(), scores.shape)
                    distances.append(np.hypot(4 * left - x, 4 * top - y))
    assert 0 < len(losses) < 102
    loss, distance = heatmap_loss(heatmaps, projections, joints, 4)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert distance.item() == pytest.approx(np.mean(distances), rel=1e-5)
