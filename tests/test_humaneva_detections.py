"""2D detections in HumanEva-I's videos: the labelled chunks, what is not labelled, and the synchronisation."""
import json
import shutil

import numpy as np
import pytest
from humaneva_tree import FRAMES, NAME, assert_equal, jogging, prepare, refuses, true_poses, write_jogging

from common import humaneva_detections, humaneva_raw, pose_data
from common.humaneva_raw import CAMERAS, RANGES, SUBJECTS, runs_of
from common.keypoints import COCO_17_NAMES
from common.safe_io import load_npz
from common.synthetic_detections import people_of, write_detectron
from common.synthetic_humaneva import (
    end_of_take,
    pixels,
    write_humaneva,
    write_humaneva_detections,
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_jogging(folder)
    return folder


@pytest.fixture(scope="module")
def detected(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("npz")
    return prepare(output, *jogging(raw), "--convert-3d")


def test_detections_have_exactly_the_labelled_chunks_of_the_motion(detected):
    found, frames = detected[f"data_2d_humaneva15_{NAME}"]["positions_2d"], detected["data_3d_humaneva15"]["frames"]
    labelled = {subject: chunks for subject, chunks in found.items() if not subject.startswith("Unlabeled")}
    assert {subject: list(chunks) for subject, chunks in labelled.items()} == {
        subject: list(chunks) for subject, chunks in frames.items()}
    for subject, chunks in frames.items():
        for chunk, span in chunks.items():
            true = pixels(true_poses(subject, "Jog 1", *span, COCO_17_NAMES), subject.split("/")[1])
            np.testing.assert_allclose(found[subject][chunk], true, atol=1e-3)


def test_what_is_not_labelled_is_kept_in_the_order_of_time(detected):
    found, frames = detected[f"data_2d_humaneva15_{NAME}"]["positions_2d"], detected["data_3d_humaneva15"]["frames"]
    assert list(found["Unlabeled/S4"]) == ["Walking 2"]
    assert [len(view) for view in found["Unlabeled/S4"]["Walking 2"]] == [end_of_take("S4", "Walking 2", FRAMES)] * 3
    for person in RANGES:
        chunks = found[f"Unlabeled/{person}"]
        free = np.ones(end_of_take(person, "Jog 1", FRAMES), dtype=bool)
        for subject in (f"Train/{person}", f"Validate/{person}"):
            for first, end in frames[subject].values():
                free[first:end] = False
        runs = [(first, end) for first, end, value in runs_of(free) if value]
        assert list(chunks) == ["Combo 1", *(f"Jog 1 chunk{number}" for number in range(len(runs)))]
        assert runs[0][0] == 0 and len(runs) >= 3
        expected = {f"Jog 1 chunk{number}": run for number, run in enumerate(runs)}
        expected["Combo 1"] = 0, end_of_take(person, "Combo 1", FRAMES)
        for chunk, span in expected.items():
            true = pixels(true_poses(f"Train/{person}", chunk.split(" chunk")[0], *span, COCO_17_NAMES), person)
            np.testing.assert_allclose(chunks[chunk], true, atol=1e-3)


def test_detections_load_as_coco_and_map_to_humaneva(detected, tmp_path):
    for name, content in detected.items():
        np.savez_compressed(tmp_path / f"{name}.npz", **content)
    keypoints = pose_data.load_keypoints(tmp_path, "humaneva15", NAME)
    assert keypoints.layout == "coco" and keypoints.num_joints == 17
    dataset = pose_data.load_dataset(tmp_path, "humaneva15", keypoints)
    sequences = pose_data.fetch(dataset, keypoints, list(SUBJECTS), ["Jog"])
    spans = [span for chunks in detected["data_3d_humaneva15"]["frames"].values() for span in chunks.values()]
    assert sum(map(len, sequences)) == 3 * sum(end - first for first, end in spans)


def test_without_p_the_converted_labels_are_used(raw, detected, tmp_path):
    prepare(tmp_path, "-p", raw / "jogging", "--allow-missing", "--convert-3d")
    again = prepare(tmp_path, "--convert-2d", raw / "videos", "-o", NAME)[f"data_2d_humaneva15_{NAME}"]["positions_2d"]
    before = detected[f"data_2d_humaneva15_{NAME}"]["positions_2d"]
    assert_equal(again, before)


def walk_for_alignment(folder, frames, **options):
    """Labels and detections of one take."""
    write_humaneva(folder / "labels", frames, takes=("Walking 1",), subjects=("Validate/S1",), damaged=False)
    write_humaneva_detections(folder / "videos", 1, takes=("Walking 1",), unlabelled=(), people=("S1",), **options)


def test_a_wrong_synchronisation_is_seen_by_the_labels(tmp_path, capsys):
    walk_for_alignment(tmp_path, 40, noise=0, late=(late := -1))
    flags = "-p", tmp_path / "labels", "--allow-missing", "--convert-2d", tmp_path / "videos", "-o", "net"
    found, kept = (prepare(tmp_path / "npz", *flags, *more)["data_2d_humaneva15_net"]["positions_2d"]["Validate/S1"]
                   ["Walking 1 chunk0"] for more in ((), ("--no-align",)))
    said = capsys.readouterr().out
    assert f"INFO: all videos are shifted by {late:+d} frame" in said and "made anew" in said
    for views, span in ((found, (5, 45)), (kept, (5 - late, 45 - late))):
        true = pixels(true_poses("Train/S1", "Walking 1", *span, COCO_17_NAMES), "S1")
        assert np.median(np.abs(views - true)) < 1e-3  # but for the frames in which nobody was found


def test_noise_does_not_shift_anything_and_too_little_to_compare_is_told(tmp_path, capsys):
    walk_for_alignment(tmp_path, 40, noise=6)
    flags = "--allow-missing", "--convert-2d", tmp_path / "videos", "-o", "net"
    prepare(tmp_path / "npz", "-p", tmp_path / "labels", *flags)
    said = capsys.readouterr().out
    assert "px from the labels (median)" in said and "shifted" not in said
    write_humaneva(tmp_path / "labels", 16, takes=("Walking 1",), subjects=("Validate/S1",), damaged=False)
    prepare(tmp_path / "npz", "-p", tmp_path / "labels", *flags)
    assert "too few labelled frames" in capsys.readouterr().out


def test_other_names_and_detectors_are_taken(raw, detected, tmp_path):
    videos = tmp_path / "videos" / "S1" / "found"
    videos.mkdir(parents=True)
    for camera in CAMERAS:
        shutil.copy(raw / "videos" / "S1" / f"Jog_1_({camera}).avi.npz", videos / f"Jog 1 ({camera}).npz")
    keypoints = load_npz(videos / "Jog 1 (C3).npz")["keypoints"]
    (videos / "Jog 1 (C3).npz").unlink()
    people = [[{"keypoints": frame[1][0, :2].T.tolist(), "keypoint_scores": [0.9] * 17}] for frame in keypoints]
    instances = [{"frame_id": number, "instances": instances} for number, instances in enumerate(people)]
    (videos / "Jog_1_(C3).json").write_text(json.dumps({"instance_info": instances}))
    (videos / "Jog_1_(BW1).json").write_text("black and white")
    write_humaneva(tmp_path / "labels", FRAMES, takes=("Jog 1",), subjects=("Train/S1", "Validate/S1"))
    made = prepare(tmp_path / "npz", "-p", tmp_path / "labels", "--allow-missing", "--convert-2d", tmp_path / "videos",
                   "-o", "mmpose")["data_2d_humaneva15_mmpose"]["positions_2d"]
    before = detected[f"data_2d_humaneva15_{NAME}"]["positions_2d"]
    assert list(made) == ["Train/S1", "Validate/S1", "Unlabeled/S1"]
    for subject, chunks in made.items():
        for chunk, views in chunks.items():
            np.testing.assert_allclose(views, before[subject][chunk], atol=1e-3)


def test_missing_and_short_videos_are_named_with_their_numbers(raw, tmp_path, capsys):
    videos = shutil.copytree(raw / "videos", tmp_path / "videos")
    flags = "-p", raw / "jogging", "--allow-missing", "--convert-2d", videos, "-o", NAME
    (videos / "S4" / "Walking_2_(C2).avi.npz").unlink()
    prepare(tmp_path / "npz", *flags)
    assert "left out: S4 Walking 2 (C2 missing)" in capsys.readouterr().out
    path = videos / "S2" / "Jog_1_(C2).avi.npz"
    content = load_npz(path)
    short = {name: content[name][:300] for name in ("boxes", "keypoints")}
    np.savez_compressed(path, **short, metadata=np.array(dict(content["metadata"]), dtype=object))
    refuses(tmp_path / "npz", flags, [str(path), "has 300 frames", "Train/S2 Jog 1 chunk0 needs its frames 498 to "])
    path.unlink()
    prepare(tmp_path / "npz", *flags, "--convert-3d")
    assert "no detections, and left out: S2 Jog 1 (C2)" in capsys.readouterr().out
    refuses(tmp_path / "npz", flags[3:], ["S2/Jog_1_(C2).avi.npz", "missing"])


def test_detections_that_do_not_fit_are_refused(raw, tmp_path):
    labels = "-p", raw / "jogging", "--allow-missing"
    convert = "--convert-2d", tmp_path / "videos", "-o", NAME
    (tmp_path / "videos").mkdir()
    refuses(tmp_path / "npz", (*labels, *convert), ["S1/Walking_1_(C1).avi.npz"])
    elsewhere = "--convert-2d", tmp_path / "none", "-o", NAME
    refuses(tmp_path / "npz", (*labels, *elsewhere), ["no such folder", "--convert-2d"])
    refuses(tmp_path / "npz", convert, ["data_3d_humaneva15.npz", "--convert-3d"])
    shutil.copy(raw / "videos" / "S1" / "Jog_1_(C1).avi.npz", tmp_path / "videos")
    refuses(tmp_path / "npz", (*labels, *convert), ["Jog_1_(C1).avi.npz", "whose video"])
    (tmp_path / "videos" / "S1").mkdir()
    for name in ("Jog_1_(C1).avi.npz", "Jog 1 (C1).npz"):
        shutil.copy(raw / "videos" / "S1" / "Jog_1_(C1).avi.npz", tmp_path / "videos" / "S1" / name)
    (tmp_path / "videos" / "Jog_1_(C1).avi.npz").unlink()
    refuses(tmp_path / "npz", (*labels, *convert), ["Jog_1_(C1).avi.npz", "same video"])
    (tmp_path / "videos" / "S1" / "Jog 1 (C1).npz").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "videos" / "S1" / "Jog_1_(C1).avi.npz").unlink()
    refuses(tmp_path / "npz", (*labels, *convert), ["Jog 1 (C1).npz"])
    for frames in ({}, {"frames": np.array({"S1": {"Jog 1 chunk0": (3, 2)}}, dtype=object)}):
        np.savez_compressed(tmp_path / "data_3d_humaneva15.npz", positions_3d=np.array({}, dtype=object), **frames)
        refuses(tmp_path, convert, ["data_3d_humaneva15.npz", "which frames"])


def moving_labels(frames=60):
    """Labels of one camera in motion, and the same joints in a video of which the first 100 frames are skipped."""
    time = np.arange(-100, frames + 9)[:, None, None] / 15
    phase = np.random.default_rng(0).uniform(0, 6, (1, 15, 2))
    points = (200 + 15 * np.arange(15)[:, None] + 20 * np.sin(time + phase)).astype(np.float32)
    return humaneva_raw.Labels(15, {}, {"Train/S2": {"Jog 1 chunk0": [points[100 : 100 + frames]] * 3}},
                               {"Train/S2": {"Jog 1 chunk0": (0, frames)}}), points


@pytest.mark.parametrize("late", [0, -1])
@pytest.mark.parametrize("noise, bias", [(0, 0), (3, 0), (4, 8)])
def test_the_synchronisation_is_found_in_noise_and_with_joints_elsewhere(late, noise, bias):
    labels, points = moving_labels()
    rng = np.random.default_rng(1)
    seen = points[-late:] + noise * rng.standard_normal(points[-late:].shape) + bias * rng.standard_normal((15, 2))
    videos = {("S2", "Jog 1"): {camera: humaneva_detections.Video(None, seen) for camera in CAMERAS[:2]}}
    assert humaneva_detections.fitting_shift(videos, "humaneva15", labels, "humaneva15")[0] == late


@pytest.mark.parametrize("still", [False, True])
def test_what_tells_nothing_of_the_synchronisation_leaves_it_as_published(still):
    labels, points = moving_labels()
    seen = points[99:100] + 3 * np.random.default_rng(1).standard_normal(points.shape) if still else np.broadcast_to(
        np.arange(len(points), dtype=float)[:, None, None], points.shape)
    videos = {("S2", "Jog 1"): {"C1": humaneva_detections.Video(None, seen)}}
    assert humaneva_detections.fitting_shift(videos, "humaneva15", labels, "humaneva15")[0] == 0


def test_the_only_one_found_in_a_frame_is_the_person_wherever_it_is(tmp_path):
    keypoints = np.random.default_rng(0).uniform(0, 400, (9, 17, 2)).astype(np.float32)
    (tmp_path / "S4").mkdir()
    for camera in CAMERAS:
        write_detectron(tmp_path / "S4" / f"Walking_2_({camera}).avi.npz", people_of([keypoints]), (640, 480))
    videos, layout, _ = humaneva_detections.read_videos(humaneva_detections.find_videos(tmp_path))
    assert layout == "coco" and np.array_equal(videos["S4", "Walking 2"]["C2"].keypoints, keypoints)
