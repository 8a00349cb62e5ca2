"""The demo people move like people, within what the cameras see, and are detected as a detector would."""
import numpy as np
import pytest

from common.camera import image_coordinates, project_to_2d, world_to_camera
from common.h36m_dataset import h36m_cameras
from common.keypoints import H36M_17, H36M_32, H36M_KEPT
from common.synthetic import ACTIONS, DRIFT_MEMORY, SUBJECTS, _drift, detect, make_demo, make_motion, project_views
from common.synthetic_body import JOINT, SOLE, SUBJECT_HEIGHTS
from common.synthetic_motion import FPS

SIDES = ("left", "right")


@pytest.fixture(scope="module")
def demo():
    return make_demo(frames=600)


def joint(positions, name):
    return positions[:, JOINT[name]].astype(np.float64)


def sequences(demo):
    return [(subject, action, poses) for subject, actions in demo.items() for action, poses in actions.items()]


def angle(a, b):
    """Degrees between vectors (F, 3)."""
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.rad2deg(np.arccos(cosine.clip(-1, 1)))


def forward(positions):
    """Where the person's pelvis points, horizontally (F, 3)."""
    across = joint(positions, "left_hip") - joint(positions, "right_hip")
    ahead = np.stack([across[:, 1], -across[:, 0], np.zeros(len(across))], axis=-1)
    return ahead / np.linalg.norm(ahead, axis=-1, keepdims=True)


def test_every_subject_does_every_action_in_metres_float32(demo):
    assert len(ACTIONS) >= 8 and set(demo) == set(SUBJECTS)
    for _, _, poses in sequences(demo):
        assert poses.shape == (600, 32, 3) and poses.dtype == np.float32 and np.isfinite(poses).all()


def test_bones_keep_their_length_through_all_actions_of_a_subject(demo):
    for actions in demo.values():
        poses = np.concatenate(list(actions.values()))
        for child, parent in H36M_32.bones():
            length = np.linalg.norm(poses[:, child] - poses[:, parent], axis=-1)
            assert np.ptp(length) < 2e-4, H36M_32.names()[child]


def test_left_and_right_bones_of_a_person_are_equally_long(demo):
    pose = demo["S9"]["Walking"][0]
    for left, right in zip(H36M_32.joints_left(), H36M_32.joints_right(), strict=True):
        lengths = [np.linalg.norm(pose[j] - pose[H36M_32.parents()[j]]) for j in (left, right)]
        assert lengths[0] == pytest.approx(lengths[1], abs=1e-4)


def test_people_stand_as_tall_as_their_stature_and_differ(demo):
    heights = {subject: np.percentile(joint(actions["Turning"], "head")[:, 2], 90) for subject, actions in demo.items()}
    for subject, height in heights.items():
        assert 1.5 < height < 2.0
        assert height == pytest.approx(SUBJECT_HEIGHTS[subject], rel=0.06)
    thighs = [np.linalg.norm(a["Turning"][0, JOINT["left_knee"]] - a["Turning"][0, JOINT["left_hip"]])
              for a in demo.values()]
    assert np.ptp(thighs) > 0.03


def test_the_lowest_foot_is_on_the_floor_except_in_a_jump(demo):
    joints = [JOINT[f"{side}_{name}"] for side in SIDES for name in ("foot", "toe")]
    for _, action, poses in sequences(demo):
        lowest = poses[:, joints, 2].min(1)
        assert lowest.min() > SOLE - 0.001
        if action == "Jumping":
            assert 0.03 < lowest.max() < 0.3 and (lowest < SOLE + 0.005).mean() > 0.6
        else:
            assert lowest.max() < SOLE + 0.004
        assert poses[..., 2].min() > 0


def test_planted_feet_do_not_slide(demo):
    for _, _, poses in sequences(demo):
        for side in SIDES:
            ball = joint(poses, f"{side}_foot")
            planted = (ball[:, 2] < SOLE + 0.003)[:-1] & (ball[:, 2] < SOLE + 0.003)[1:]
            speed = np.linalg.norm(np.diff(ball[:, :2], axis=0), axis=-1) * FPS
            assert speed[planted].max() < 0.1  # metres a second
            assert np.percentile(speed[planted], 95) < 0.01


@pytest.mark.parametrize("name, bound", [("hip", 25), ("head", 35), ("left_wrist", 45), ("right_elbow", 35),
                                         ("left_ankle", 45), ("right_foot", 50), ("right_knee", 70)])
def test_accelerations_are_those_of_people(demo, name, bound):
    for subject, action, poses in sequences(demo):
        acceleration = np.linalg.norm(np.diff(joint(poses, name), 2, axis=0), axis=-1) * FPS**2
        assert np.percentile(acceleration, 99) < bound, (subject, action)


def test_knees_bend_forwards_and_within_their_limits(demo):
    for subject, action, poses in sequences(demo):
        for side in SIDES:
            hip, knee, ankle, ball = (joint(poses, f"{side}_{name}") for name in ("hip", "knee", "ankle", "foot"))
            assert angle(knee - hip, ankle - knee).max() < 150
            line = ankle - hip
            share = ((knee - hip) * line).sum(-1, keepdims=True) / (line**2).sum(-1, keepdims=True)
            ahead = forward(poses) + (ball - ankle) / np.linalg.norm(ball - ankle, axis=-1, keepdims=True)
            assert ((knee - hip - share * line) * ahead).sum(-1).min() > 0, (subject, action)


def test_elbows_stay_within_their_limits_and_bend_forwards_in_a_walk(demo):
    for _, action, poses in sequences(demo):
        for side in SIDES:
            shoulder, elbow, wrist = (joint(poses, f"{side}_{name}") for name in ("shoulder", "elbow", "wrist"))
            upper, fore = elbow - shoulder, wrist - elbow
            assert angle(upper, fore).max() < 160
            if action == "Walking":
                bend = fore - upper * ((fore * upper).sum(-1) / (upper**2).sum(-1))[:, None]
                assert (bend * forward(poses)).sum(-1).min() > 0


def test_arms_and_trunk_do_not_pass_through_each_other(demo):
    for subject, action, poses in sequences(demo):
        for side in SIDES:
            wrist, hip, neck = (joint(poses, name) for name in (f"{side}_wrist", "hip", "thorax"))
            along = (((wrist - hip) * (neck - hip)).sum(-1) / ((neck - hip) ** 2).sum(-1)).clip(0, 1)[:, None]
            assert np.linalg.norm(wrist - hip - along * (neck - hip), axis=-1).min() > 0.08, (subject, action)


def test_walking_goes_where_the_body_faces(demo):
    for actions in demo.values():
        way = np.diff(joint(actions["Walking"], "hip"), axis=0) * FPS
        along = (way * forward(actions["Walking"])[:-1]).sum(-1)
        assert 0.6 < along.mean() < 1.6


def test_people_are_seen_from_many_sides(demo):
    ahead = np.concatenate([forward(poses)[::50] for _, _, poses in sequences(demo)])
    sectors = np.floor(np.arctan2(ahead[:, 1], ahead[:, 0]) / (np.pi / 4)).astype(int)
    assert np.bincount(sectors + 4, minlength=8)[:8].min() > 0.04 * len(ahead)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_all_cameras_see_all_joints(demo, subject):
    for poses in demo[subject].values():
        for view in project_views(poses[:, H36M_KEPT], h36m_cameras(subject)):
            assert view.min() > 20 and view.max() < 980


def test_the_same_seed_makes_the_same_motion_and_another_one_another():
    first = make_motion("S5", "Waving", 120, seed=3)
    assert np.array_equal(first, make_motion("S5", "Waving", 120, seed=3))
    for other in (make_motion("S5", "Waving", 120, seed=4), make_motion("S5", "Waving 1", 120, seed=3),
                  make_motion("S6", "Waving", 120, seed=3)):
        assert np.abs(first - other).max() > 0.05


def test_a_sequence_does_not_depend_on_the_others_made_with_it(demo):
    assert np.array_equal(demo["S9"]["Reaching"], make_motion("S9", "Reaching", 600))


@pytest.mark.parametrize("action", ACTIONS)
def test_a_longer_motion_begins_with_the_shorter(action):
    longer = make_motion("S8", action, 9000)  # more than one block
    np.testing.assert_allclose(make_motion("S8", action, 137), longer[:137], atol=1e-5)


def test_a_single_frame_and_none_can_be_made():
    assert make_motion("S1", "Jumping", 1).shape == (1, 32, 3)
    assert make_motion("S1", "Walking", 0).shape == (0, 32, 3)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"S2.*S1, S5"):
        make_motion("S2", "Walking", 10)
    with pytest.raises(ValueError, match=r"Flying.*Walking, SittingDown"):
        make_motion("S1", "Flying", 10)


def test_projection_is_that_of_the_camera_module(demo):
    poses = demo["S11"]["Phoning"][:5, H36M_KEPT]
    cameras = h36m_cameras("S11")
    for camera, view in zip(cameras, project_views(poses, cameras), strict=True):
        seen = world_to_camera(poses, camera["orientation"], camera["translation"])
        screen = project_to_2d(seen, camera["intrinsic"])
        assert view.dtype == np.float32
        np.testing.assert_allclose(view, image_coordinates(screen, camera["res_w"], camera["res_h"]), atol=1e-3)


@pytest.fixture(scope="module")
def view():
    return project_views(make_motion("S9", "Phoning", 3000)[:, H36M_KEPT], h36m_cameras("S9"))[0]


def test_detections_err_like_a_detector_worst_at_the_hands(view):
    error = np.linalg.norm(detect(view, 0) - view, axis=-1)
    assert 5 < error.mean() < 8
    by_joint = dict(zip(H36M_17.names(), np.median(error, axis=0), strict=True))
    assert by_joint["left_wrist"] > 1.7 * by_joint["left_hip"]
    assert by_joint["right_ankle"] > 1.4 * by_joint["right_hip"]


def test_detections_are_deterministic_and_differ_by_seed(view):
    assert np.array_equal(detect(view, (1, 2)), detect(view, (1, 2)))
    assert not np.array_equal(detect(view, (1, 2)), detect(view, (1, 3)))


def test_detector_noise_drifts_and_has_no_bias(view):
    error = detect(view, 0, misses=0) - view
    scale = error.std()
    lag_one = (error[1:] * error[:-1]).mean() / scale**2
    assert 0.5 < lag_one < 0.75
    assert np.abs(error.mean((0, 1))).max() < 0.1 * scale


def test_detector_noise_grows_with_the_person(view):
    near, far = (np.abs(detect(size * view, 0, misses=0) - size * view).mean() for size in (1.0, 0.5))
    assert near == pytest.approx(2 * far, rel=0.01)


def test_detectors_miss_now_and_then_and_recover(view):
    size = np.ptp(view, axis=1).max(-1)[:, None]
    missed = np.linalg.norm(detect(view, 0, noise=0) - view, axis=-1) > 0.05 * size
    assert 0.001 < missed.mean() < 0.03
    runs = np.diff(np.flatnonzero(np.diff(np.pad(missed[:, 16], 1).astype(int))))[::2]
    assert runs.max() <= 30


def test_without_noise_and_misses_a_detection_is_the_truth(view):
    np.testing.assert_allclose(detect(view, 0, noise=0, misses=0), view, atol=1e-4)


def test_drift_is_the_recursion_of_an_autoregressive_process():
    shocks = np.random.default_rng(5).standard_normal((400, 3), dtype=np.float32)
    expected = shocks.astype(np.float64)
    for i in range(1, len(expected)):
        expected[i] = DRIFT_MEMORY * expected[i - 1] + np.sqrt(1 - DRIFT_MEMORY**2) * expected[i]
    np.testing.assert_allclose(_drift(np.random.default_rng(5), (400, 3)), expected, atol=1e-4)
