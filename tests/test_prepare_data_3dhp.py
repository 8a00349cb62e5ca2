"""The raw MPI-INF-3DHP, as miniature trees of demo people, and what the preparation makes of it."""
import os
import shutil
import sys
from unittest import mock

import h5py
import numpy as np
import pytest
import scipy.io
from conftest import run_script

import prepare_data_3dhp
from common import synthetic_raw
from common.mpi3dhp_dataset import JOINTS_OF_28, TEST_SEQUENCES, TRAINING_CAMERAS, TRAINING_SEQUENCES
from common.mpi3dhp_raw import TEST_FOLDERS
from common.safe_io import load_npz
from common.synthetic_raw import camera_space, pixels, recording, universal_scale
from common.utils import DataError, DependencyError, UsageError, WriteError

FRAMES, TEST_FRAMES = 20, 23
TRAIN, TEST = ("--only", "train", "--subjects", "S1"), ("--only", "test")


def prepare(source, output, *flags):
    """Run the script in this process; returns (train, test) as far as they were written."""
    command = ["prepare_data_3dhp.py", "--source", source, "--output", output, *flags]
    with mock.patch.object(sys, "argv", list(map(str, command))):
        prepare_data_3dhp.main(prepare_data_3dhp.get_args())
    paths = [output / f"data_{part}_3dhp.npz" for part in ("train", "test")]
    return [load_npz(path)["data"] if path.exists() else None for path in paths]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two training subjects and the whole test set."""
    folder = tmp_path_factory.mktemp("3dhp") / "raw"
    synthetic_raw.write_mpi_inf_3dhp(folder, FRAMES, TEST_FRAMES, subjects=("S1", "S2"))
    return folder


@pytest.fixture(scope="module")
def made(raw, tmp_path_factory):
    return prepare(raw, tmp_path_factory.mktemp("npz"), "--subjects", "S1,S2")


@pytest.fixture
def copy(raw, tmp_path):
    """A tree that a test may damage: S1 and the test set."""
    for name in ("S1", *TEST_SEQUENCES):
        shutil.copytree(raw / name, tmp_path / "raw" / name)
    return tmp_path / "raw"


def change_cells(copy, variable, change, name="S1/Seq1"):
    """Rewrite `annot.mat` with `change(cells (14, 1))` in place of one variable; None takes it out."""
    path = copy / name / "annot.mat"
    content = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")}
    content[variable] = change(content[variable])
    scipy.io.savemat(path, {key: value for key, value in content.items() if value is not None})


def with_cell(camera, value):
    """A change of one camera's cell: `value` is an array or a function of the old one."""
    def change(cells):
        cells[camera, 0] = value(cells[camera, 0].copy()) if callable(value) else value
        return cells
    return change


def change_variable(copy, variable, change, name="TS3"):
    """Rewrite one variable of `annot_data.mat`; None takes it out."""
    with h5py.File(copy / name / "annot_data.mat", "r+") as file:
        value = change(file[variable][()])
        del file[variable]
        if value is not None:
            file[variable] = value


def broken_at(place, value):
    def change(values):
        values[place] = value
        return values
    return change


def test_training_poses_are_the_recorded_people_at_their_universal_height(made):
    assert list(made[0]) == ["S1 Seq1", "S1 Seq2", "S2 Seq1", "S2 Seq2"]
    cameras = synthetic_raw.training_cameras()
    for name, (views, fps) in made[0].items():
        assert fps == TRAINING_SEQUENCES[name][1] and list(views) == [str(number) for number in TRAINING_CAMERAS]
        positions = recording(name, FRAMES)[0]
        for number, view in views.items():
            expected = universal_scale(positions) * camera_space(positions, cameras[int(number)])[:, JOINTS_OF_28]
            assert view["data_3d"].dtype == view["data_2d"].dtype == np.float32
            np.testing.assert_allclose(view["data_3d"], expected, atol=1e-3)
            np.testing.assert_allclose(view["data_2d"], pixels(expected, cameras[int(number)]), atol=1e-3)


def test_test_poses_keep_double_precision_and_carry_labels(made):
    assert tuple(made[1]) == TEST_SEQUENCES
    for name, sequence in made[1].items():
        positions, activity = recording(name, TEST_FRAMES)
        camera = synthetic_raw.camera_of(name)
        expected = universal_scale(positions) * camera_space(positions, camera)[:, JOINTS_OF_28]
        assert sequence["data_3d"].dtype == sequence["data_2d"].dtype == np.float64
        assert np.array_equal(sequence["data_3d"], expected)
        np.testing.assert_allclose(sequence["data_2d"], pixels(sequence["data_3d"], camera), atol=1e-9)
        assert np.array_equal(sequence["activity"], activity)
        assert np.array_equal(sequence["valid"], synthetic_raw.valid_frames(name, activity))


def test_the_test_set_holds_all_activities_and_frames_that_do_not_count(made):
    counted = [sequence["activity"][sequence["valid"]] for sequence in made[1].values()]
    assert set(np.concatenate(counted)) == set(range(1, 8))
    assert all(0.4 < sequence["valid"].mean() < 1 for sequence in made[1].values())


def equal(a, b):
    return all(np.array_equal(a[name][key], b[name][key]) for name in a for key in a[name]) and list(a) == list(b)


def test_both_orders_of_axes_give_the_same_data(made, tmp_path):
    synthetic_raw.write_mpi_inf_3dhp(tmp_path / "raw", 1, TEST_FRAMES, subjects=(), transposed=True)
    assert equal(prepare(tmp_path / "raw", tmp_path / "npz", *TEST)[1], made[1])


def test_labels_without_a_second_axis_and_cells_in_a_row_are_taken(copy, made, tmp_path):
    for variable in ("valid_frame", "activity_annotation"):
        change_variable(copy, variable, np.ravel)
    change_cells(copy, "annot2", np.transpose)
    train, test = prepare(copy, tmp_path / "npz", "--subjects", "S1")
    assert equal(test, made[1])
    assert np.array_equal(train["S1 Seq1"][0]["8"]["data_2d"], made[0]["S1 Seq1"][0]["8"]["data_2d"])


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_single_frame_can_be_prepared(tmp_path, squeezed):
    synthetic_raw.write_mpi_inf_3dhp(tmp_path / "raw", 1, subjects=("S1",))
    if squeezed:  # MATLAB drops trailing axes of length one
        for variable in ("annot2", "univ_annot3"):
            change_variable(tmp_path / "raw", variable, np.squeeze)
    train, test = prepare(tmp_path / "raw", tmp_path / "npz", "--subjects", "S1")
    assert train["S1 Seq1"][0]["0"]["data_3d"].shape == (1, 17, 3)
    assert test["TS3"]["data_3d"].shape == (1, 17, 3) and test["TS3"]["valid"].shape == (1,)


@pytest.mark.parametrize("folder", TEST_FOLDERS[1:])
def test_the_test_set_is_found_where_archives_put_it(copy, made, tmp_path, folder):
    (copy / folder).mkdir(parents=True)
    for name in TEST_SEQUENCES:
        (copy / name).rename(copy / folder / name)
    assert equal(prepare(copy, tmp_path / "npz", *TEST)[1], made[1])


def test_without_activities_there_is_a_notice_and_no_labels(copy, tmp_path, capsys):
    change_variable(copy, "activity_annotation", lambda values: None)
    test = prepare(copy, tmp_path / "npz", *TEST)[1]
    assert "no activity_annotation, so no table by activity: TS3\n" in capsys.readouterr().out
    assert "activity" not in test["TS3"] and "activity" in test["TS2"]


def test_frames_beyond_the_published_ones_are_cut_and_fewer_are_told(copy, tmp_path, capsys):
    with mock.patch.dict(TRAINING_SEQUENCES, {"S1 Seq1": (FRAMES - 3, 25)}):
        train = prepare(copy, tmp_path / "npz", *TRAIN)[0]
    assert train["S1 Seq1"][0]["4"]["data_2d"].shape == (FRAMES - 3, 17, 2)
    output = capsys.readouterr().out
    assert f"S1 Seq1 ({FRAMES - 3} of {FRAMES})" in output and f"S1 Seq2 ({FRAMES} of 12430)" in output
    assert "univ_annot3" in output


TRAINING_DAMAGE = {
    "too few cameras": ("annot2", lambda cells: cells[:5], ["S1 Seq1 camera 5 annot2", "5 of 14"]),
    "an empty cell": ("univ_annot3", with_cell(6, np.empty((0, 0))), ["S1 Seq1 camera 6 univ_annot3", "empty"]),
    "a pose less": ("univ_annot3", with_cell(2, lambda cell: cell[:-2]), ["camera 2", f"frame {FRAMES - 2} ", "univ"]),
    "a keypoint less": ("annot2", with_cell(2, lambda cell: cell[:-1]), ["camera 2", f"frame {FRAMES - 1} ", "annot2"]),
    "columns": ("annot2", with_cell(7, np.ones((FRAMES, 55))), ["camera 7 annot2", f"({FRAMES}, 55)", "56"]),
    "joints": ("univ_annot3", with_cell(0, np.ones((FRAMES, 51))), ["camera 0", "28 joints of 3"]),
    "not a number": ("annot2", with_cell(1, broken_at((4, 14), np.nan)), ["camera 1 annot2", "frame 4 ", "head_top"]),
    "infinite": ("univ_annot3", with_cell(8, broken_at((9, 12), -np.inf)), ["camera 8", "frame 9 ", "pelvis"]),
    "text": ("annot2", with_cell(0, "nothing"), ["camera 0 annot2", "no array of numbers"]),
    "no cell": ("annot2", lambda cells: np.ones((FRAMES, 56)), ["S1 Seq1 annot2", "not a cell per camera"]),
    "no variable": ("univ_annot3", lambda cells: None, ["S1 Seq1 has no variable univ_annot3"]),
}


def refuses(source, output, flags, words):
    with pytest.raises(DataError) as error:
        prepare(source, output, *flags)
    line = str(error.value)
    assert "\n" not in line and all(word in line for word in words), line
    assert not list(output.glob(".*")) and not list(output.glob("*"))  # nothing half-written


@pytest.mark.parametrize("variable, change, words", TRAINING_DAMAGE.values(), ids=TRAINING_DAMAGE)
def test_damaged_training_annotations_are_named(copy, tmp_path, variable, change, words):
    change_cells(copy, variable, change)
    refuses(copy, tmp_path / "npz", TRAIN, [str(copy / "S1" / "Seq1" / "annot.mat"), *words])


def test_a_shorter_camera_is_named(copy, tmp_path):
    for variable in ("annot2", "univ_annot3"):
        change_cells(copy, variable, with_cell(4, lambda cell: cell[:-3]), "S1/Seq2")
    refuses(copy, tmp_path / "npz", TRAIN, ["S1 Seq2 camera 4 has 17 frames", "frame 17 ", "missing in camera 4"])


def test_cameras_that_are_not_used_may_be_missing(copy, made, tmp_path):
    change_cells(copy, "annot2", with_cell(3, np.empty((0, 0))))
    change_cells(copy, "univ_annot3", lambda cells: cells[:9])
    train = prepare(copy, tmp_path / "npz", *TRAIN)[0]
    assert np.array_equal(train["S1 Seq1"][0]["8"]["data_3d"], made[0]["S1 Seq1"][0]["8"]["data_3d"])


TEST_DAMAGE = {
    "joints": ("annot2", lambda values: values[:, :, :16], ["annot2", "16, 2)", "17 joints"]),
    "coordinates": ("univ_annot3", lambda values: values[..., :2], ["univ_annot3", "17 joints of 3"]),
    "no axes": ("annot2", np.ravel, ["annot2", "shape"]),
    "a pose less": ("univ_annot3", lambda values: values[:-2], [f"univ_annot3 has {TEST_FRAMES - 2}", "frame 21 "]),
    "no frames": ("annot2", lambda values: values[:0], ["annot2", "empty"]),
    "not a number": ("univ_annot3", broken_at((7, 0, 1, 1), np.nan), ["univ_annot3", "frame 7 ", "neck"]),
    "labels": ("activity_annotation", lambda values: values[:-1], ["activity_annotation", "frame 22 "]),
    "validity": ("valid_frame", lambda values: np.vstack([values, values]), ["frame 23 ", "missing in annot2"]),
    "an activity": ("activity_annotation", broken_at((5, 0), 8), ["activity_annotation is 8 at frame 5 ", "1, 2"]),
    "half valid": ("valid_frame", broken_at((3, 0), 0.5), ["valid_frame is 0.5 at frame 3 "]),
    "none valid": ("valid_frame", np.zeros_like, ["valid_frame marks no frame"]),
    "a table": ("valid_frame", lambda values: np.ones((5, 5)), ["valid_frame", "(5, 5)"]),
    "text": ("annot2", lambda values: b"nothing", ["annot2", "no numbers"]),
    "no variable": ("valid_frame", lambda values: None, ["has no variable valid_frame"]),
}


@pytest.mark.parametrize("variable, change, words", TEST_DAMAGE.values(), ids=TEST_DAMAGE)
def test_damaged_test_annotations_are_named(copy, tmp_path, variable, change, words):
    change_variable(copy, variable, change)
    refuses(copy, tmp_path / "npz", TEST, [str(copy / "TS3" / "annot_data.mat"), "TS3", *words])


@pytest.mark.parametrize("name, flags", [("S1/Seq2/annot.mat", TRAIN), ("TS6/annot_data.mat", TEST)])
def test_truncated_missing_and_foreign_files_are_named_with_what_to_do(copy, tmp_path, name, flags):
    path, output = copy / name, tmp_path / "npz"
    whole, other = path.read_bytes(), "TS1/annot_data.mat" if flags is TRAIN else "S1/Seq1/annot.mat"
    for share in (0.3, 0.9):
        path.write_bytes(whole[:int(share * len(whole))])
        refuses(copy, output, flags, [str(path), "truncated", "copy it again"])
    for content, words in ((b"<html>not found</html>", ["of an unknown kind"]), (b"", ["of an unknown kind"]),
                           ((copy / other).read_bytes(), ["is MATLAB ", "-v7"])):
        path.write_bytes(content)
        refuses(copy, output, flags, [str(path), *words])
    path.unlink()
    with mock.patch.object(prepare_data_3dhp, "read_cells", side_effect=AssertionError("was read")):
        refuses(copy, output, flags, [str(path), f"{' '.join(name.split('/')[:-1])} is missing"])


def test_all_missing_sequences_are_told_at_once(copy, tmp_path):
    refuses(copy, tmp_path / "npz", ("--subjects", "S1,S2"), ["S2 Seq1 is missing (and S2 Seq2)", "--subjects"])
    refuses(copy / "S1", tmp_path / "npz", TEST, ["TS1", "mpi_inf_3dhp_test_set", "--only train"])
    refuses(copy / "none", tmp_path / "npz", TEST, ["no such folder", "--source"])


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_without_permission_is_named(copy, tmp_path):
    (copy / "S1" / "Seq1" / "annot.mat").chmod(0)
    refuses(copy, tmp_path / "npz", TRAIN, ["S1 Seq1 could not be read", "ermission"])


def test_a_file_that_cannot_be_opened_is_named(copy, tmp_path):
    with mock.patch("builtins.open", side_effect=PermissionError(13, "Permission denied")):
        refuses(copy, tmp_path / "npz", TRAIN, ["S1 Seq1 could not be read (Permission denied)"])


def test_a_missing_library_is_named_with_its_pip_line(raw, tmp_path):
    with mock.patch.dict(sys.modules, {"h5py": None}), pytest.raises(DependencyError, match="pip install"):
        prepare(raw, tmp_path / "npz", *TEST)


@pytest.mark.parametrize("flags, word", [(("--subjects", "S9"), "S1, S2, S3"), (("--subjects", ","), "names nothing"),
                                         (("--subjects", "S1", "--only", "test"), "does not apply")])
def test_flags_that_do_not_fit_are_refused(raw, tmp_path, flags, word):
    with pytest.raises(UsageError, match=word):
        prepare(raw, tmp_path / "npz", *flags)


def test_a_rerun_keeps_the_files_until_the_sources_change_or_it_is_forced(copy, made, tmp_path, capsys):
    output = tmp_path / "npz"
    prepare(copy, output, "--subjects", "S1")
    train, test = output / "data_train_3dhp.npz", output / "data_test_3dhp.npz"
    before = train.stat().st_mtime_ns, test.stat().st_mtime_ns
    shutil.move(copy, copy.with_name("moved"))
    with mock.patch.object(prepare_data_3dhp, "write", side_effect=AssertionError("was written")):
        prepare(copy.with_name("moved"), output, "--subjects", "S1")
    assert (train.stat().st_mtime_ns, test.stat().st_mtime_ns) == before
    change_variable(copy.with_name("moved"), "annot2", lambda values: values + 1)
    capsys.readouterr()
    changed = prepare(copy.with_name("moved"), output, "--subjects", "S1")[1]
    said = capsys.readouterr().out
    assert f"{train}: exists, kept" in said and f"{test} is made anew, as the source has changed" in said
    np.testing.assert_allclose(changed["TS3"]["data_2d"] - made[1]["TS3"]["data_2d"], 1)
    prepare(copy.with_name("moved"), output, "--subjects", "S1", "--force")
    assert train.stat().st_mtime_ns != before[0]


def test_other_subjects_and_foreign_files_are_refused_until_forced(raw, tmp_path):
    prepare(raw, tmp_path, *TRAIN)
    with pytest.raises(DataError, match="other subjects; --force"):
        prepare(raw, tmp_path, "--only", "train", "--subjects", "S2")
    assert list(prepare(raw, tmp_path, "--only", "train", "--subjects", "S2", "--force")[0]) == ["S2 Seq1", "S2 Seq2"]
    np.savez_compressed(tmp_path / "data_test_3dhp.npz", data=np.array({}, dtype=object))
    with pytest.raises(DataError, match="not a file of this script; --force"):
        prepare(raw, tmp_path, *TEST)


@pytest.mark.parametrize("error, seen", [(KeyboardInterrupt(), KeyboardInterrupt),
                                         (OSError(28, "No space left on device"), WriteError)])
def test_writing_that_is_broken_off_leaves_what_was_there_before(raw, tmp_path, error, seen):
    def write_half(file, **arrays):
        file.write(b"half")
        raise error

    for earlier in ([], [tmp_path / "data_train_3dhp.npz"]):
        with mock.patch.object(np, "savez_compressed", write_half), pytest.raises(seen):
            prepare(raw, tmp_path, *TRAIN, "--force")
        assert list(tmp_path.iterdir()) == earlier
        assert list(prepare(raw, tmp_path, *TRAIN)[0]) == ["S1 Seq1", "S1 Seq2"]


def test_demo_trees_are_prepared_by_the_command_they_name(tmp_path):
    raw, output = tmp_path / "raw", tmp_path / "s-agcn"
    made = run_script("prepare_data_demo.py", "--raw", "3dhp", "--output", raw, "--frames", 4)
    assert made.status == 0 and f"next: python prepare_data_3dhp.py --source {raw}" in made.out, made.err
    script, *flags = made.out.strip().splitlines()[-1].removeprefix("next: python ").split()
    done = run_script(script, *flags, "--output", output)
    assert done.status == 0 and "ground truth: univ_annot3" in done.out, done.err
    assert list(load_npz(output / "data_train_3dhp.npz")["data"]) == list(TRAINING_SEQUENCES)
    (raw / "S7" / "Seq2" / "annot.mat").unlink()
    run_script(script, *flags, "--output", output).assert_fails(3, "S7 Seq2 is missing", "annot.mat")
