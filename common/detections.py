"""2D detections of all common detectors: the people of a video, and the one whose poses are to be lifted.

    found = read_detections("clip.mp4.npz")                   # or an OpenPose folder, AlphaPose, MMPose, COCO results
    keypoints, notices = person_keypoints(found)              # (frames, J, 2) pixels of the main person
"""
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.detection_formats import EVERY_FRAME_LISTED, READERS, open_detections
from common.detection_table import AGAIN, MOST_FRAMES, MOST_PEOPLE, fill_boxes, mark_missing, name_layout
from common.people import choose_person, fill_gaps
from common.utils import DataError, UsageError

FORMATS = ("auto", *READERS)


@dataclass
class Detections:
    """All n people that a detector found in one video, in the order of the frames.

    layout: a name in `common.keypoints.LAYOUTS`; frames: of the video, as far as the file or the caller tells; size:
    (width, height) in pixels where the file tells; frame: (n,) int64 from 0; keypoints: (n, J, 2) float32 pixels, NaN
    where a joint was not found; scores: (n, J) float32; boxes: (n, 4) float32 x1 y1 x2 y2, those of the joints where
    the file has none; box_scores: (n,) float32; ids: (n,) int64 of tracks, or None; notices: what was assumed.
    """

    path: Path
    layout: str
    frames: int
    size: tuple | None
    frame: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray
    ids: np.ndarray | None
    file_format: str = ""
    notices: list = field(default_factory=list)


def read_detections(path, file_format="auto", layout=None, frames=None, first_frame=None, strict=True):
    """The `Detections` in a file or an OpenPose folder.

    file_format: one of `FORMATS`; layout: the joints' layout where the file does not tell it rightly; frames: of the
    video, if known; first_frame: the number that the file gives to the first frame (None: 0 or 1, as the numbers tell);
    strict: the result has `frames`, otherwise as many as the file tells of, and `frames` helps with the numbers only.
    Raises DataError (the file is missing, damaged, of another format, or its frames exceed the video) and UsageError.
    """
    if file_format not in FORMATS:
        raise UsageError(f"unknown format {file_format!r}; choose from {', '.join(FORMATS)}")
    path, content = Path(path), None
    if file_format == "auto":
        file_format, content = open_detections(path)
    elif not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path")
    elif path.is_dir() and file_format != "openpose":
        raise DataError(f"{path}: is a folder, as OpenPose's detections are; --format {file_format} is of a file")
    found = READERS[file_format](path, content)
    if not len(found.values):
        raise DataError(f"{path}: holds no detection at all; {AGAIN}")
    layout, values = name_layout(found, path, layout)
    values = np.ascontiguousarray(values)
    first, notices = _first_number(found, path, file_format, frames, first_frame)
    listed = found.numbers if found.listed is None or not len(found.listed) else found.listed
    last = max(int(np.max(listed)), int(found.numbers.max())) - first
    if strict and frames is not None and last >= frames:
        raise DataError(f"{path}: its last frame is number {last + first} (the first is {first}), and the video has "
                        f"{frames} frames; is it this video's? --first-frame N says what number the first frame has")
    if last >= MOST_FRAMES:
        raise DataError(f"{path}: has a frame number of {last + first}, and more than {MOST_FRAMES:,} frames are not "
                        f"read; {AGAIN}")
    most = np.unique(found.numbers, return_counts=True)[1].max()
    if most > MOST_PEOPLE:
        raise DataError(f"{path}: has {most} people in one frame, and more than {MOST_PEOPLE} are not read; {AGAIN}")
    mark_missing(values)
    somebody = np.flatnonzero(np.isfinite(values[..., 0]).any(axis=1))
    if not len(somebody):
        raise DataError(f"{path}: holds no detection at all; {AGAIN}")
    order = somebody[np.argsort(found.numbers[somebody], kind="stable")]
    values = values[order]
    boxes, box_scores = fill_boxes(found.boxes[order], found.box_scores[order], values)
    frame, ids = found.numbers[order] - first, _track_ids(found.ids[order], found.numbers[order], notices)
    total = int(frames) if strict and frames is not None else last + 1
    return Detections(path, layout, total, found.size, frame, values[..., :2].astype(np.float32),
                      values[..., 2].astype(np.float32), boxes, box_scores, ids, file_format, notices)


def _first_number(found, path, file_format, frames, first_frame):
    """(the number of the first frame, [what was assumed])."""
    numbers = found.numbers if found.listed is None or not len(found.listed) else np.array(list(found.listed))
    least, most = int(numbers.min()), int(numbers.max())
    if first_frame is not None:
        if least < first_frame:
            raise UsageError(f"--first-frame {first_frame}: {path} has a frame number {least}")
        return first_frame, []
    if least == 0:
        return 0, []
    whole = frames is not None and most == frames  # numbers from 1 fit exactly
    if file_format == "openpose":  # it writes a file of every frame; of a video, the first is number 0
        first = least if frames is None else int(whole)
    elif file_format in EVERY_FRAME_LISTED:
        first = 1 if least == 1 else 0
    else:
        first = 1 if whole or found.padded else 0
    sure = whole and first == 1 or file_format in EVERY_FRAME_LISTED and first == least == 1
    missing = f", so that {least - first} frames before it are missing" if least > first else ""
    return first, [] if sure else [f"{path}: the least frame number is {least}; the first frame is taken as {first}"
                                   f"{missing} (--first-frame N says otherwise)"]


def _track_ids(ids, frame, notices):
    """The ids where they tell people apart: not those that some lack, and not AlphaPose's zeros without tracking."""
    if not len(ids) or (ids < 0).any() or not ids.any():
        return None
    if len(np.unique(np.stack([frame, ids]), axis=1).T) < len(ids):
        notices.append("track ids in the file name several people of one frame alike and are not used")
        return None
    return ids


def person_keypoints(detections, person=None):
    """(keypoints (frames, J, 2) float32 pixels, all finite; [notices]) of the main person, or of the track `person`.

    See `common.people`: who is who, who is the main person, and what is done about gaps. Raises DataError where nobody
    was found, and UsageError for an unknown `person`.
    """

    if not len(detections.frame):
        raise DataError(f"{detections.path}: holds no detection at all; {AGAIN}")
    rows, notices = choose_person(detections, person)
    keypoints, gaps = fill_gaps(detections, rows)
    return keypoints, [*detections.notices, *notices, *gaps]
