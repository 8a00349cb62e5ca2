import numpy as np
import pytest
import torch

from common.contextpose.volumetric import (
    AGGREGATIONS,
    aggregate,
    cuboid_points,
    nearest_voxel,
    project,
    random_angles,
    rotation_about_z,
    scale_projections,
    soft_argmax,
    target_attention,
    unproject,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def tensor(array):
    return torch.from_numpy(np.asarray(array))


def cameras(samples, views, seed=0, size=(12, 9)):
    """Projections (B, V, 3, 4) of cameras a few metres from the origin, so that points near it are partly outside."""
    random, width, height = rng(seed), *size
    projections = np.empty((samples, views, 3, 4))
    for place in np.ndindex(samples, views):
        rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
        if np.linalg.det(rotation) < 0:
            rotation[0] *= -1
        shift = [[random.normal(0, 100)], [random.normal(0, 100)], [random.uniform(500, 3000)]]
        intrinsic = [[width, 0, width / 2], [0, 1.1 * width, height / 2], [0, 0, 1]]
        projections[place] = intrinsic @ np.concatenate((rotation, shift), axis=1)
    return tensor(projections)


def sample_plainly(image, x, y):
    """The bilinear value of an image (C, h, w) at a pixel position, with zeros around the image."""
    total = np.zeros(len(image))
    for column in (int(np.floor(x)), int(np.floor(x)) + 1):
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            if 0 <= column < image.shape[2] and 0 <= row < image.shape[1]:
                total += (1 - abs(x - column)) * (1 - abs(y - row)) * image[:, row, column]
    return total


def unproject_plainly(features, projections, points):
    b, v, c, _, _ = features.shape
    volumes = np.zeros((b, v, c, *points.shape[1:4]))
    for sample, view, *place in np.ndindex(b, v, *points.shape[1:4]):
        point = np.append(points[(sample, *place)], 1)
        x, y, depth = projections[sample, view] @ point
        if depth > 0:
            volumes[(sample, view, slice(None), *place)] = sample_plainly(features[sample, view], x / depth, y / depth)
    return volumes


@pytest.fixture(scope="module")
def scene():
    """Features of 2 samples in 3 views, their projections, and points of which some are behind a camera."""
    features = tensor(rng(1).normal(size=(2, 3, 4, 9, 12)))
    points = cuboid_points(tensor(rng(2).normal(0, 50, (2, 3))), 2500.0, 6, tensor([0.3, 4.0]))
    return features, cameras(2, 3), points


def test_unprojection_of_everything_at_once_equals_loops_over_samples_views_and_points(scene):
    expected = unproject_plainly(*(array.numpy() for array in scene))
    assert np.abs(unproject(*scene).numpy() - expected).max() < 1e-9
    seen = (expected != 0).any(axis=2)
    assert 0.05 < seen.mean() < 0.95


def test_points_at_and_behind_the_camera_see_nothing(scene):
    features, projections, points = scene
    _, depth = project(points.reshape(2, -1, 3), projections)
    behind = (depth <= 0).reshape(2, 3, 6, 6, 6)
    volumes = unproject(features, projections, points)
    assert behind.any() and not volumes.movedim(2, -1)[behind].any()
    camera = tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])[None, None]
    at_the_centre = unproject(features[:1, :1], camera, torch.zeros(1, 1, 1, 1, 3).double())
    assert not at_the_centre.any()


def test_pixel_centres_are_at_whole_numbers_up_to_the_last_row_and_column():
    image = tensor(rng().normal(size=(1, 1, 2, 5, 7)))
    camera = tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])[None, None]  # x and y are pixels
    for x, y in ((0, 0), (6, 4), (3, 2), (7, 4), (-1, 0)):
        value = unproject(image, camera, tensor([x, y, 5.0]).reshape(1, 1, 1, 1, 3))[0, 0, :, 0, 0, 0]
        expected = image[0, 0, :, y, x] if 0 <= x < 7 else torch.zeros(2)
        assert torch.allclose(value, expected.double(), atol=1e-12)


def test_a_resized_image_is_sampled_at_resized_pixels(scene):
    _, projections, points = scene
    pixels, _ = project(points.reshape(2, -1, 3), projections)
    resized, _ = project(points.reshape(2, -1, 3), scale_projections(projections, 0.25, 0.5))
    assert torch.allclose(resized, pixels * tensor([0.25, 0.5]))


def test_gradients_of_the_unprojection_reach_the_features(scene):
    features, projections, points = scene
    features = features[:1, :2, :1].clone().requires_grad_()
    points = points[:1, ::3, ::3, ::3]
    assert torch.autograd.gradcheck(lambda x: unproject(x, projections[:1, :2], points), features)


def test_the_cuboid_goes_from_corner_to_corner_round_its_centre_in_index_order():
    centre = tensor([[100.0, -20, 900], [0, 0, 0]])
    points = cuboid_points(centre, 2500.0, 5)
    assert torch.allclose(points[0, 0, 0, 0], centre[0] - 1250) and torch.allclose(points[0, 4, 4, 4], centre[0] + 1250)
    for i, j, k in ((1, 0, 0), (0, 3, 1), (4, 2, 3)):
        assert torch.allclose(points[0, i, j, k], centre[0] - 1250 + 625 * tensor([i, j, k]).double())


def test_turning_the_cuboid_keeps_its_centre_heights_and_distances():
    centre, angles = tensor(rng().normal(0, 1000, (3, 3))), tensor([0.0, 1.0, np.pi / 2])
    plain, turned = cuboid_points(centre, 2000.0, 5), cuboid_points(centre, 2000.0, 5, angles)
    assert torch.allclose(turned[0], plain[0])
    assert torch.allclose(turned[:, 2, 2, 2], centre) and torch.allclose(turned[..., 2], plain[..., 2])
    pairs = [torch.cdist(points.flatten(1, 3), points.flatten(1, 3)) for points in (plain, turned)]
    assert torch.allclose(*pairs, atol=1e-3)
    # A quarter turn takes x to y.
    assert torch.allclose(turned[2, 4, 2, 2], centre[2] + tensor([0.0, 1000, 0]))
    assert torch.allclose(rotation_about_z(angles) @ rotation_about_z(-angles), torch.eye(3).double())


def test_random_angles_cover_the_circle_and_follow_the_seed():
    torch.manual_seed(0)
    angles = random_angles(2000, torch.zeros(1))
    assert angles.min() >= 0 and angles.max() < 6.2832 and abs(angles.mean() - np.pi) < 0.1
    torch.manual_seed(0)
    assert torch.equal(random_angles(2000, torch.zeros(1)), angles)


def aggregate_plainly(volumes, method, confidences):
    b, v, c, *size = volumes.shape
    result = np.zeros((b, c, *size))
    for sample, channel, *place in np.ndindex(*result.shape):
        views = [volumes[(sample, view, channel, *place)] for view in range(v)]
        trust = [confidences[sample, view, channel] for view in range(v)]
        if method == "max":
            value = max(views)
        else:
            weights = {"sum": [1] * v, "softmax": [np.exp(x) / sum(np.exp(views)) for x in views], "conf": trust,
                       "conf_norm": [x / sum(trust) for x in trust]}[method]
            value = sum(x * weight for x, weight in zip(views, weights, strict=True))
        result[(sample, channel, *place)] = value
    return result


@pytest.mark.parametrize("method", AGGREGATIONS)
@pytest.mark.parametrize("views", [1, 3])
def test_every_aggregation_equals_a_loop(method, views):
    volumes, confidences = rng().normal(size=(2, views, 2, 3, 3, 3)), rng(1).uniform(0.1, 1, (2, views, 2))
    result = aggregate(tensor(volumes), method, tensor(confidences))
    assert np.abs(result.numpy() - aggregate_plainly(volumes, method, confidences)).max() < 1e-12
    turned = aggregate(tensor(volumes).flip(1), method, tensor(confidences).flip(1))
    assert torch.allclose(turned, result), "the order of the views must not matter"


def test_unknown_aggregations_and_missing_confidences_are_refused():
    with pytest.raises(ValueError, match="'mean'.*sum, max, softmax, conf, conf_norm"):
        aggregate(torch.zeros(1, 1, 1, 2, 2, 2), "mean")
    with pytest.raises(ValueError, match="conf_norm needs the confidences"):
        aggregate(torch.zeros(1, 1, 1, 2, 2, 2), "conf_norm")


@pytest.mark.parametrize("softmax", [True, False])
def test_soft_argmax_of_a_peak_is_its_point_and_of_two_their_middle(softmax):
    points = cuboid_points(tensor([[3e3, -2e3, 1e3]]), 2500.0, 8, tensor([0.7]))
    scores = torch.full((1, 2, 8, 8, 8), -50.0 if softmax else 0.0).double()
    scores[0, :, 1, 6, 3] = scores[0, 1, 5, 2, 7] = 50
    joints, mass = soft_argmax(scores, points, softmax=softmax)
    assert torch.allclose(joints[0, 0], points[0, 1, 6, 3])
    assert torch.allclose(joints[0, 1], (points[0, 1, 6, 3] + points[0, 5, 2, 7]) / 2)
    assert mass.shape == scores.shape and torch.allclose(mass.sum((2, 3, 4)), torch.ones(1, 2).double())


def test_soft_argmax_is_the_expectation_and_the_multiplier_sharpens_it():
    points = cuboid_points(tensor(rng().normal(0, 500, (2, 3))), 2500.0, 4, tensor([0.2, 2.0]))
    scores = tensor(rng(1).normal(size=(2, 3, 4, 4, 4)))
    weights = np.exp(2.5 * scores.numpy())
    weights /= weights.sum((2, 3, 4), keepdims=True)
    expected = np.einsum("bjxyz,bxyzc->bjc", weights, points.numpy())
    assert np.abs(soft_argmax(scores, points, 2.5)[0].numpy() - expected).max() < 1e-9
    flat = soft_argmax(torch.zeros_like(scores), points)[0]
    assert torch.allclose(flat, points.mean((1, 2, 3))[:, None].expand_as(flat))


def test_soft_argmax_without_any_positive_score_stays_finite():
    joints, _ = soft_argmax(torch.full((1, 1, 4, 4, 4), -1.0), cuboid_points(torch.zeros(1, 3), 2500.0, 4),
                            softmax=False)
    assert joints.isfinite().all()


def test_the_nearest_voxel_equals_a_search_through_all():
    points = cuboid_points(tensor(rng().normal(0, 500, (3, 3))), 2500.0, 8, tensor([0.0, 0.8, 3.0]))
    joints = tensor(rng(1).normal(0, 1500, (3, 40, 3)))  # some of them outside
    expected = torch.cdist(joints, points.flatten(1, 3)).argmin(dim=2)
    assert torch.equal(nearest_voxel(points, joints), expected)


def test_the_target_attention_is_a_gaussian_round_the_joint_on_every_fourth_point():
    n, side = 12, 2200.0
    centre, angles = tensor(rng().normal(0, 500, (2, 3))), tensor([0.0, 1.2])
    points = cuboid_points(centre, side, n, angles)
    joints = centre[:, None] + tensor(rng(1).normal(0, 400, (2, 5, 3)))
    # The rule of the released code: a grid of its own, n / 4 points a side from the same corner.
    axis = torch.linspace(-side / 2, side / 2 - 3 * side / (n - 1), n // 4).double()
    offsets = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    step = (axis[1] - axis[0]).item()
    for sample in range(2):
        grid = centre[sample] + offsets @ rotation_about_z(angles)[sample].T
        for joint in range(5):
            squared = (grid - joints[sample, joint]).square().sum(1)
            expected = (-squared / (2 * (2 * step) ** 2)).softmax(0)
            assert torch.allclose(target_attention(joints, points)[sample, joint], expected, atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4, not 10"):
        target_attention(joints, cuboid_points(centre, side, 10))


def test_positions_stay_exact_under_autocast_and_for_features_of_low_precision(scene):
    features, projections, points = (array.float() for array in scene)
    angles = torch.tensor([0.3, 4.0])
    expected = cuboid_points(points[:, 0, 0, 0], 2500.0, 4, angles), unproject(features, projections, points)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cuboid_points(points[:, 0, 0, 0], 2500.0, 4, angles), expected[0])
        assert torch.equal(unproject(features, projections, points), expected[1])
    low = unproject(features.bfloat16(), projections, points)
    assert low.dtype == torch.float32 and (low - expected[1]).abs().max() < 0.05


def test_everything_runs_on_the_device_of_its_input():
    """The meta device computes nothing, and refuses to mix with any other."""
    with torch.device("meta"):
        points = cuboid_points(torch.zeros(2, 3), 2500.0, 8, torch.zeros(2))
        volumes = unproject(torch.zeros(2, 3, 4, 9, 12), torch.zeros(2, 3, 3, 4), points)
        scores = aggregate(volumes, "softmax")
        joints, _ = soft_argmax(scores, points)
        outputs = joints, nearest_voxel(points, joints), target_attention(joints, points)
    assert [tuple(output.shape) for output in outputs] == [(2, 4, 3), (2, 4), (2, 4, 8)]
