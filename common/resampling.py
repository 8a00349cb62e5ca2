"""Between the frame times of a user's video and the steady rate that the network was trained at."""
import numpy as np

NETWORK_FPS = 50  # of Human3.6M and of the demo people
LIKE = 0.01  # rates that differ by less are taken as the same
SHORTEST = 1e-4  # seconds between frames: what video files can tell apart
MOST_FRAMES = 20  # into which one may become where pauses are filled
LONGEST_PAUSE = 1.0  # seconds: longer ones between two frames teach the network nothing and count as one


def steady_rate(times):
    """Frames per second of frame times (T,) in seconds, or None where they are not evenly spread.

    Evenly: no frame is half a frame's time away from where it would be; files round their times.
    """
    times = np.asarray(times, dtype=np.float64)
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    fps = (len(times) - 1) / (times[-1] - times[0])
    return fps if np.abs(times - times[0] - np.arange(len(times)) / fps).max() < 0.5 / fps else None


def ascending(times):
    """Frame times (T,) that each come at least `SHORTEST` after the one before: some videos repeat theirs."""
    steps = np.arange(len(times)) * SHORTEST
    return np.maximum.accumulate(times - steps) + steps


def interpolate(values, times, at):
    """Values (T, ...) at ascending `times` (T,), linearly at other times (N,): (N, ...); held before and after."""
    values = np.asarray(values)
    after = np.searchsorted(times, at, side="right").clip(1, max(len(times) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    span = times[after] - times[before]
    share = np.where(span > 0, (at - times[before]) / np.where(span > 0, span, 1), 0).clip(0, 1)
    share = share.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return values[before] * (1 - share) + values[after] * share


def at_even_rate(values, fps, times=None):
    """Values (T, ...) at even steps in time, for what knows a rate only: (values, frames per second, notices).

    times (T,): ascending seconds where the frames are uneven, else None: then they are `fps` a second already. Pauses
    do not thin the rest: the rate is that of most frames, and they are filled, up to MOST_FRAMES times T in all.
    """
    if times is None or len(times) < 2:
        return values, fps, []
    rate = steady_rate(times)
    if rate is not None:
        return values, rate, []
    span, steps = times[-1] - times[0], len(times) - 1
    steps = int(np.clip(round(span / np.median(np.diff(times))), steps, MOST_FRAMES * steps))
    return interpolate(values, times, np.linspace(times[0], times[-1], steps + 1)), steps / span, [
        f"the frames are uneven in time: brought to {steps / span:.4g} a second by linear interpolation"]


def at_network_rate(lift, keypoints, times):
    """The poses (T, J, 3) of keypoints (T, J_in, 2) seen at `times` (T,) seconds.

    lift(keypoints at 50 frames a second) gives the poses of as many frames. What has that rate is lifted as it is; the
    rest is brought to it and back by linear interpolation.
    """
    fps = steady_rate(times)
    if len(times) < 2 or fps is not None and abs(fps - NETWORK_FPS) <= LIKE * NETWORK_FPS:
        return lift(keypoints)
    times = np.concatenate([[0], np.diff(times).clip(0, LONGEST_PAUSE).cumsum()])
    at = np.linspace(0, times[-1], max(round(times[-1] * NETWORK_FPS), 1) + 1)  # both ends, at 50 as nearly as may be
    return interpolate(lift(interpolate(keypoints, times, at)), at, times)
