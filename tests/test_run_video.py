"""A user's own video in one command: rates, rotation, and the same as in two commands."""
import struct
import sys

import numpy as np
import pytest
from conftest import ROOT, run_script

from common.detections import read_detections
from common.export import read_prediction
from common.h36m_dataset import h36m_cameras
from common.keypoints import H36M_KEPT, LAYOUTS
from common.own_video import OwnVideo, on_frames, open_video, turned, upright
from common.resampling import ascending, at_network_rate, interpolate, steady_rate
from common.synthetic_detections import people_of, write_alphapose, write_detectron
from common.synthetic_video import detected, motion_at
from common.utils import CheckpointError, DataError
from common.video import frame_times, open_writer, probe, quarter_turns
from common.viewer import write_viewer

SIZE = (1000, 1002)  # of the camera that the demo people are seen by
CHECKPOINT = ROOT / "checkpoint" / "demo" / "16_gt_9_supervised.bin"
IDENTITY = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
QUARTER = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # as a phone held upright writes it


def film(path, frames, fps=25, times=None, size=(100, 80)):
    """A small video: what is to be seen in it does not matter here."""
    with open_writer(path, fps, *size, times=times) as writer:
        for number in range(frames):
            writer.write(np.full((size[1], size[0], 3), number % 256, np.uint8))
    return path


def lie_sideways(path):
    """Say in an mp4 that its pictures are to be turned by a quarter."""
    content = path.read_bytes()
    at = content.index(b"tkhd")
    path.write_bytes(content[:at] + content[at:].replace(IDENTITY, QUARTER, 1))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """30 frames at 25 a second, of the size of the demo people's camera, and AlphaPose's detections of two people."""
    folder = tmp_path_factory.mktemp("own")
    film(folder / "clip.mp4", 30, 25, size=SIZE)
    view = detected(motion_at(np.arange(30) / 25), "halpe26", noise=0)
    small = 0.3 * view + 600  # somebody in the background
    write_alphapose(folder / "clip.json", people_of([small, view], seed=1))
    return folder


# ---- rates

@pytest.mark.parametrize("fps", [12.5, 24, 30, 60, 240])
def test_a_linear_motion_survives_the_way_to_the_network_rate_and_back(fps):
    times = np.arange(60) / fps
    motion = (times[:, None, None] * np.ones((1, 3, 2))).astype(np.float32)
    seen = []
    result = at_network_rate(lambda keypoints: seen.append(keypoints) or keypoints, motion, times)
    np.testing.assert_allclose(result, motion, atol=1e-5)
    steps = np.diff(seen[0][:, 0, 0])
    assert abs(len(seen[0]) - times[-1] * 50) < 2 and np.ptp(steps) < 1e-5 and abs(steps[0] - 0.02) < 0.02 * 0.1


def test_uneven_frames_are_lifted_at_an_even_rate():
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.08, 60))
    motion = np.sin(times)[:, None, None] * np.ones((1, 2, 3))
    seen = []
    result = at_network_rate(lambda keypoints: seen.append(keypoints) or keypoints, motion, times)
    even = np.linspace(times[0], times[-1], len(seen[0]))
    assert steady_rate(times) is None and np.abs(seen[0][:, 0, 0] - np.sin(even)).max() < 1e-3
    np.testing.assert_allclose(result, motion, atol=1e-3)


def test_what_has_the_rate_of_the_network_is_lifted_as_it_is():
    motion = np.random.default_rng(0).normal(size=(7, 2, 2))
    for times in (np.arange(7) / 50, np.round(np.arange(7) / 49.95, 3), np.zeros(7)[:1]):
        assert at_network_rate(lambda keypoints: keypoints, motion[: len(times)], times).base is motion


def test_a_pause_of_a_day_does_not_ask_for_a_day_of_frames():
    times = np.array([0, 0.04, 86400, 86400.04])
    at_network_rate(lambda keypoints: keypoints if len(keypoints) < 100 else 1 / 0, np.zeros((4, 1, 2)), times)


def test_interpolation_holds_the_ends_and_passes_through_what_is_known():
    times, values = np.array([0, 1.0, 1.0, 3]), np.array([[0.0], [2], [4], [8]])
    np.testing.assert_allclose(interpolate(values, times, np.array([-1, 0, 0.5, 2, 3, 9]))[:, 0], [0, 0, 1, 6, 8, 8])
    assert interpolate(values[:1], times[:1], np.array([0.0, 5]))[:, 0].tolist() == [0, 0]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_uneven_frame_times_are_written_and_read(suffix, tmp_path):
    times = np.array([0, 0.1, 0.14, 0.5, 0.54, 1.0])
    film(tmp_path / f"a{suffix}", 6, 6, times)
    np.testing.assert_allclose(frame_times(tmp_path / f"a{suffix}"), times, atol=0.006 if suffix == ".gif" else 1e-4)


def test_repeated_frame_times_become_ascending_ones_and_others_stay():
    times = np.array([0, 0.1, 0.1, 0.1, 0.14, 0.5])
    np.testing.assert_allclose(ascending(times), [0, 0.1, 0.1001, 0.1002, 0.14, 0.5], atol=1e-12)


def test_frame_times_are_those_of_the_rate(tmp_path):
    film(tmp_path / "a.mp4", 50, 30000 / 1001)
    times = frame_times(tmp_path / "a.mp4")
    np.testing.assert_allclose(times, np.arange(50) * 1001 / 30000, atol=1e-4)
    assert steady_rate(times) == pytest.approx(29.97, abs=0.01)


# ---- frames and pixels

def test_a_video_filmed_sideways_is_shown_upright_and_so_are_its_detections(tmp_path):
    path = film(tmp_path / "a.mp4", 3, size=(96, 64))
    lie_sideways(path)
    video = open_video(path)
    assert video.size == (64, 96) and (probe(path).width, probe(path).height) == (64, 96)
    assert quarter_turns(path) % 2 == 1
    corners = np.array([[[0.0, 0], [96, 0], [96, 64], [0, 64]]])
    placed, size, notices = upright(corners, (96, 64), video)
    assert size == (64, 96) and "sideways" in notices[0]
    assert {tuple(corner) for corner in placed[0]} == {(0, 0), (64, 0), (64, 96), (0, 96)}
    np.testing.assert_allclose(turned(corners, (96, 64), 4), corners)
    # The same picture, turned as NumPy turns it: a bright corner stays on its joint.
    picture = np.zeros((64, 96))
    picture[0, 95] = 1
    row, column = np.argwhere(np.rot90(picture, video.turns))[0]
    assert np.abs(turned(np.array([[95.5, 0.5]]), (96, 64), video.turns)[0] - (column + 0.5, row + 0.5)).max() < 1e-9


def test_detections_in_a_video_that_is_stored_upside_down_are_told_by_their_people():
    video = OwnVideo("a.mp4", (1000, 1002), np.arange(5) / 25, 25, 2)
    motion = detected(motion_at(np.arange(5) / 25), "coco", noise=0)
    np.testing.assert_array_equal(upright(motion, None, video, "coco")[0], motion)
    placed, size, notices = upright(np.array(SIZE) / 2 - motion / 2, (500, 501), video, "coco")
    np.testing.assert_allclose(placed, motion, atol=1e-3)
    assert size == SIZE and "upside down" in notices[0] and "scaled" in notices[1]


def test_detections_of_a_smaller_copy_are_scaled_and_those_of_another_video_refused():
    video = OwnVideo("a.mp4", (200, 100), np.arange(5) / 25, 25, 0)
    placed, _, notices = upright(np.full((5, 2, 2), 10.0), (100, 50), video)
    assert (placed == 20).all() and "scaled" in notices[0]
    with pytest.raises(DataError, match="of this video"):
        upright(np.zeros((5, 2, 2)), (100, 100), video)
    assert "WARNING" in upright(np.full((5, 2, 2), 1000.0), None, video)[2][0]


def test_every_frame_of_the_video_has_its_detections():
    video = OwnVideo("a.mp4", (10, 10), np.arange(20) / 25, 25, 0)
    keypoints = np.arange(40.0)[:, None, None] * np.ones((1, 1, 2))
    assert on_frames(keypoints[:20], video, True)[1] == []
    for seen in (18, 19, 21, 22):
        placed, notices = on_frames(keypoints[:seen], video, True)
        assert len(placed) == 20 and len(notices) == 1 and (placed[:18, 0, 0] == np.arange(18)).all()
    assert len(on_frames(keypoints[:12], video, False)[0]) == 20  # nobody was seen after the twelfth
    for seen in (15, 30):  # the detector saw a part, or the video is one
        placed, notices = on_frames(keypoints[:seen], video, True)
        assert (placed[:, 0, 0] == np.arange(20).clip(max=seen - 1)).all() and notices[0].startswith("WARNING")
    uneven = np.cumsum([0, *[0.02, 0.06] * 9, 0.3])
    spread, notices = on_frames(keypoints[:30], OwnVideo("a.mp4", (10, 10), uneven, 25, 0), True)
    np.testing.assert_allclose(spread[:, 0, 0], uneven / uneven[-1] * 29, rtol=1e-5)
    assert "spread evenly" in notices[0]
    for seen in (40, 9):
        with pytest.raises(DataError, match="20 frames, and its detections"):
            on_frames(keypoints[:seen], video, True)


# ---- the script

def test_one_command_gives_what_two_commands_give(own, tmp_path):
    one = run_script("run_video.py", own / "clip.mp4", "--detections", own / "clip.json", "--evaluate", CHECKPOINT,
                     "--output", tmp_path / "one.mp4", "--export", tmp_path / "one.npz", "--viz-size", 1,
                     "--viz-downsample", 6, "--camera-tilt", 5)
    assert one.status == 0, one.err
    assert "2 people" in one.out and probe(tmp_path / "one.mp4").fps == pytest.approx(25 / 6, rel=1e-3)
    made = run_script("prepare_data_2d.py", "-i", own / "clip.json", "-o", "mine", "--video", own / "clip.mp4",
                      "--data-dir", tmp_path)
    assert made.status == 0, made.err
    two = run_script("run_s-agcn.py", "-d", "custom", "-k", "mine", "--data-dir", tmp_path, "--evaluate", CHECKPOINT,
                     "--render", "--viz-action", "custom", "--viz-subject", own / "clip.mp4",
                     "--viz-video", own / "clip.mp4", "--viz-export", tmp_path / "two.npz", "--viz-output",
                     tmp_path / "two.gif", "--viz-size", 1, "--viz-limit", 2, "--camera-tilt", 5)
    assert two.status == 0, two.err
    with np.load(tmp_path / "one.npz") as first, np.load(tmp_path / "two.npz") as second:
        assert first["keypoints_3d"].shape == (30, 17, 3)
        for space in ("keypoints_3d", "keypoints_3d_world"):
            np.testing.assert_allclose(first[space], second[space], atol=1e-4)
        assert first["camera_tilt"] == second["camera_tilt"] == 5
        # The person in front, not the one behind, as the motion is known; 42 mm is what true joints give.
        positions = motion_at(np.arange(30) / 25)[:, H36M_KEPT]
        truth = (positions - positions[:, :1]) @ rotation_of(h36m_cameras("S9")[0]["orientation"])
        assert 1000 * np.linalg.norm(first["keypoints_3d_camera"] - truth, axis=-1).mean() < 80
    found = read_prediction(tmp_path / "one.npz")
    assert (found.root_path, found.fps, found.size, found.ground_truth) == ("in place", 25, SIZE, None)
    assert found.joints[..., 2].min() == 0 and found.skeleton_2d.names() == LAYOUTS["halpe26"].names()
    assert {"checkpoint", "command", "subject", "video"} <= found.source.keys()
    # The input is the person in front as the motion is known, in pixels of the video.
    motion = motion_at(np.arange(30) / 25)
    np.testing.assert_allclose(found.keypoints_2d, detected(motion, "halpe26", noise=0), atol=0.1)


def test_a_page_of_an_own_video_and_a_file_for_other_programs_leave_results_too(own, tmp_path, monkeypatch, capsys):
    import run_video

    shown = []

    def spy(*given):
        shown.append(given)
        write_viewer(*given)

    monkeypatch.setattr("common.viewer.write_viewer", spy)
    monkeypatch.setattr(sys, "argv", list(map(str, [
        "run_video.py", own / "clip.mp4", "--detections", own / "clip.json", "--evaluate", CHECKPOINT, "--output",
        tmp_path / "page.html", "--export", tmp_path / "a.csv", "--viz-limit", 7,
        "--viz-skip", 2, "--viz-downsample", 3])))
    run_video.main(run_video.get_args())
    (path, (part,), labels, *video), = shown
    assert str(path) == str(tmp_path / "page.html") and len(labels) == 1
    assert video == [str(own / "clip.mp4"), 2, 3]
    whole = read_prediction(tmp_path / "page.results.npz")
    assert (len(part), len(whole)) == (7, 30)
    np.testing.assert_array_equal(part.keypoints_2d, whole.keypoints_2d[2:23:3])
    assert "INFO: metres and seconds" in capsys.readouterr().out
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "page.html", "page.results.npz"]


def test_the_tilt_of_the_camera_turns_the_world_about_its_right_and_nothing_else(own, tmp_path, capsys, monkeypatch):
    import run_video

    monkeypatch.setattr("common.viewer.write_viewer", lambda *_: None)
    found = {}
    for tilt in (None, 11, -20):
        flags = [] if tilt is None else ["--camera-tilt", tilt]
        monkeypatch.setattr(sys, "argv", list(map(str, [
            "run_video.py", own / "clip.mp4", "--detections", own / "clip.json", "--evaluate", CHECKPOINT, "--output",
            tmp_path / "a.html", "--export", tmp_path / "a.npz", *flags])))
        run_video.main(run_video.get_args())
        found[tilt] = read_prediction(tmp_path / "a.npz")
        said = capsys.readouterr().out
        assert f"looking {'up by 20' if tilt == -20 else 'down by 11'} degrees" in said
        # Down the picture, and away from the camera, is where geometry says; the lowest point is on the floor.
        angle = np.deg2rad(11 if tilt is None else tilt)
        x, y, z = np.moveaxis(found[tilt].joints_camera.astype(np.float64), -1, 0)
        world = np.stack([x, np.cos(angle) * z - np.sin(angle) * y, -np.cos(angle) * y - np.sin(angle) * z], axis=-1)
        np.testing.assert_allclose(found[tilt].joints, world - [0, 0, world[..., 2].min()], atol=1e-5)
        assert found[tilt].extra["camera_tilt"] == (11 if tilt is None else tilt)
    np.testing.assert_array_equal(found[None].joints, found[11].joints)
    np.testing.assert_array_equal(found[None].joints_camera, found[-20].joints_camera)


def rotation_of(quaternion):
    """The matrix (3, 3) whose product from the right turns world vectors into the camera's space."""
    w, x, y, z = quaternion
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                     [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                     [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def test_what_does_not_fit_is_one_line(own, tmp_path):
    shared = ["run_video.py", own / "clip.mp4", "--output", tmp_path / "a.mp4"]
    run_script(*shared, "--evaluate", CHECKPOINT).assert_fails(2, "--detections", "--detector")
    given = [*shared, "--detections", own / "clip.json", "--evaluate"]
    run_script(*given, ROOT / "tests/golden/32_gt_27_supervised_epoch_5.bin").assert_fails(4, "17 joints")
    run_script(*given, "gone.bin").assert_fails(4, "checkpoint/h36m/gone.bin")
    page = run_script(*shared[:-1], tmp_path / "a.html", *given[-3:], CHECKPOINT, "--viz-size", 3)
    page.assert_fails(2, "--viz-size", ".html")
    run_script(*given, CHECKPOINT, "--export", own / "clip.json").assert_fails(2, "clip.json", "detections", "another")
    run_script(*given, CHECKPOINT, "--person", 7).assert_fails(2, "7")
    write_alphapose(tmp_path / "other.json", people_of([np.full((30, 15, 2), 5.0)]))
    run_script(*given[:-3], "--detections", tmp_path / "other.json", "--layout", "humaneva15", "--evaluate",
               CHECKPOINT).assert_fails(3, "humaneva15", "coco", "body25")
    (tmp_path / "other.json").unlink()
    (tmp_path / "file").write_text("")
    written = run_script(*shared[:-1], tmp_path / "file" / "a.mp4", *given[-3:], CHECKPOINT)
    written.assert_fails(3, "cannot be written")  # and nothing was lifted before
    assert "lifting" not in written.out and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_checkpoint_tells_its_network(tmp_path):
    from common.lifting import model_of, widths_of

    model = model_of(CHECKPOINT, "body25", [3, 3])
    assert (model.receptive_field(), model.num_joints_in, model.input_layout) == (9, 25, "body25")
    assert LAYOUTS["body25"].num_joints() == 25
    renamed = tmp_path / "16_gt_243_supervised.bin"
    renamed.write_bytes(CHECKPOINT.read_bytes())
    assert model_of(renamed).receptive_field() == 9  # ours say themselves what they are
    with pytest.raises(CheckpointError, match="filter widths|builds no network|another network"):
        model_of(CHECKPOINT, None, [3, 3, 3])
    for widths in ([3], [3, 3**9], [3, "3"], "33", [3.0, 3]):  # what its weights do not have, or no memory holds
        with pytest.raises(CheckpointError, match="tells of filter widths"):
            widths_of(CHECKPOINT, {"widths": 2}, {"filter_widths": widths})


def test_detections_of_a_detectron_file_fit_their_video(own, tmp_path):
    write_detectron(tmp_path / "clip.mp4.npz", people_of([np.full((30, 17, 2), 5.0)]), SIZE)
    found = read_detections(tmp_path / "clip.mp4.npz")
    assert found.size == SIZE and found.frames == 30
