"""The raw HumanEva-I, as miniature trees of demo people, and what the preparation makes of it."""
import os
import shutil
import sys
from unittest import mock

import h5py
import numpy as np
import pytest
import scipy.io
from conftest import ROOT, run_script
from humaneva_tree import FRAMES, NAME, assert_equal, change, jogging, prepare, refuses, true_poses, write_jogging

import prepare_data_humaneva
from common import humaneva_raw, pose_data, synthetic_humaneva
from common.humaneva_raw import RANGES, SUBJECTS, all_takes, frame_offsets, frame_range, runs_of
from common.keypoints import LAYOUTS
from common.safe_io import load_npz
from common.synthetic_humaneva import (
    NO_WHOLE_FRAME,
    TAKES,
    damaged_frames,
    pixels,
    write_humaneva,
)
from common.utils import DataError, DependencyError, UsageError, WriteError


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Labels of all takes, damaged here and there, and what `write_jogging` writes."""
    folder = tmp_path_factory.mktemp("raw")
    write_humaneva(folder / "labels", FRAMES)
    write_jogging(folder, ["S1"])
    return folder


@pytest.fixture(scope="module")
def made(raw, tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("npz"), "-p", raw / "labels", "--convert-3d")


@pytest.fixture
def copy(raw, tmp_path):
    """A tree of labels that a test may damage."""
    return shutil.copytree(raw / "labels", tmp_path / "raw")


# --- labels ---

def test_the_published_conversion_comes_out_again(real_data, tmp_path):
    """Its chunks, put back into takes with damaged frames between them, get their own numbers and values."""
    published = [load_npz(real_data / "humaneva" / f"data_{name}.npz")[key] for name, key in
                 (("3d_humaneva15", "positions_3d"), ("2d_humaneva15_gt", "positions_2d"))]
    for subject, take in all_takes():
        first, end = frame_range(subject, take)
        poses, flat = np.full((end - first, 15, 3), np.nan), np.full((3, end - first, 15, 2), np.nan)
        runs = {int(name[len(take) + 6:]): name for name in published[0].get(subject, {}) if name.startswith(take)}
        frame = 0
        for number in range(max(runs, default=-1) + 1):  # a damaged run has one frame, the last one all that are left
            length = 1
            if number in runs:
                length = len(published[0][subject][runs[number]])
                poses[frame : frame + length] = 1000.0 * published[0][subject][runs[number]].astype(np.float64)
                flat[:, frame : frame + length] = published[1][subject][runs[number]]
            frame += length
        path = tmp_path / "raw" / subject / f"{take.replace(' ', '_')}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(path, {"poses_3d": poses, "poses_2d": flat})
    made = prepare(tmp_path / "npz", "-p", tmp_path / "raw", "--convert-3d")
    made = made["data_3d_humaneva15"]["positions_3d"], made["data_2d_humaneva15_gt"]["positions_2d"]
    for found, expected in zip(made, published, strict=True):
        assert {subject: set(chunks) for subject, chunks in found.items()} == {
            subject: set(chunks) for subject, chunks in expected.items()}
        for subject, chunks in found.items():
            assert all(np.array_equal(chunks[name], expected[subject][name]) for name in chunks)


def test_training_begins_where_validation_ends():
    for take in TAKES:
        assert frame_range("Validate/S2", take)[1] == frame_range("Train/S2", take)[0]
        assert frame_range("Validate/S2", take)[0] == 5
    assert frame_range("Train/S1", "Walking 1") == (590, 1203) and frame_offsets("S1", "Walking 1") == [82, 81, 82]
    assert frame_offsets("S3", "Box 1") == [1, 1, 1] and frame_offsets("S4", "Combo 1") == [0, 0, 0]


def test_chunks_are_the_runs_of_whole_frames_of_the_motion(made):
    poses, views = made["data_3d_humaneva15"], made["data_2d_humaneva15_gt"]
    assert list(poses["positions_3d"]) == list(SUBJECTS) == list(views["positions_2d"])
    seen = 0
    for subject, take in all_takes():
        whole, start = ~damaged_frames(subject, take, FRAMES), frame_range(subject, take)[0]
        expected = {f"{take} chunk{number}": (start + first, start + end)
                    for number, (first, end, value) in enumerate(runs_of(whole)) if value}
        chunks = {name: span for name, span in poses["frames"][subject].items() if name.startswith(take)}
        assert chunks == expected
        for chunk, span in chunks.items():
            true = true_poses(subject, take, *span)
            found = poses["positions_3d"][subject][chunk]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, true, atol=1e-6)
            flat = views["positions_2d"][subject][chunk]
            assert len(flat) == 3 and all(view.dtype == np.float32 for view in flat)
            np.testing.assert_allclose(flat, pixels(true, subject.split("/")[1]), atol=1e-4)
            seen += 1
    numbers = {chunk[-6:] for chunks in poses["frames"].values() for chunk in chunks}
    assert seen > 30 and {"chunk0", "chunk1", "chunk2"} <= numbers
    assert not any(chunk.startswith(NO_WHOLE_FRAME[1]) for chunk in poses["frames"][NO_WHOLE_FRAME[0]])


def test_the_2d_file_names_its_joints(made):
    assert made["data_2d_humaneva15_gt"]["metadata"] == {
        "layout_name": "humaneva15", "num_joints": 15,
        "keypoints_symmetry": [[2, 3, 4, 8, 9, 10], [5, 6, 7, 11, 12, 13]]}


def test_twenty_joints_give_files_of_their_own(tmp_path):
    write_humaneva(tmp_path / "raw", 5, joints=20, takes=("Box 1",), damaged=False, subjects=("Train/S2",))
    made = prepare(tmp_path / "npz", "-p", tmp_path / "raw", "--convert-3d", "--allow-missing")
    true = true_poses("Train/S2", "Box 1", 382, 387, LAYOUTS["humaneva20"].names())
    np.testing.assert_allclose(made["data_3d_humaneva20"]["positions_3d"]["Train/S2"]["Box 1 chunk0"], true, atol=1e-6)
    assert made["data_2d_humaneva20_gt"]["metadata"]["num_joints"] == 20 and len(made) == 2
    keypoints = pose_data.load_keypoints(tmp_path / "npz", "humaneva20", "gt")
    assert len(pose_data.load_dataset(tmp_path / "npz", "humaneva20", keypoints).subjects()) == 1


def test_whole_takes_are_cut_to_the_labelled_frames(tmp_path, capsys):
    options = {"takes": ("Jog 1",), "subjects": ("Train/S1", "Validate/S1")}
    write_humaneva(tmp_path / "cut", None, **options)
    write_humaneva(tmp_path / "whole", None, whole=True, **options)
    cut, whole = (prepare(tmp_path / f"{name}_npz", "-p", tmp_path / name, "--convert-3d", "--allow-missing")
                  ["data_3d_humaneva15"] for name in ("cut", "whole"))
    assert cut["frames"] == whole["frames"] and "fewer frames" not in capsys.readouterr().out
    for subject, chunks in cut["positions_3d"].items():
        for chunk, poses in chunks.items():
            assert np.array_equal(poses, whole["positions_3d"][subject][chunk])


def test_more_frames_than_labelled_but_fewer_than_the_take_are_refused(copy, tmp_path):
    path = copy / "Validate" / "S1" / "Jog_1.mat"
    change(path, "poses_3d", lambda poses: np.ones((364, 15, 3)))
    change(path, "poses_2d", lambda views: np.ones((3, 364, 15, 2)))
    refuses(tmp_path / "npz", ("-p", copy, "--convert-3d"), [str(path), "364", "362", "367"])


def test_what_is_in_other_places_and_orders_is_found(copy, made, tmp_path, capsys):
    path = copy / "Train" / "S3" / "Box_1.mat"
    change(path, "poses_2d", lambda views: views.swapaxes(0, 1), target=path.with_name("Box 1.mat"))
    path.unlink()
    path = copy / "Train" / "S2" / "Jog_1.mat"
    content = scipy.io.loadmat(path)
    with h5py.File(path, "w") as file:  # as MATLAB's -v7.3
        for variable in ("poses_3d", "poses_2d"):
            file[variable] = content[variable].T
    shutil.copy(path, copy / "Train" / "S2" / "Walking_3.mat")
    copy = copy.rename(copy.with_name("converted_15j"))
    for source in (copy.parent, copy / "Train"):
        again = prepare(tmp_path / "npz" / source.name, "-p", source, "--convert-3d")
        assert again["data_3d_humaneva15"]["frames"] == made["data_3d_humaneva15"]["frames"]
        assert "left out, as the labels of no known take: Train/S2/Walking_3.mat\n" in capsys.readouterr().out
    for one, other in ((again[name][key], made[name][key]) for name, key in
                       (("data_3d_humaneva15", "positions_3d"), ("data_2d_humaneva15_gt", "positions_2d"))):
        assert_equal(one, other)
    (copy.parent / "converted_20j" / "Validate").mkdir(parents=True)
    refuses(tmp_path / "none", ("-p", copy.parent, "--convert-3d"), ["converted_15j, converted_20j", "-p"])


def test_missing_takes_are_named_and_missing_people_are_told(copy, tmp_path, capsys):
    shutil.rmtree(copy / "Validate" / "S2")
    prepare(tmp_path / "npz", "-p", copy, "--convert-3d")
    assert "holds nothing of Validate/S2, " in capsys.readouterr().out
    (copy / "Train" / "S1" / "Jog_1.mat").unlink()
    (copy / "Validate" / "S3" / "Box_1.mat").unlink()
    flags = "-p", copy, "--convert-3d", "--force"
    refuses(tmp_path / "npz", flags, [str(copy / "Train" / "S1" / "Jog_1.mat"), "2 of 25", "Validate/S3/Box_1.mat"])
    made = prepare(tmp_path / "npz", *flags, "--allow-missing")
    assert "left out: Train/S1/Jog_1.mat, Validate/S3/Box_1.mat" in capsys.readouterr().out
    assert not any(chunk.startswith("Jog") for chunk in made["data_3d_humaneva15"]["frames"]["Train/S1"])


def joints_20(values):
    return np.concatenate([values, values[..., :5, :]], axis=-2)


DAMAGE = {
    "joints": ("poses_3d", lambda poses: poses[:, :14], ["poses_3d", "(14, 14, 3)", "15 or 20"]),
    "coordinates": ("poses_3d", lambda poses: poses[..., :2], ["poses_3d", "(14, 15, 2)"]),
    "no axes": ("poses_3d", np.ravel, ["poses_3d", "shape"]),
    "views of other joints": ("poses_2d", joints_20, ["poses_2d", "(3, 14, 20, 2)", "(3, 14, 15, 2)"]),
    "a camera less": ("poses_2d", lambda views: views[:2], ["poses_2d", "3 cameras"]),
    "a frame less": ("poses_2d", lambda views: views[:, 1:], ["poses_2d", "14 frames"]),
    "one view, flat": ("poses_2d", np.ravel, ["poses_2d", "shape"]),
    "text": ("poses_2d", lambda views: "nothing", ["poses_2d holds no numbers"]),
    "complex": ("poses_3d", lambda poses: poses * 1j, ["poses_3d holds no numbers"]),
    "no frame": ("poses_3d", lambda poses: poses[:0], ["holds no frames"]),
    "no variable": ("poses_2d", lambda views: None, ["no variable poses_2d"]),
}


@pytest.mark.parametrize("variable, function, words", DAMAGE.values(), ids=DAMAGE)
def test_damaged_labels_are_named(raw, tmp_path, variable, function, words):
    path = tmp_path / "Train" / "S1" / "Walking_1.mat"
    path.parent.mkdir(parents=True)
    change(raw / "labels" / "Train" / "S1" / "Walking_1.mat", variable, function, target=path)
    flags = "-p", tmp_path, "--convert-3d", "--allow-missing"
    refuses(tmp_path / "npz", flags, [str(path), *words, "export_humaneva.m"])
    assert not (tmp_path / "npz").exists()


def test_files_of_other_joints_are_not_mixed(copy, tmp_path):
    write_humaneva(copy, 3, joints=20, takes=("Box 1",), subjects=("Validate/S1",))
    refuses(tmp_path / "npz", ("-p", copy, "--convert-3d"), [str(copy / "Validate" / "S1" / "Box_1.mat"), "20 joints",
                                                           str(copy / "Train" / "S1" / "Walking_1.mat"), "15"])


def test_truncated_changed_and_foreign_files_end_in_one_line(raw, tmp_path):
    source, path = raw / "labels" / "Train" / "S1" / "Walking_1.mat", tmp_path / "Train" / "S1" / "Walking_1.mat"
    path.parent.mkdir(parents=True)
    whole, flags = source.read_bytes(), ("-p", tmp_path, "--convert-3d", "--allow-missing")
    for share in (0.01, 0.3, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        refuses(tmp_path / "npz", flags, [str(path)])
    for content in (b"", b"<html>not found</html>" * 20, b"\x89HDF\r\n\x1a\n" * 30):
        path.write_bytes(content)
        refuses(tmp_path / "npz", flags, [str(path)])
    rng = np.random.default_rng(0)
    for _ in range(30):
        broken = bytearray(whole)
        broken[rng.integers(0, 400)] = rng.integers(0, 256)
        path.write_bytes(broken)
        try:
            humaneva_raw.read_take(path)
        except DataError as error:
            assert str(path) in str(error)


def test_takes_without_a_whole_frame_are_told_and_nothing_else_is_an_error(tmp_path, capsys):
    subject, take = NO_WHOLE_FRAME
    write_humaneva(tmp_path / "raw", 4, takes=(take, "Box 1"), subjects=(subject,))
    made = prepare(tmp_path / "npz", "-p", tmp_path / "raw", "--convert-3d", "--allow-missing")
    assert f"no whole frame is labelled: {subject} {take}\n" in capsys.readouterr().out
    assert list(made["data_3d_humaneva15"]["positions_3d"]) == [subject]
    (tmp_path / "raw" / subject / "Box_1.mat").unlink()
    refuses(tmp_path / "none", ("-p", tmp_path / "raw", "--convert-3d", "--allow-missing"), ["no frame of any file"])


# --- the script ---

@pytest.mark.parametrize("flags, word", [
    ((), "say what to prepare"), (("--convert-3d",), "-p PATH"), (("-p", "raw", "--convert-3d", "-o", "x"), "-o names"),
    (("--convert-2d", "videos"), "-o"), (("--convert-2d", "videos", "-o", "gt"), "gt"),
    (("--convert-2d", "videos", "-o", "../x"), "letters"), (("-p", "raw", "--convert-3d", "--no-align"), "--no-align")])
def test_flags_that_do_not_fit_are_refused(tmp_path, flags, word):
    refuses(tmp_path, flags, [word], UsageError)


def test_folders_without_labels_are_refused(tmp_path):
    (tmp_path / "empty" / "Train").mkdir(parents=True)
    for folder, word in (("none", "no such folder"), ("empty", "Train/S1/Walking_1.mat"), ("empty/Train", "Train/S1/")):
        refuses(tmp_path / "npz", ("-p", tmp_path / folder, "--convert-3d"), [word])
    refuses(tmp_path / "npz", ("-p", tmp_path, "--convert-3d"), ["Train/S1/Walking_1.mat"])


def test_a_rerun_keeps_the_files_until_the_sources_change_or_it_is_forced(raw, tmp_path, capsys):
    flags = "-p", raw / "jogging", "--allow-missing", "--convert-3d"
    prepare(tmp_path, *flags)
    with mock.patch.object(prepare_data_humaneva, "write", side_effect=AssertionError("was written")):
        prepare(tmp_path, *flags)
    assert capsys.readouterr().out.count("exists, kept") == 2
    changed = shutil.copytree(raw / "jogging", tmp_path / "changed")
    change(changed / "Train" / "S1" / "Jog_1.mat", "poses_3d", lambda poses: poses + 1)
    made = prepare(tmp_path, "-p", changed, *flags[2:])
    assert capsys.readouterr().out.count("is made anew, as its sources") == 2
    chunk, span = next(iter(made["data_3d_humaneva15"]["frames"]["Train/S1"].items()))
    np.testing.assert_allclose(made["data_3d_humaneva15"]["positions_3d"]["Train/S1"][chunk],
                               true_poses("Train/S1", "Jog 1", *span) + 1e-3, atol=1e-6)
    prepare(tmp_path, "-p", changed, *flags[2:], "--force")
    assert capsys.readouterr().out.count("is made anew\n") == 2
    np.savez_compressed(tmp_path / "data_3d_humaneva15.npz", positions_3d=np.array({}, dtype=object))
    refuses(tmp_path, flags, ["not a file of this script; --force"])


@pytest.mark.parametrize("error, seen", [(KeyboardInterrupt(), KeyboardInterrupt),
                                         (OSError(28, "No space left on device"), WriteError)])
def test_writing_that_is_broken_off_leaves_nothing_half_written(raw, tmp_path, error, seen):
    def write_half(file, **arrays):
        file.write(b"half")
        raise error

    with mock.patch.object(np, "savez_compressed", write_half), pytest.raises(seen):
        prepare(tmp_path, *jogging(raw))
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_its_pip_line(copy, tmp_path):
    with h5py.File(copy / "Train" / "S1" / "Jog_1.mat", "w") as file:
        file["poses_3d"] = np.ones((3, 15, 2))
    with mock.patch.dict(sys.modules, {"h5py": None}):
        refuses(tmp_path / "npz", ("-p", copy, "--convert-3d"), ["pip install h5py"], DependencyError)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_without_permission_is_named(copy, tmp_path):
    path = copy / "Train" / "S1" / "Walking_1.mat"
    path.chmod(0)
    run_script("prepare_data_humaneva.py", "-p", copy, "--convert-3d", "--output-dir", tmp_path / "npz").assert_fails(
        3, str(path), "ermission")


def test_the_script_converts_both_and_the_next_command_reads_them(raw, tmp_path):
    command = ["prepare_data_humaneva.py", *jogging(raw), "--convert-3d", "--output-dir", tmp_path / "npz"]
    done = run_script(*command)
    assert done.status == 0 and not done.err, done.err
    assert f"next: python run_s-agcn_HE_13.py -k {NAME} --data-dir {tmp_path / 'npz'}\n" in done.out
    run_script(*(flag for flag in command if flag != "--allow-missing")).assert_fails(3, "missing", "--allow-missing")


def test_the_export_script_is_for_matlab_and_octave_alike():
    text = (ROOT / "data" / "export_humaneva.m").read_text()
    code = "\n".join(line.partition("%")[0] for line in text.splitlines())
    assert not any(word in code for word in ('"', "!=", "endif", "endfor", "endfunction", "#", "+=", "++"))
    for person, takes in RANGES.items():
        for take, (first, middle, end) in takes.items():
            assert f"'{person}', '{take.replace(' ', '_')}', {first}, {middle}, {end}" in code
    assert synthetic_humaneva.LEAD == 127
