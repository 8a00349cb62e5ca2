"""Pictures of ContextPose: joints lie where they should, in their colours, and no image makes them huge."""
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from common.contextpose.image import read_image
from common.contextpose.model import ContextPoseOutput
from common.contextpose.pictures import TILE, _in_volume, pose_picture, save_picture, shown_part, training_pictures
from common.contextpose.samples import Batch
from common.contextpose.volumetric import cuboid_points
from common.drawing import COLOURS, GHOST
from common.keypoints import CONTEXTPOSE_17, CONTEXTPOSE_17_FROM_H36M_32, CONTEXTPOSE_17_NAMES
from common.synthetic import make_motion

POSE = make_motion("S1", "Walking", 8)[3, CONTEXTPOSE_17_FROM_H36M_32] * 1000  # world mm


def flat(pose, size, height=0.8):
    """The pose as seen from far away, in an image of `size` (height, width), so many images high: (17, 2) pixels."""
    side = pose[:, [0, 2]] - pose[:, [0, 2]].mean(0)
    return side / np.ptp(side[:, 1]) * size[0] * height * [1, -1] + np.array(size[::-1]) / 2


def shows(picture, colour):
    """Where the pixels of a picture have a colour: (H, W)."""
    return np.abs(picture.astype(int) - np.round(255 * np.array(to_rgb(colour)))).max(-1) < 12


@pytest.mark.parametrize("size", [(48, 64), (1080, 1920), (1920, 1080), (2048, 2048), (100, 3000), (3000, 100)])
def test_no_image_makes_a_huge_or_a_tiny_picture(size):
    picture = pose_picture(np.full((*size, 3), 128, np.uint8), flat(POSE, size), POSE)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert 500 < picture.shape[0] < 700 and 650 < picture.shape[1] < 1300
    assert shows(picture, "#808080").sum() > 500  # the image


def test_the_skeleton_lies_over_the_image_in_both_colours():
    joints = flat(POSE, (560, 560))  # shown pixel by pixel
    joints += 40 * (np.isin(np.arange(17), CONTEXTPOSE_17.joints_left())[:, None] * [1, 0])  # sides apart
    picture = pose_picture(np.full((560, 560, 3), 128, np.uint8), joints, POSE)
    left, top = np.argwhere(shows(picture, "#808080")).min(0)[::-1]
    for side in ("left", "right"):
        knee, ankle = (joints[CONTEXTPOSE_17_NAMES.index(f"{side}_{name}")] for name in ("knee", "ankle"))
        x, y = np.floor((knee + ankle) / 2 + 0.5).astype(int) + (left, top)
        assert shows(picture, COLOURS[side])[y, x], side
        assert shows(picture, COLOURS[side])[:, 600:].sum() > 300  # in the room, too


def test_a_truth_is_drawn_in_grey_and_named():
    image, joints = np.zeros((60, 60, 3), np.uint8), flat(POSE, (60, 60))
    without, beside = (pose_picture(image, joints, POSE, truth=truth) for truth in (None, POSE + [300, 0, 0]))
    assert shows(beside, GHOST["centre"]).sum() > shows(without, GHOST["centre"]).sum() + 500


def test_a_small_person_is_shown_large():
    assert shown_part((480, 640), None) == (0, 0, 640, 480)
    assert shown_part((480, 640), (100, 100, 400, 400)) == (0, 0, 640, 480)
    x, y, width, height = shown_part((480, 640), (560, 100, 640, 180))
    assert (x + width, width, height) == (640, 176, 176) and y <= 100 and y + height >= 180
    assert shown_part((60, 640), (0, 0, 60, 60)) == (0, 0, 132, 60)


def test_joints_without_a_place_are_left_out():
    joints = flat(POSE, (100, 100))
    joints[CONTEXTPOSE_17_NAMES.index("left_ankle")] = np.nan
    assert pose_picture(np.zeros((100, 100, 3), np.uint8), joints, POSE, box=(10, 5, 90, 95)).any()


def test_a_saved_picture_is_read_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    save_picture(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


def tiny_batch(samples=3, views=2, n=8, dtype=torch.float32):
    """A batch and an output whose volumes are peaked at the true joints, in a cuboid that is turned."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor(POSE)[None].repeat(samples, 1, 1)
    points = cuboid_points(truth[:, 6], 2500.0, n, torch.linspace(0, 2, samples))
    squared = torch.cdist(truth, points.flatten(1, 3)).square()
    volumes = (-squared / (2 * 300.0**2)).softmax(-1).reshape(samples, 17, n, n, n)
    projection = torch.tensor([[60.0, 32, 0, 0], [0, 40, -60, 40000], [0, 1, 0, 0]])
    projection[:, 3] += projection[:, 1] * 4000  # a camera 4 m away
    batch = Batch(torch.randint(255, (samples, views, 80, 64, 3), generator=generator, dtype=torch.uint8),
                  projection.repeat(samples, views, 1, 1), truth, truth[:, 6], [(0, (0,))] * samples)
    heatmaps = torch.rand((samples, views, 17, 20, 16), generator=generator, dtype=dtype)
    return batch, ContextPoseOutput((truth + 30).requires_grad_(), volumes.to(dtype), points, None, heatmaps)


@pytest.mark.parametrize("samples, views, dtype", [(1, 1, torch.float32), (3, 2, torch.bfloat16)])
def test_pictures_of_a_training_are_images(samples, views, dtype):
    batch, output = tiny_batch(samples, views, dtype=dtype)
    pictures = training_pictures(batch, output, 2)
    assert set(pictures) == {"joints", "heatmaps", "volumes"}
    for picture in pictures.values():
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        assert picture.std() > 10 and max(picture.shape) < 2000
    assert pictures["joints"].shape[0] < 2 * TILE + 100
    assert all(shows(pictures["joints"], COLOURS[side]).any() for side in ("left", "right"))


def test_the_true_joint_is_marked_at_the_peak_of_its_volume():
    batch, output = tiny_batch()
    place = _in_volume(batch.keypoints, output.coordinates)  # 0 to 1
    peak = output.volumes.flatten(2).argmax(-1)
    for axis, index in enumerate((peak // 64, peak // 8 % 8, peak % 8)):
        assert np.abs(place[..., axis] * 7 - index.numpy()).max() <= 0.51
