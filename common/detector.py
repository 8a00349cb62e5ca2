"""A 2D detector run on a user's video: a Python function of theirs, or ONNX models that lie on their disk.

    detector = load_detector("my_detector.py:find_people")     # or package.module:name
    detector = load_detector("yolox_m.onnx,rtmpose_m.onnx")    # or a folder of them, or one RTMO model; needs rtmlib
    found = detect("clip.mp4", detector)                       # common.detections.Detections

Nothing is ever downloaded. A function is given each frame as uint8 RGB (H, W, 3) and returns the people in it: an array
(people, J, 2) of pixels or (people, J, 3) with scores, a pair (keypoints, scores), a dict of `keypoints` and `scores`,
a list of such for each person, or nothing. A class is made first, without arguments, and then called in the same way.
"""
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path

import numpy as np

from common.detection_table import Found, fill_boxes, mark_missing, name_layout
from common.detections import Detections
from common.utils import DataError, SuiteError, UsageError, progress, require
from common.video import probe, read_frames

EXAMPLES = "give module:function, file.py:function, or ONNX files joined by commas"
NEEDED_FILES = "give a person detector and a pose model (det.onnx,pose.onnx), a pose model alone, or one RTMO model"


def load_detector(spec, device="cpu"):
    """A function of frames, RGB (H, W, 3), that gives (keypoints (n, J, 2), scores (n, J)); see above.

    Raises UsageError where `spec` leads to nothing that can be called, DependencyError without rtmlib.
    """
    paths = _onnx_files(spec)
    if paths:
        return _rtmlib_detector(paths, device)
    source, colon, name = spec.rpartition(":")
    if not colon or not source or not name:
        raise UsageError(f"--detector {spec}: {EXAMPLES}")
    found = _imported(source, spec)
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"--detector {spec}: {source} has no {name}; {EXAMPLES}")
        found = getattr(found, part)
    try:
        function = found() if inspect.isclass(found) else found
    except (Exception, SystemExit) as error:  # it is the user's code
        raise UsageError(f"--detector {spec}: {name}() raised {type(error).__name__}: {error}") from error
    if not callable(function):
        raise UsageError(f"--detector {spec}: {name} cannot be called; {EXAMPLES}")
    return lambda frame: people_of(function(frame))


def _imported(source, spec):
    try:
        if not source.endswith(".py"):
            sys.path.append(str(Path.cwd()))  # as with python -m, but never before what is installed
            return importlib.import_module(source)
        if not Path(source).is_file():
            raise UsageError(f"--detector {spec}: no such file as {source}")
        described = importlib.util.spec_from_file_location(Path(source).stem, source)
        module = importlib.util.module_from_spec(described)
        sys.path.insert(0, str(Path(source).resolve().parent))
        described.loader.exec_module(module)
        return module
    except SuiteError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code
        raise UsageError(f"--detector {spec}: {source} cannot be imported ({type(error).__name__}: {error})") from error


def people_of(output):
    """What a detector returned as (keypoints (n, J, 2) float32, scores (n, J) float32). ValueError for other shapes."""
    keypoints, scores = _parts(output)
    if keypoints is None or np.size(keypoints) == 0:
        return np.zeros((0, 0, 2), np.float32), np.zeros((0, 0), np.float32)
    keypoints = np.asarray(keypoints, dtype=np.float32)
    keypoints = keypoints[None] if keypoints.ndim == 2 else keypoints
    if keypoints.ndim != 3 or keypoints.shape[2] not in (2, 3):
        raise ValueError(f"keypoints have the shape {keypoints.shape}, not (people, joints, 2 or 3)")
    if scores is None:
        scores = keypoints[..., 2] if keypoints.shape[2] == 3 else np.ones(keypoints.shape[:2])
    scores = np.asarray(scores, dtype=np.float32)
    if scores.size != keypoints[..., 0].size:
        raise ValueError(f"scores have the shape {scores.shape}, not {keypoints.shape[:2]}")
    return keypoints[..., :2], scores.reshape(keypoints.shape[:2])


def _parts(output):
    """(keypoints, scores or None) of what a detector returned."""
    if isinstance(output, list | tuple) and output and all(isinstance(person, dict) for person in output):
        people = [_parts(person) for person in output]
        unsure = any(scores is None for _, scores in people)
        return [keypoints for keypoints, _ in people], None if unsure else [scores for _, scores in people]
    if isinstance(output, dict):
        scores = next((output[key] for key in ("scores", "keypoint_scores") if key in output), None)
        if "keypoints" not in output:
            raise ValueError(f"a dict of {', '.join(map(str, output))[:80]}, without `keypoints`")
        return output["keypoints"], scores
    pair = isinstance(output, list | tuple) and len(output) == 2 and (
        isinstance(output, tuple) or np.ndim(output[0]) == 3 and np.ndim(output[1]) == 2)
    return output if pair else (output, None)


def detect(video, detector, layout=None):
    """The `Detections` of all people in a video, frame by frame: memory does not grow with the pictures.

    layout: of the joints, where their number does not tell. Raises DataError that names the frame where the detector
    fails.
    """
    info, frames, people, scores = probe(video), [], [], []
    number = -1
    for number, picture in enumerate(progress(read_frames(video), total=info.frames or None, desc="detecting",
                                              unit="frame")):
        try:
            found, sure = detector(picture)
        except SuiteError:
            raise
        except (Exception, SystemExit) as error:  # it is the user's code
            raise DataError(f"{video}: the detector failed in frame {number} ({type(error).__name__}: {error}); "
                            "--debug shows where") from error
        if people and len(found) and found.shape[1] != people[0].shape[1]:
            raise DataError(f"{video}: the detector gave {found.shape[1]} joints in frame {number} and "
                            f"{people[0].shape[1]} before; all people have as many")
        if len(found):
            frames += [number] * len(found)
            people.append(found)
            scores.append(sure)
    if not people:
        raise DataError(f"{video}: the detector found nobody in {number + 1} frames; is the person large enough?")
    values = np.concatenate([np.concatenate(people), np.concatenate(scores)[..., None]], axis=-1).astype(np.float64)
    unknown = np.full((len(values), 4), np.nan)
    layout, values = name_layout(Found(values, np.array(frames), unknown, unknown[:, 0], np.array([])), video, layout)
    mark_missing(values)
    somebody = np.isfinite(values[..., 0]).any(axis=1)
    boxes, box_scores = fill_boxes(unknown[somebody], unknown[somebody, 0], values[somebody])
    return Detections(Path(video), layout, number + 1, (info.width, info.height), np.array(frames)[somebody],
                      values[somebody, :, :2].astype(np.float32), values[somebody, :, 2].astype(np.float32), boxes,
                      box_scores, None)


# ---- ONNX models, by rtmlib

def _onnx_files(spec):
    """The ONNX files that `spec` names, or none. Raises UsageError for those that are not there."""
    if Path(spec).is_dir():
        paths = sorted(Path(spec).glob("*.onnx"))
        if not paths:
            raise UsageError(f"--detector {spec}: the folder has no .onnx file; {NEEDED_FILES}")
        return paths
    paths = [Path(part.strip()) for part in spec.split(",") if part.strip().lower().endswith(".onnx")]
    for path in paths:
        if not path.is_file():
            raise UsageError(f"--detector {spec}: no such file as {path}; models are not downloaded, {NEEDED_FILES}")
    return paths


def _kind(path):
    """(what an ONNX model is: "boxes", "poses" or "both"; its input size (height, width))."""
    session = require("onnxruntime", "onnxruntime").InferenceSession
    try:
        model = session(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise DataError(f"{path}: is damaged or not an ONNX model ({reason}); get it again") from None
    (first, *_), outputs = model.get_inputs(), model.get_outputs()
    size = tuple(side if isinstance(side, int) else None for side in (list(first.shape) + [None] * 4)[2:4])
    ranks = [len(output.shape or ()) for output in outputs]
    if 4 in ranks:
        return "both", size
    simcc = len(outputs) == 2 and ranks == [3, 3] or any("simcc" in output.name for output in outputs)
    return ("poses" if simcc else "boxes"), size


def _rtmlib_detector(paths, device):
    """A detector made of the models in these files."""
    rtmlib = require("rtmlib", "rtmlib onnxruntime")
    kinds = {}
    for path in paths:
        kind, size = _kind(path)
        if kind in kinds:
            raise UsageError(f"--detector: {kinds[kind][0]} and {path} are both models for {kind}; {NEEDED_FILES}")
        kinds[kind] = path, size
    if not kinds.keys() & {"poses", "both"}:
        raise UsageError(f"--detector: {paths[0]} finds people but no joints; {NEEDED_FILES}")
    usual = {"boxes": (640, 640), "poses": (256, 192), "both": (640, 640)}
    made = {}
    for kind, (path, size) in kinds.items():
        height, width = (side or default for side, default in zip(size, usual[kind], strict=True))
        maker = {"poses": rtmlib.RTMPose, "both": rtmlib.RTMO,
                 "boxes": rtmlib.RTMDet if "rtmdet" in path.name.lower() else rtmlib.YOLOX}[kind]
        made[kind] = maker(str(path), model_input_size=(width, height) if kind == "poses" else (height, width),
                           backend="onnxruntime", device="cuda" if device == "cuda" else "cpu")

    def detector(frame):
        picture = np.ascontiguousarray(frame[..., ::-1])  # rtmlib takes BGR
        if "both" in made:
            return people_of(tuple(made["both"](picture)))
        boxes = made["boxes"](picture) if "boxes" in made else [[0, 0, picture.shape[1], picture.shape[0]]]
        return people_of(tuple(made["poses"](picture, bboxes=boxes)) if len(boxes) else None)

    return detector
