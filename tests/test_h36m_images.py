"""The images of Human3.6M: what the preparation makes of demo people, and its geometry."""
import contextlib
import time

import h5py
import numpy as np
import pytest
from cdflib.cdfwrite import CDF
from h36m_tree import FRAMES, MADE, labels_of
from PIL import Image

from common.camera import project_to_2d
from common.h36m_images import (
    SIZE_SPREAD,
    box_of_mask,
    crop_and_resize,
    image_path,
    read_boxes,
    scale_box,
    select_frames,
    undistort,
    undistortion_map,
    write_images,
)
from common.h36m_labels import LIMB_LENGTHS
from common.h36m_raw import CAMERAS, SEQUENCES, SUBJECTS, pixel_camera, read_positions, to_camera, to_pixels
from common.keypoints import CONTEXTPOSE_17_FROM_H36M_32, CONTEXTPOSE_LIMBS
from common.synthetic_h36m import demo_positions, filled_box, write_cdf, write_masks
from common.synthetic_images import render_background, render_person
from common.utils import DataError
from common.video import open_writer


def read(path):
    """A picture (H, W, 3), float64."""
    with Image.open(path) as file:
        return np.asarray(file).astype(float)


def test_the_table_holds_the_frames_and_poses_of_the_people(made_h36m):
    labels = labels_of(made_h36m)
    assert list(labels) == ["subject_names", "camera_names", "action_names", "cameras", "table"]
    assert labels["subject_names"] == list(SUBJECTS) and labels["camera_names"] == list(CAMERAS)
    assert labels["action_names"] == list(SEQUENCES)
    table, start_row = labels["table"], 0
    assert {name: (table.dtype[name].base, table.dtype[name].shape) for name in table.dtype.names} == {
        "subject_idx": (np.int8, ()), "action_idx": (np.int8, ()), "frame_idx": (np.int16, ()),
        "keypoints": (np.float32, (17, 3)), "bbox_by_camera_tlbr": (np.int16, (4, 4))}
    for subject, sequence in MADE:
        poses = demo_positions(subject, sequence, FRAMES)
        frames = select_frames(subject, poses)
        rows = table[start_row:start_row + len(frames)]
        assert (rows["subject_idx"] == SUBJECTS.index(subject)).all()
        assert (rows["action_idx"] == SEQUENCES.index(sequence)).all()
        assert np.array_equal(rows["frame_idx"], frames)
        assert np.array_equal(rows["keypoints"], poses[frames][:, CONTEXTPOSE_17_FROM_H36M_32])
        start_row += len(frames)
    assert start_row == len(table) > len(MADE)


def test_labels_cameras_project_as_the_suite_does_and_joints_lie_in_their_boxes(made_h36m):
    labels = labels_of(made_h36m)
    for row in labels["table"]:
        subject = labels["subject_names"][row["subject_idx"]]
        for number, camera in enumerate(CAMERAS):
            label = {name: labels["cameras"][name][row["subject_idx"], number].astype(np.float64)
                     for name in ("R", "t", "K", "dist")}
            seen = label["R"] @ row["keypoints"].T.astype(np.float64) + label["t"]  # (3, 17)
            (fx, _, cx), (_, fy, cy), _ = label["K"]
            k1, k2, p1, p2, k3 = label["dist"]
            pixels = project_to_2d(seen.T, np.array([fx, fy, cx, cy, k1, k2, k3, p1, p2]))
            np.testing.assert_allclose(pixels, to_pixels(row["keypoints"], pixel_camera(camera, subject)), atol=1e-2)
            top, left, bottom, right = row["bbox_by_camera_tlbr"][number]
            assert bottom - top == right - left > 50
            assert (pixels >= [left, top]).all() and (pixels < [right, bottom]).all()


def test_pictures_are_those_of_their_frames(made_h36m):
    subject, sequence, camera = "S1", "Walking-1", CAMERAS[1]
    poses, drawn = demo_positions(subject, sequence, FRAMES), []
    for pose in poses:
        image = render_background(subject, camera).copy()
        drawn.append((image, render_person(image, pose, subject, camera)))
    moving = np.any([mask for _, mask in drawn], axis=0)
    frames = select_frames(subject, poses)
    assert 1 < len(frames) < FRAMES
    for frame in frames:
        picture = read(image_path(made_h36m / "processed", subject, sequence, camera, frame, undistorted=False))
        errors = [np.abs(picture - image)[moving].mean() for image, _ in drawn]
        assert np.argmin(errors) == frame and errors[frame] < 6


def test_no_other_pictures_are_there_and_each_has_its_undistorted_one(made_h36m):
    table, expected = labels_of(made_h36m)["table"], set()
    for row in table:
        names = SUBJECTS[row["subject_idx"]], SEQUENCES[row["action_idx"]]
        expected |= {image_path(made_h36m / "processed", *names, camera, row["frame_idx"], undistorted)
                     for camera in CAMERAS for undistorted in (False, True)}
    assert set(made_h36m.rglob("*.jpg")) == expected
    for camera in CAMERAS:
        paths = [image_path(made_h36m / "processed", *MADE[0], camera, 0, undistorted) for undistorted in (False, True)]
        filmed, flat = map(read, paths)
        assert filmed.shape == flat.shape == (*pixel_camera(camera)["size"][::-1], 3)
        again = undistort(filmed, undistortion_map(pixel_camera(camera)))
        assert np.abs(again - flat).mean() < 3 and np.abs(filmed - flat).mean() > 3


@pytest.mark.parametrize("camera", CAMERAS)
def test_undistorted_projections_are_pinhole(camera):
    """A dot where the suite projects a joint comes to lie where a pinhole camera sees it."""
    known = pixel_camera(camera, "S9")
    poses = demo_positions("S9", "Walking-1", 200)[::50].reshape(-1, 3)[::6]
    seen = to_camera(poses.astype(np.float64), known)
    pinhole = (seen / seen[:, 2:]) @ known["K"].T
    width, height = known["size"]
    mapping = undistortion_map(known)
    u, v = np.arange(width), np.arange(height)[:, None]
    for (x, y), expected in zip(to_pixels(poses, known), pinhole, strict=True):
        dot = (200 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 3.0**2))).astype(np.uint8)
        flat = undistort(dot, mapping).astype(float)
        centre = np.array([(flat * u).sum(), (flat * v).sum()]) / flat.sum()
        np.testing.assert_allclose(centre, expected[:2], atol=0.25)


def test_real_labels_lie_where_the_undistortion_looks_for_them(real_data):
    labels = np.load(real_data / "h36m_frames" / "labels.npz")
    for name, pixels, seen in zip(labels["image"], labels["keypoints_2d"], labels["keypoints_3d_camera"], strict=True):
        known = pixel_camera(str(name).split(".")[1].split("_")[0])
        with Image.open(real_data / "h36m_frames" / str(name)) as image:
            size = image.size
        assert np.abs(np.subtract(size, known["size"])).max() <= SIZE_SPREAD
        mapping, pinhole = undistortion_map(known, size), (seen / seen[:, 2:]) @ known["K"].T
        for joint, (x, y, _) in enumerate(pinhole):
            column, row = int(x), int(y)
            corners = mapping[row:row + 2, column:column + 2].astype(np.float64)
            between = corners[0] + (y - row) * (corners[1] - corners[0])  # (2, 2)
            found = between[0] + (x - column) * (between[1] - between[0])
            np.testing.assert_allclose(found, pixels[joint], atol=5e-3)


def test_frames_are_those_in_which_a_joint_moved_far_enough():
    rng = np.random.default_rng(0)
    poses = np.cumsum(rng.normal(0, 8, (300, 32, 3)), axis=0)
    kept = [0]
    for number, pose in enumerate(poses):
        if any(np.sqrt(((pose[j] - poses[kept[-1]][j]) ** 2).sum()) >= 40 for j in range(32)):
            kept.append(number)
    assert np.array_equal(select_frames("S1", poses), kept)
    assert np.array_equal(select_frames("S9", poses), [0, 64, 128, 192, 256])
    still = np.zeros((3, 32, 3))
    still[1, 4, 0], still[2, 4, 0] = 39.99, 40
    assert select_frames("S11", still).tolist() == [0] and select_frames("S8", still).tolist() == [0, 2]


@pytest.mark.parametrize("rows, columns, box", [
    ((10, 30), (4, 8), (10, -4, 30, 16)), ((2, 4), (5, 26), (-8, 5, 13, 26)), ((0, 6), (0, 6), (0, 0, 6, 6))])
def test_boxes_are_square_around_the_centre_of_the_mask(rows, columns, box):
    mask = np.zeros((40, 30), dtype=np.uint8)
    mask[slice(*rows), slice(*columns)] = 255
    assert tuple(box_of_mask(mask)) == box


def test_a_mask_without_a_person_is_a_missing_view(tmp_path):
    masks = [np.zeros((6, 9), dtype=bool), np.ones((6, 9), dtype=bool)]
    write_masks(tmp_path / "a.mat", masks)
    assert read_boxes(tmp_path / "a.mat", [0, 1], (9, 6)).tolist() == [[0, 0, 0, 0], [-2, 0, 7, 9]]
    with pytest.raises(DataError, match=r"a.mat: ends after 2 masks, that of frame 5 "):
        read_boxes(tmp_path / "a.mat", [0, 5], (9, 6))


def test_references_to_masks_may_stand_in_a_row_or_in_a_column(tmp_path):
    masks = [np.random.default_rng(number).random((6, 9)) > 0.8 for number in range(3)]
    write_masks(tmp_path / "a.mat", masks)
    boxes = read_boxes(tmp_path / "a.mat", [0, 2], (9, 6))
    with h5py.File(tmp_path / "a.mat", "r+") as file:
        references = file["Masks"][()]
        del file["Masks"]
        file["Masks"] = references.T
    assert np.array_equal(read_boxes(tmp_path / "a.mat", [0, 2], (9, 6)), boxes)
    assert read_boxes(tmp_path / "a.mat", [0], (9, 8)).shape == (1, 4)  # 1000 rows for 1002
    with pytest.raises(DataError, match=r"a.mat: the mask of frame 0 has the shape \(9, 6\), not \(6, 9\)"):
        read_boxes(tmp_path / "a.mat", [0], (6, 9))


def test_crops_are_zero_outside_the_image_and_average_areas():
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    crop = crop_and_resize(image, (-4, -8, 12, 24), (8, 16))
    padded = np.pad(image, ((4, 0), (8, 0), (0, 0)))[:16, :32].astype(float)
    expected = padded.reshape(8, 2, 16, 2, 3).mean((1, 3))
    assert crop.shape == (8, 16, 3) and np.abs(crop - expected).max() <= 0.5
    assert not crop_and_resize(image, (-9, -9, -1, -1), (4, 4)).any()
    assert scale_box((10, 20, 30, 60), 1.5).tolist() == [5, 10, 35, 70]
    with pytest.raises(ValueError, match="empty"):
        crop_and_resize(image, (5, 5, 5, 9), (4, 4))


def test_limb_lengths_are_those_of_the_training_subjects(made_h36m):
    table = labels_of(made_h36m)["table"]
    table = table[table["subject_idx"] == SUBJECTS.index("S1")]
    with h5py.File(made_h36m / "extra" / LIMB_LENGTHS) as file:
        mean, std = file["mean"][()], file["std"][()]
    assert mean.shape == std.shape == (17,)
    for number, (first, second) in enumerate((*CONTEXTPOSE_LIMBS, (8, 9))):
        lengths = [np.linalg.norm(pose[first] - pose[second]) for pose in table["keypoints"]]
        np.testing.assert_allclose(mean[number], np.mean(lengths), rtol=1e-5)
        np.testing.assert_allclose(std[number], np.std(lengths), atol=1e-3)


@pytest.mark.parametrize("size, fits", [((1000, 1000), True), ((1000, 1002), True), ((640, 480), False)])
def test_videos_of_one_camera_may_differ_by_two_rows(tmp_path, size, fits):
    with open_writer(tmp_path / "a.mp4", 50, *size) as writer:
        for value in (50, 100):
            writer.write(np.full((size[1], size[0], 3), value, dtype=np.uint8))
    refused = pytest.raises(DataError, match=r"a.mp4: its frames are 640 x 480, not 1000 x 1000 as")
    with contextlib.nullcontext() if fits else refused:
        write_images(tmp_path / "a.mp4", [1], tmp_path, CAMERAS[1])
        paths = sorted(tmp_path.rglob("*.jpg"))
        assert [path.name for path in paths] == ["img_000002.jpg"] * 2
        assert all(read(path).shape == (size[1], size[0], 3) and abs(read(path) - 100).max() < 4 for path in paths)


def test_positions_of_another_shape_are_refused(tmp_path):
    write_cdf(tmp_path / "a.cdf", np.zeros((2, 64)))
    with pytest.raises(DataError, match=r"a.cdf: Pose has the shape \(1, 2, 64\)"):
        read_positions(tmp_path / "a.cdf")


def test_positions_that_the_labels_cannot_number_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("common.h36m_raw.MOST_FRAMES", 2)
    write_cdf(tmp_path / "a.cdf", np.zeros((2, 96)))
    assert read_positions(tmp_path / "a.cdf").shape == (2, 32, 3)
    write_cdf(tmp_path / "b.cdf", np.zeros((3, 96)))
    with pytest.raises(DataError, match="b.cdf: holds 3 frames"):
        read_positions(tmp_path / "b.cdf")


@pytest.mark.parametrize("kind, compress", [(44, 6), (45, 0), (45, 6)], ids=["packed", "double", "packed double"])
def test_positions_may_be_packed_and_of_double_precision(tmp_path, kind, compress):
    poses = np.random.default_rng(0).normal(0, 1000, (1, 4, 96)).astype(np.float32)
    file = CDF(str(tmp_path / "a.cdf"))
    file.write_var({"Variable": "Pose", "Data_Type": kind, "Num_Elements": 1, "Rec_Vary": True, "Compress": compress,
                    "Dim_Sizes": [4, 96]}, var_data=poses.astype(np.float32 if kind == 44 else np.float64))
    file.close()
    assert np.array_equal(read_positions(tmp_path / "a.cdf"), poses.reshape(4, 32, 3))


def test_a_cdf_file_that_leads_in_circles_is_given_up(tmp_path, monkeypatch):
    write_cdf(tmp_path / "a.cdf", np.zeros((2, 96)))
    monkeypatch.setattr("common.h36m_raw.READING_SECONDS", 0.1)
    monkeypatch.setattr("cdflib.CDF", lambda path: time.sleep(20))
    with pytest.raises(DataError, match="a.cdf: damaged or truncated .TimeoutError"):
        read_positions(tmp_path / "a.cdf")


def test_filled_boxes_make_the_same_box_as_the_person():
    mask = np.random.default_rng(1).random((30, 20)) > 0.995
    assert mask.any() and np.array_equal(box_of_mask(mask), box_of_mask(filled_box(mask)))
