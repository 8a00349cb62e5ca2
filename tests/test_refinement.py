"""The refinement: re-projection, fitted cameras, and the network with it."""
import numpy as np
import pytest
import torch

from common.augment import mirror, mirror_intrinsics
from common.keypoints import MPI_INF_3DHP_17
from common.refinement import RefinedLifter, fit_intrinsics, reproject
from common.training import PoseCriterion

ROOT = MPI_INF_3DHP_17.root()
INTRINSICS = np.array([1.5, 1.6, 0.05, -0.02, 0, 0, 0, 0, 0], np.float32)


def people(frames=5, seed=0):
    """Camera-space points (frames, 17, 3) in mm and their images (frames, 17, 2)."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 400, (frames, 17, 3)) + rng.uniform([-500, -500, 3000], [500, 500, 5000], (frames, 1, 3))
    return points, points[..., :2] / points[..., 2:] * INTRINSICS[:2] + INTRINSICS[2:4]


def tensors(*arrays):
    return [torch.from_numpy(np.asarray(array, np.float64)) for array in arrays]


def test_the_fitted_camera_is_the_one_that_took_the_pictures():
    points, images = people(50)
    fitted = fit_intrinsics(points.reshape(-1, 3), images.reshape(-1, 2))
    np.testing.assert_allclose(fitted, INTRINSICS, atol=1e-5)


def test_points_behind_the_camera_or_at_one_place_fix_no_camera():
    points, images = people()
    with pytest.raises(ValueError, match="in front of the camera"):
        fit_intrinsics((points - points[:, ROOT : ROOT + 1]).reshape(-1, 3), images.reshape(-1, 2))
    with pytest.raises(ValueError, match="do not fix a camera"):
        fit_intrinsics(np.tile([1.0, 2.0, 3.0], (9, 1)), np.zeros((9, 2)))


def test_a_true_pose_is_re_projected_to_itself_wherever_the_person_stands():
    points, images = people()
    pose = points - points[:, ROOT : ROOT + 1]
    found = reproject(*tensors(pose, images, np.tile(INTRINSICS, (len(pose), 1))), ROOT)
    np.testing.assert_allclose(found.numpy(), pose, atol=1e-2)  # mm; the intrinsics are single precision


def test_an_error_in_x_and_y_is_mended_by_the_rays_and_the_depth_stays():
    points, images = people()
    pose = points - points[:, ROOT : ROOT + 1]
    wrong = pose + np.random.default_rng(1).normal(0, 30, pose.shape) * [1, 1, 0]
    found = reproject(*tensors(wrong, images, np.tile(INTRINSICS, (len(pose), 1))), ROOT).numpy()
    assert np.abs(found - pose)[..., :2].mean() < 0.5 * np.abs(wrong - pose)[..., :2].mean()
    np.testing.assert_allclose(found[..., 2], wrong[..., 2] - wrong[:, ROOT : ROOT + 1, 2], atol=1e-9)


def test_the_mirror_image_of_everything_is_re_projected_to_the_mirror_image():
    points, images = people()
    sides = MPI_INF_3DHP_17.joints_left(), MPI_INF_3DHP_17.joints_right()
    pose, cameras = points - points[:, ROOT : ROOT + 1] + 10, np.tile(INTRINSICS, (len(points), 1))
    plain = reproject(*tensors(pose, images, cameras), ROOT).numpy()
    mirrored = reproject(*tensors(mirror(pose, *sides), mirror(images, *sides), mirror_intrinsics(cameras)), ROOT)
    np.testing.assert_allclose(mirror(mirrored.numpy(), *sides), plain, atol=1e-3)


def refined(**more):
    torch.manual_seed(0)
    return RefinedLifter(17, 2, 17, [3], channels=8, dataset="mpi_inf_3dhp", pose_sequence=True, dropout=0.0,
                         root=ROOT, mm_per_unit=1, **more)


@pytest.mark.parametrize("causal", [False, True])
def test_the_refinement_moves_x_and_y_of_the_pose_and_not_its_depth(causal):
    model, x = refined(causal=causal).eval(), torch.randn(4, 3, 17, 2)
    pose, plain, sequence = model(x, torch.from_numpy(INTRINSICS).expand(4, 9))
    assert pose.shape == plain.shape == (4, 1, 17, 3) and sequence.shape == (4, 3, 17, 3)
    assert torch.equal(pose[..., 2], plain[..., 2]) and not torch.allclose(pose[..., :2], plain[..., :2])
    target = reproject(plain[:, 0], x[:, 2 if causal else 1], torch.from_numpy(INTRINSICS).expand(4, 9), ROOT)
    low, high = torch.minimum(plain[:, 0], target), torch.maximum(plain[:, 0], target)
    assert ((pose[:, 0] >= low - 1e-4) & (pose[:, 0] <= high + 1e-4))[..., :2].all()


def test_the_loss_of_the_full_model_counts_every_prediction_once():
    model = refined()
    criterion, targets = PoseCriterion(model), torch.randn(4, 3, 17, 3)
    pose, sequence = torch.randn(4, 1, 17, 3), torch.randn(4, 3, 17, 3)
    distance = lambda a, b: (a - b).norm(dim=-1).mean()  # noqa: E731
    expected = distance(pose, targets[:, 1:2]) + distance(sequence, targets)
    torch.testing.assert_close(criterion((pose, sequence), targets), expected)
    torch.testing.assert_close(criterion((pose, pose, sequence), targets), expected + distance(pose, targets[:, 1:2]))
    torch.testing.assert_close(criterion(pose, targets[:, 1:2]), distance(pose, targets[:, 1:2]))


def test_the_refinement_learns():
    model, (points, images) = refined(), people(64)
    inputs = torch.from_numpy(images).float()[:, None].expand(-1, 3, -1, -1)
    targets = torch.from_numpy(points - points[:, ROOT : ROOT + 1]).float()[:, None]
    optimizer, losses = torch.optim.Adam(model.refinement.parameters(), lr=1e-3), []
    for _ in range(30):
        pose, *_ = model(inputs, torch.from_numpy(INTRINSICS).expand(64, 9))
        losses.append((pose - targets).norm(dim=-1).mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("part", ["train", "test"])
def test_real_labels_fit_a_pinhole_camera_and_the_skeleton(real_data, part):
    labels = np.load(real_data / "mpi_inf_3dhp_frames" / f"labels_{part}.npz")
    names = MPI_INF_3DHP_17.names()
    for points, images in zip(labels["keypoints_3d_camera"], labels["keypoints_2d"], strict=True):
        fitted = fit_intrinsics(points, images)
        np.testing.assert_allclose(fitted[:4], [1500, 1500, 1020, 1047], rtol=0.01)
        assert np.abs(points[:, :2] / points[:, 2:] * fitted[:2] + fitted[2:4] - images).max() < 2  # pixels
        forearms = [np.linalg.norm(points[names.index(f"{side}_wrist")] - points[names.index(f"{side}_elbow")])
                    for side in ("left", "right")]
        assert forearms[0] == pytest.approx(forearms[1], rel=0.01)
