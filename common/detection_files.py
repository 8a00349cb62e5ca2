"""Which detections belong to which video: a user's own, or Human3.6M's by their names.

A video's detections are a file or an OpenPose folder, called as the video is with the detector's suffix:
`clip.mp4.npz`, `clip_keypoints.json`, `results_clip.json`.
"""
import re
from pathlib import Path

from common.h36m_raw import ABBREVIATED, CAMERAS, SEQUENCES, SUBJECTS, file_name, npz_name
from common.utils import DataError

SUFFIXES = (".npz", ".json")
DETECTOR = "results?|alphapose|openpose|mmpose|detectron2?|coco|keypoints|detections|predictions|json"
FOLDERS = ("", "Videos")  # where a subject's detections may lie in its folder
LEFT_OUT = ("S11", "Directions")  # a broken recording, which is in no evaluation


def is_openpose(folder):
    """Whether the folder holds the frames of one video as OpenPose writes them."""
    return folder.is_dir() and next(folder.glob("*_keypoints.json"), None) is not None


def find_detections(folder):
    """The files and OpenPose folders in `folder`, by name; hidden ones are left out."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and (
        path.suffix in SUFFIXES and path.is_file() or is_openpose(path))]


def find_videos(path, file_format="auto"):
    """{video: its detections} of a file, an OpenPose folder or a folder of several. Raises DataError."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; -i names the detections")
    frames = file_format == "openpose" and next(path.glob("*.json"), None)  # whatever they are called
    if path.is_file() or frames or is_openpose(path):
        return {video_name(path): path}
    found = {}
    for entry in find_detections(path):
        name = video_name(entry)
        if name in found:
            raise DataError(f"{found[name]} and {entry} are both of the video {name}; leave one out")
        found[name] = entry
    if not found:
        raise DataError(f"{path}: holds no detections: no .npz, no .json, no folder of ..._keypoints.json files")
    return found


def video_name(path):
    """What the video is called whose detections these are: `clip.mp4` of `clip.mp4.npz`, `clip` of `results_clip.json`.

    Files that are called by the detector alone (`alphapose-results.json`) take the name of their folder.
    """
    path = Path(path).absolute()
    name = path.name[: -len(path.suffix)] if path.suffix in SUFFIXES else path.name
    bare = None
    while bare != name:
        bare, name = name, re.sub(rf"^({DETECTOR})[-_.]+|[-_.]+({DETECTOR})$", "", name, flags=re.IGNORECASE)
    generic = not name or re.fullmatch(DETECTOR, name, flags=re.IGNORECASE)
    return (path.parent.name or "video") if generic else name


# --- Human3.6M ---

def _words(name):
    return " ".join(re.split("[ _]+", name.lower())).strip()


def _sequence_names(subject):
    """{every name of a sequence's files, in lower case: its name in the npz files}."""
    names = {}
    for sequence in SEQUENCES:
        short = npz_name(subject, sequence)
        long = short
        for action, abbreviated in ABBREVIATED.items():
            long = re.sub(rf"^{abbreviated}\b", action, long)
        names |= {_words(name): short for name in (short, long, file_name(subject, sequence))}
    return names


def camera_of(path):
    """(name of the sequence, camera) of `Walking 1.54138969.mp4.npz`, in any spelling, or None for other names."""
    match = re.fullmatch(rf"(.+?)[ ._]+({'|'.join(CAMERAS)})", re.sub(r"\.(mp4|avi)$", "", video_name(path)))
    return match and match.groups()


def subject_folders(path):
    """{subject: folder} of a folder of Human3.6M's subjects, or of one of them."""
    if path.name in SUBJECTS:
        return {path.name: path}
    return {subject: path / subject for subject in SUBJECTS if (path / subject).is_dir()}


def _files_of(folder):
    return [entry for part in FOLDERS if (folder / part).is_dir() for entry in find_detections(folder / part)]


def find_h36m(path):
    """({(subject, action): [detections per camera]}, [what is left out]) below `path`. Raises DataError.

    All four cameras of a sequence must be there, or none.
    """
    found, others = {}, []
    for subject, folder in subject_folders(path).items():
        known = _sequence_names(subject)
        for entry in _files_of(folder):
            name, camera = camera_of(entry) or ("", None)
            action = known.get(_words(name))
            if action is None:
                others += [] if _words(name).startswith("all") else [f"{subject}/{entry.name}"]
            elif (subject, action) != LEFT_OUT:
                views = found.setdefault((subject, action), {})
                if camera in views:
                    raise DataError(f"{views[camera]} and {entry} are of the same camera; leave one out")
                views[camera] = entry
    if not found:
        raise DataError(f"{path}: holds no detections in Human3.6M's videos, such as S1/Walking 1.{CAMERAS[0]}.mp4.npz")
    missing = [f"{subject} {action} {camera}" for (subject, action), views in found.items() for camera in CAMERAS
               if camera not in views]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(f"{path}: these cameras are missing: {', '.join(missing[:5])}{more}; detect in them, or leave "
                        "out the other cameras of the sequence")
    order = {(subject, npz_name(subject, sequence)): None for subject in SUBJECTS for sequence in SEQUENCES}
    return {key: [found[key][camera] for camera in CAMERAS] for key in order if key in found}, others


def dataset_of(path):
    """The dataset whose videos' names are in `path`: h36m, humaneva15 or custom."""
    if not path.is_dir() or is_openpose(path):
        return "custom"
    names = [entry.name for entry in find_detections(path)]
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and not is_openpose(folder):
            names += [entry.name for entry in _files_of(folder)]
    if any(re.search(r"\(C[1-3]\)", name) for name in names):
        return "humaneva15"
    if any(camera_of(entry) for folder in subject_folders(path).values() for entry in _files_of(folder)):
        return "h36m"
    return "custom"
