"""2D detections in HumanEva-I's videos, cut to the frames that are labelled, and the rest kept as unlabelled.

Every detector's file of every video is in a folder named by the person, `S1/Walking_1_(C1).avi.npz`. The three cameras
began at different moments (`common.humaneva_raw.FIRST_FRAMES`).
"""
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.detections import person_keypoints, read_detections
from common.humaneva_raw import CAMERAS, FIRST_FRAMES, RANGES, frame_offsets, runs_of
from common.keypoints import LAYOUTS
from common.people import fill_gaps
from common.utils import DataError, progress

VIDEO = re.compile(r"(?P<take>[A-Za-z]+[ _]\d+)[ _]?\((?P<camera>C[123])\)(\.[A-Za-z]\w{1,3})?(\.npz|\.json)?",
                   re.ASCII)
PERSON = re.compile(r"S\d+", re.ASCII)
COMPARED = tuple(f"{side}_{name}" for side in ("left", "right")
                 for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
SHIFTS = (0, -1)  # as published; and if the numbers were those of frames counted from 1, as MATLAB does
FEWEST_COMPARED = 50  # frames of one camera
OUTLIER, NEAR = 20, 40  # pixels: between a detection and its label; in the median, if they are of the same people
SURE = 2  # standard errors by which a shift must be better
UNLABELLED = "Unlabeled"
SHOWN = 5  # names in an error


@dataclass
class Video:
    """The main person (frames, J, 2) float32 in one camera's video; the file `path` they were detected in."""

    path: Path
    keypoints: np.ndarray


def take_of(chunk):
    """`Walking 1` of `Walking 1 chunk0`."""
    return chunk.rpartition(" chunk")[0]


def find_videos(folder):
    """{(person, take): {camera: path}} of the detection files and OpenPose folders below `folder`. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --convert-2d names that of S1/Walking_1_(C1).avi.npz and so on")
    found = {}
    for path in sorted(folder.resolve().rglob("*")):
        name, path = VIDEO.fullmatch(path.name), _detections_at(path)
        if not name or path is None:
            continue
        person = next((part for part in reversed(path.parts) if PERSON.fullmatch(part)), None)
        if person is None:
            raise DataError(f"{path}: nothing says whose video this is; put it into a folder S1, S2, S3 or S4")
        cameras = found.setdefault((person, name["take"].replace("_", " ")), {})
        if name["camera"] in cameras:
            raise DataError(f"{path}: {cameras[name['camera']]} is of the same video; remove one of the two")
        cameras[name["camera"]] = path
    if not found:
        raise DataError(f"{folder}: no detections such as S1/Walking_1_(C1).avi.npz are in it; --convert-2d names the "
                        "folder that holds them")
    return dict(sorted(found.items()))


def _person_of(found):
    """`person_keypoints`, but where nowhere two people were found it is always the one of these videos."""
    if len(np.unique(found.frame)) < len(found.frame):
        return person_keypoints(found)
    keypoints, gaps = fill_gaps(found, np.arange(len(found.frame)))
    return keypoints, [*found.notices, *gaps]


def _detections_at(path):
    """The detections that a path named like a video stands for: the file itself, or what a folder holds; else None."""
    if path.is_file():
        return path if path.suffix in (".npz", ".json") else None
    alphapose = path / "alphapose-results.json"
    if alphapose.is_file():
        return alphapose
    return path if next(path.glob("*.json"), None) else None


def read_videos(files, **reading):
    """Read {(person, take): {camera: path}}: (the same with a Video each, layout, notices). Raises DataError.

    reading: of `common.detections.read_detections`.
    """
    videos, notices, layouts = {}, [], {}
    with progress(total=sum(map(len, files.values())), desc="detections", unit="video") as bar:
        for name, cameras in files.items():
            for camera, path in sorted(cameras.items()):
                found = read_detections(path, **reading)
                keypoints, said = _person_of(found)
                videos.setdefault(name, {})[camera] = Video(path, keypoints)
                notices += [line if str(path) in line else f"{path}: {line}" for line in said]
                layouts.setdefault(found.layout, path)
                bar.update()
    if len(layouts) > 1:
        (one, path), (other, elsewhere) = list(layouts.items())[:2]
        raise DataError(f"{path}: has the joints of {one} and {elsewhere} those of {other}; keep detections of several "
                        "detectors in folders of their own")
    return videos, next(iter(layouts)), notices


def _differences(videos, layout, labels, layout_labels):
    """Yield {shift: detections - labels (frames, joints, 2)} of every chunk in every camera; all shifts alike."""
    names = LAYOUTS[layout].names(), LAYOUTS[layout_labels].names()
    ours, theirs = ([own.index(name) for name in COMPARED if all(name in known for known in names)] for own in names)
    for subject, chunks in labels.frames.items():
        for chunk, (first, end) in chunks.items() if labels.views else ():
            name = subject.split("/")[1], take_of(chunk)
            for number, camera in enumerate(CAMERAS):
                if camera not in videos.get(name, {}):
                    continue
                keypoints, offset = videos[name][camera].keypoints, frame_offsets(*name)[number]
                frames = np.arange(max(first, 1 - offset), min(end, len(keypoints) - offset))  # all shifts have
                if len(frames) and ours:
                    true = labels.views[subject][chunk][number][frames - first][:, theirs].astype(np.float64)
                    yield {shift: keypoints[frames + offset + shift][:, ours] - true for shift in SHIFTS}


def _misfits(difference):
    """What is left of (frames, joints, 2) pixels but for each joint's constant part: joints are not quite the same
    for detectors and labels. (joints,), the sum of squares, in which no frame counts beyond `OUTLIER`.
    """
    rest = np.linalg.norm(difference - np.median(difference, axis=0), axis=-1)
    return (np.minimum(rest, OUTLIER) ** 2).sum(0)


def fitting_shift(videos, layout, labels, layout_labels):
    """(shift of all videos, {shift: median pixels between detections and labels}): 0 unless another fits better.

    labels: `common.humaneva_raw.Labels`. A shift of -1: what is labelled is in the frame before. Detections are off by
    more than people move in a frame; over all joints and chunks the right frame yet fits better. The medians are None
    where labels or joints are too few to tell.
    """
    distances, misfits, compared = {shift: [] for shift in SHIFTS}, {shift: [] for shift in SHIFTS}, 0
    for differences in _differences(videos, layout, labels, layout_labels):
        compared += len(differences[0])
        for shift, difference in differences.items():
            distances[shift].append(np.linalg.norm(difference, axis=-1).ravel())
            misfits[shift].append(_misfits(difference))
    if compared < FEWEST_COMPARED:
        return 0, None
    medians = {shift: float(np.median(np.concatenate(parts))) for shift, parts in distances.items()}
    misfits = {shift: np.concatenate(parts) for shift, parts in misfits.items()}
    best = min(misfits, key=lambda shift: misfits[shift].sum())
    gain = misfits[0] - misfits[best]  # of each joint in each chunk
    sure = gain.sum() > SURE * gain.std() * np.sqrt(len(gain))
    return (best if sure and medians[best] < NEAR else 0), medians


def offsets_of(name, shift):
    """Per camera: video frame = synchronised frame + offset. The shift belongs to what was synchronised."""
    person, take = name
    return [offset + (shift if take in FIRST_FRAMES.get(person, {}) else 0) for offset in frame_offsets(person, take)]


def cut_labelled(videos, frames, shift=0, allow_missing=False):
    """({subject: {chunk: [per camera (n, J, 2)]}} of exactly the chunks in `frames`, [what is missing and left out]).

    frames: {subject: {chunk: (first, end)}} of synchronised frames. DataError where a video is missing (unless that is
    allowed) or too short.
    """
    positions, missing = {}, []
    for subject, chunks in frames.items():
        for chunk, (first, end) in chunks.items():
            name = subject.split("/")[1], take_of(chunk)
            cameras = videos.get(name, {})
            absent = [camera for camera in CAMERAS if camera not in cameras]
            if absent:
                missing += [f"{' '.join(name)} ({camera})" for camera in absent]
                continue
            views = [_cut(cameras[camera], first, end, offset, f"{subject} {chunk}")
                     for camera, offset in zip(CAMERAS, offsets_of(name, shift), strict=True)]
            positions.setdefault(subject, {})[chunk] = views
    missing = list(dict.fromkeys(missing))
    if missing and not allow_missing:
        others = f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else ""
        person, *name = missing[0].split()
        raise DataError(f"{person}/{'_'.join(name)}.avi.npz: missing are the detections of {', '.join(missing[:SHOWN])}"
                        f"{others}, which are labelled; detect people there too, or leave takes out by --allow-missing")
    return positions, missing


def _cut(video, first, end, offset, where):
    start, stop, available = first + offset, end + offset, len(video.keypoints)
    if start < 0 or stop > available:
        raise DataError(f"{video.path}: has {available} frames, and {where} needs its frames {start} to {stop - 1} "
                        "(the first is 0); detect people in the whole video")
    return video.keypoints[start:stop]


def cut_unlabelled(videos, frames, shift=0):
    """{"Unlabeled/S1": {...}} of what is not labelled, per camera, synchronised; and [what is left out].

    Takes without labels are kept whole, `Walking 2`; of the others the runs of frames outside all of `frames`, as
    `Walking 1 chunk0` and so on.
    """
    positions, left_out = {}, []
    for name, cameras in videos.items():
        offsets = offsets_of(name, shift)
        if set(cameras) != set(CAMERAS):
            left_out.append(f"{' '.join(name)} ({', '.join(sorted(set(CAMERAS) - set(cameras)))} missing)")
            continue
        views = [cameras[camera].keypoints for camera in CAMERAS]
        first = max(0, -min(offsets))
        end = min(len(view) - offset for view, offset in zip(views, offsets, strict=True))
        if end <= first:
            left_out.append(f"{' '.join(name)} (too short)")
            continue
        labelled = np.arange(end) < first  # not all cameras have these
        for start, stop in labelled_ranges(frames, name):
            labelled[start:stop] = True
        runs = [(start, stop) for start, stop, value in runs_of(labelled) if not value]
        for number, (start, stop) in enumerate(runs):
            chunk = f"{name[1]} chunk{number}" if name[1] in RANGES.get(name[0], {}) else name[1]
            positions.setdefault(f"{UNLABELLED}/{name[0]}", {})[chunk] = [
                view[start + offset : stop + offset] for view, offset in zip(views, offsets, strict=True)]
    return positions, left_out


def labelled_ranges(frames, name):
    """[(first, end)] of the chunks of one (person, take) in training and validation."""
    person, take = name
    return [span for subject, chunks in frames.items() if subject.split("/")[1] == person
            for chunk, span in chunks.items() if take_of(chunk) == take]
