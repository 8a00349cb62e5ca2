"""MPI-INF-3DHP from raw files to tables: the script as a process, one or several, killed and started again."""
import functools
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, assert_same_weights, made_once, run_script, start

from common import checkpoint
from common.export import read_prediction
from common.mpi3dhp_dataset import TEST_IMAGES, TEST_SEQUENCES, load_test
from common.safe_io import load_npz

SCRIPT = "main_sagcn_gpus_individual_fc_3dhp.py"
TINY = ["--frames", "27", "--channel", "4", "--batch_size", "60", "--stride", "4", "--no-tensorboard", "--device",
        "cpu"]
BEST, LAST = "no_refine_4_27.pth", "3dhp_4_27_last.bin"


def torchrun(processes, port, *more):
    return ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}", *more]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the npz files of demo people, of two to train with, made from their raw files."""
    def make(folder):
        raw = run_script("prepare_data_demo.py", "--raw", "3dhp", "--output", folder / "raw", "--frames", 24)
        assert raw.status == 0, raw.err
        done = run_script("prepare_data_3dhp.py", "--source", folder / "raw", "--output", folder, "--subjects", "S1,S2")
        assert done.status == 0, done.err

    return made_once(tmp_path_factory, "3dhp", make)


def command(data, folder, *more):
    return [SCRIPT, "--root_path", data, "--checkpoint", folder, "--nepoch", "2", *TINY, *more]


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    """The folder and the standard output of a run that nothing interrupted."""
    def make(folder):
        done = run_script(*command(data, folder / "run"))
        assert done.status == 0, done.err
        (folder / "out").write_text(done.out)

    folder = made_once(tmp_path_factory, "3dhp_whole", make)
    return folder / "run", (folder / "out").read_text()


def test_a_run_learns_and_writes_weights_tables_plots_and_predictions(whole_run, data):
    folder, out = whole_run
    assert {path.name for path in folder.iterdir()} == {
        BEST, LAST, "3dhp_4_27_log.csv", "3dhp_4_27_settings.json", "3dhp_4_27_curves.png",
        "mpii_3dhp_evaluation_sequencewise.csv",
        "mpii_3dhp_evaluation_activitywise.csv", "mpii_3dhp_evaluation.json", "mpii_3dhp_pck_curves.png",
        "mpii_3dhp_joint_errors.png", "inference_data.mat", "predictions"}
    first, last = checkpoint.load(folder / LAST)["suite"]["history"]
    assert last["3d_valid"] < first["3d_valid"] and "3d_eval" not in last
    weights = torch.load(folder / BEST, weights_only=True)  # a bare state dict, as others read it
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert weights["target_fc.weight"].shape == (17, 4, 3)  # an individual layer for every joint
    frames = sum(len(sequence.scored_frames()) for sequence in load_test(data))
    assert f"ground truth univ_annot3, valid frames only, {frames} frames" in out
    assert f"wrote {folder / 'predictions'}: TS1" in out


def test_the_results_files_tell_the_same_as_the_official_file_and_the_data(whole_run, data):
    from scipy.io import loadmat

    official, test = loadmat(whole_run[0] / "inference_data.mat"), load_npz(data / "data_test_3dhp.npz")["data"]
    pck = json.loads((whole_run[0] / "mpii_3dhp_evaluation.json").read_text())["sequences"]
    for name in TEST_SEQUENCES:
        found, valid = read_prediction(whole_run[0] / "predictions" / f"{name}.npz"), test[name]["valid"]
        np.testing.assert_allclose(found.joints, official[name][:, :, 0].transpose(2, 1, 0) / 1000, atol=1e-6)
        truth = test[name]["data_3d"][valid]
        np.testing.assert_allclose(found.ground_truth, (truth - truth[:, 14:15]) / 1000, atol=1e-6)
        np.testing.assert_allclose(found.keypoints_2d, test[name]["data_2d"][valid], atol=0.01)
        np.testing.assert_array_equal(found.extra["frames"], np.flatnonzero(valid))
        np.testing.assert_allclose(found.seconds(), (found.extra["frames"] - found.extra["frames"][0]) / 25)
        np.testing.assert_array_equal(found.extra["activity"], test[name]["activity"][valid])
        assert found.errors_mm().mean() == pytest.approx(pck[name]["mpjpe"], rel=1e-4)
        assert (found.frame, found.root_path, found.fps) == ("camera", "origin", 25) and found.size == TEST_IMAGES[name]
        assert found.source["checkpoint"] == str(whole_run[0] / BEST) and found.source["subject"] == name


def test_the_same_figures_with_one_two_and_three_processes_and_by_the_papers_command_line(whole_run, data, tmp_path):
    launchers = {
        "plain": [], "three": torchrun(3, 22152),
        "two": ["-m", "torch.distributed.launch", "--nproc_per_node=2", "--master_port=22241"],
    }
    for name, launcher in launchers.items():
        done = run_script(SCRIPT, "--dataset", "3dhp", "--root_path", data, "--batch_size", 1200, "--frames", 27,
                          "--channel", 4, "--previous_dir", whole_run[0], "--results", tmp_path / name, "--evaluate",
                          launcher=launcher, fresh=name == "two")  # once as users do, all processes their own Python
        assert done.status == 0, done.err
        assert done.out.count("valid frames only") == 1  # rank 0 speaks for all
    tables = {name: (tmp_path / name / "mpii_3dhp_evaluation.json").read_text() for name in launchers}
    assert len(set(tables.values())) == 1
    assert tables["plain"] == (whole_run[0] / "mpii_3dhp_evaluation.json").read_text()


def test_killed_workers_come_back_under_torchrun_and_end_with_the_same_weights(data, tmp_path):
    whole = run_script(*command(data, tmp_path / "whole"), launcher=torchrun(3, 22161))
    assert whole.status == 0, whole.err
    process = start(command(data, tmp_path / "killed"), launcher=torchrun(3, 22171, "--max-restarts=3"))
    deadline, victims = time.monotonic() + 100, []
    for epoch in range(2):  # in the first epoch and in the second
        while time.monotonic() < deadline and epoch_of(tmp_path / "killed" / LAST) < epoch:
            time.sleep(0.02)
        victims.append(workers_of(process.pid)[-1])
        os.kill(victims[-1], signal.SIGKILL)
    output, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    assert len(set(victims)) == 2 and output.count("INFO: restarted: continuing from") == 2
    for name in (BEST, LAST):
        assert_same_weights(tmp_path / "whole" / name, tmp_path / "killed" / name)


def epoch_of(path):
    return epoch_written(path, path.stat().st_mtime_ns) if path.exists() else -1


@functools.lru_cache(1)
def epoch_written(path, _):
    """The epoch of a file; read once for each time that it is written: who waits for it leaves the cores to others."""
    return checkpoint.load(path)["epoch"]


def workers_of(launcher):
    """torchrun's workers: its children, or those of its only one, which forks them for it (`warm_scripts`)."""
    children = children_of(launcher)
    return children_of(children[0]) if len(children) == 1 else children


def children_of(parent):
    children = Path("/proc") / str(parent) / "task" / str(parent) / "children"
    if not children.exists():
        pytest.skip("this system does not tell a process's children")
    return [int(number) for number in children.read_text().split()]


def test_a_restart_leaves_the_last_state_of_another_run_alone(whole_run, data, tmp_path, monkeypatch):
    (tmp_path / LAST).write_bytes((whole_run[0] / LAST).read_bytes())
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    done = run_script(*command(data, tmp_path, "--nepoch", 1))
    assert done.status == 0, done.err
    assert "restarted" not in done.out and f"{LAST[:-4]}_before.bin" in done.out


def test_a_run_killed_in_its_second_epoch_and_resumed_ends_with_the_same_weights(whole_run, data, tmp_path):
    process = start(command(data, tmp_path))
    while process.poll() is None and epoch_of(tmp_path / LAST) < 1:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert epoch_of(tmp_path / LAST) == 1
    done = run_script(*command(data, tmp_path, "--resume", LAST))
    assert done.status == 0, done.err
    for name in (BEST, LAST):
        assert_same_weights(whole_run[0] / name, tmp_path / name)


def test_the_refinement_is_trained_kept_apart_evaluated_and_reloaded(whole_run, data, tmp_path):
    flags = ["--refine", "--lr_refine", "1e-3", "--nepoch", "1"]
    done = run_script(*command(data, tmp_path / "a", *flags, "--reload", "--previous_dir", whole_run[0]))
    assert done.status == 0, done.err
    assert f"Loading checkpoint {whole_run[0] / BEST}" in done.out
    files = {path.name for path in (tmp_path / "a").iterdir()}
    lifter = "no_refine_4_27_refined.pth"
    assert {lifter, "refine_4_27.pth", "3dhp_4_27_refine_last.bin"} <= files and BEST not in files
    assert not [name for name in checkpoint.load(tmp_path / "a" / lifter) if name.startswith("refinement")]
    again = run_script(*command(data, tmp_path / "a", "--refine", "--evaluate", "--results", tmp_path / "b"))
    assert again.status == 0, again.err
    tables = [json.loads((tmp_path / folder / "mpii_3dhp_evaluation.json").read_text())["all"] for folder in "ab"]
    assert tables[0] == tables[1]
    without = run_script(*command(data, tmp_path / "a", "--evaluate", "--results", tmp_path / "c"))
    assert without.status == 0, without.err
    plain = json.loads((tmp_path / "c" / "mpii_3dhp_evaluation.json").read_text())["all"]
    assert plain["mpjpe"] != tables[0]["mpjpe"]
    more = run_script(*command(data, tmp_path / "d", *flags, "--reload", "--refine_reload", "--previous_dir",
                               tmp_path / "a", "--debug"))
    assert more.status == 0, more.err
    assert f"Loading checkpoint {tmp_path / 'a' / 'refine_4_27.pth'}" in more.out
    last = run_script(*command(data, tmp_path / "a", "--refine", "--evaluate", "3dhp_4_27_refine_last.bin",
                               "--results", tmp_path / "e"))
    assert last.status == 0, last.err
    # Their results files tell all weights that they are of.
    both = {"checkpoint": lifter, "refinement": "refine_4_27.pth"}
    for results, parts in {"a": both, "b": both, "c": {"checkpoint": lifter},
                           "e": {"checkpoint": "3dhp_4_27_refine_last.bin"}}.items():
        source = read_prediction(next((tmp_path / results / "predictions").iterdir())).source
        assert {key: value for key, value in source.items() if key.startswith(("checkpoint", "refinement"))} == {
            **{part: str(tmp_path / "a" / name) for part, name in parts.items()},
            **{f"{part}_sha256": hashlib.sha256((tmp_path / "a" / name).read_bytes()).hexdigest()
               for part, name in parts.items()}}


def test_files_as_downloaded_load_and_their_activity_tables_are_skipped(whole_run, data, tmp_path):
    test = load_npz(data / "data_test_3dhp.npz")["data"]
    downloaded = {name: {"data_2d": s["data_2d"], "data_3d": s["data_3d"], "valid": s["valid"].astype(float)[:, None]}
                  for name, s in test.items()}
    np.savez_compressed(tmp_path / "data_test_3dhp.npz", data=downloaded)
    done = run_script(*command(tmp_path, whole_run[0], "--evaluate", "--results", tmp_path))
    assert done.status == 0, done.err
    assert "no activity labels in the data: the activity tables are skipped" in done.out
    tables = [json.loads((folder / "mpii_3dhp_evaluation.json").read_text()) for folder in (tmp_path, whole_run[0])]
    assert tables[0]["all"] == tables[1]["all"] and "activities" not in tables[0]
    assert not (tmp_path / "mpii_3dhp_evaluation_activitywise.csv").exists()


def test_the_official_cases_go_through_the_script_to_the_official_files(tmp_path):
    golden, poses, sequences = np.load(GOLDEN / "mpi_inf_3dhp_official.npz"), {}, {}
    rng = np.random.default_rng(0)
    for name in TEST_SEQUENCES:
        frames = 2 * len(golden[f"{name}_gt"])
        valid = np.zeros(frames, bool)
        valid[rng.choice(frames, frames // 2, replace=False)] = True
        truth, activity = np.full((frames, 17, 3), np.nan), np.zeros(frames, int)  # invalid frames hold anything
        root = rng.normal(0, 1000, (frames, 1, 3))
        truth[valid], activity[valid] = golden[f"{name}_gt"], golden[f"{name}_activity"]
        sequences[name] = {"data_2d": np.zeros((frames, 17, 2)), "data_3d": truth + root, "valid": valid,
                           "activity": activity}
        poses[name] = golden[f"{name}_pred"].transpose(2, 1, 0)[:, :, None]
    np.savez_compressed(tmp_path / "data_test_3dhp.npz", data=sequences)
    from scipy.io import savemat

    savemat(tmp_path / "theirs.mat", poses)
    done = run_script(SCRIPT, "--root_path", tmp_path, "--predictions", tmp_path / "theirs.mat", "--results",
                      tmp_path / "out")
    assert done.status == 0, done.err
    for kind in ("sequencewise", "activitywise"):
        written = (tmp_path / "out" / f"mpii_3dhp_evaluation_{kind}.csv").read_text().splitlines()
        official = str(golden[f"{kind}_csv"]).splitlines()
        assert len(written) == len(official)
        for ours, theirs in zip(written, official, strict=True):
            for a, b in zip(ours.split(","), theirs.split(","), strict=True):
                assert a == b or float(a) == pytest.approx(float(b), abs=1e-6)
    results = read_prediction(tmp_path / "out" / "predictions" / "TS3.npz")
    assert "theirs.mat" in results.source["command"] and "checkpoint" not in results.source


def test_weights_are_looked_for_in_previous_dir_then_in_checkpoint(whole_run, data, tmp_path):
    run_script(*command(data, tmp_path, "--evaluate")).assert_fails(
        4, str(tmp_path / "no_refine_*.pth"), "checkpoint/no_refine_*.pth", "--previous_dir")
    run_script(*command(data, whole_run[0], "--evaluate", "--previous_dir", tmp_path)).assert_fails(
        4, str(tmp_path / "no_refine_*.pth"))
    released = {f"module.{name}": value for name, value in checkpoint.load(whole_run[0] / BEST).items()}
    torch.save(released, tmp_path / "no_refine_7_3141.pth")
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "no_refine_9_1000.pth")
    done = run_script(*command(data, tmp_path, "--evaluate"))
    assert done.status == 0, done.err
    assert "no_refine_7_3141.pth" in done.out  # the one that fits
    run_script(*command(data, whole_run[0], "--evaluate", BEST, "--channel", 8)).assert_fails(4, BEST, "-ch 4")


def test_weights_of_another_number_of_frames_are_told_by_their_name(whole_run, data, tmp_path):
    run_script(*command(data, whole_run[0], "--evaluate", BEST, "--frames", 351)).assert_fails(4, BEST, "--frames 27")
    run_script(*command(data, whole_run[0], "--evaluate", "--frames", 351)).assert_fails(4, BEST, "--frames 27")
    run_script(*command(data, whole_run[0], "--evaluate", BEST, "--causal")).assert_fails(4, BEST, "no --causal")


def test_a_run_resumed_in_another_folder_takes_its_best_weights_along(whole_run, data, tmp_path):
    torch.save(checkpoint.load(whole_run[0] / BEST), tmp_path / "no_refine_4_27_before.pth")  # an earlier run's
    (tmp_path / BEST).write_bytes((whole_run[0] / BEST).read_bytes()[:100])  # and a damaged one
    done = run_script(*command(data, tmp_path, "--resume", whole_run[0] / LAST))
    assert done.status == 0, done.err
    assert f"{BEST} is of an earlier run: kept as no_refine_4_27_before2.pth" in done.out
    assert_same_weights(whole_run[0] / BEST, tmp_path / BEST)
    tables = [(folder / "mpii_3dhp_evaluation.json").read_text() for folder in (whole_run[0], tmp_path)]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(("flags", "words"), [
    (["--predictions", "x.mat", "--downsample", "2"], ["--downsample", "--predictions"]),
    (["--previous_dir", "x"], ["--reload"]),
    (["--evaluate", "--test", "0"], ["nothing to do"]),
    (["--frames", "9"], ["27", "81", "243", "351"]),
    (["--frames", "81", "--layers", "3"], ["3,3,3,3"]),
    (["--dataset", "h36m"], ["run_s-agcn.py"]),
    (["-k", "cpn_ft_h36m_dbb"], ["gt"]),
    (["-a", "Walking"], ["activities"]),
    (["--crop_uv", "1"], ["boxes"]),
    (["--data_augmentation", "perhaps"], ["perhaps"]),
    (["--train", "--evaluate"], ["exclude"]),
    (["--resume", "x", "--evaluate"], ["exclude"]),
    (["--resume", "x", "--reload"], ["exclude"]),
    (["--lr_refine", "1e-4"], ["--refine"]),
    (["--lr-schedule", "cosine", "--large_decay_epoch", "3"], ["steps"]),
    (["--test", "0", "--train", "0"], ["nothing to do"]),
    (["--nepoch", "0"], ["positive"]),
    (["--gpu", "0", "--evaluate"], ["GPU"]),
], ids=" ".join)
def test_flags_that_do_not_apply_are_refused_with_the_reason(flags, words, tmp_path):
    run_script(SCRIPT, "--root_path", tmp_path, *flags).assert_fails(2, *words)


SHORT = ["--debug", "--nepoch", "1", "--batch_size", "16"]  # ten batches
OF_TESTING = ("--frames", "--causal", "--test_augmentation", "--train")  # flags that change the evaluation as well


@pytest.fixture(scope="module")
def short_run(data, tmp_path_factory):
    """The folder of a run of ten batches."""
    folder = tmp_path_factory.mktemp("short")
    assert run_script(*command(data, folder, *SHORT)).status == 0
    return folder


@pytest.mark.parametrize("flags", [
    ["--data_augmentation", "False"], ["--reverse_augmentation", "True"], ["--subset", "0.5"], ["--downsample", "2"],
    ["--lr", "1e-2"], ["--no-pose-sequence"], ["--test", "0"], ["--frames", "81"], ["--frames", "351"], ["--causal"],
    ["--optimizer", "ranger"], ["--random-move"], ["--test_augmentation", "0"], ["--workers", "4"], ["--train", "1"],
], ids=" ".join)
def test_every_flag_changes_what_it_says(flags, data, tmp_path, short_run):
    is_tested = flags[0] in OF_TESTING
    done = run_script(*command(data, tmp_path, *SHORT, "--test", int(is_tested), *flags))
    assert done.status == 0, done.err
    state = checkpoint.load(next(tmp_path.glob("3dhp_4_*_last.bin")))["suite"]["history"][0]
    plain = checkpoint.load(short_run / LAST)["suite"]["history"][0]
    same = flags[0] in ("--test", "--test_augmentation", "--workers", "--train")
    assert (state["3d_train"] == plain["3d_train"]) == same
    assert ("3d_valid" in state) == (tmp_path / "inference_data.mat").exists() == is_tested
    if flags[0] == "--test_augmentation":
        assert "Test time augmentation: False" in done.out
    if flags[0] == "--workers":
        assert "INFO: --workers does not apply" in done.out
