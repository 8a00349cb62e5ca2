"""Pictures of the demo people, and the archives of the miniature Human3.6M that they are packed into."""
import tarfile
import time

import h5py
import numpy as np
import pytest

from common.camera import project_to_2d
from common.h36m_raw import (
    ARCHIVES,
    CAMERAS,
    SEQUENCES,
    SUBJECTS,
    archive_name,
    file_name,
    npz_name,
    pixel_camera,
    read_positions,
    to_pixels,
)
from common.keypoints import CONTEXTPOSE_17_FROM_H36M_32
from common.synthetic_body import JOINT
from common.synthetic_h36m import demo_positions, filled_box, write_cdf, write_h36m, write_masks
from common.synthetic_images import BODY, _meet, pixel_rays, render_background, render_person


@pytest.fixture(scope="module")
def pose():
    return demo_positions("S5", "Walking-1", 1)[0]


def draw(pose, camera, subject="S5"):
    image = render_background(subject, camera).copy()
    return image, render_person(image, pose, subject, camera)


@pytest.mark.parametrize("camera", CAMERAS)
def test_rays_project_to_their_pixels(camera):
    rays = pixel_rays(camera)[::7, ::7].astype(np.float64)
    width, height = pixel_camera(camera)["size"]
    assert pixel_rays(camera).shape == (height, width, 2)
    pixels = project_to_2d(np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=-1),
                           pixel_camera(camera)["intrinsic"])
    expected = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)[::7, ::7]
    np.testing.assert_allclose(pixels, expected, atol=1e-3)


@pytest.mark.parametrize("camera", CAMERAS)
def test_every_joint_lies_inside_the_mask_where_the_suite_projects_it(pose, camera):
    _, mask = draw(pose, camera)
    drawn = sorted({JOINT[joint] for first, second, *_ in BODY for joint in (first, second)})
    assert set(CONTEXTPOSE_17_FROM_H36M_32) <= set(drawn)
    columns, rows = np.round(to_pixels(pose[drawn], pixel_camera(camera, "S5"))).astype(int).T
    assert mask[rows, columns].all()
    assert 0.005 < mask.mean() < 0.2


def test_only_the_mask_differs_from_the_background_and_the_person_is_shaded(pose):
    image, mask = draw(pose, CAMERAS[0])
    assert np.array_equal(image[~mask], render_background("S5", CAMERAS[0])[~mask])
    assert len(np.unique(image[mask], axis=0)) > 200


def test_the_background_is_textured_and_another_for_each_camera():
    pictures = [render_background("S5", camera)[:1000] for camera in CAMERAS[:2]]
    assert all(picture.std() > 10 for picture in pictures)
    assert not np.array_equal(*pictures)
    blocks = pictures[0].reshape(20, 50, 20, 50, 3).std((1, 3))
    assert np.median(blocks) > 3


def test_a_frame_takes_far_less_than_a_third_of_a_second(pose):
    draw(pose, CAMERAS[1])
    times = []
    for _ in range(3):
        start = time.perf_counter()
        draw(pose, CAMERAS[1])
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_capsules_are_met_where_a_walk_along_the_ray_meets_them():
    rng = np.random.default_rng(0)
    a, b, radius = np.array([-0.1, 0.05, 3.0]), np.array([0.15, -0.1, 3.4]), 0.12
    rays = rng.uniform(-0.15, 0.15, (200, 2))
    depth, _ = _meet(rays, a, b, radius)
    steps = np.linspace(2.5, 4, 3001)
    for ray, found in zip(rays, depth, strict=True):
        points = steps[:, None] * [*ray, 1.0]
        share = ((points - a) @ (b - a) / ((b - a) @ (b - a))).clip(0, 1)
        inside = np.linalg.norm(points - a - share[:, None] * (b - a), axis=-1) < radius
        if inside.any():
            assert abs(steps[inside.argmax()] - found) < 2e-3
        elif np.isfinite(found):  # a ray that only touches may be missed by the walk
            point = found * np.array([*ray, 1.0])
            share = ((point - a) @ (b - a) / ((b - a) @ (b - a))).clip(0, 1)
            assert abs(np.linalg.norm(point - a - share * (b - a)) - radius) < 1e-6


def test_who_is_nearer_hides_who_is_behind(pose):
    camera = pixel_camera(CAMERAS[0], "S5")
    away = camera["R"][2] * 800  # mm further from the camera
    alone, mask = draw(pose, CAMERAS[0])
    both = render_background("S5", CAMERAS[0]).copy()
    render_person(both, pose + away, "S5", CAMERAS[0])
    render_person(both, pose, "S5", CAMERAS[0])
    assert np.array_equal(both[mask], alone[mask])


def test_nobody_is_drawn_behind_the_camera(pose):
    camera = pixel_camera(CAMERAS[0], "S5")
    image, mask = draw(pose - camera["R"][2] * 20000, CAMERAS[0])
    assert not mask.any() and np.array_equal(image, render_background("S5", CAMERAS[0]))


def test_a_filled_box_has_the_extent_of_the_mask():
    mask = np.zeros((9, 8), dtype=bool)
    mask[2, 5] = mask[6, 3] = True
    expected = np.zeros_like(mask)
    expected[2:7, 3:6] = True
    assert np.array_equal(filled_box(mask), expected)
    assert not filled_box(np.zeros((3, 4), dtype=bool)).any()


def test_names_of_all_sequences_are_those_of_the_archives():
    names = {(subject, sequence): file_name(subject, sequence) for subject in SUBJECTS for sequence in SEQUENCES}
    assert len(names) == 210
    assert all(len({names[subject, sequence] for sequence in SEQUENCES}) == 30 for subject in SUBJECTS)
    assert names["S5", "Discussion-2"] == "Discussion 3" and names["S6", "Waiting-1"] == "Waiting 3"
    assert names["S8", "WalkingTogether-2"] == "WalkTogether 2" and names["S7", "Walking-2"] == "Walking 2"
    assert names["S1", "TakingPhoto-1"] == "TakingPhoto 1" and npz_name("S1", "TakingPhoto-1") == "Photo 1"
    assert names["S9", "WalkingDog-2"] == npz_name("S1", "WalkingDog-2") == "WalkDog"


def test_cdf_files_come_back(tmp_path, pose):
    write_cdf(tmp_path / "Walking 1.cdf", np.stack([pose.ravel(), pose.ravel() + 1]))
    assert np.array_equal(read_positions(tmp_path / "Walking 1.cdf"), [pose, pose + 1])


def test_masks_are_references_to_transposed_arrays_in_a_matlab_file(tmp_path):
    masks = [np.random.default_rng(i).random((5, 7)) > 0.5 for i in range(3)]
    write_masks(tmp_path / "a.mat", masks)
    assert (tmp_path / "a.mat").read_bytes().startswith(b"MATLAB 7.3 MAT-file")
    with h5py.File(tmp_path / "a.mat") as file:
        for reference, mask in zip(file["Masks"][:, 0], masks, strict=True):
            assert np.array_equal(file[reference][()].T, mask)


def test_the_archives_hold_their_members_in_the_original_places_and_are_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        write_h36m(tmp_path / name, frames=1, subjects=("S1",), sequences=("Eating-1",))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(archive_name(kind, "S1")
                                                                              for kind in ARCHIVES)
    places = {"Poses_D2_Positions": "S1/MyPoseFeatures/D2_Positions/Eating 2.{}.cdf",
              "Poses_D3_Positions": "S1/MyPoseFeatures/D3_Positions/Eating 2.cdf",
              "Poses_D3_Positions_mono": "S1/MyPoseFeatures/D3_Positions_mono/Eating 2.{}.cdf",
              "Poses_D3_Positions_mono_universal": "S1/MyPoseFeatures/D3_Positions_mono_universal/Eating 2.{}.cdf",
              "Videos": "S1/Videos/Eating 2.{}.mp4",
              "Segments_mat_gt_bb": "S1/MySegmentsMat/ground_truth_bb/Eating 2.{}.mat"}
    for kind, place in places.items():
        with tarfile.open(tmp_path / "a" / archive_name(kind, "S1")) as tar:
            files = {member.name for member in tar if member.isreg()}
        assert files == {place.format(camera) for camera in CAMERAS}
        same = [(tmp_path / name / archive_name(kind, "S1")).read_bytes() for name in ("a", "b")]
        assert same[0] == same[1], kind


def test_an_unknown_sequence_is_named(tmp_path):
    with pytest.raises(ValueError, match="Flying-1"):
        write_h36m(tmp_path, sequences=("Flying-1",))
