"""A user's own videos: detections in the joints and the upright picture in which they are lifted."""
from pathlib import Path

import numpy as np

from common.keypoints import LAYOUT_MAPS, LAYOUTS, layout_matrix
from common.utils import DataError, UsageError, require

# What --to auto makes of layouts for which there are no models; Human3.6M's and COCO's joints stay.
MAPPED = {"halpe26": "h36m", "body25": "h36m", "mpii": "h36m"}
TARGETS = ("auto", "h36m", "coco", "keep")
WHOLE_COUNT = (".mp4", ".mov", ".m4v", ".avi")  # videos that say how many frames they have; others are estimated
OUTSIDE = 0.2  # share of joints outside the picture from which its size is doubted


def target_layout(layout, to):
    """The layout that the result has. UsageError where no map leads there."""
    target = {"auto": MAPPED.get(layout, layout), "keep": layout}.get(to, to)
    if target != layout and (layout, target) not in LAYOUT_MAPS:
        known = ", ".join(f"{one} to {other}" for one, other in LAYOUT_MAPS)
        raise UsageError(f"--to {to}: the detections have the joints {layout}, and the maps that are known are "
                         f"{known}; leave it out or use --to keep")
    return target


def mapped(keypoints, layout, target):
    """Keypoints (T, J, 2) with the joints of another layout."""
    if target == layout:
        return keypoints
    matrix = layout_matrix(LAYOUT_MAPS[layout, target], keypoints.shape[1])
    return (matrix @ keypoints).astype(np.float32)


def metadata_of(layout, **more):
    """The `metadata` of a 2D file whose joints have this layout."""
    skeleton = LAYOUTS[layout]
    return {"layout_name": layout, "num_joints": skeleton.num_joints(),
            "keypoints_symmetry": [skeleton.joints_left(), skeleton.joints_right()], **more}


class Mapping:
    """The layouts of the videos so far, which must come to the same joints."""

    def __init__(self, to):
        self.to, self.seen = to, {}

    def apply(self, keypoints, layout, path):
        """Keypoints (T, J, 2) of the detections `path` in the result's layout. DataError where another video has one.
        """
        target = target_layout(layout, self.to)
        self.seen.setdefault((layout, target), path)
        if target != self.target:
            raise DataError(f"{path}: comes to the joints {target}, and {next(iter(self.seen.values()))} to "
                            f"{self.target}; --to h36m maps both")
        return mapped(keypoints, layout, target)

    @property
    def target(self):
        return next(iter(self.seen))[1]

    def notices(self):
        """What was done to the joints, a line per layout."""
        return [f"2D joints: {layout}, {f'mapped to {target}' if target != layout else 'as they are'}"
                for layout, target in self.seen]


class Picture:
    """What is known of a video besides its detections: `size`, `fps` and `frames`, None where unknown.

    video: its file, or None; size: (width, height), fps: what the user says, before what the file tells. DataError
    where the file is no video.
    """

    def __init__(self, video=None, size=None, fps=None):
        self.path, self.size, self.fps, self.frames, self.upright = video, size, fps, None, None
        if video is not None:
            from common.video import probe

            info = probe(video)
            self.upright = info.width, info.height
            self.fps = fps or (round(info.fps, 6) if info.fps > 0 else None)
            self.frames = info.frames or None if Path(video).suffix.lower() in WHOLE_COUNT else None

    def place(self, keypoints, detections):
        """(keypoints, (width, height), [notices]): turned upright where the detector saw the video as it is stored."""
        told, upright = detections.size, self.upright
        size = self.size or upright or told
        if size is None:
            raise UsageError(f"{detections.path}: does not tell the size of the video; give --video FILE or --size WxH")
        if self.size and told not in (None, size):
            return keypoints, size, [f"{detections.path}: says {told[0]}x{told[1]}; --size is taken"]
        if told in (None, size):
            return keypoints, size, _doubts(keypoints, size)
        turns = _quarter_turns(self.path)
        if told == upright[::-1] and turns % 2:
            notice = (f"{self.path} is filmed sideways, and its detections ({told[0]}x{told[1]}) as well: they are "
                      f"turned upright ({upright[0]}x{upright[1]})")
            return turned(keypoints, told, turns), upright, [notice]
        return keypoints, told, [f"{detections.path}: is of a video of {told[0]}x{told[1]} pixels, and {self.path} has "
                                 f"{upright[0]}x{upright[1]}; the detections' own size is taken"]


def _doubts(keypoints, size):
    outside = ((keypoints < 0) | (keypoints > np.array(size))).any(axis=-1).mean()
    return [f"WARNING: {outside:.0%} of the joints lie outside the picture of {size[0]}x{size[1]} pixels; is that its "
            "size?"] if outside > OUTSIDE else []


def _quarter_turns(path):
    """How often the stored picture of a readable video is turned by 90 degrees, counterclockwise, when it is shown."""
    with require("av", "av").open(str(path), metadata_errors="replace") as container:
        return round(getattr(next(container.decode(video=0)), "rotation", 0) / 90) % 4


def turned(keypoints, size, turns):
    """Pixels (..., 2) in a picture of `size` (width, height) that is turned counterclockwise, by 90 degrees each."""
    for _ in range(turns):
        keypoints = np.stack([keypoints[..., 1], size[0] - 1 - keypoints[..., 0]], axis=-1)
        size = size[::-1]
    return keypoints
