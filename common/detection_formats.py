"""The files of 2D detectors, each read into `common.detection_table.Found`: people with the file's numbers.

Detectron and Detectron2 (npz of VideoPose3D's `infer_video.py`, `infer_video_d2.py`), OpenPose (a folder, one JSON a
frame), AlphaPose, MMPose and COCO results (one JSON). Every file may be wrong: DataError names file and frame.
"""
import json
import mimetypes
import re
from pathlib import Path

import numpy as np

from common.detection_table import AGAIN, Found, People, frame_number, whole_number
from common.safe_io import load_npz
from common.utils import DataError, progress

KNOWN = ("detectron (npz of VideoPose3D's infer_video.py or infer_video_d2.py), openpose (the folder of its "
         "..._keypoints.json files), alphapose, mmpose, coco (results JSON)")
MOST_ROWS = 12  # x, y, logit, probability and more, per joint of Detectron; no layout has as few joints


def read_json(path):
    """The content of a JSON file. DataError where it is missing, truncated, nested without end or something else."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror or error}); check the path") from None
    except RecursionError:
        raise DataError(f"{path}: is nested too deeply for a detector's file; {AGAIN}") from None
    except MemoryError:
        raise DataError(f"{path}: does not fit into the memory; cut the video into parts") from None
    except ValueError as error:  # also of a text that is no text, and of whole numbers of thousands of digits
        raise DataError(f"{path}: truncated, or not JSON ({' '.join(str(error).split())[:100]}); {AGAIN}") from None


def open_detections(path):
    """(format, content) of a file or folder, told by what it holds. DataError lists the known formats otherwise."""
    path = Path(path)
    if path.is_dir():
        return "openpose", None
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder; check the path")
    with open(path, "rb") as file:
        start = file.read(2)
    if start == b"PK":
        content = load_npz(path)
        if "keypoints" in content:
            return "detectron", content
        ready = "positions_2d" in content and "is prepared already: use it by -k; " or ""
        raise DataError(f"{path}: {ready}holds {', '.join(content)[:80] or 'nothing'}, and is of none of the known "
                        f"formats: {KNOWN}")
    if (mimetypes.guess_type(path)[0] or "").startswith("video/"):
        raise DataError(f"{path}: is a video, and not what a 2D detector found in it; run a detector on it first "
                        "(data/README.md says which)")
    content = read_json(path)
    return _format_of(content, path), content


def _format_of(content, path):
    if isinstance(content, dict):
        if "instance_info" in content:
            return "mmpose"
        if "annotations" in content and "images" in content:
            return "coco"
        if "people" in content:
            raise DataError(f"{path}: is one frame of OpenPose's; name the folder of all of them, by --format openpose")
        if content and all(_is_image(value) for value in content.values()):
            return "alphapose"
    elif isinstance(content, list):
        if not content:
            raise DataError(f"{path}: holds no detection at all; {AGAIN}")
        first = content[0]
        if isinstance(first, dict) and "instances" in first:
            return "mmpose"
        if isinstance(first, dict) and "image_id" in first and "keypoints" in first:
            name = first["image_id"]
            named = isinstance(name, str) and not name.isdigit()
            return "alphapose" if named or "box" in first or "idx" in first else "coco"
    raise DataError(f"{path}: is of none of the known formats: {KNOWN}")


def _is_image(value):
    """Whether this is what AlphaPose's other forms hold for an image: its people, as they are or as OpenPose's."""
    return isinstance(value, dict) and ("people" in value or "bodies" in value) or isinstance(value, list) and all(
        isinstance(person, dict) and "keypoints" in person for person in value)


# --- Detectron ---

def read_detectron(path, content):
    """VideoPose3D's npz: `keypoints` and `boxes`, a list of classes per frame (people are the second)."""
    if content is None:
        content = load_npz(path)
    if "keypoints" not in content:
        raise DataError(f"{path}: has no `keypoints` and is no Detectron file; the known formats are {KNOWN}")
    entries, boxes = _entries(content["keypoints"], path, "keypoints"), content.get("boxes")
    boxes = [None] * len(entries) if boxes is None else _entries(boxes, path, "boxes")
    if len(boxes) != len(entries):
        raise DataError(f"{path}: has boxes of {len(boxes)} frames and keypoints of {len(entries)}; {AGAIN}")
    values, numbers, found_boxes = [], [], []
    for number, (entry, box) in enumerate(zip(entries, boxes, strict=True)):
        where = f"{path}: frame {number}"
        joints = _people_of(entry, where, "keypoints", 3)
        if not len(joints):
            continue
        joints = _oriented(joints, where)
        if values and joints.shape[1] != values[0].shape[1]:
            raise DataError(f"{where}: {joints.shape[1]} joints, {values[0].shape[1]} before; {AGAIN}")
        box = _people_of(box, where, "boxes", 2)
        if not len(box):
            box = np.full((len(joints), 5), np.nan)
        if len(box) != len(joints) or box.shape[1] < 4:
            raise DataError(f"{where}: boxes are {box.shape}, and {len(joints)} people have keypoints; {AGAIN}")
        if box.shape[1] == 4:
            box = np.concatenate([box, np.full((len(box), 1), np.nan)], axis=1)
        values.append(joints)
        found_boxes.append(box[:, :5])
        numbers += [number] * len(joints)
    if not values:
        raise DataError(f"{path}: holds no detection at all in {len(entries)} frames; {AGAIN}")
    found_boxes = np.concatenate(found_boxes)
    return Found(np.concatenate(values), np.array(numbers), found_boxes[:, :4], found_boxes[:, 4],
                 np.full(len(numbers), -1), listed=range(len(entries)), size=_size(path, content.get("metadata")))


def _entries(value, path, name):
    if not isinstance(value, list | tuple | np.ndarray) or isinstance(value, np.ndarray) and value.ndim == 0:
        raise DataError(f"{path}: `{name}` is not a list of frames; {AGAIN}")
    return value


def _people_of(entry, where, what, ndim):
    """The people of one frame, an array of `ndim` dimensions, out of [[], array]; empty where there is nobody."""
    if isinstance(entry, list | tuple) or isinstance(entry, np.ndarray) and entry.dtype.hasobject and entry.ndim == 1:
        if len(entry) == 0:
            return np.zeros(0)
        if len(entry) == 1 or not _is_nobody(entry[0]):
            raise DataError(f"{where}: {what} are not [nothing, those of people], a list of classes; {AGAIN}")
        entry = entry[1]
    elif isinstance(entry, np.ndarray) and entry.size == 0:
        return np.zeros(0)
    if _is_nobody(entry):
        return np.zeros(0)
    try:
        array = np.asarray(entry.tolist() if isinstance(entry, np.ndarray) and entry.dtype.hasobject else entry)
    except (ValueError, TypeError):
        array = np.zeros(0, dtype=object)
    if array.ndim == ndim - 1:  # of one person
        array = array[None]
    if array.dtype.kind not in "fiu" or array.ndim != ndim:
        raise DataError(f"{where}: {what} are not an array of numbers of {ndim} dimensions; {AGAIN}")
    return array.astype(np.float64)


def _is_nobody(entry):
    return entry is None or isinstance(entry, list | tuple | np.ndarray) and (
        len(entry) == 0 if not isinstance(entry, np.ndarray) else entry.size == 0)


def _oriented(joints, where):
    """(n, J, 3) x, y, score out of (n, rows, J), or (n, J, rows), by which of them can be joints."""
    if joints.shape[2] <= MOST_ROWS < joints.shape[1]:
        joints = joints.transpose(0, 2, 1)
    rows = joints.shape[1]
    if not 2 <= rows <= MOST_ROWS or joints.shape[2] <= MOST_ROWS:
        raise DataError(f"{where}: keypoints are {joints.shape}, not (people, 4, joints); {AGAIN}")
    x = 4 if rows >= 6 else 0  # the softer maximum of the heatmaps, where it is there
    score = joints[:, 2 if rows == 3 else 3] if rows > 2 else np.ones_like(joints[:, 0])
    return np.stack([joints[:, x], joints[:, x + 1], score], axis=-1)


def _size(path, metadata):
    """(width, height) of the metadata, or None where it does not tell."""
    if not isinstance(metadata, dict) or metadata.get("w") is None or metadata.get("h") is None:
        return None
    try:
        size = int(metadata["w"]), int(metadata["h"])
    except (TypeError, ValueError, OverflowError):
        size = (0, 0)
    if not all(0 < side < 1e6 for side in size):
        raise DataError(f"{path}: metadata gives the size {str(metadata)[:80]}, not w and h in pixels; {AGAIN}")
    return size


# --- OpenPose ---

def read_openpose(path, content=None):
    """A folder of `NAME_000000000012_keypoints.json`, one file a frame."""
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: OpenPose's detections are a folder of ..._keypoints.json files; name the folder")
    files = sorted(file for file in path.glob("*.json") if not file.name.startswith("."))
    if not files:
        raise DataError(f"{path}: holds none of OpenPose's ..._keypoints.json files; the known formats are {KNOWN}")
    people, listed, stems = People(path), {}, {}
    for file in progress(files, desc=path.name, unit="frame"):
        name = file.stem.removesuffix("_keypoints")
        number, _ = frame_number(f"{name}.json", file)
        stems.setdefault(re.sub("[0-9]+[^0-9]*$", "", name), file.name)
        if len(stems) > 1:
            raise DataError(f"{path}: holds frames of several videos ({', '.join(stems.values())}); put those of each "
                            "into a folder of its own")
        if number in listed:
            raise DataError(f"{path}: {listed[number]} and {file.name} are the same frame; remove one")
        listed[number] = file.name
        content = read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("people"), list):
            raise DataError(f"{file}: has no list of `people` as OpenPose's files do; the known formats are {KNOWN}")
        people.path = file
        add_openpose(people, number, content["people"])
    people.path = path
    return people.found(listed=list(listed))


def add_openpose(people, number, entries):
    """The people of one frame as OpenPose lists them."""
    for person in entries:
        keys = ("pose_keypoints_2d", "pose_keypoints", "joints")
        key = next((key for key in keys if isinstance(person, dict) and key in person), None)
        if key is None:
            raise DataError(f"{people.path}: frame {number}: a person without `pose_keypoints_2d`; {AGAIN}")
        if person[key] != []:  # of somebody of whom only a hand or the face was found
            people.add(number, person[key], identity=person.get("person_id"))


# --- AlphaPose and COCO results: lists of people with the name or the number of their image ---

def read_alphapose(path, content=None):
    """AlphaPose's JSON: a list of people with `image_id` "0.jpg", or {"0.jpg": its people}."""
    content = read_json(path) if content is None else content
    if isinstance(content, dict):
        return _read_by_image(path, content)
    return _read_list(path, content)


def _read_by_image(path, content):
    people, padded = People(path), False
    for name, entry in content.items():
        if not _is_image(entry):
            raise DataError(f"{path}: {name[:60]!r} is not a list of people; the known formats are {KNOWN}")
        number, leading = frame_number(name, path)
        padded |= leading
        if isinstance(entry, list):
            for person in entry:
                _add_person(people, number, person)
            continue
        bodies = entry.get("people", entry.get("bodies"))
        if not isinstance(bodies, list):
            raise DataError(f"{path}: frame {number}: `people` is not a list; {AGAIN}")
        add_openpose(people, number, bodies)
    return people.found(padded=padded)


def _read_list(path, content, numbers=None):
    """People with `image_id` each; numbers: {image_id: frame number}, where the file tells it otherwise."""
    if not isinstance(content, list):
        raise DataError(f"{path}: is not a list of people; the known formats are {KNOWN}")
    people, padded = People(path), False
    for place, person in enumerate(content):
        if not isinstance(person, dict) or "image_id" not in person or "keypoints" not in person:
            raise DataError(f"{path}: entry {place} has no `image_id` and `keypoints`; the known formats are {KNOWN}")
        if person.get("category_id", 1) != 1:
            continue
        name = person["image_id"]
        if numbers is None:
            number, leading = frame_number(name, f"{path}: entry {place}")
            padded |= leading
        elif isinstance(name, int | str) and name in numbers:
            number = numbers[name]
        else:
            raise DataError(f"{path}: entry {place} is of an image that is not listed; {AGAIN}")
        _add_person(people, number, person)
    return people.found(padded=padded)


def _add_person(people, number, person):
    identity = next((person[key] for key in ("idx", "track_id") if key in person), None)
    people.add(number, person["keypoints"], person.get("box", person.get("bbox")), person.get("score"), identity)


def read_coco(path, content=None):
    """COCO results, a list of people with a whole `image_id`; or COCO annotations, whose images tell their size."""
    content = read_json(path) if content is None else content
    if not isinstance(content, dict):
        return _read_list(path, content)
    images = content.get("images")
    if not isinstance(images, list) or not all(isinstance(image, dict) and "id" in image for image in images):
        raise DataError(f"{path}: has no list of `images` with an `id` each; the known formats are {KNOWN}")
    numbers, padded, sizes = {}, False, set()
    for place, image in enumerate(images):
        where = f"{path}: image {place}"
        name = image["id"] if isinstance(image["id"], str) else whole_number(image["id"], where, "id")
        numbers[name], leading = frame_number(image.get("frame_id", image.get("file_name", name)), where)
        padded |= leading
        sizes.add(_size(path, {"w": image.get("width"), "h": image.get("height")}))
    found = _read_list(path, content.get("annotations"), numbers)
    found.padded, found.listed, found.size = padded, list(numbers.values()), sizes.pop() if len(sizes) == 1 else None
    return found


# --- MMPose ---

def read_mmpose(path, content=None):
    """MMPose's JSON: {"meta_info", "instance_info": [{"frame_id", "instances"}]}, or the bare list."""
    content = read_json(path) if content is None else content
    meta = content.get("meta_info") if isinstance(content, dict) else None
    frames = content.get("instance_info") if isinstance(content, dict) else content
    if not isinstance(frames, list) or not all(isinstance(frame, dict) and isinstance(frame.get("instances"), list)
                                               for frame in frames):
        raise DataError(f"{path}: has no list of frames with `instances`; the known formats are {KNOWN}")
    people, listed = People(path), []
    for place, frame in enumerate(frames):
        number = whole_number(frame.get("frame_id", place), f"{path}: entry {place}", "frame_id")
        listed.append(number)
        for instance in frame["instances"]:
            _add_instance(people, number, instance)
    return people.found(listed=listed, names=_names(meta))


def _add_instance(people, number, instance):
    where = f"{people.path}: frame {number}"
    joints = instance.get("keypoints") if isinstance(instance, dict) else None
    if not isinstance(joints, list) or not all(isinstance(joint, list) and len(joint) in (2, 3) for joint in joints):
        raise DataError(f"{where}: an instance without `keypoints` [[x, y], ...]; {AGAIN}")
    scores = instance.get("keypoint_scores")
    if scores is not None:
        if not isinstance(scores, list) or len(scores) != len(joints):
            raise DataError(f"{where}: `keypoint_scores` are not one for each joint; {AGAIN}")
        if any(len(joint) == 3 for joint in joints):
            raise DataError(f"{where}: its keypoints have three coordinates; give the 2D poses instead")
        joints = [[*joint, score] for joint, score in zip(joints, scores, strict=True)]
    elif any(len(joint) == 2 for joint in joints):
        joints = [[*joint[:2], joint[2] if len(joint) == 3 else 1.0] for joint in joints]
    people.add(number, joints, instance.get("bbox"), instance.get("bbox_score"), instance.get("track_id"), corners=True)


def _names(meta):
    """The joints' names that `meta_info` gives, in order, or None."""
    names = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if isinstance(names, dict) and names and all(str(joint) in names for joint in range(len(names))):
        return [names[str(joint)] for joint in range(len(names))]
    return None


READERS = {"detectron": read_detectron, "openpose": read_openpose, "alphapose": read_alphapose, "mmpose": read_mmpose,
           "coco": read_coco}
EVERY_FRAME_LISTED = ("detectron", "openpose", "mmpose")
