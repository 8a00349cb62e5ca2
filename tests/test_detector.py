"""Detectors run on a user's video: Python functions, and ONNX models by rtmlib, which stands here as a fake."""
import socket
import sys
import types

import numpy as np
import pytest

from common import detector
from common.detections import person_keypoints
from common.utils import DataError, DependencyError, UsageError
from common.video import open_writer


def film(path, frames, size=(100, 80)):
    """A small video whose frames get brighter."""
    with open_writer(path, 25, *size) as writer:
        for number in range(frames):
            writer.write(np.full((size[1], size[0], 3), number, np.uint8))
    return path


def test_a_python_function_or_class_is_a_detector(tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("import numpy as np\n"
                    "def people(frame):\n"
                    "    assert frame.dtype == np.uint8 and frame.shape[2] == 3\n"
                    "    return np.full((2, 17, 3), frame.mean() + 1)\n"
                    "class Finder:\n"
                    "    def __call__(self, frame):\n"
                    "        return np.full((1, 17, 2), frame.mean() + 1), np.ones((1, 17))\n"
                    "def sometimes(frame):\n"
                    "    return None if frame.mean() < 2 else np.ones((17, 2)) * frame.shape[0]\n"
                    "def strange(frame):\n"
                    "    return np.ones((3, 3, 3, 3))\n"
                    "def nobody(frame):\n"
                    "    return []\n"
                    "def failing(frame):\n"
                    "    raise RuntimeError('no luck')\n"
                    "def leaving(frame):\n"
                    "    raise SystemExit(0)\n"
                    "number = 3\n")
    found = detector.detect(film(tmp_path / "a.mp4", 5), detector.load_detector(f"{code}:people"))
    assert found.layout == "coco" and found.frames == 5 and found.size == (100, 80)
    assert found.keypoints.shape == (10, 17, 2) and found.frame.tolist() == sorted(list(range(5)) * 2)
    single = detector.detect(tmp_path / "a.mp4", detector.load_detector(f"{code}:Finder"))
    np.testing.assert_array_equal(single.keypoints, found.keypoints[::2])
    gaps = detector.detect(tmp_path / "a.mp4", detector.load_detector(f"{code}:sometimes"))
    assert len(person_keypoints(gaps)[0]) == 5 and gaps.frame[0] > 0
    for name, error, words in (("strange", DataError, "frame 0"), ("nobody", DataError, "nobody in 5"),
                               ("failing", DataError, "RuntimeError: no luck"), ("leaving", DataError, "SystemExit"),
                               ("number", UsageError, "cannot be called"), ("gone", UsageError, "has no gone")):
        with pytest.raises(error, match=words):
            detector.detect(tmp_path / "a.mp4", detector.load_detector(f"{code}:{name}"))


def test_people_are_understood_in_the_forms_that_detectors_give_them():
    poses, scores = np.random.default_rng(0).uniform(1, 9, (2, 17, 2)), np.full((2, 17), 0.5)
    both = np.concatenate([poses, scores[..., None]], axis=-1)
    for form in (both, both.tolist(), list(both), (poses, scores), [poses, scores], (poses.tolist(), scores[..., None]),
                 {"keypoints": poses, "scores": scores}, [{"keypoints": pose} for pose in both],
                 [{"keypoints": pose, "keypoint_scores": score} for pose, score in zip(poses, scores, strict=True)]):
        found = detector.people_of(form)
        np.testing.assert_allclose(found[0], poses, rtol=1e-6)
        assert (found[1] == 0.5).all()
    for nobody in (None, [], (), np.zeros((0, 17, 3)), (np.zeros((0, 17, 2)), np.zeros((0, 17)))):
        assert len(detector.people_of(nobody)[0]) == 0
    with pytest.raises(ValueError, match="a dict of boxes, without `keypoints`"):
        detector.people_of({"boxes": []})


@pytest.mark.parametrize("spec, words", [
    ("models/det.onnx,models/pose.onnx", "not downloaded"), ("no_such_module_here:find", "cannot be imported"),
    ("gone.py:find", "no such file"), ("yolo", "module:function"), ("numpy:", "module:function"),
])
def test_detectors_that_cannot_be_are_refused(spec, words):
    with pytest.raises(UsageError, match=words):
        detector.load_detector(spec)


# ---- ONNX models

class Session:
    """onnxruntime's, as far as it is asked: what the model takes and gives stands in its file."""

    KINDS = {"boxes": ([(1, 200, 5), (1, 200)], 640), "poses": ([("n", 17, 384), ("n", 17, 512)], 256),
             "both": ([(1, "n", 5), (1, "n", 17, 3)], 640)}

    def __init__(self, path, providers):
        with open(path) as file:
            kind = file.read()
        if kind not in self.KINDS:
            raise RuntimeError("INVALID_PROTOBUF\nmore of it")
        self.outputs, self.side = self.KINDS[kind]

    def get_inputs(self):
        return [types.SimpleNamespace(name="input", shape=["n", 3, self.side, 192 if self.side == 256 else self.side])]

    def get_outputs(self):
        return [types.SimpleNamespace(name=f"out{i}", shape=shape) for i, shape in enumerate(self.outputs)]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of models of each kind; rtmlib and onnxruntime as fakes, and no network. `.made`: what rtmlib made."""
    for kind in ("boxes", "poses", "both"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{kind}.onnx").write_text(kind)
    made = []

    def maker(name):
        def make(path, model_input_size, backend, device):
            made.append((name, model_input_size, backend, device))
            return {"YOLOX": boxes_of, "RTMPose": poses_of, "RTMO": all_of}[name]
        return make

    def boxes_of(picture):
        assert picture.dtype == np.uint8 and picture[0, 0, 0] == 30  # BGR
        return np.array([[1, 2, 3, 4], [5, 6, 7, 8]], float)[: picture[0, 0, 2] // 5]

    def poses_of(picture, bboxes):
        return np.full((len(bboxes), 17, 2), 1.0) * np.array(bboxes)[:, None, :2], np.full((len(bboxes), 17), 0.8)

    def all_of(picture):
        return poses_of(picture, [[0, 0, 9, 9]])

    rtmlib = types.SimpleNamespace(**{name: maker(name) for name in ("YOLOX", "RTMPose", "RTMO")}, RTMDet=None)
    monkeypatch.setitem(sys.modules, "rtmlib", rtmlib)
    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=Session))
    monkeypatch.setattr(socket, "socket", None)
    return types.SimpleNamespace(path=tmp_path, made=made)


def frame(people):
    return np.full((20, 10, 3), (5 * people, 0, 30), np.uint8)  # RGB


def test_onnx_models_are_told_by_what_they_take_and_give(models):
    find = detector.load_detector(f"{models.path}/poses/poses.onnx, {models.path}/boxes/boxes.onnx")
    assert sorted(models.made) == [("RTMPose", (192, 256), "onnxruntime", "cpu"),
                                   ("YOLOX", (640, 640), "onnxruntime", "cpu")]
    keypoints, scores = find(frame(2))
    assert keypoints[:, 0].tolist() == [[1, 2], [5, 6]] and scores.shape == (2, 17) and scores[0, 0] == np.float32(0.8)
    assert find(frame(0))[0].shape[0] == 0  # nobody: the pose model is not asked
    assert len(detector.load_detector(str(models.path / "poses"))(frame(0))[0]) == 1  # alone, it is given the picture
    assert len(detector.load_detector(str(models.path / "both"))(frame(0))[0]) == 1


def test_onnx_models_that_do_not_do_are_refused_before_the_video_is_read(models):
    (models.path / "bad.onnx").write_text("hello")
    (models.path / "boxes" / "second.onnx").write_text("boxes")
    for spec, error, words in (
            ("bad.onnx", DataError, r"bad.onnx: is damaged or not an ONNX model \(INVALID_PROTOBUF\)"),
            ("boxes/boxes.onnx", UsageError, "finds people but no joints"),
            ("boxes", UsageError, "are both models for"), ("", UsageError, "has no .onnx file")):
        folder = models.path / "nothing"
        folder.mkdir(exist_ok=True)
        with pytest.raises(error, match=words):
            detector.load_detector(str(models.path / spec if spec else folder))


@pytest.mark.parametrize("module", ["rtmlib", "onnxruntime"])
def test_without_the_packages_their_pip_line_is_said(models, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match="pip install .*onnxruntime"):
        detector.load_detector(str(models.path / "both"))
