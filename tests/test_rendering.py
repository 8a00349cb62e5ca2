"""What --render leaves: results that agree with the cameras and the data, a page in place of a video, smoothing."""
import hashlib
import importlib.util
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, run_script

from common.camera import image_coordinates, project_to_2d, world_to_camera
from common.engine import EVALUATION_WINDOWS, predict, prediction_bar
from common.export import read_prediction
from common.h36m_dataset import h36m_cameras
from common.keypoints import H36M_17
from common.s_agcn import S_AGCN
from common.safe_io import load_npz
from common.utils import UsageError

CHECKPOINT = ROOT / "checkpoint" / "demo" / "16_gt_9_supervised.bin"


@pytest.fixture
def shown(monkeypatch):
    """What `common.viewer.write_viewer` was called with: [{its arguments by name}]."""
    calls = []

    def write_viewer(path, predictions, labels, video=None, video_skip=0, video_downsample=1):
        calls.append(SimpleNamespace(path=path, predictions=predictions, labels=labels, video=video,
                                     video_skip=video_skip, video_downsample=video_downsample))

    monkeypatch.setattr("common.viewer.write_viewer", write_viewer)
    return calls


@pytest.fixture
def render(demo_data, monkeypatch):
    """run_s-agcn.py --render with these flags, in this process."""
    spec = importlib.util.spec_from_file_location("run_s_agcn", ROOT / "run_s-agcn.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["run_s-agcn.py", *map(str, flags_of(demo_data, *flags))])
        script.main(script.get_args())

    return run


def flags_of(data, *more):
    return ["-d", "demo", "--data-dir", data, "-arc", "3,3", "-ch", 16, "--evaluate", CHECKPOINT, "--render",
            "--viz-subject", "S9", "--viz-action", "Walking 1", "--viz-camera", 1, *more]


def test_results_agree_with_the_cameras_and_the_data(render, demo_data, tmp_path):
    render("--viz-export", tmp_path / "a.json")
    found, camera = read_prediction(tmp_path / "a.json"), h36m_cameras("S9")[1]
    assert (found.frame, found.root_path, found.fps, len(found)) == ("world", "ground truth", 50, 40)

    def seen(poses):
        return world_to_camera(poses, camera["orientation"], camera["translation"])

    np.testing.assert_allclose(seen(found.joints), found.joints_camera, atol=1e-4)
    true_pixels = image_coordinates(project_to_2d(seen(found.ground_truth), camera["intrinsic"]), *found.size)
    np.testing.assert_allclose(true_pixels, found.keypoints_2d, atol=0.05)
    predicted_pixels = image_coordinates(project_to_2d(found.joints_camera, camera["intrinsic"]), *found.size)
    assert np.linalg.norm(predicted_pixels - found.keypoints_2d, axis=-1).mean() < 20
    given = load_npz(demo_data / "data_2d_demo_gt.npz")["positions_2d"]["S9"]["Walking 1"][1]
    np.testing.assert_allclose(found.keypoints_2d, given[:40], atol=0.01)
    names = found.skeleton.names()
    assert found.skeleton_2d.names() == names and found.errors_mm().mean() < 100
    height = {name: found.joints[:, names.index(name), 2].mean() for name in ("right_ankle", "hip", "head")}
    assert height["right_ankle"] < height["hip"] < height["head"]
    assert found.source.pop("command").startswith("run_s-agcn.py -d demo")
    assert found.source == {"checkpoint": str(CHECKPOINT), "dataset": "demo", "subject": "S9", "action": "Walking 1",
                            "checkpoint_sha256": hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest(), "camera": "1"}


@pytest.mark.parametrize("flip", [None, 2 * (H36M_17.joints_left(), H36M_17.joints_right())])
def test_the_bar_of_a_prediction_moves_on_with_its_batches_and_ends_full(flip):
    model, keypoints, steps = S_AGCN(17, 2, 17, [3], channels=2).eval(), np.zeros((300, 17, 2), np.float32), []
    predict(model, keypoints, torch.device("cpu"), flip, bar=SimpleNamespace(update=steps.append))
    assert sum(steps) == prediction_bar(300, flip, "lifting").total
    assert max(steps) <= EVALUATION_WINDOWS


def test_a_page_shows_what_a_video_would(render, shown, tmp_path, capsys):
    render("--viz-output", tmp_path / "a.HTML", "--viz-skip", 4, "--viz-downsample", 3, "--viz-limit", 5)
    whole = read_prediction(tmp_path / "a.results.npz")  # all frames
    (page,), kept = shown, 4 + 3 * np.arange(5)
    (part,) = page.predictions
    assert len(whole) == 40 and (len(page.labels), page.video) == (1, None)
    np.testing.assert_array_equal(part.joints, whole.joints[kept])
    np.testing.assert_array_equal(part.ground_truth, whole.ground_truth[kept])
    assert part.fps == pytest.approx(50 / 3)
    out = capsys.readouterr().out
    assert f"40 frames written to {tmp_path / 'a.results.npz'}" in out and "page of 5 frames written to" in out
    render("--viz-output", tmp_path / "b.html", "--viz-no-ground-truth", "--viz-export", tmp_path / "b.npz")
    assert shown[1].predictions[0].ground_truth is None and len(shown[1].predictions[0]) == 40
    assert read_prediction(tmp_path / "b.npz").ground_truth is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.results.npz", "b.npz"]


def test_smoothing_changes_what_is_exported_and_shown_and_is_told(render, shown, tmp_path, monkeypatch, capsys):
    def smooth(prediction, kind):
        moved = replace(prediction, joints=prediction.joints + 1, source={"smoothing": kind})
        return moved, [f"jitter halved by {kind}"]

    monkeypatch.setitem(sys.modules, "common.smoothing", SimpleNamespace(smooth=smooth))
    render("--smooth", "one-euro", "--viz-output", tmp_path / "a.html", "--viz-export", tmp_path / "a.npz")
    exported, (part,) = read_prediction(tmp_path / "a.npz"), shown[0].predictions
    assert exported.source["smoothing"] == part.source["smoothing"] == "one-euro"
    np.testing.assert_array_equal(part.joints, exported.joints)
    assert (exported.joints - exported.ground_truth)[:, 0].mean() == pytest.approx(1, abs=1e-3)
    assert "INFO: jitter halved by one-euro" in capsys.readouterr().out


def test_nothing_that_is_read_is_written_over(render, demo_data, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a video")
    (tmp_path / "w.npz").write_bytes(b"weights")
    video = ["--viz-video", tmp_path / "a.mp4", "--viz-output", tmp_path / "." / "a.mp4"]
    for flags, what in ((video, "the input video"), (["--viz-export", demo_data / "data_2d_demo_gt.npz"], "detections"),
                        (["--viz-export", demo_data / "data_3d_demo.npz"], "the 3D data"),
                        (["--evaluate", tmp_path / "w.npz", "--viz-export", tmp_path / "w.npz"], "the checkpoint")):
        with pytest.raises(UsageError, match=f"{what}; give another name"):
            render(*flags)
    assert (tmp_path / "a.mp4").read_bytes() == b"a video"


@pytest.mark.parametrize(("flags", "words"), [
    (["--viz-output", "a.html", "--viz-bitrate", "500"], ["--viz-bitrate", ".html"]),
    (["--viz-output", "a.html", "--viz-size", "3"], ["--viz-size", ".html", "window"]),
    (["--viz-output", "a.html", "--viz-skip", "40"], ["all 40 frames"]),
    (["--viz-output", "a.htm"], [".html"]),
    (["--viz-export", "a.npz", "--smooth", "kalman"], ["kalman", "one-euro", "savgol"]),
    (["--viz-export", "a.txt"], ["a.txt", ".bvh"]),
    (["--viz-export", "a.npz", "--camera-tilt", "3"], ["--camera-tilt", "-d demo", "known"]),
    (["--viz-export", "a.npz", "--camera-tilt", "-91"], ["--camera-tilt", "-91", "from -90 to 90 degrees"]),
], ids=" ".join)
def test_what_does_not_apply_to_a_page_is_refused(demo_data, tmp_path, flags, words):
    flags[1] = str(tmp_path / flags[1])
    run_script("run_s-agcn.py", *flags_of(demo_data, *flags)).assert_fails(2, *words)
    assert not {path.suffix for path in tmp_path.iterdir()} - {".npz"}
