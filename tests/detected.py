"""People for the tests of detections: demo people in pixels, moved and made to be absent."""
import numpy as np

from common.detections import person_keypoints, read_detections
from common.h36m_dataset import h36m_cameras
from common.synthetic import make_motion, project_views
from common.synthetic_layouts import detector_joints

FRAMES = 40


def walk(frames=FRAMES, layout="coco"):
    """Pixels (frames, J, 2) of a demo person who walks."""
    return project_views(detector_joints(make_motion("S1", "Walking", frames), layout), h36m_cameras("S1"))[0]


def moved(motion, scale, to):
    """A person with this motion's poses, `scale` times as large, whose middle is at `to` (frames, 2)."""
    return (motion - motion.mean(axis=1, keepdims=True)) * scale + np.asarray(to)[:, None]


def without(motion, *frames):
    """The person, absent in these frames (numbers and slices)."""
    motion = motion.copy()
    motion[np.r_[frames]] = np.nan
    return motion


def read_person(path, person=None):
    """(keypoints, notices) of a file."""
    return person_keypoints(read_detections(path), person)
