"""Own images: what is taken from the user, what is assumed, and that the files say where the network put the joints."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.contextpose import own_images
from common.contextpose.image import LEVEL_CAMERA
from common.contextpose.own_images import (
    find_images,
    image_sizes,
    output_names,
    parse_intrinsics,
    pelvis_from_box,
    predict_images,
    read_boxes,
    square_box,
)
from common.contextpose.pictures import save_picture
from common.export import read_prediction
from common.h36m_images import box_of_mask
from common.h36m_raw import CAMERAS, pixel_camera, to_camera
from common.source import make_source
from common.synthetic import make_motion
from common.synthetic_images import render_person
from common.utils import CheckpointError, DataError, UsageError

K = np.array([[600.0, 0, 330], [0, 610, 235], [0, 0, 1]])


def true_pose(seed, depth=4000.0):
    """Joints (17, 3) in the world of a level camera, within a metre of somewhere ahead."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(-400, 400, (17, 3)) + [rng.uniform(-300, 300), depth, 100]).astype(np.float32)


def pixels_of(pose):
    """World joints (17, 3) in the original image, by hand: (17, 2)."""
    x, y, z = pose.astype(np.float64).T
    return np.stack([600 * x / y + 330, 610 * -z / y + 235], axis=-1)


class TrueModel(torch.nn.Module):
    """Gives poses in the order of the images, and keeps what it was called with."""

    def __init__(self, poses):
        super().__init__()
        self.poses, self.calls = list(poses), []

    def forward(self, images, projections, pelvis):
        assert not self.training and torch.is_inference_mode_enabled()
        start = sum(len(call[0]) for call in self.calls)
        self.calls.append((images, projections, pelvis))
        return SimpleNamespace(keypoints=torch.tensor(np.stack(self.poses[start:start + len(images)])))


def write_images(folder, names, size=(48, 64)):
    rng, paths = np.random.default_rng(0), [folder / name for name in names]
    for path in paths:
        save_picture(path, rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    return paths


def run(tmp_path, poses, names=None, boxes=None, depth=None, size=(48, 64), fps=None):
    paths = write_images(tmp_path, names or [f"{n}.png" for n in range(len(poses))], size)
    model = TrueModel(poses)
    boxes = read_boxes(boxes, paths, image_sizes(paths))
    lines = predict_images(model, paths, K, boxes, depth, "cpu", tmp_path / "out", (96, 64), make_source(),
                           fps)
    return model, read_prediction(tmp_path / "out" / "predictions.npz"), lines


def test_intrinsics_become_a_matrix():
    np.testing.assert_array_equal(parse_intrinsics("600, 610,330,235"), K)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,x,4", "0,1,2,3", "1,-1,2,3", "nan,1,2,3", "1,1,inf,3"])
def test_wrong_intrinsics_are_refused(text):
    with pytest.raises(UsageError):
        parse_intrinsics(text)


def test_a_box_is_squared_round_its_centre_as_in_training():
    mask = np.zeros((40, 60), dtype=bool)
    for left, top, right, bottom in ((10, 5, 20, 35), (3, 8, 50, 19), (7, 7, 8, 8), (0, 1, 10, 12)):
        mask[:] = False
        mask[top:bottom, left:right] = True
        np.testing.assert_array_equal(square_box((left, top, right, bottom)), box_of_mask(mask))


def test_boxes_are_one_for_all_or_one_an_image(tmp_path):
    paths, sizes = [tmp_path / "a.jpg", tmp_path / "b.jpg"], [(48, 64), (48, 64)]
    one, other = [0, 10, 20, 30], [5, 5, 45, 45]  # tlbr
    np.testing.assert_array_equal(read_boxes(["10,0,30,20"], paths, sizes), [one, one])
    np.testing.assert_array_equal(read_boxes(["10,0,30,20", "5,5,45,45"], paths, sizes), [one, other])
    np.testing.assert_array_equal(read_boxes(None, paths, sizes), [[-8, 0, 56, 64]] * 2)
    file = tmp_path / "boxes.json"
    for content in ({"b.jpg": [5, 5, 45, 45], str(paths[0]): [10, 0, 30, 20.0]}, [[10, 0, 30, 20], [5, 5, 45, 45]]):
        file.write_text(json.dumps(content))
        np.testing.assert_array_equal(read_boxes([str(file)], paths, sizes), [one, other])


@pytest.mark.parametrize("texts, words", [
    (["1,2,3"], "no box"), (["a,b,c,d"], "no box"), (["nan,1,2,3"], "no box"), (["1,2,9,9"] * 3, "3 boxes"),
    (["10,10,10,20"], "empty"), (["30,10,20,20"], "empty"), (["70,0,90,20"], "outside"), (["-20,0,0,20"], "outside"),
    (["-300,-300,300,300"], "2 times"), (["-1e308,0,1e308,9"], "2 times"),
])
def test_wrong_boxes_are_refused(tmp_path, texts, words):
    with pytest.raises(UsageError, match=words):
        read_boxes(texts, [tmp_path / "a.jpg", tmp_path / "b.jpg"], [(48, 64)] * 2)


@pytest.mark.parametrize("content, words", [
    ("{", "no JSON"), ('{"a.jpg": [1, 2, 9, 9]}', "no box for b.jpg"), ("[[1, 2, 9, 9]]", "1 boxes for 2"),
    ("7", "int"), ("[" * 100000, "no JSON"),
    ('[[1, 2, 9], [1, 2, 9, 9]]', "is no box of a.jpg"), ('[[1, 2, 9, NaN], [1, 2, 9, 9]]', "is no box"),
    ('[[1, 2, 9, 1' + '0' * 400 + '], [1, 2, 9, 9]]', "is no box"), ('[[1, 2, "9", 9], [1, 2, 9, 9]]', "is no box"),
    ('[[1, 2, 9, 9], [99, 2, 109, 9]]', "b.jpg.*outside"),
])
def test_wrong_files_of_boxes_are_refused(tmp_path, content, words):
    file = tmp_path / "boxes.json"
    file.write_text(content)
    with pytest.raises(DataError, match=words):
        read_boxes([file], [tmp_path / "a.jpg", tmp_path / "b.jpg"], [(48, 64)] * 2)
    with pytest.raises(DataError, match="could not be read"):
        read_boxes([tmp_path / "none.json"], [tmp_path / "a.jpg"], [(48, 64)])


def test_a_folder_stands_for_its_images(tmp_path):
    (tmp_path / "inner").mkdir()
    write_images(tmp_path, ["b.png", "a.png"])
    (tmp_path / "notes.txt").write_text("")
    assert find_images([tmp_path, tmp_path / "b.png"]) == [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "b.png"]
    for wrong in ("inner", "none.png"):
        with pytest.raises(DataError, match=wrong):
            find_images([tmp_path / wrong])
    (tmp_path / "b.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match="b.png"):
        image_sizes([tmp_path / "a.png", tmp_path / "b.png"])


def test_the_world_is_a_turned_camera_with_z_up():
    np.testing.assert_array_equal(LEVEL_CAMERA @ LEVEL_CAMERA.T, np.eye(3))
    assert np.linalg.det(LEVEL_CAMERA) == 1
    np.testing.assert_array_equal(LEVEL_CAMERA @ [1, 2, 3], [1, -3, 2])  # right, down, ahead


def test_joints_project_to_where_the_network_saw_them(tmp_path, monkeypatch):
    monkeypatch.setattr(own_images, "BATCH", 2)
    poses = [true_pose(n) for n in range(3)]
    model, found, _ = run(tmp_path, poses, boxes=[f"{n},{n},{n + 30},{n + 25}" for n in range(3)])
    assert [len(call[0]) for call in model.calls] == [2, 1]
    projections = torch.cat([call[1] for call in model.calls])[:, 0].double().numpy()
    for pose, projection, box, keypoints in zip(poses, projections, found.extra["boxes"], found.keypoints_2d,
                                                strict=True):
        np.testing.assert_allclose(keypoints, pixels_of(pose), atol=0.01)
        seen = np.hstack([pose, np.ones((17, 1))]) @ projection.T
        on_crop = seen[:, :2] / seen[:, 2:]  # of 96 rows and 64 columns
        left, top, right, bottom = box
        np.testing.assert_allclose(on_crop * [(right - left) / 64, (bottom - top) / 96] + [left, top], keypoints,
                                   atol=0.01)
    np.testing.assert_allclose(found.joints, np.array(poses) / 1000, atol=1e-6)
    x, y, z = np.moveaxis(found.joints, -1, 0)
    np.testing.assert_array_equal(found.joints_camera, np.stack([x, -z, y], axis=-1))


def test_the_volume_stands_behind_the_middle_of_the_box_at_the_given_depth(tmp_path):
    model, found, lines = run(tmp_path, [true_pose(0)], boxes=["10,10,41,41"], depth=3500.0)
    (_, projections, pelvis), = model.calls
    assert pelvis[0, 1] == 3500 and found.extra["pelvis_depth_m"][0] == 3.5
    seen = projections[0, 0].double() @ torch.cat([pelvis[0].double(), torch.ones(1)])
    np.testing.assert_allclose(seen[:2] / seen[2], [15 * 64 / 31, 15 * 96 / 31], atol=0.01)  # pixel 25 of the image
    assert found.extra["pelvis_depth_from"] == "--pelvis-depth" and "3.50 m, as given by --pelvis-depth" in lines[0]


def test_the_depth_of_demo_people_follows_from_their_boxes():
    for subject, camera in (("S1", CAMERAS[0]), ("S9", CAMERAS[1]), ("S5", CAMERAS[3])):
        pose, known = make_motion(subject, "Walking", 20)[10] * 1000, pixel_camera(camera, subject)
        width, height = known["size"]
        box = box_of_mask(render_person(np.zeros((height, width, 3), np.uint8), pose, subject, camera))
        pelvis = to_camera(pose[0].astype(np.float64), known)
        found = pelvis_from_box(box, known["K"])
        assert abs(found[2] / pelvis[2] - 1) < 0.15
        assert np.abs(pelvis_from_box(box, known["K"], depth=pelvis[2]) - pelvis).max() < 200
        assert pelvis_from_box(box, known["K"], side_mm=2 * own_images.PERSON_MM)[2] == pytest.approx(2 * found[2])


def test_both_files_are_whole_and_say_the_same(tmp_path):
    _, found, lines = run(tmp_path, [true_pose(0), true_pose(1)])
    other = read_prediction(tmp_path / "out" / "predictions.json")
    assert (found.frame, found.root_path, found.fps, found.size) == ("world", "predicted", 25, (64, 48))
    assert found.skeleton.names()[6] == "pelvis" and found.skeleton.parents()[6] == -1
    np.testing.assert_array_equal(found.extra["intrinsics"], K)
    np.testing.assert_array_equal(found.extra["boxes"], [[0, -8, 64, 56]] * 2)
    for name in ("joints", "joints_camera", "keypoints_2d"):
        np.testing.assert_allclose(getattr(other, name), getattr(found, name), atol=1e-6)
    assert found.extra.keys() == other.extra.keys() and found.source == other.source
    for image, picture in zip(other.extra["images"], other.extra["pictures"], strict=True):
        assert (tmp_path / "out" / picture).is_file() and (tmp_path / image).is_file()
    assert found.extra["pelvis_depth_from"] == "box" and "y ahead" in str(found.extra["axes_world"])
    assert "2 of 2 images taken whole" in "".join(lines) and "outside of an image" in "".join(lines)  # K is for 640
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0_pose.png", "1_pose.png", "predictions.json", "predictions.npz"]


def test_the_rate_of_images_is_that_given_and_said_where_it_is_taken(tmp_path):
    for poses, fps, said in ((2, None, True), (1, None, False), (2, 12.5, False)):
        _, found, lines = run(tmp_path, [true_pose(n) for n in range(poses)], fps=fps)
        assert found.fps == (fps or 25) and any("--fps" in line for line in lines) == said


def test_images_of_one_stem_keep_their_own_pictures(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
    _, found, _ = run(tmp_path, [true_pose(n) for n in range(3)], ["a/x.png", "b/X.png", "a/x_2.png"])
    assert list(found.extra["pictures"]) == ["x_pose.png", "X_2_pose.png", "x_2_2_pose.png"]
    assert len({path.read_bytes() for path in (tmp_path / "out").glob("*.png")}) == 3
    assert len(set(output_names([tmp_path / "x.png"] * 3 + [tmp_path / "x_2.jpg"]))) == 4


def test_joints_behind_the_camera_have_no_pixels(tmp_path):
    pose = true_pose(0)
    pose[3, 1] = -5
    _, found, _ = run(tmp_path, [pose])
    assert np.isnan(found.keypoints_2d[0, 3]).all() and np.isfinite(found.keypoints_2d[0, :3]).all()
    readable = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert readable["keypoints_2d"][0][3] == [None, None]


def test_joints_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not finite"):
        run(tmp_path, [np.full((17, 3), np.nan, np.float32)])
    assert not (tmp_path / "out" / "predictions.npz").exists()
