"""What every motion-capture dataset offers: subjects, actions, world positions, cameras, a skeleton, units."""
import copy

import numpy as np

from common.camera import normalize_screen_coordinates


class MocapDataset:
    """Positions in world space with their cameras.

    fps: frames per second; skeleton: a `Skeleton`; mm_per_unit: millimetres in one unit of the positions.
    `dataset[subject][action]` is {"positions": (frames, J, 3) float32, "cameras": [camera dictionaries]}.
    """

    def __init__(self, fps, skeleton, mm_per_unit=1000.0):
        self._fps, self._skeleton, self._mm_per_unit = fps, skeleton, mm_per_unit
        self._data, self._cameras = {}, {}

    def __getitem__(self, subject):
        return self._data[subject]

    def __contains__(self, subject):
        return subject in self._data

    def subjects(self):
        return list(self._data)

    def cameras(self):
        """{subject: [camera dictionaries]}."""
        return self._cameras

    def fps(self):
        return self._fps

    def skeleton(self):
        return self._skeleton

    def mm_per_unit(self):
        return self._mm_per_unit

    def add(self, subject, action, positions):
        sequence = {"cameras": self._cameras.get(subject, [])}
        if positions is not None:
            sequence["positions"] = positions
        self._data.setdefault(subject, {})[action] = sequence


def prepare_camera(camera):
    """A camera from the facts (pixels, millimetres) as the network needs it: screen coordinates and metres.

    Adds `intrinsic`, the nine numbers f, c, k, p for `common.camera.project_to_2d`, where the facts hold them.
    """
    camera = copy.deepcopy(camera)
    for key, value in camera.items():
        if key not in ("id", "res_w", "res_h"):
            camera[key] = np.array(value, dtype=np.float32)
    if "translation" in camera:
        camera["translation"] = camera["translation"] / 1000
    if "center" in camera:
        center = normalize_screen_coordinates(camera["center"], camera["res_w"], camera["res_h"])
        camera["center"] = center.astype(np.float32)
        camera["focal_length"] = camera["focal_length"] / camera["res_w"] * 2
        camera["intrinsic"] = np.concatenate(
            [camera["focal_length"], camera["center"], camera["radial_distortion"], camera["tangential_distortion"]]
        ).astype(np.float32)
    return camera
