"""A user's own videos: 2D detections only, one camera each."""
from common.h36m_dataset import H36M_EXTRINSICS
from common.keypoints import H36M_17
from common.mocap_dataset import MocapDataset, prepare_camera
from common.utils import DataError

FASTEST = 10000  # frames per second that a camera may have


class CustomDataset(MocapDataset):
    """Videos as subjects with the one action `custom`; no 3D positions.

    video_metadata: {video: {"w": pixels, "h": pixels, "fps": optional}} of `data_2d_custom_<name>.npz`. rates: {video:
    frames per second, None where the metadata do not tell}. The camera's pose is that of a Human3.6M camera: it only
    turns the result upright for display.
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
            camera = {"id": "video", "res_w": width, "res_h": height, "azimuth": 70, **H36M_EXTRINSICS["S1"][0]}
            self._cameras[video] = [prepare_camera(camera)]
            self.add(video, "custom", None)
