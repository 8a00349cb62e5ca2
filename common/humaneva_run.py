"""HumanEva-I's npz files: which are made already, and those of 2D detections, cut to the chunks of the labels."""
import json
import shlex
from pathlib import Path

import numpy as np

from common import humaneva_detections as detections
from common.humaneva_raw import CAMERAS, JOINTS, SUBJECTS, Labels
from common.keypoints import layout_metadata
from common.mapping import mapped, target_layout
from common.pose_data import keypoints_path, positions_path
from common.prepared import is_made, state_of, write
from common.safe_io import load_npz
from common.utils import DataError

RECIPE = 1  # raised when the same sources come to give other files
SHOWN = 5  # names or notices in one line


def few(names):
    """Some names in one line, and how many more there are."""
    return f"{', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if names[SHOWN:] else ''}"


def is_current(target, settings, force):
    """Whether `target` can be kept; says so, or that it is made anew."""
    if not force and is_made(target, settings, renewing=tuple(settings)):
        print(f"{target}: exists, kept; --force writes it anew")
        return True
    if target.exists():
        print(f"INFO: {target} is made anew{'' if force else ', as its sources or settings have changed'}")
    return False


def load_converted(folder):
    """The `Labels` (without poses) that an earlier --convert-3d wrote into `folder`. Raises DataError."""
    paths = [positions_path(folder, f"humaneva{joints}") for joints in JOINTS]
    found = next(((path, joints) for path, joints in zip(paths, JOINTS, strict=True) if path.is_file()), None)
    if found is None:
        raise DataError(f"{paths[0]}: no such file; detections are cut to the chunks of the labels: convert these by "
                        "prepare_data_humaneva.py -p PATH --convert-3d")
    path, joints = found
    frames = load_npz(path).get("frames")
    if not are_frames(frames):
        raise DataError(f"{path}: does not tell which frames its chunks are, as files of this suite do; convert the "
                        "labels again by prepare_data_humaneva.py -p PATH --convert-3d --force")
    flat = keypoints_path(folder, f"humaneva{joints}", "gt")
    views = load_npz(flat).get("positions_2d") if flat.is_file() else None
    return Labels(joints, {}, views if are_views(views, frames, joints) else {}, frames)


def are_frames(frames):
    """Whether these are {subject: {chunk: (first, end)}} as `prepare_data_humaneva.py` writes them."""
    return isinstance(frames, dict) and all(
        subject in SUBJECTS and isinstance(chunks, dict) and all(
            isinstance(chunk, str) and isinstance(span, tuple) and len(span) == 2 and
            all(isinstance(frame, int) for frame in span) and 0 <= span[0] < span[1] for chunk, span in chunks.items())
        for subject, chunks in frames.items())


def are_views(views, frames, joints):
    """Whether these are the labels of exactly these chunks, [per camera (n, joints, 2)]."""
    try:
        return all(np.shape(views[subject][chunk]) == (len(CAMERAS), end - first, joints, 2)
                   for subject, chunks in frames.items() for chunk, (first, end) in chunks.items())
    except (KeyError, TypeError, ValueError):
        return False


def convert_detections(folder, name, labels, output_dir, aligned=True, allow_missing=False, force=False, to="keep",
                       **reading):
    """Write the detections below `folder` as `name`, for the chunks of `labels`, and what is not labelled.

    aligned: shift them where they fit the labels better so; to: the joints of the result (`common.mapping.TARGETS`);
    reading: of `common.detections.read_detections`. Raises DataError and UsageError.
    """
    files = detections.find_videos(folder)
    sources = {f"{person} {take} {camera}": state_of(path) for (person, take), cameras in files.items()
               for camera, path in cameras.items()}
    settings = {"recipe": RECIPE, "align": aligned, "allow_missing": allow_missing, "to": to, "reading": reading,
                "frames": json.loads(json.dumps(labels.frames)), "sources": sources}
    target = keypoints_path(output_dir, f"humaneva{labels.joints}", name)
    if is_current(target, settings, force):
        return
    videos, layout, notices = detections.read_videos(files, **reading)
    tell(notices)
    shift = align(videos, layout, labels) if aligned else 0
    layout = with_joints(videos, layout, to)
    positions, missing = detections.cut_labelled(videos, labels.frames, shift, allow_missing)
    rest, left_out = detections.cut_unlabelled(videos, labels.frames, shift)
    if missing:
        print(f"INFO: no detections, and left out: {', '.join(missing)}")
    if left_out:
        print(f"INFO: not labelled and not seen by all cameras, left out: {', '.join(left_out)}")
    write(target, settings, positions_2d=np.array(positions | rest, dtype=object),
          metadata=np.array(layout_metadata(layout), dtype=object))
    labelled, others = (sum(len(views[0]) for actions in part.values() for views in actions.values())
                        for part in (positions, rest))
    print(f"{len(sources)} videos, layout {layout}: {labelled:,} labelled and {others:,} other frames of three cameras")


def tell(notices):
    """Print what reading many videos gave to say: all warnings, and some of the rest."""
    warnings, rest = ([line for line in notices if line.startswith("WARNING") == urgent] for urgent in (True, False))
    for line in warnings + [f"INFO: {line}" for line in rest[:SHOWN]]:
        print(line)
    if rest[SHOWN:]:
        print(f"INFO: and {len(rest) - SHOWN} more notices of this sort")


def align(videos, layout, labels):
    """By how many frames the published synchronisation is to be shifted; says so."""
    shift, medians = detections.fitting_shift(videos, layout, labels, f"humaneva{labels.joints}")
    if medians is None:
        print("INFO: too few labelled frames and joints to check the synchronisation; it is as published")
    elif shift:
        print(f"INFO: all videos are shifted by {shift:+d} frame: so detections are {medians[shift]:.2f} px from the "
              f"labels, and {medians[0]:.2f} px as published (medians); --no-align keeps what is published")
    else:
        print(f"the detections are {medians[0]:.2f} px from the labels (median)")
    return shift


def with_joints(videos, layout, to):
    """The layout that the detections have now: those of `videos` are mapped to it in place."""
    target = target_layout(layout, to)
    for video in (video for cameras in videos.values() for video in cameras.values()):
        video.keypoints = mapped(video.keypoints, layout, target)
    return target


def next_command(labels, keypoints, output_dir):
    """What the user may type now."""
    keypoints = keypoints if labels.joints == 15 else "gt"  # no detector finds all of the 20 joints
    script = "run_s-agcn_HE_13.py" if labels.joints == 15 else "run_s-agcn.py -d humaneva20"
    where = "" if output_dir == Path("data") else f" --data-dir {shlex.quote(str(output_dir))}"
    return f"next: python {script} -k {keypoints}{where}"
