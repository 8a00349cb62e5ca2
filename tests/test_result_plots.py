"""results.py plot: what files hold is told by their content, drawn as it is, and nothing is cut off."""
import json

import numpy as np
import pytest
from conftest import run_script

from common import result_plots
from common.contextpose.epoch_log import COLUMNS
from common.contextpose.evaluation import pose_metrics, write_results
from common.contextpose.runs import RunFolder
from common.evaluation import write_json
from common.evaluation_3dhp import ScoredSequence, tables
from common.export import Prediction, write_prediction
from common.keypoints import H36M_17, MPI_INF_3DHP_17
from common.loss import auc, pck
from common.result_files import ErrorTables, PoseErrors, TrainingCurves, groups_of, labels_of, read_result, read_results
from common.training_log import EpochTable
from common.utils import DataError, UsageError

HEAD = "epoch,time,lr,3d_train,3d_eval,3d_valid\n"
GROUPS = ("Head", "Neck", "Shou", "Elbow", "Wrist", "Hip", "Knee", "Ankle")  # just too long to stand side by side
ACTIONS = [f"{name}WithAnotherOneAround" for name in "abcdefghijklmno"]


def errors(scale=1.0, actions=("Walking", "Sitting")):
    """The table of an evaluation, of different numbers everywhere."""
    table = {action: {"mpjpe": scale * (10 + i), "p_mpjpe": 5 + i, "n_mpjpe": 7 + i, "mpjve": 1 + i}
             for i, action in enumerate(actions)}
    return table | {"average": {metric: float(np.mean([row[metric] for row in table.values()]))
                                for metric in ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve")}}


def poses(skeleton=H36M_17, frames=20, **more):
    rng = np.random.default_rng(frames)
    truth = rng.normal(0, 0.3, (frames, 17, 3)).astype(np.float32)
    wrong = truth + rng.normal(0, 0.05, truth.shape).astype(np.float32)
    return Prediction(wrong, skeleton, 25, **{"ground_truth": truth, "source": {"action": "Walking"}} | more)


def run_of(label, values, seed=None, settings=None, path=None, first=1):
    return TrainingCurves(label, path, {"3d_valid": dict(enumerate(values, first))}, seed, settings)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, in place of their files."""
    drawn = {}
    monkeypatch.setattr(result_plots, "save_figure", lambda figure, path: drawn.update({path.name: figure}))
    return drawn


def test_errors_of_all_evaluations_are_read_as_they_were_written(tmp_path):
    table, rng = errors(), np.random.default_rng(0)
    truth = rng.normal(0, 300, (6, 17, 3))
    scores = tables([ScoredSequence("TS1", truth + rng.normal(0, 80, truth.shape), truth, np.arange(6) % 2 + 1)])
    metrics = pose_metrics(truth + 5, truth + rng.normal(0, 9, truth.shape),
                           {"action": np.array(list("aabbba")), "subject": np.array(list("SSTTST"))})
    for name, content in (("plain", table), ("subjects", {"S9": table, "S11": errors(2)}), ("3dhp", scores),
                          ("contextpose", metrics), ("contextpose_3dhp", {"pck": 1.0, "tables": scores})):
        write_json(tmp_path / name, content)
    read = {path.name: read_result(path, "x").tables for path in tmp_path.iterdir()}
    assert read["plain"] == {"action": table}
    assert read["subjects"] == {"action of S9": table, "action of S11": errors(2)}
    assert read["3dhp"] == read["contextpose_3dhp"]
    assert read["3dhp"]["sequence"]["TS1"] == {name: scores["all"][name] for name in ("mpjpe", "p_mpjpe", "pck", "auc")}
    assert read["3dhp"]["joint"]["left_knee"] == scores["all"]["joints"]["left_knee"]
    assert set(read["3dhp"]["activity"]) == {"Standing/Walking", "Exercising", "all"}
    found = read["contextpose"]
    assert found["action"]["a"]["mpjpe"] == metrics["per_action"]["a"]["mpjpe_mm"]
    assert found["action"]["average"]["mpjpe"] == metrics["action_average_mpjpe_mm"]
    assert found["action of T"]["b"]["mpjpe"] == metrics["per_subject"]["T"]["per_action"]["b"]["mpjpe_mm"]
    assert found["joint"]["nose"]["mpjpe"] == metrics["per_joint"]["nose"]
    assert found["joint"]["all"]["mpjpe"] == metrics["mpjpe_mm"]


def test_poses_are_told_from_other_files_whatever_their_suffix_says(tmp_path):
    for name in ("a.npz", "a.json"):
        write_prediction(tmp_path / name, poses())
        assert isinstance(read_result(tmp_path / name, "x"), PoseErrors)


@pytest.mark.parametrize(("content", "words"), [
    ("{}", "none of the files"), ('{"a": 1}', "none of the files"), ('{"a": {"mpjpe": "x"}, "average": {}}', "none of"),
    ('{"cut', "no JSON"), ("", "none of the files"), ("text", "none of the files"), ("PKxx", "damaged"),
    ('{"a": {"mpjpe": NaN}, "average": {"mpjpe": 1}}', "mpjpe of a is nan"),
    (HEAD, "no epoch"), (f"{HEAD}x,0,0,1,1,1", "damaged"), (f"{HEAD}1,0,0,nan,,inf", "no epoch"),
    (f"PK{28 * 'x'}a/data.pkl", "none of the files"), (None, "No such file")])
def test_what_cannot_be_drawn_is_refused_by_name(content, words, tmp_path):
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words) as refusal:
        read_result(path, "x")
    assert str(path) in str(refusal.value)


def test_epochs_without_numbers_are_left_out_and_told(tmp_path, capsys):
    path = tmp_path / "a_log.csv"
    path.write_text(f"{HEAD}1,0,0,9,,8\n2,0,0,nan,,7\n")
    assert read_result(path, "x").curves == {"3d_train": {1: 9}, "3d_valid": {1: 8, 2: 7}}
    assert "3d_train is no finite number in 1 of 2 epochs, the first is 2" in capsys.readouterr().out


def test_a_contextpose_run_is_drawn_by_its_table_or_without_one_by_the_errors_of_its_checkpoints(tmp_path):
    run = RunFolder(tmp_path / "title@now")
    for epoch in (0, 2):
        run.checkpoint(epoch).mkdir(parents=True)
        for name in ("weights.pth", "optimizer.pth"):
            (run.checkpoint(epoch) / name).touch()
        write_results(run.checkpoint(epoch), {"mpjpe_mm": 50.0 - epoch},
                      {"keypoints_3d": np.zeros((1, 17, 3)), "indexes": [0]})
    assert read_result(run.path, "x").curves == {"3d_valid": {1: 50, 3: 48}}
    EpochTable(run.table, COLUMNS).begin({"seed": 7, "amp": "off"}, [
        {"epoch": 1, "time": 3, "heatmap_loss": 6.5}, {"epoch": 2, "loss": 9.0, "absolute_train": 80, "3d_valid": 49}])
    for path in (run.path, run.table):
        read = read_result(path, "x")
        assert (read.seed, read.settings) == (7, {"amp": "off"})
        assert read.curves == {"heatmap_loss": {1: 6.5}, "loss": {2: 9}, "absolute_train": {2: 80}, "3d_valid": {2: 49}}
        assert labels_of([path]) == ["title@now"]
    with pytest.raises(UsageError, match="given twice"):
        read_results([run.path, run.path])
    with pytest.raises(DataError, match="not of a ContextPose run"):
        read_result(tmp_path, "x")


def test_labels_are_stems_or_for_those_alike_the_folder_that_tells_them_apart(tmp_path):
    assert labels_of([tmp_path / "ours.json", tmp_path / "96_gt_log.csv"]) == ["ours", "96_gt"]
    runs = [tmp_path / name / "checkpoints" / "0003" / "metric.json" for name in ("a@1", "b@2")]
    assert labels_of(runs) == ["a@1", "b@2"]
    assert labels_of([*runs, tmp_path / "c" / "96_gt_log.csv"]) == ["a@1", "b@2", "96_gt"]


def test_labels_that_do_not_fit_are_refused(tmp_path):
    for name in "ab":
        write_json(tmp_path / name, errors())
    with pytest.raises(UsageError, match="1 names for 2 files"):
        read_results([tmp_path / "a", tmp_path / "b"], "ours")
    with pytest.raises(UsageError, match="'x' stands for two files"):
        read_results([tmp_path / "a", tmp_path / "b"], "x,x")


def test_runs_that_differ_in_the_seed_only_are_grouped(tmp_path):
    wide, narrow = {"channels": 96}, {"channels": 32}
    runs = [run_of(f"wide_seed{seed}", [1], seed, wide) for seed in (1, 2, 3)] + [run_of("narrow", [1], 1, narrow)]
    assert {name: len(group) for name, group in groups_of(runs).items()} == {"wide": 3, "narrow": 1}
    twice = [run_of(name, [1], 1, wide) for name in "ab"]  # what they differ in is not known
    assert {name: len(group) for name, group in groups_of(twice).items()} == {"a": 1, "b": 1}
    unknown = [run_of(name, [1], path=tmp_path / name / "log.csv") for name in ("a_seed1", "a_seed2", "b_seed2")]
    assert {name: len(group) for name, group in groups_of(unknown).items()} == {"a": 2, "b_seed2": 1}
    typed = [run_of("ours", [1], path=tmp_path / name) for name in "abc"]
    assert {name: len(group) for name, group in groups_of(typed).items()} == {"ours": 3}


def test_a_group_is_drawn_as_its_mean_and_range_over_the_epochs_that_all_have(figures, tmp_path):
    runs = [run_of("s", values, seed, {}) for seed, values in enumerate(([9, 7, 5], [5, 3], [7, 8]))]
    list(result_plots.draw_results(runs, tmp_path))
    figure = figures["training_curves.png"]
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 7], [2, 6]])
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band.tolist()} == {(1, 5), (1, 9), (2, 3), (2, 8)}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["s (3 seeds)"]


def test_runs_of_different_networks_share_a_picture_with_a_legend_of_all(figures, tmp_path):
    lifter = TrainingCurves("lifter", tmp_path / "a", {"3d_train": {1: 90}, "3d_valid": {1: 80}})
    volume = TrainingCurves("volume", tmp_path / "b", {"loss": {1: 9}, "3d_valid": {1: 50}})
    list(result_plots.draw_results([lifter, volume], tmp_path))
    figure = figures["training_curves.png"]
    assert [axes.get_ylabel().replace("\n", " ") for axes in figure.axes] == [
        "training loss (no unit)", "training loss (mm)", "validation MPJPE (mm)"]
    (legend,) = figure.legends
    drawn = {line.get_label(): line.get_color() for line in figure.axes[-1].lines}
    told = [(text.get_text(), line.get_color()) for text, line in zip(legend.texts, legend.get_lines(), strict=True)]
    assert told == list(drawn.items()) and list(drawn) == ["lifter", "volume"]


def test_runs_without_a_common_epoch_are_not_one_curve(tmp_path):
    runs = [run_of("s", [5], path=tmp_path / "a", first=first) for first in (1, 2)]
    with pytest.raises(DataError, match="no epoch in common"):
        groups_of(runs)


def test_bars_are_as_high_as_the_errors_and_totals_come_last(figures, tmp_path):
    first, second = errors(), errors(2, ("Sitting", "Waving"))
    list(result_plots.draw_results([ErrorTables("a", {"action": first}), ErrorTables("b", {"action": second})],
                                   tmp_path, metrics=("mpjpe", "mpjve")))
    top, bottom = figures["errors_per_action.png"].axes
    assert (top.get_ylabel(), bottom.get_ylabel()) == ("MPJPE (mm)", "MPJVE (mm/frame)")
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["Walking", "Sitting", "Waving", "average"]
    heights = [[bar.get_height() for bar in bars] for bars in top.containers]
    assert heights == [[first[row]["mpjpe"] for row in ("Walking", "Sitting", "average")],
                       [second[row]["mpjpe"] for row in ("Sitting", "Waving", "average")]]


def test_pck_and_auc_are_those_of_the_protocol_or_of_all_joints_but_the_root():
    mm = 1000 * 0.15
    result = PoseErrors("x", poses(MPI_INF_3DHP_17))
    (curve,), area = result.pck([mm])
    off = result.prediction.errors_mm()
    assert (curve, area) == (pytest.approx(pck(off, mm)), pytest.approx(auc(off)))
    assert result.counted()[1] == ["pelvis", "spine", "head"]
    result = PoseErrors("x", poses())
    (curve,), _ = result.pck([60])
    below = sum(error < 60 for frame in result.prediction.errors_mm() for error in frame[1:])
    assert curve == pytest.approx(100 * below / (20 * 16))
    assert result.counted()[1] == ["hip"]


def test_bone_lengths_deviate_from_their_medians():
    prediction = poses(frames=3)
    rigid = np.repeat(prediction.joints[:1], 3, 0)
    assert PoseErrors("x", poses(frames=3)).bone_deviation_mm().min() > 0
    prediction.joints = rigid + [[[0.0]], [[1.0]], [[2.0]]]
    np.testing.assert_allclose(PoseErrors("x", prediction).bone_deviation_mm(), 0, atol=1e-3)
    prediction.joints = rigid.copy()
    prediction.joints[2, 16] += 0.1 * (rigid[0, 16] - rigid[0, 15]) / np.linalg.norm(rigid[0, 16] - rigid[0, 15])
    np.testing.assert_allclose(PoseErrors("x", prediction).bone_deviation_mm(), [0, 0, 100 / 16], atol=1e-3)


def test_curves_of_poses_show_mean_errors_in_seconds_of_the_methods_that_know_the_truth(figures, tmp_path):
    known, unknown = PoseErrors("a", poses()), PoseErrors("b", poses(frames=9, ground_truth=None))
    list(result_plots.draw_results([known, unknown], tmp_path))
    line = figures["poses_over_time.png"].axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), np.arange(20) / 25)
    np.testing.assert_allclose(line.get_ydata(), known.prediction.errors_mm().mean(1))
    assert {name: len(figure.legends[0].get_texts()) for name, figure in figures.items() if figure.legends} == {
        "poses_over_time.png": 1, "poses_pck.png": 1, "poses_bone_lengths.png": 2}
    panel = figures["poses_per_joint.png"].axes[0]
    for number, line in zip(panel.texts, panel.collections[0].get_segments(), strict=True):
        assert number.xy[1] >= line[:, 1].max()  # numbers stand above the lines that show the spread
    bars = panel.containers[0]
    np.testing.assert_allclose([bar.get_height() for bar in bars],
                               [*known.prediction.errors_mm().mean(0), known.prediction.errors_mm().mean()],
                               rtol=1e-5)


@pytest.mark.parametrize("methods", [1, 5])
def test_no_text_is_cut_off_and_no_names_lie_upon_each_other(methods, figures, tmp_path):
    labels = [f"method {i} with a name that is rather long, as they are" for i in range(methods)]
    results = [ErrorTables(label, {"action": errors(1, ACTIONS), "group": errors(1, GROUPS)}) for label in labels]
    results += [PoseErrors(label, poses([MPI_INF_3DHP_17, H36M_17][i % 2])) for i, label in enumerate(labels)]
    results += [run_of(label, [500, 60, 40][: 1 + i], path=tmp_path / label) for i, label in enumerate(labels)]
    list(result_plots.draw_results(results, tmp_path))
    assert len(figures) == 7
    for figure in figures.values():
        figure.draw_without_rendering()
        width, height = figure.bbox.size
        box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        names = [label for label in figure.axes[-1].get_xticklabels() if not label.get_rotation()]
        boxes = [name.get_window_extent() for name in names]
        assert all(one.x1 + 5 < other.x0 for one, other in zip(boxes, boxes[1:], strict=False))


def test_the_script_draws_all_kinds_and_prints_where(tmp_path):
    write_json(tmp_path / "errors.json", errors())
    write_prediction(tmp_path / "poses.npz", poses())
    for seed in (1, 2):
        (tmp_path / f"{seed}").mkdir()
        (tmp_path / f"{seed}" / "a_log.csv").write_text(f"{HEAD}1,0,0,9,,{seed}\n")
        (tmp_path / f"{seed}" / "a_settings.json").write_text(json.dumps({"seed": seed, "epochs": 1}))
    done = run_script("results.py", "plot", tmp_path / "errors.json", tmp_path / "poses.npz", tmp_path / "1/a_log.csv",
                      tmp_path / "2/a_log.csv", "--output", tmp_path / "new", "--format", "svg")
    assert (done.status, done.err) == (0, "")
    lines, written = done.out.splitlines(), sorted((tmp_path / "new").iterdir())
    assert sorted(line for line in lines if "INFO" not in line) == [f"picture written to {path}" for path in written]
    assert len(written) == 6 and all(b"<svg" in path.read_bytes()[:1000] for path in written)
    assert [("(seed 1)" in line, "(seed 2)" in line) for line in lines if "INFO" in line] == [(True, True)]
    run_script("results.py", "plot", tmp_path / "errors.json", "--metrics", "auc").assert_fails(3, "errors.json", "auc")
    run_script("results.py", "plot", tmp_path / "1").assert_fails(3, "1", "ContextPose")
