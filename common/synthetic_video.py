"""A demo person as a user's own video, with what 2D detectors make of it, in their files."""
from pathlib import Path

import numpy as np

from common.h36m_dataset import h36m_cameras
from common.h36m_raw import CAMERAS
from common.keypoints import LAYOUTS
from common.synthetic import detect, make_motion, project_views
from common.synthetic_detections import (
    people_of,
    write_alphapose,
    write_coco_results,
    write_detectron,
    write_mmpose,
    write_openpose,
)
from common.synthetic_images import render_background, render_person
from common.synthetic_layouts import detector_joints
from common.synthetic_motion import FPS as MOTION_FPS
from common.utils import progress
from common.video import open_writer

NAME = "walking.mp4"
SUBJECT, ACTION, CAMERA = "S9", "Walking", 0


def motion_at(times, subject=SUBJECT, action=ACTION, seed=0):
    """Joint positions (T, 32, 3) in world metres at these times (T,) in seconds: the nearest of 50 poses a second."""
    frames = np.round(np.asarray(times) * MOTION_FPS).astype(int)
    return make_motion(subject, action, int(frames.max()) + 1, seed)[frames]


def detected(positions, layout, seed=0, noise=1.0, subject=SUBJECT, camera=CAMERA):
    """What a detector makes of positions (T, 32, 3), seen by a camera of Human3.6M: (T, J, 2) pixels of a layout."""
    view = project_views(detector_joints(positions, layout), h36m_cameras(subject))[camera]
    return detect(view, (seed, *layout.encode()), noise, noise, LAYOUTS[layout])


def write_video(path, positions, fps, times=None, subject=SUBJECT, camera=CAMERA):
    """Film positions (T, 32, 3): an .mp4 of `fps` frames a second, or at `times`; returns its (width, height)."""
    background = render_background(subject, CAMERAS[camera])
    height, width = background.shape[:2]
    with open_writer(path, fps, width, height, 20000, times) as writer:
        for pose in progress(positions, desc="filming", unit="frame"):
            image = background.copy()
            render_person(image, 1000 * pose, subject, CAMERAS[camera])
            writer.write(image)
    return width, height


def write_own_video(folder, frames=100, fps=25, seed=0):
    """Write `walking.mp4` into a folder, and beside it what five detectors say of it, each in its own format.

    walking.mp4.npz (Detectron, COCO-17), openpose/ (BODY_25), alphapose-results.json (Halpe-26), mmpose.json and
    coco.json (COCO-17). The person is the demo's S9, at `fps` frames a second.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    positions = motion_at(np.arange(frames) / fps, seed=seed)
    size = write_video(folder / NAME, positions, fps)
    coco, halpe, body = (people_of([detected(positions, layout, seed)]) for layout in ("coco", "halpe26", "body25"))
    write_detectron(folder / f"{NAME}.npz", coco, size)
    write_openpose(folder / "openpose", body, Path(NAME).stem)
    write_alphapose(folder / "alphapose-results.json", halpe)
    write_mmpose(folder / "mmpose.json", coco)
    write_coco_results(folder / "coco.json", coco)
