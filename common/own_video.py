"""A user's own video and the detections in it: which pixels, which frames and which times belong together."""
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.keypoints import LAYOUTS
from common.resampling import interpolate, steady_rate
from common.utils import DataError
from common.video import frame_times, probe, quarter_turns

OUTSIDE = 0.2  # share of joints outside the picture from which its size is doubted
FEW = 2  # frames that programs may disagree on at a video's end


@dataclass
class OwnVideo:
    """A readable video. size: (width, height) as shown; times: (N,) seconds of its frames; fps: as it declares; turns:
    by how many quarters counterclockwise its stored pictures are turned to be shown."""

    path: Path
    size: tuple
    times: np.ndarray
    fps: float
    turns: int


def open_video(path):
    """The `OwnVideo` in a file. Raises DataError as `common.video.probe` does."""
    info = probe(path)
    return OwnVideo(Path(path), (info.width, info.height), frame_times(path), info.fps, quarter_turns(path))


def turned(keypoints, size, turns):
    """Pixels (..., 2) in a picture of `size` (width, height) that is turned counterclockwise, by 90 degrees each."""
    for _ in range(turns):
        keypoints = np.stack([keypoints[..., 1], size[0] - keypoints[..., 0]], axis=-1)
        size = size[::-1]
    return keypoints


def upright(keypoints, told, video, layout=None):
    """(keypoints (T, J, 2) in the picture as it is shown, its size, [notices]).

    told: the (width, height) that the detections give, or None; layout: of the joints. A detector that ignores how a
    phone was held sees the stored picture, which lies on its side or stands on its head; one may also have seen the
    video at another size.
    """
    size = video.size
    if video.turns == 2 and _on_their_heads(keypoints, layout):
        keypoints, told, more = upright(turned(keypoints, told or size, 2), told, replace(video, turns=0))
        return keypoints, told, [f"{video.path} is filmed upside down, and its detections as well: they are turned "
                                 "upright", *more]
    outside = _outside(keypoints, size)
    if told is None and video.turns % 2 and outside > _outside(keypoints, size[::-1]):
        told = size[::-1]
    if told in (None, size):
        return keypoints, size, [f"WARNING: {outside:.0%} of the joints lie outside the picture of {size[0]}x{size[1]} "
                                 "pixels; are these detections of this video?"] if outside > OUTSIDE else []
    notices = []
    if video.turns % 2 and told[0] * size[0] == told[1] * size[1]:
        notices.append(f"{video.path} is filmed sideways, and its detections ({told[0]}x{told[1]}) as well: they are "
                       "turned upright")
        keypoints, told = turned(keypoints, told, video.turns), told[::-1]
    if told != size:
        if abs(told[0] * size[1] / (told[1] * size[0]) - 1) > 0.02:
            raise DataError(f"{video.path} has {size[0]}x{size[1]} pixels, and the detections are of "
                            f"{told[0]}x{told[1]}; are they of this video?")
        notices.append(f"the detections are of {told[0]}x{told[1]} pixels, the video has {size[0]}x{size[1]}: scaled")
        keypoints = keypoints * (np.array(size) / np.array(told)).astype(keypoints.dtype)
    return keypoints, size, notices


def _outside(keypoints, size):
    """The share of the joints that lie outside a picture of this size."""
    return ((keypoints < 0) | (keypoints > np.array(size))).any(axis=-1).mean()


def _on_their_heads(keypoints, layout):
    """Whether people (T, J, 2) stand upside down most of the time: no size tells of half a turn."""
    names = LAYOUTS[layout].names() if layout else []
    if "left_hip" not in names or "left_shoulder" not in names:
        return False
    shoulders, hips = (keypoints[:, [names.index(f"{side}_{joint}") for side in ("left", "right")]].mean(axis=1)
                       for joint in ("shoulder", "hip"))
    trunk = hips - shoulders
    return bool(np.median(trunk[:, 1]) < -np.median(np.abs(trunk[:, 0])))


def on_frames(keypoints, video, every_frame_listed):
    """(keypoints (N, J, 2) of the video's N frames, [notices]) out of those of T detected frames.

    every_frame_listed: the detector's file tells of frames without people too, so that T is how many it saw. Programs
    differ by a frame or two at the end, one may have seen a part only, or the video be a part; some see a video of
    uneven frames at a steady rate. DataError where T and N cannot be of one video.
    """
    seen, frames = len(keypoints), len(video.times)
    if seen == frames:
        return keypoints, []
    if (every_frame_listed or seen > frames + FEW) and not 0.5 < seen / frames < 2:
        raise DataError(f"{video.path} has {frames} frames, and its detections {seen}; are they of this video?")
    if abs(seen - frames) <= FEW or seen < frames and not every_frame_listed or steady_rate(video.times) is not None:
        missing = f"the last {frames - seen} frames have no detections: held" if frames > seen else \
            f"the detections' last {seen - frames} frames are left out"
        doubted = "WARNING: " if every_frame_listed and abs(seen - frames) > FEW else ""
        return keypoints[np.minimum(np.arange(frames), seen - 1)], [
            f"{doubted}{video.path} has {frames} frames, its detections {seen}; {missing}"]
    at = np.linspace(0, video.times[-1], seen)
    return interpolate(keypoints, at, video.times), [f"{video.path} has {frames} frames, its detections {seen}: they "
                                                     "are spread evenly over its length"]
