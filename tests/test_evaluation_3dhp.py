"""The MPI-INF-3DHP evaluation: the official numbers, a plain loop, and the files it writes."""
import json
import math
import re
import sys

import numpy as np
import pytest
from conftest import GOLDEN

from common.evaluation_3dhp import (
    ACTIVITY_CSV,
    JOINTS,
    MATLAB_FILE,
    SEQUENCE_CSV,
    ScoredSequence,
    Scores,
    print_tables,
    read_inference_mat,
    report,
    tables,
    write_csv,
    write_inference_mat,
)
from common.mpi3dhp_dataset import ACTIVITIES, JOINT_GROUPS, SCENES
from common.plots_3dhp import draw_joint_errors, draw_pck_curves
from common.utils import DataError, DependencyError

PELVIS = 14


def made(name, frames, seed=0, activities=None, noise=60):
    """A sequence of random poses in mm; activities: the numbers to draw from, or None."""
    rng = np.random.default_rng([seed, frames])
    target = rng.normal(0, 400, (frames, 17, 3))
    predicted = target + rng.normal(0, noise, target.shape) * rng.uniform(0.2, 2, (frames, 1, 1))
    return ScoredSequence(name, predicted, target, None if activities is None else rng.choice(activities, frames))


@pytest.fixture(scope="module")
def official():
    return np.load(GOLDEN / "mpi_inf_3dhp_official.npz")


@pytest.fixture(scope="module")
def official_sequences(official):
    return [ScoredSequence(name, *(official[f"{name}_{kind}"] for kind in ("pred", "gt", "activity")))
            for name in ("TS1", "TS2", "TS3", "TS4", "TS5", "TS6")]


@pytest.fixture
def labelled():
    return [made("TS1", 13, activities=[1, 3]), made("TS2", 4, 1, [3, 7]), made("TS5", 1, 2, [5]),
            made("TS7", 9, 3, [1, 5])]


def plain_alignment(predicted, target):
    """One frame after the best similarity, the way Umeyama (1991) writes it."""
    p, t = predicted - predicted.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(t.T @ p / len(p))
    d = np.diag([1, 1, np.linalg.det(u) * np.linalg.det(vt)])
    scale = np.trace(np.diag(s) @ d) / (p**2).sum() * len(p)
    return np.array([scale * u @ d @ vt @ joint for joint in p]) + target.mean(0)


def plain_entry(frames):
    """An entry of the tables from (predicted (17, 3), target (17, 3)) pairs, joint by joint in Python."""
    errors = [[], []]
    for predicted, target in frames:
        predicted, target = predicted - predicted[PELVIS], target - target[PELVIS]
        for kind, pose in enumerate((predicted, plain_alignment(predicted, target))):
            errors[kind].append([math.dist(pose[j], target[j]) for j in range(17)])

    def mean(kind, joints):
        return sum(row[j] for row in errors[kind] for j in joints) / len(frames) / len(joints)

    def share(joints, threshold):
        below = [row[j] < threshold for row in errors[0] for j in joints]
        return 100 * sum(below) / len(below)

    def numbers(joints, counted):
        area = [share(counted, threshold) for threshold in range(0, 151, 5)]
        return {"mpjpe": mean(0, joints), "p_mpjpe": mean(1, joints), "pck": share(counted, 150),
                "auc": sum(area) / len(area)}

    return {"frames": len(frames), **numbers(range(17), range(14)),
            "groups": {name: numbers(joints, joints) for name, joints in JOINT_GROUPS.items()},
            "joints": {name: {"mpjpe": mean(0, [j]), "p_mpjpe": mean(1, [j])} for j, name in enumerate(JOINTS)}}


def assert_same(measured, expected, tolerance=1e-6):
    """Two tables hold the same entries, and the numbers agree to `tolerance`."""
    if isinstance(expected, dict):
        assert list(measured) == list(expected)
        for key, value in expected.items():
            assert_same(measured[key], value, tolerance)
    elif isinstance(expected, float):
        assert measured == pytest.approx(expected, abs=tolerance)
    else:
        assert measured == expected


def test_the_csv_files_are_those_of_the_official_evaluation(official, official_sequences, tmp_path):
    sequencewise, activitywise = write_csv(tmp_path, tables(official_sequences))
    assert sequencewise.read_bytes().decode() == str(official["sequencewise_csv"])
    assert activitywise.read_bytes().decode() == str(official["activitywise_csv"])
    assert [path.name for path in (sequencewise, activitywise)] == [SEQUENCE_CSV, ACTIVITY_CSV]


@pytest.mark.parametrize("seed", [0, 1])
def test_every_number_of_the_tables_is_that_of_a_plain_loop(seed):
    sequences = [made("TS2", 11, seed, [1, 2, 4]), made("TS3", 6, seed, [2]), made("TS4", 1, seed, [7]),
                 made("TS7", 5, seed, [0, 4])]
    pairs = [(sequence.name, label, frame) for sequence in sequences for label, *frame in
             zip(sequence.activity, sequence.predicted, sequence.target, strict=True)]
    result = tables(sequences)
    assert {key: result[key] for key in ("ground_truth", "unit", "threshold_mm")} == {
        "ground_truth": "univ_annot3", "unit": "mm", "threshold_mm": 150}
    assert_same(result["all"], plain_entry([frame for *_, frame in pairs]))
    assert list(result["sequences"]) == ["TS2", "TS3", "TS4", "TS7"]
    for name, entry in result["sequences"].items():
        assert_same(entry, plain_entry([frame for of, _, frame in pairs if of == name]))
    labels = [i for i in ACTIVITIES if any(label == i for _, label, _ in pairs)]
    assert list(result["activities"]) == [ACTIVITIES[i] for i in labels]
    for i in labels:
        assert_same(result["activities"][ACTIVITIES[i]], plain_entry([frame for _, of, frame in pairs if of == i]))
    assert list(result["scenes"]) == ["Studio with green screen", "Studio without green screen"]
    for name, entry in result["scenes"].items():
        assert_same(entry, plain_entry([frame for of, _, frame in pairs if of in SCENES[name]]))


def test_a_scene_pools_the_frames_of_its_sequences():
    both = made("TS1", 30), made("TS2", 10, 5, noise=150)
    result = tables(both)
    first, second, scene = *result["sequences"].values(), result["scenes"]["Studio with green screen"]
    for metric in ("mpjpe", "p_mpjpe", "pck", "auc"):
        assert scene[metric] == pytest.approx((30 * first[metric] + 10 * second[metric]) / 40)
    assert scene["frames"] == 40


def test_parts_of_a_sequence_and_their_order_change_nothing(labelled):
    parts = [ScoredSequence(s.name, s.predicted[cut], s.target[cut], s.activity[cut])
             for s in labelled for cut in (slice(0, 3), slice(3, None)) if len(s.target[cut])]
    whole = tables(labelled)
    assert_same(tables(parts), whole, 1e-9)
    backwards = tables(parts[::-1])
    assert list(backwards["sequences"]) == ["TS7", "TS5", "TS2", "TS1"]
    backwards["sequences"] = {name: backwards["sequences"][name] for name in whole["sequences"]}
    assert_same(backwards, whole, 1e-9)


def test_poses_are_scored_relative_to_the_pelvis(labelled):
    moved = [ScoredSequence(s.name, s.predicted + [100, 5, 3000], s.target - 70, s.activity) for s in labelled]
    assert_same(tables(moved), tables(labelled), 1e-8)
    assert tables(labelled)["all"]["joints"]["pelvis"]["mpjpe"] == 0


def test_p_mpjpe_ignores_a_similarity_and_mpjpe_does_not():
    sequence = made("TS1", 8)
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    turned = 1.3 * sequence.predicted @ (turn * np.sign(np.linalg.det(turn)))
    before, after = tables([sequence])["all"], tables([ScoredSequence("TS1", turned, sequence.target)])["all"]
    assert after["mpjpe"] > 2 * before["mpjpe"]
    assert after["p_mpjpe"] == pytest.approx(before["p_mpjpe"])


def test_the_truth_itself_has_no_error_and_misses_only_the_threshold_0():
    target = made("TS1", 3).target
    entry = tables([ScoredSequence("TS1", target, target)])["all"]
    assert (entry["mpjpe"], entry["pck"]) == (0, 100)
    assert entry["auc"] == pytest.approx(30 / 31 * 100)


def test_activities_without_frames_are_nan_as_in_matlab_and_a_dash_in_print(labelled, tmp_path, capsys):
    result = tables(labelled)
    lines = write_csv(tmp_path, result)[1].read_text().splitlines()
    assert [line for line in lines if line.startswith("Sports")] == [
        "Sports," + 18 * "NaN,", *2 * ["Sports," + 9 * "NaN," + 9 * ","]]
    print_tables(result)
    printed = capsys.readouterr().out
    assert re.search(r"^Sports( +-){5}$", printed, re.M)
    assert "Sports" not in result["activities"]


def test_other_names_than_ts_keep_theirs_in_the_csv(tmp_path):
    path, = write_csv(tmp_path, tables([made("TS12", 2), made("kitchen", 2), made("TS1b", 2)]))
    names = [line.split(",")[0] for line in path.read_text().splitlines()[1:4]]
    assert names == ["TestSeq12", "kitchen", "TS1b"]


def test_without_labels_the_activity_tables_go_and_an_older_file_with_them(labelled, tmp_path, capsys):
    write_csv(tmp_path, tables(labelled))
    assert (tmp_path / ACTIVITY_CSV).exists()
    result = tables([made("TS1", 3), made("TS2", 2)])
    write_csv(tmp_path, result)
    assert not (tmp_path / ACTIVITY_CSV).exists()
    assert "activities" not in result
    print_tables(result)
    printed = capsys.readouterr().out
    assert "INFO: no activity labels in the data: the activity tables are skipped" in printed
    assert "Sports" not in printed


def test_labels_of_some_sequences_only_are_not_counted_and_the_others_named(labelled, capsys):
    result = tables([*labelled, made("TS3", 3)])
    assert "activities" not in result
    print_tables(result)
    assert "INFO: no activity labels in TS3: the activity tables are skipped" in capsys.readouterr().out


def test_the_printed_tables_hold_the_numbers_say_the_ground_truth_and_fit_a_terminal(official_sequences, capsys):
    result = tables(official_sequences)
    print_tables(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "MPI-INF-3DHP: ground truth univ_annot3, valid frames only, 260 frames"
    assert max(map(len, lines)) <= 100
    rows = {re.split(" {2,}", line)[0]: line.split()[-5:] for line in lines}
    assert rows["TS3"] == ["50", "183.16", f"{result['sequences']['TS3']['p_mpjpe']:.2f}", "32.29", "8.84"]
    assert rows["On The Floor"][0:2] == ["40", "181.15"]
    assert rows["Outdoor"][0] == "80"
    assert rows["Wrist"][-2:] == ["31.15", "10.30"]
    assert rows["left_ankle"][-2] == "197.25"
    assert {*JOINTS, *JOINT_GROUPS, *SCENES, *ACTIVITIES.values()} <= set(rows)


def test_curves_end_in_the_pck_of_the_tables_and_their_mean_is_the_auc(labelled):
    scores = Scores(labelled)
    entry, curves = scores.tables()["all"], scores.pck_curves(np.arange(0, 151, 5))
    for name, part in (entry["groups"] | {"All": entry}).items():
        assert curves[name][-1] == pytest.approx(part["pck"])
        assert curves[name].mean() == pytest.approx(part["auc"])
        assert (np.diff(curves[name]) >= 0).all()


@pytest.mark.parametrize("draw", [draw_pck_curves, draw_joint_errors])
def test_plots_show_the_errors(draw, tmp_path):
    drawn = []
    for i, noise in enumerate((30, 90, 90)):
        draw(tmp_path / f"{i}.png", Scores([made("TS1", 6, noise=noise)]))
        drawn.append((tmp_path / f"{i}.png").read_bytes())
    assert drawn[0].startswith(b"\x89PNG\r\n")
    assert drawn[0] != drawn[1] == drawn[2]


def test_the_matlab_file_brings_back_root_relative_poses_in_the_official_shape(tmp_path):
    loadmat = pytest.importorskip("scipy.io").loadmat
    sequences = [made("TS1", 7), made("TS6", 1, 1), made("TS1", 2, 2)]  # two parts of TS1
    write_inference_mat(tmp_path / MATLAB_FILE, sequences)
    stored = {name: value for name, value in loadmat(tmp_path / MATLAB_FILE).items() if name[0] != "_"}
    assert {name: (value.shape, value.dtype) for name, value in stored.items()} == {
        "TS1": ((3, 17, 1, 9), np.float64), "TS6": ((3, 17, 1, 1), np.float64)}
    assert stored["TS1"][:, 4, 0, 5] == pytest.approx(sequences[0].predicted[5, 4])
    poses = read_inference_mat(tmp_path / MATLAB_FILE)
    assert np.array_equal(poses["TS1"], np.concatenate([sequences[0].predicted, sequences[2].predicted]))
    assert np.array_equal(poses["TS6"], sequences[1].predicted)
    assert not poses["TS1"][:, PELVIS].any()


def test_a_single_frame_is_read_in_the_shape_matlab_gives_it(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    pose = np.arange(51, dtype=np.float32).reshape(17, 3)
    savemat(tmp_path / "one.mat", {"TS1": pose.T})
    poses = read_inference_mat(tmp_path / "one.mat")
    assert poses["TS1"].dtype == np.float64
    assert np.array_equal(poses["TS1"], pose[None])


@pytest.mark.parametrize("content, words", [
    ({"TS2": np.zeros((5, 17, 3))}, ("TS2", "(5, 17, 3)", "(3, 17, 1, frames)")),
    ({"TS2": np.zeros((3, 17, 2, 5))}, ("TS2", "(3, 17, 2, 5)")),
    ({"TS2": np.zeros((3, 17, 1, 0))}, ("TS2", "(3, 17, 1, 0)")),
    ({"TS2": "poses"}, ("TS2",)),
    ({"TS2": np.full((3, 17, 1, 2), np.nan)}, ("TS2", "NaN")),
    ({}, ("no variables",)),
])
def test_matlab_files_of_other_content_are_refused_with_file_and_variable(content, words, tmp_path):
    path = tmp_path / "other.mat"
    pytest.importorskip("scipy.io").savemat(path, content)
    with pytest.raises(DataError) as error:
        read_inference_mat(path)
    for word in (str(path), *words):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_damaged_and_foreign_matlab_files_are_refused(tmp_path):
    pytest.importorskip("scipy.io")
    path = tmp_path / "poses.mat"
    with pytest.raises(DataError, match="no such file"):
        read_inference_mat(path)
    write_inference_mat(path, [made("TS1", 3)])
    whole = path.read_bytes()
    for cut in (0, 3, 100, 127, 130, 200, len(whole) - 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=re.escape(str(path))):
            read_inference_mat(path)
    path.write_text("this is not MATLAB\n" * 50)
    with pytest.raises(DataError, match="not a MATLAB 5 file"):
        read_inference_mat(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(DataError, match="saved as MATLAB 7.3; save it with -v7"):
        read_inference_mat(path)


def test_a_name_no_variable_can_have_is_refused_in_the_matlab_file(tmp_path):
    with pytest.raises(DataError, match="S1 Seq1"):
        write_inference_mat(tmp_path / MATLAB_FILE, [made("S1 Seq1", 2)])
    assert not list(tmp_path.iterdir())


def test_the_report_writes_everything_says_so_and_returns_the_tables(labelled, tmp_path, capsys):
    result = report(labelled, tmp_path / "new" / "folder")
    printed, folder = capsys.readouterr().out, tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == sorted([
        SEQUENCE_CSV, ACTIVITY_CSV, MATLAB_FILE, "mpii_3dhp_evaluation.json", "mpii_3dhp_pck_curves.png",
        "mpii_3dhp_joint_errors.png"])
    assert all(f"wrote {path}\n" in printed for path in folder.iterdir())
    assert json.loads((folder / "mpii_3dhp_evaluation.json").read_text()) == result == tables(labelled)
    other = tmp_path / "elsewhere.json"
    report((sequence for sequence in labelled), tmp_path / "second", json_path=other)
    assert json.loads(other.read_text()) == result
    assert not (tmp_path / "second" / "mpii_3dhp_evaluation.json").exists()


def test_without_scipy_the_pip_line_is_given(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DependencyError, match="pip install scipy"):
        write_inference_mat(tmp_path / MATLAB_FILE, [made("TS1", 1)])


@pytest.mark.parametrize("change, words", [
    ({"predicted": np.full((2, 17, 3), np.nan)}, "NaN"),
    ({"target": np.full((2, 17, 3), np.inf)}, "infinite"),
    ({"predicted": np.zeros((3, 17, 3))}, "3 predicted poses for 2"),
    ({"target": np.zeros((2, 14, 3))}, r"\(2, 14, 3\)"),
    ({"predicted": np.zeros((0, 17, 3)), "target": np.zeros((0, 17, 3))}, "one frame or more"),
    ({"activity": [1, 8]}, "unknown activity 8"),
    ({"activity": [1]}, r"\(1,\)"),
])
def test_poses_and_labels_that_cannot_be_scored_are_refused_with_the_sequence(change, words):
    whole = {"predicted": np.zeros((2, 17, 3)), "target": np.ones((2, 17, 3)), "activity": [1, 2]}
    with pytest.raises(DataError, match=f"^TS4: .*{words}"):
        ScoredSequence("TS4", **whole | change)


def test_no_sequences_are_refused():
    with pytest.raises(DataError, match="no sequences"):
        tables([])
