"""The interactive viewer: 3D poses, their errors and their input as one HTML file that needs nothing else.

    write_viewer("walking.html", [prediction], ["ours"])
    write_viewer("both.html", [ours, theirs], ["ours", "theirs"], video="walking.mp4")

The page is `common/viewer/`: its script and style are put into the file, and so are the poses, as base64. Its content
security policy allows this one script, by hash, and no address at all: names out of a results file stay text.
"""
import base64
import hashlib
import html
import json
import re
import tempfile
from pathlib import Path

import numpy as np

from common.comparison import distances_mm, frames_better, same_sequence, sequence_errors
from common.drawing import crossbars
from common.export import ROOT_PATHS
from common.keypoints import left_right
from common.skeleton import Skeleton
from common.utils import DataError, UsageError, atomic_path, check_place, print_notices, progress
from common.video import open_writer, probe, read_frames

PAGE = Path(__file__).with_suffix("")
SCRIPTS = ("sequence.js", "colours.js", "orbit.js", "ground.js", "scene.js", "clock.js", "timeline.js", "picture.js",
           "panel.js", "gestures.js", "controls.js", "main.js")
SUFFIXES = (".html", ".htm")
SIDES = {"centre": 0, "left": 1, "right": 2}
VIDEO_HEIGHT = 480  # pixels at most
VIDEO_GROUP = 10  # frames between key frames: what a browser decodes at most to show one
VIDEO_KBPS, LOWEST_KBPS = 1500, 80
VIDEO_LIMIT = 40e6  # bytes: more makes pages that phones do not open
ALIKE = 0.02  # rates and shapes of pictures that differ by a smaller share are the same, for numbers are rounded
LEVEL = (-0.1, 0.25)  # metres: a lowest joint at this height of a world stands on the floor z = 0
SOURCE_LABELS = {"checkpoint": "Checkpoint", "checkpoint_sha256": "SHA-256", "refinement": "Refinement",
                 "refinement_sha256": "SHA-256 of the refinement", "command": "Command", "dataset": "Dataset",
                 "subject": "Subject", "action": "Action", "camera": "Camera", "video": "Video",
                 "smoothing": "Smoothing"}


def check_viewer(path):
    """Refuse, before any long work, a path that `write_viewer` would refuse."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: the viewer is a page; give a name that ends in {SUFFIXES[0]}")
    check_place(path)


def write_viewer(path, predictions, labels, video=None, video_skip=0, video_downsample=1):
    """Write the page of one `common.export.Prediction`, or of two of the same sequence, to `path` (.html).

    labels: a name for each; video: the path of the input video, whose frame video_skip + n * video_downsample belongs
    to pose n; where it is too long for a page, a notice takes its place. Raises UsageError, DataError, WriteError.
    """
    if len(predictions) not in (1, 2) or len(labels) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions with {len(labels)} labels; a page shows one or two")
    check_viewer(path)
    if len(predictions) == 2:
        predictions = same_sequence(*predictions, labels)
    about, arrays = _contents(predictions, labels)
    blocks = {name: np.ascontiguousarray(array, "<f8" if name == "times" else "<f4") for name, array in arrays.items()}
    if video is not None:
        about["video"], embedded = _embed(video, video_skip, video_downsample, predictions[0])
        if embedded:
            blocks["video"] = np.frombuffer(embedded, np.uint8)
    with atomic_path(path) as temporary:
        temporary.write_text(_page(about, blocks), encoding="utf-8")


def _page(about, blocks):
    script = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f"(() => {{\n\"use strict\";\n{script}}})();\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # What is neither allowed here nor by default is refused: no address, no other script.
    policy = (f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; media-src blob:; "
              "img-src data:")
    data = [f'<script type="application/json" id="about">{_json(about)}</script>']
    data += [f'<script type="text/plain" id="data-{name}">{base64.b64encode(block).decode()}</script>'
             for name, block in blocks.items()]
    parts = {"title": html.escape(about["title"]), "policy": policy, "script": script, "data": "\n".join(data),
             "style": (PAGE / "style.css").read_text(encoding="utf-8")}
    page = (PAGE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def _json(value):
    """JSON that no HTML parser takes for markup."""
    text = json.dumps(value, allow_nan=False)
    return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _contents(predictions, labels):
    """What the page says of them, for JSON, and its arrays {name: array}."""
    first = predictions[0]
    skeleton, truth = first.skeleton, first.ground_truth
    arrays = {f"pose-{number}": pose.upright(pose.joints) for number, pose in enumerate(predictions)}
    if truth is not None:
        arrays["truth"] = first.upright(truth)
    low, high, floor = _room(first, list(arrays.values()))
    if first.times is not None:
        arrays["times"] = first.seconds()
    if truth is not None:
        arrays |= {f"error-{number}": pose.errors_mm() for number, pose in enumerate(predictions)}
    elif len(predictions) == 2:
        arrays["error-0"] = distances_mm(*predictions)
    for number, pose in enumerate(predictions):
        if pose.keypoints_2d is not None:
            arrays[f"points-{number}"] = pose.keypoints_2d
    size = next((pose.size for pose in predictions if pose.size), None)
    about = {
        "title": _title(first, labels), "frames": len(first), "fps": first.fps, "joints": skeleton.names(),
        "root": skeleton.root(), "limbs": _limbs(skeleton), "sides": _sides(skeleton), "hasTruth": truth is not None,
        "low": low, "high": high, "floor": floor, "recordedFrom": _camera_direction(first), "video": None,
        "measure": "error" if truth is not None else "distance" if len(predictions) == 2 else None,
        # Which upright coordinate, and with which sign, each coordinate of the file is.
        "coordinates": [[0, 1], [1, 1], [2, 1]] if first.frame == "world" else [[0, 1], [2, -1], [1, 1]],
        "predictions": [_about_one(pose, label, size) for pose, label in zip(predictions, labels, strict=True)]}
    if truth is not None and len(predictions) == 2:
        about["better"] = frames_better(*predictions)
    return about, arrays


def _title(prediction, labels):
    known = [prediction.source.get(name) for name in ("action", "subject")]
    known = [text for text in known if text and text != "custom"]
    return " · ".join(known) or " and ".join(labels)


def _about_one(prediction, label, size):
    """What the page says of one prediction; size: of its pictures, where it does not know."""
    source = prediction.source
    rows = [(name, source[key]) for key, name in SOURCE_LABELS.items() if key in source]
    uneven = ", uneven in time" if prediction.times is not None else ""
    rows += [("Frame of reference", f"{prediction.frame}, {prediction.axes}"), ("Units", "metres"),
             ("Path", ROOT_PATHS[prediction.root_path]),
             ("Frames", f"{len(prediction)} at {prediction.fps:g} per second{uneven}"),
             ("Joints", ", ".join(prediction.skeleton.names()))]
    about = {"label": label, "rows": rows, "errors": sequence_errors(prediction)}
    if prediction.keypoints_2d is not None:
        points = prediction.keypoints_2d
        size = prediction.size or size or np.ceil(np.nanmax(np.append(points.reshape(-1, 2), [[1, 1]], axis=0), axis=0))
        about |= {"size": [int(side) for side in size], "limbs2d": [], "sides2d": [0] * points.shape[1]}
        if prediction.skeleton_2d is not None:
            names = prediction.skeleton_2d.names()
            skeleton = Skeleton(prediction.skeleton_2d.parents(), *_paired(names), names)
            about |= {"limbs2d": _limbs(skeleton), "sides2d": _sides(skeleton)}
    return about


def _paired(names):
    """`left_right` of names that a file gives: a left joint without a right one has no side."""
    return left_right([name if name.replace("left_", "right_", 1) in names else "" for name in names])


def _sides(skeleton):
    left, right = set(skeleton.joints_left()), set(skeleton.joints_right())
    return [SIDES["left" if joint in left else "right" if joint in right else "centre"]
            for joint in range(skeleton.num_joints())]


def _limbs(skeleton):
    """[child, parent, side] of each limb; what crosses the body belongs to no side."""
    sides = _sides(skeleton)
    return [[int(a), int(b), 0] for a, b in crossbars(skeleton)] + [[a, b, sides[a]] for a, b in skeleton.bones()]


def _room(prediction, poses):
    """Corners [x, y, z] of what all poses cover but for outliers, and the height of the floor, in metres."""
    points = np.concatenate([pose.reshape(-1, 3) for pose in poses])
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    floor = float(np.quantile(poses[-1][..., 2].min(axis=1), 0.05))
    if prediction.frame == "world" and LEVEL[0] < floor < LEVEL[1]:
        floor = 0.0
    return low.tolist(), high.tolist(), floor


def _camera_direction(prediction):
    """Where the recording camera looked, [x, y, z] in upright axes; None where it is not known."""
    if prediction.frame == "camera":
        return [0.0, 1.0, 0.0]
    if prediction.joints_camera is None:
        return None
    root = prediction.skeleton.root()
    seen, world = ((poses - poses[:, [root]]).reshape(-1, 3).astype(np.float64)
                   for poses in (prediction.joints_camera, prediction.joints))
    u, _, vt = np.linalg.svd(world.T @ seen)
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    return rotation[:, 2].tolist()


def _embed(path, skip, downsample, prediction):
    """({"notice", "frames"}, bytes of an .mp4 or None) of the frames of a video that belong to the poses."""
    times = prediction.seconds()
    kbps = min(VIDEO_KBPS, VIDEO_LIMIT * 8 / 1000 / (times[-1] + 1 / prediction.fps))
    if kbps < LOWEST_KBPS:
        return _left_out(path, f"{times[-1] / 60:.0f} minutes are too long for a page")
    info = probe(path)
    print_notices(_doubts(path, info, downsample, prediction))
    width = None if info.height <= VIDEO_HEIGHT else max(2, round(info.width * VIDEO_HEIGHT / info.height))
    frames = read_frames(path, skip, len(prediction), downsample, width=width)
    first = next(frames, None)
    if first is None:
        raise DataError(f"{path}: ends before frame {skip}; skip fewer frames")
    written = 0
    with tempfile.TemporaryDirectory() as folder:
        smaller = Path(folder) / "video.mp4"
        with open_writer(smaller, prediction.fps, first.shape[1], first.shape[0], round(kbps),
                         None if prediction.times is None else times, VIDEO_GROUP) as writer, \
                progress(total=len(prediction), desc="encoding the video", unit=" frames") as bar:
            while first is not None:
                writer.write(first)
                written += 1
                bar.update()
                first = next(frames, None)
        content = smaller.read_bytes()
    if len(content) > 1.5 * VIDEO_LIMIT:
        return _left_out(path, f"{len(content) / 1e6:.0f} MB are too much for a page")
    ends = f"The video ends after {written} of {len(prediction)} frames." if written < len(prediction) else None
    return {"notice": ends, "frames": written}, content


def _left_out(path, why):
    """What `_embed` gives in place of a video, which the terminal tells of too."""
    print_notices([f"{path} is left out: {why}"])
    return {"notice": f"The video is left out: {why}.", "frames": 0}, None


def _doubts(path, info, downsample, prediction):
    """Lines that say why a video may be another than the one that the poses are of."""
    rate, size = info.fps / downsample, prediction.size
    if info.fps and prediction.times is None and abs(rate - prediction.fps) > ALIKE * prediction.fps:
        yield (f"{path} has {rate:g} frames a second, and the poses {prediction.fps:g}: each pose is shown with "
               "the next frame")
    if size is not None and abs(info.width * size[1] - info.height * size[0]) > ALIKE * info.height * size[0]:
        yield (f"{path} has pictures of {info.width} x {info.height}, and the 2D joints are of {size[0]} x {size[1]}: "
               "check that it is their video")
