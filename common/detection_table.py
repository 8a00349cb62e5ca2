"""What the readers of detection files have in common: checked numbers, joints with names, frames counted from 0."""
import re
from dataclasses import dataclass, field

import numpy as np

from common.keypoints import COCO_17_NAMES, LAYOUTS
from common.utils import DataError, UsageError

MOST_FRAMES = 1_000_000  # hours of video: no number in a file makes us ask for all the memory there is
LARGEST_NUMBER = 2**63 - 1
MOST_PEOPLE = 200  # in a frame
FARTHEST_PIXEL = 1e6  # a joint beyond is taken as not found
LARGEST_SCORE = 1e6  # what is beyond is no score
NUMBERS = {int, float, type(None)}  # null is how some write a NaN
AGAIN = "run the detector again or copy its file again"

# OpenPose's COCO model and AlphaPose's imitation of it: COCO-17 and a neck, in another order.
OPENPOSE_18_NAMES = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear",
)
# By the number of joints: the layout and the joints that are taken. Whole-body sets begin with the joints of the body.
LAYOUT_OF_COUNT = {
    16: ("mpii", None), 17: ("coco", None), 25: ("body25", None), 26: ("halpe26", None),
    18: ("coco", [OPENPOSE_18_NAMES.index(name) for name in COCO_17_NAMES]),
    133: ("coco", list(range(17))), 136: ("halpe26", list(range(26))),
}
# What MMPose calls joints, where the layouts here say otherwise.
OTHER_NAMES = {"root": "hip", "pelvis": "hip", "right_foot": "right_ankle", "left_foot": "left_ankle",
               "head_top": "head", "upper_neck": "neck", "neck_base": "neck"}


@dataclass
class Found:
    """What a reader found: n people of all frames, in the file's order and with the file's numbers.

    values: (n, J, 3) float64 x, y, score; numbers: (n,) int64 frames as numbered in the file; boxes: (n, 4) x1 y1 x2
    y2 and box_scores (n,), NaN where there is none; ids: (n,) int64, -1 where there is none; listed: numbers of frames
    that the file lists, with people or without, or None; names: of the joints, or None; padded: the numbers have
    leading zeros, as those of `frame_000001.jpg`.
    """

    values: np.ndarray
    numbers: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray
    ids: np.ndarray
    listed: list | None = None
    size: tuple | None = None
    names: list | None = None
    padded: bool = False
    notices: list = field(default_factory=list)


class People:
    """Gathers people out of nested lists, one by one."""

    def __init__(self, path):
        self.path = path
        self.rows, self.numbers, self.boxes, self.scores, self.ids = [], [], [], [], []

    def add(self, number, joints, box=None, score=None, identity=None, corners=False):
        """One person: joints [x, y, score] * J (or a list of them); box: x y w h, or x1 y1 x2 y2 if `corners`."""
        where = f"{self.path}: frame {number}"
        joints = flat_numbers(joints, where, "keypoints")
        if len(joints) % 3 or self.rows and len(joints) != len(self.rows[0]):
            expected = f"{len(self.rows[0])} as before" if self.rows else "x, y, score of each joint"
            raise DataError(f"{where}: keypoints are {len(joints)} numbers, not {expected}; {AGAIN}")
        self.rows.append(joints)
        self.numbers.append(number)
        self.boxes.append(_corners(box, where, corners))
        self.scores.append(np.nan if score is None else one_number(score, where, "score"))
        self.ids.append(track_id(identity, where))

    def found(self, **rest):
        """All of them as `Found`."""
        try:
            joints = len(self.rows[0]) // 3 if self.rows else 0
            values = np.array(self.rows, dtype=np.float64).reshape(len(self.rows), joints, 3)
        except (OverflowError, ValueError):  # a whole number that no float holds
            raise DataError(f"{self.path}: keypoints hold a number of hundreds of digits; {AGAIN}") from None
        return Found(values, np.array(self.numbers, dtype=np.int64), np.array(self.boxes).reshape(-1, 4),
                     np.array(self.scores, dtype=np.float64), np.array(self.ids, dtype=np.int64), **rest)


def flat_numbers(value, where, what):
    """A flat list of numbers out of one, or out of a list of lists of equal length. Raises DataError."""
    if type(value) is list and value and type(value[0]) is list:
        if not all(type(part) is list and len(part) == len(value[0]) for part in value):
            raise DataError(f"{where}: {what} are lists of unequal lengths; {AGAIN}")
        value = [number for part in value for number in part]
    if type(value) is not list or not set(map(type, value)) <= NUMBERS:
        raise DataError(f"{where}: {what} are not a list of numbers; {AGAIN}")
    return value


def one_number(value, where, what):
    """A float out of a number, or out of a list of one (AlphaPose's scores). Raises DataError."""
    if type(value) is list and len(value) == 1:
        value = value[0]
    try:
        if type(value) not in NUMBERS:
            raise TypeError
        return np.nan if value is None else float(value)
    except (TypeError, OverflowError):
        raise DataError(f"{where}: {what} is {_short(value)}, not a number; {AGAIN}") from None


def _corners(box, where, corners):
    """x1 y1 x2 y2 of a box, NaN where there is none."""
    if box is None or box == []:
        return (np.nan,) * 4
    values = [one_number(value, where, "box") for value in flat_numbers(box, where, "box")]
    if len(values) not in (4, 5):  # the fifth is a score
        raise DataError(f"{where}: a box of {len(values)} numbers, not 4; {AGAIN}")
    x, y, w, h = values[:4]
    return (x, y, w, h) if corners else (x, y, x + w, y + h)


def whole_number(value, where, what, least=0):
    """An int of 64 bits out of a whole number; floats and lists of one are taken too. Raises DataError."""
    if type(value) is list and len(value) == 1:
        value = value[0]
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value <= LARGEST_NUMBER:
        raise DataError(f"{where}: {what} is {_short(value)}, not a whole number from {least} on; {AGAIN}")
    return value


def track_id(value, where):
    """The id of a track; -1 where there is none."""
    if value is None or value == []:
        return -1
    return max(-1, whole_number(value, where, "the id of a person", least=-LARGEST_NUMBER))


def frame_number(value, where):
    """(number, whether it has leading zeros) of 12, "12", "12.jpg", "frame_000012.jpg". Raises DataError."""
    if type(value) is not str:
        return whole_number(value, where, "image_id"), False
    stem = re.sub(r"\.[A-Za-z]\w*$", "", re.split(r"[/\\]", value)[-1])
    digits = re.findall("[0-9]+", stem)
    if not digits or len(digits[-1]) > 18:
        raise DataError(f"{where}: {_short(value)} holds no frame number; {AGAIN}")
    return int(digits[-1]), len(digits[-1]) > 1 and digits[-1][0] == "0"


def _short(value):
    text = repr(value) if not isinstance(value, int) or value.bit_length() < 100 else "a number beyond 64 bits"
    return text if len(text) < 60 else text[:57] + "..."


def known_layouts():
    """The layouts, as error messages list them."""
    return ", ".join(f"{name} ({skeleton.num_joints()})" for name, skeleton in LAYOUTS.items())


def name_layout(found, path, layout):
    """(name of the layout, values (n, J, 3) of its joints).

    DataError where the joints are of no known layout, UsageError where they are not those of `layout`.
    """
    joints = found.values.shape[1]
    if layout is not None:
        if layout not in LAYOUTS:
            raise UsageError(f"unknown layout {layout!r}; choose from {known_layouts()}")
        if LAYOUTS[layout].num_joints() != joints:
            known, taken = LAYOUT_OF_COUNT.get(joints, (None, None))
            if known == layout and taken:
                return layout, found.values[:, taken]
            raise UsageError(f"{path}: has {joints} joints, the layout {layout} has {LAYOUTS[layout].num_joints()}")
        return layout, found.values
    if found.names is not None:
        known = layout_of_names(found.names)
        if known is None:
            raise DataError(f"{path}: its joints ({', '.join(map(str, found.names))[:120]}) are those of no known "
                            f"layout: {known_layouts()}; detect with one of these, or name it by --layout")
        return known, found.values[:, : LAYOUTS[known].num_joints()]
    if joints not in LAYOUT_OF_COUNT:
        raise DataError(f"{path}: {joints} joints are of no known layout: {known_layouts()}; detect with one of these, "
                        "or name it by --layout")
    known, taken = LAYOUT_OF_COUNT[joints]
    return known, found.values if taken is None else found.values[:, taken]


def layout_of_names(names):
    """The layout whose joints are called so, in this order, or None; whole-body sets begin with those of the body."""
    names = [str(name).lower().replace(" ", "_") for name in names]
    names = [OTHER_NAMES.get(name, name) for name in names]
    for layout, skeleton in LAYOUTS.items():
        known = [OTHER_NAMES.get(name, name) for name in skeleton.names()]
        if names == known or len(names) in (133, 136) and names[: len(known)] == known and len(known) > 16:
            return layout
    return None


def mark_missing(values):
    """x, y of joints that were not found become NaN, scores that are no numbers 0; values (n, J, 3) is changed."""
    wrong = ~(np.abs(values[..., :2]) <= FARTHEST_PIXEL).all(axis=-1) | ~values.any(axis=-1)  # OpenPose's 0 0 0
    values[..., 2][~(np.abs(values[..., 2]) < LARGEST_SCORE)] = 0
    values[wrong] = np.nan, np.nan, 0


def fill_boxes(boxes, box_scores, values):
    """Boxes that a file lacks, or that are none, are those of the joints, and their scores the joints' mean score."""
    with np.errstate(invalid="ignore"):
        usable = (np.abs(boxes) <= FARTHEST_PIXEL).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if len(values):
        low, high = np.nanmin(values[..., :2], axis=1), np.nanmax(values[..., :2], axis=1)
        boxes = np.where(usable[:, None], boxes, np.concatenate([low, high], axis=1))
        joints = np.isfinite(values[..., 0])
        mean = (values[..., 2] * joints).sum(axis=1) / joints.sum(axis=1)
        box_scores = np.where(np.abs(box_scores) < LARGEST_SCORE, box_scores, mean)
    return boxes.astype(np.float32), box_scores.astype(np.float32)
