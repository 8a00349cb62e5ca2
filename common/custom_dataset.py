"""A user's own videos: 2D detections only, one camera each."""
import math

import numpy as np

from common.keypoints import H36M_17
from common.mocap_dataset import MocapDataset, prepare_camera
from common.utils import DataError

FASTEST = 10000  # frames per second that a camera may have
USUAL_TILT = 11.0  # degrees that a camera looks down by: Human3.6M's first, which networks learnt from
BEHIND = -90  # degrees: the azimuth at which one stands behind such a camera


def camera_orientation(tilt):
    """The unit quaternion (4,), camera to world, of a camera that looks down by `tilt` degrees.

    The world's x is to its right, as it does not roll, y ahead and z up.
    """
    half = math.radians(-90 - tilt) / 2
    return np.array([math.cos(half), math.sin(half), 0, 0], dtype=np.float32)


class CustomDataset(MocapDataset):
    """Videos as subjects with the one action `custom`; no 3D positions.

    video_metadata: {video: {"w": pixels, "h": pixels, "fps": optional}} of `data_2d_custom_<name>.npz`. rates: {video:
    frames per second, None where the metadata do not tell}. Where the cameras stand is not known.
    """

    def __init__(self, video_metadata, path):
        super().__init__(fps=None, skeleton=H36M_17)
        self.rates = {}
        for video, known in video_metadata.items():
            try:
                width, height = int(known["w"]), int(known["h"])
                fps = known.get("fps")
                self.rates[video] = None if fps is None else float(fps)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                raise DataError(f"{path}: metadata of video {video} lacks its width `w` and height `h`, or its `fps` "
                                "is no number; prepare it again") from None
            if min(width, height) < 1 or fps is not None and not 0 < self.rates[video] <= FASTEST:
                raise DataError(f"{path}: metadata of video {video}: {width} x {height} pixels at {fps} frames per "
                                "second cannot be; prepare it again")
            camera = {"id": "video", "res_w": width, "res_h": height, "azimuth": BEHIND}
            self._cameras[video] = [prepare_camera(camera)]
            self.add(video, "custom", None)
