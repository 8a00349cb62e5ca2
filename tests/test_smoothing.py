"""Smoothing: less jitter, and a lag that is what is said."""
import math

import numpy as np
import pytest

from common import smoothing
from common.export import Prediction
from common.flags import SMOOTHING
from common.keypoints import H36M_17
from common.smoothing import lag, mean_acceleration, one_euro, savgol, smooth

RATE = 50
SECONDS = np.arange(200) / RATE


def swing(seconds):
    """17 joints (T, 17, 3) that swing by 0.3 m at 1 Hz, each in its direction and phase."""
    rng = np.random.default_rng(0)
    direction, phase = rng.normal(0, 0.2, (17, 3)), rng.uniform(0, 6, (17, 1))
    return direction * np.sin(2 * np.pi * np.asarray(seconds)[:, None, None] + phase)


def noisy(**more):
    clean = swing(SECONDS)
    return Prediction(clean + np.random.default_rng(1).normal(0, 0.005, clean.shape), H36M_17, RATE,
                      ground_truth=clean, **more)


@pytest.mark.parametrize("kind", SMOOTHING)
def test_jitter_falls_towards_that_of_the_truth_and_the_figures_are_those_said(kind):
    before = noisy()
    after, lines = smooth(before, kind)
    jitter = [mean_acceleration(poses, SECONDS) for poses in (before.joints, after.joints, before.ground_truth)]
    assert jitter[1] < 0.5 * jitter[0]
    assert f"{jitter[0]:.2f} -> {jitter[1]:.2f} m/s^2, of the ground truth {jitter[2]:.2f}; lag " in lines[0]
    assert f"MPJPE {before.errors_mm().mean():.2f} -> {after.errors_mm().mean():.2f} mm" in lines[1]
    assert after.source["smoothing"] == kind
    np.testing.assert_array_equal(after.ground_truth, before.ground_truth)


def test_mean_acceleration_is_that_of_a_free_fall_also_at_uneven_times():
    seconds = np.array([0, 0.1, 0.15, 0.4, 0.5])
    fall = np.zeros((5, 2, 3))
    fall[..., 2] = -9.81 / 2 * seconds[:, None] ** 2
    assert math.isclose(mean_acceleration(fall, seconds), 9.81, rel_tol=1e-9)


@pytest.mark.parametrize("late", [0, 0.013, 0.02, 0.1, -0.033])
def test_lag_is_the_delay_of_a_delayed_motion(late):
    assert abs(lag(swing(SECONDS), swing(SECONDS - late), SECONDS) - late) < 0.001


def test_lag_of_no_motion_is_none():
    still = np.ones((20, 17, 3))
    assert lag(still, still, SECONDS[:20]) == 0


def test_savgol_does_not_lag_and_one_euro_does():
    joints = noisy().joints
    assert abs(lag(joints, savgol(joints, SECONDS), SECONDS)) < 0.001
    assert 0.005 < lag(joints, one_euro(joints, SECONDS), SECONDS) < 0.1


def test_one_euro_is_behind_a_steady_walk_by_the_time_constant_of_its_cutoff():
    walk = np.zeros((400, 1, 3))
    walk[:, 0, 0] = 2 * np.arange(400) / RATE  # 2 m/s
    behind = (walk - one_euro(walk, np.arange(400) / RATE))[-1, 0, 0] / 2
    assert math.isclose(behind, 1 / (2 * np.pi * (smoothing.MIN_CUTOFF + 2 * smoothing.BETA)), rel_tol=1e-3)


def test_one_euro_is_the_plain_filter_of_the_paper_and_sees_the_past_alone():
    seconds = np.cumsum(np.random.default_rng(2).uniform(0.01, 0.06, 30))
    joints = np.random.default_rng(3).normal(0, 0.1, (30, 2, 3))

    def exponential(value, last, cutoff, step):
        alpha = 1 / (1 + 1 / (2 * math.pi * cutoff) / step)
        return alpha * value + (1 - alpha) * last

    found = one_euro(joints, seconds)
    for joint in range(2):
        last, velocity = joints[0, joint], np.zeros(3)
        for t in range(1, 30):
            step = seconds[t] - seconds[t - 1]
            velocity = exponential((joints[t, joint] - joints[t - 1, joint]) / step, velocity, smoothing.SPEED_CUTOFF,
                                   step)
            cutoff = smoothing.MIN_CUTOFF + smoothing.BETA * math.hypot(*velocity)
            last = exponential(joints[t, joint], last, cutoff, step)
            np.testing.assert_allclose(found[t, joint], last, atol=1e-12)
    np.testing.assert_array_equal(one_euro(joints[:10], seconds[:10]), found[:10])


def test_savgol_leaves_cubics_as_they_are_and_fits_its_window_to_short_sequences():
    for frames in (1, 4, 5, 6, 8, 200):
        seconds = SECONDS[:frames]
        cubic = (seconds[:, None, None] ** np.arange(4)) @ np.random.default_rng(0).normal(size=(4, 3))
        np.testing.assert_allclose(savgol(cubic, seconds), cubic, atol=1e-9)
        assert smooth(Prediction(np.repeat(cubic, 17, axis=1), H36M_17, RATE), "savgol")[1]


def test_savgol_of_uneven_frames_is_that_of_even_ones_at_their_times():
    rng = np.random.default_rng(4)
    uneven = np.sort(np.concatenate([[0, 3.98], rng.uniform(0, 3.98, 198)]))
    uneven = uneven[np.concatenate([[True], np.diff(uneven) > 1e-3])]
    off = np.abs(savgol(swing(uneven), uneven) - swing(uneven))[5:-5]
    assert off.mean() < 0.003 and len(off) == len(uneven) - 10


def test_savgol_does_not_flatten_what_is_before_and_after_a_long_pause():
    seconds = SECONDS + np.where(np.arange(200) < 90, 0, 7.0)
    off = np.abs(savgol(swing(SECONDS), seconds) - swing(SECONDS)).max(axis=(1, 2))  # of up to 0.5 m
    assert np.delete(off, slice(84, 96)).max() < 0.003


@pytest.mark.parametrize("kind", SMOOTHING)
def test_the_world_and_the_space_of_a_camera_are_smoothed_alike(kind):
    world = noisy()
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    camera = world.joints @ turn + [1, 2, 3]
    after, _ = smooth(noisy(joints_camera=camera), kind)
    np.testing.assert_allclose(after.joints_camera, after.joints @ turn + [1, 2, 3], atol=1e-5)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="median.*one-euro"):
        smooth(noisy(), "median")
