import numpy as np
import pytest
import torch
from conftest import GOLDEN

from common.camera import (
    camera_to_world,
    image_coordinates,
    normalize_screen_coordinates,
    project_to_2d,
    project_to_2d_linear,
    world_to_camera,
)
from common.h36m_dataset import h36m_cameras
from common.humaneva_dataset import humaneva_cameras
from common.quaternion import qinverse, qrot


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_camera_maps_equal_the_published_ones(index, convert):
    golden = np.load(GOLDEN / "cameras_S9.npz")
    case = {name: convert(golden[f"{index}_{name}"]) for name in ("world", "camera", "uv", "uv_linear", "px", "back")}
    camera = h36m_cameras("S9")[index]
    pose = camera["orientation"], camera["translation"]
    size = camera["res_w"], camera["res_h"]
    for result, name, tolerance in [
        (world_to_camera(case["world"], *pose), "camera", 5e-6),
        (camera_to_world(case["camera"], *pose), "back", 5e-6),
        (project_to_2d(case["camera"], camera["intrinsic"]), "uv", 1e-6),
        (project_to_2d_linear(case["camera"], camera["intrinsic"]), "uv_linear", 1e-6),
        (image_coordinates(case["uv"], *size), "px", 1e-3),
    ]:
        np.testing.assert_allclose(np.asarray(result), np.asarray(case[name]), atol=tolerance, rtol=1e-6)


@pytest.mark.parametrize("lead", [(), (4,), (4, 5), (4, 5, 6)], ids=str)
def test_any_batch_shape_equals_point_by_point(lead):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(*lead, 3)) + [0, 0, 4]
    camera = h36m_cameras("S1")[0]
    flat = points.reshape(-1, 3)
    for function in (project_to_2d, project_to_2d_linear):
        single = np.stack([function(p, camera["intrinsic"]) for p in flat]).reshape(*lead, 2)
        np.testing.assert_allclose(function(points, camera["intrinsic"]), single, rtol=1e-12)


def test_per_sample_parameters_broadcast_over_frames_and_joints():
    rng = np.random.default_rng(1)
    points, cameras = rng.normal(size=(4, 2, 17, 3)) + [0, 0, 4], h36m_cameras("S9")
    stacked = {name: np.stack([camera[name] for camera in cameras]) for name in cameras[0] if name != "id"}
    projected = project_to_2d(points, stacked["intrinsic"])
    moved = world_to_camera(points, stacked["orientation"], stacked["translation"])
    for i, camera in enumerate(cameras):
        np.testing.assert_allclose(projected[i], project_to_2d(points[i], camera["intrinsic"]), rtol=1e-6)
        alone = world_to_camera(points[i], camera["orientation"], camera["translation"])
        np.testing.assert_allclose(moved[i], alone, rtol=1e-5, atol=1e-6)


def test_world_and_screen_maps_come_back():
    rng = np.random.default_rng(2)
    points, camera = rng.normal(size=(5, 17, 3)), humaneva_cameras("S2")[1]
    there = world_to_camera(points, camera["orientation"], camera["translation"])
    # HumanEva's quaternions are given with seven digits: they are unit length to 1e-6 only.
    back = camera_to_world(there, camera["orientation"], camera["translation"])
    np.testing.assert_allclose(back, points, atol=2e-5)
    pixels = rng.uniform(0, 1000, (5, 17, 2))
    np.testing.assert_allclose(image_coordinates(normalize_screen_coordinates(pixels, 1000, 1002), 1000, 1002), pixels)


def test_an_inverse_rotation_undoes_it():
    rng = np.random.default_rng(4)
    q, v = rng.normal(size=4), rng.normal(size=(5, 3))
    q /= np.linalg.norm(q)
    np.testing.assert_allclose(qrot(qinverse(q), qrot(q, v)), v)
    np.testing.assert_allclose(np.linalg.norm(qrot(q, v), axis=-1), np.linalg.norm(v, axis=-1))


def test_screen_coordinates_of_three_components_are_refused():
    with pytest.raises(ValueError, match="2 coordinates"):
        normalize_screen_coordinates(np.zeros((1, 3)), 10, 10)


def test_projection_lands_on_the_labels_of_real_frames(real_data):
    labels = np.load(real_data / "h36m_frames" / "labels.npz")
    for image, pixels, points in zip(labels["image"], labels["keypoints_2d"], labels["keypoints_3d_camera"],
                                     strict=True):
        camera = next(camera for camera in h36m_cameras("S1") if camera["id"] in str(image))
        projected = image_coordinates(project_to_2d(points, camera["intrinsic"]), camera["res_w"], camera["res_h"])
        np.testing.assert_allclose(projected, pixels, atol=1e-3)
