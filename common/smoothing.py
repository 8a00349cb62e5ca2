"""Smoothing over time of predicted poses, and what it did: jitter, lag and error before and after.

    smoothed, lines = smooth(prediction, "savgol")
"""
from dataclasses import replace

import numpy as np

from common.flags import SMOOTHING
from common.resampling import at_even_rate, interpolate
from common.utils import progress

# One-euro: the cutoff of a joint at rest in Hz, how many Hz each m/s of its speed adds, and the cutoff of that speed.
MIN_CUTOFF, BETA, SPEED_CUTOFF = 1.5, 8.0, 1.0
WINDOW, ORDER = 0.2, 3  # Savitzky-Golay: cubics over so many seconds; on longer ones steps are flattened
LONGEST_LAG = 0.5  # seconds


def smooth(prediction, kind):
    """A `common.export.Prediction` smoothed over time, and lines that say what that did to it.

    kind: one of `common.flags.SMOOTHING`. "one-euro" uses the past alone, as it must be where poses are shown while
    they are made, and lags behind; "savgol" uses as much of the future and does not. Both treat all directions alike:
    poses in the world and in the space of a camera that stands still stay the same poses. 2D input and ground truth are
    left as they are.
    """
    if kind not in SMOOTHING:
        raise ValueError(f"smoothing {kind!r} is none of {', '.join(SMOOTHING)}")
    seconds = prediction.seconds()
    run = {"one-euro": one_euro, "savgol": savgol}[kind]
    camera = prediction.joints_camera
    smoothed = replace(prediction, joints=run(prediction.joints, seconds),
                       joints_camera=None if camera is None else run(camera, seconds),
                       source=prediction.source | {"smoothing": kind})
    return smoothed, _effect(prediction, smoothed, seconds, kind)


def one_euro(joints, seconds):
    """The 1 euro filter (Casiez, Roussel and Vogel, CHI 2012) of joints (T, J, 3) in metres at `seconds` (T,).

    A low-pass filter of first order whose cutoff rises with the speed of the joint, of all its axes together: slow
    joints are steadied, fast ones hardly lag. Returns (T, J, 3) float64.
    """
    joints = np.asarray(joints, dtype=np.float64)
    smoothed = joints.copy()
    velocity = np.zeros(smoothed.shape[1:])  # (J, 3)
    steps = np.diff(seconds, prepend=seconds[0])
    for t in progress(range(1, len(steps)), desc="smoothing"):
        step = steps[t]
        velocity += _share(SPEED_CUTOFF, step) * ((joints[t] - joints[t - 1]) / step - velocity)
        speed = np.sqrt((velocity ** 2).sum(-1, keepdims=True))  # (J, 1)
        smoothed[t] = smoothed[t - 1] + _share(MIN_CUTOFF + BETA * speed, step) * (smoothed[t] - smoothed[t - 1])
    return smoothed


def _share(cutoff, step):
    """How much of a new value a low-pass filter of `cutoff` Hz takes after `step` seconds."""
    turn = 2 * np.pi * cutoff * step
    return turn / (turn + 1)


def savgol(joints, seconds):
    """Savitzky-Golay: a cubic fitted to 0.2 s around every frame; joints (T, J, 3) at `seconds` (T,).

    Uneven frames are brought to an even rate and back. Fewer than five frames stay as they are. Returns (T, J, 3)
    float64.
    """
    from scipy.signal import savgol_filter

    joints, frames = np.asarray(joints, dtype=np.float64), len(joints)
    if frames < ORDER + 2:
        return joints
    even, fps, resampled = at_even_rate(joints, (frames - 1) / seconds[-1], seconds)
    # Odd, as the frame is in its middle; more than a cubic can follow, no more than there are.
    window = min(max(2 * round(WINDOW * fps / 2) + 1, ORDER + 2), len(even) - 1 + len(even) % 2)
    smoothed = savgol_filter(even, window, ORDER, axis=0)
    return interpolate(smoothed, np.linspace(0, seconds[-1], len(even)), seconds) if resampled else smoothed


# ---- what it did


def mean_acceleration(joints, seconds):
    """The mean magnitude of the acceleration of joints (T, J, 3) in m/s^2, the field's measure of jitter; T > 2."""
    joints = np.asarray(joints, dtype=np.float64)
    steps = np.diff(seconds)[:, None, None]
    velocity = np.diff(joints, axis=0) / steps
    acceleration = 2 * np.diff(velocity, axis=0) / (steps[1:] + steps[:-1])
    return float(np.linalg.norm(acceleration, axis=-1).mean())


def lag(joints, smoothed, seconds):
    """How many seconds `smoothed` (T, J, 3) is behind `joints`: the shift at which they differ least, squared.

    Between frames by the parabola through the three best; at most half a second; T > 2.
    """
    joints, fps, _ = at_even_rate(np.asarray(joints, dtype=np.float64), (len(joints) - 1) / seconds[-1], seconds)
    smoothed, _, _ = at_even_rate(np.asarray(smoothed, dtype=np.float64), fps, seconds)
    frames = len(joints)
    reach = min(int(np.ceil(LONGEST_LAG * fps)), (frames - 1) // 2)
    # Every shift is measured on the same frames of `smoothed`.
    kept = smoothed[reach:frames - reach]
    cost = np.array([((kept - joints[reach - shift:frames - reach - shift]) ** 2).mean()
                     for shift in range(-reach, reach + 1)])
    best = min(range(len(cost)), key=lambda place: (cost[place], abs(place - reach)))  # no motion, no lag
    if not 0 < best < len(cost) - 1:
        return (best - reach) / fps
    before, least, after = cost[best - 1:best + 2]
    bend = before - 2 * least + after
    return (best - reach + (0.5 * (before - after) / bend if bend > 0 else 0)) / fps


def _effect(prediction, smoothed, seconds, kind):
    if len(prediction) < ORDER + 2:
        return [f"smoothed by {kind}: {len(prediction)} frames are too few to say what that did"]
    truth = prediction.ground_truth
    before, after = (mean_acceleration(each.joints, seconds) for each in (prediction, smoothed))
    behind = round(1000 * lag(prediction.joints, smoothed.joints, seconds), 1) + 0.0  # no "-0.0"
    lines = [f"smoothed by {kind}: jitter (mean acceleration of the joints) {before:.2f} -> {after:.2f} m/s^2"
             + ("" if truth is None else f", of the ground truth {mean_acceleration(truth, seconds):.2f}")
             + f"; lag {behind:.1f} ms"]
    if truth is not None:
        errors = [each.errors_mm().mean() for each in (prediction, smoothed)]
        lines.append(f"smoothed by {kind}: MPJPE {errors[0]:.2f} -> {errors[1]:.2f} mm")
    return lines
