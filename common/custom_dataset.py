"""A user's own videos: 2D detections only, one camera each."""
from common.h36m_dataset import H36M_EXTRINSICS
from common.keypoints import H36M_17
from common.mocap_dataset import MocapDataset, prepare_camera
from common.utils import DataError


class CustomDataset(MocapDataset):
    """Videos as subjects with the one action `custom`; no 3D positions.

    video_metadata: {video: {"w": pixels, "h": pixels, "fps": optional}} of `data_2d_custom_<name>.npz`. The camera's
    pose is that of a Human3.6M camera: it only turns the result upright for display.
    """

    def __init__(self, video_metadata, path):
        # None: the metadata does not tell, and the video itself may.
        rates = {resolution.get("fps") for resolution in video_metadata.values() if isinstance(resolution, dict)}
        super().__init__(fps=rates.pop() if len(rates) == 1 else None, skeleton=H36M_17)
        for video, resolution in video_metadata.items():
            try:
                width, height = int(resolution["w"]), int(resolution["h"])
            except (KeyError, TypeError, ValueError):
                raise DataError(f"{path}: metadata of video {video} lacks its width `w` and height `h`") from None
            camera = {"id": "video", "res_w": width, "res_h": height, "azimuth": 70, **H36M_EXTRINSICS["S1"][0]}
            self._cameras[video] = [prepare_camera(camera)]
            self.add(video, "custom", None)
