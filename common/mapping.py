"""The joints of detections, mapped to those that the models take."""
import numpy as np

from common.keypoints import LAYOUT_MAPS, layout_matrix
from common.utils import DataError, UsageError

# What --to auto makes of layouts for which there are no models; Human3.6M's and COCO's joints stay.
MAPPED = {"halpe26": "h36m", "body25": "h36m", "mpii": "h36m"}
TARGETS = ("auto", "h36m", "coco", "keep")


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
