"""Training runs as processes: they learn, keep what they promise, and continue exactly after any kill."""
import csv
import json
import math
import os
import random
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import GOLDEN, ROOT, TINY, assert_same_weights, made_once, run_script, start

from common import checkpoint
from common.cpu import has_bfloat16
from common.training import bn_momentum, learning_rate

LAST, BEST = "4_gt_9_last.bin", "4_gt_9_supervised.bin"


def command(demo_data, folder, *more):
    return ["run_s-agcn.py", "-d", "demo", "--data-dir", demo_data, "-str", "S1", "-ste", "S9", "-c", folder,
            "-e", "3", "-da", *TINY, "-b", "48", "--stride", "2", *more]


@pytest.fixture(scope="module")
def whole_run(demo_data, tmp_path_factory):
    """The folder and the standard output of a run that nothing interrupted."""
    def make(folder):
        done = run_script(*command(demo_data, folder / "run", "--checkpoint-frequency", 2))
        assert done.status == 0, done.err
        assert done.err == ""  # no progress bars without a terminal
        (folder / "out").write_text(done.out)

    folder = made_once(tmp_path_factory, "whole", make)
    return folder / "run", (folder / "out").read_text()


def test_a_run_learns_and_keeps_best_last_numbered_log_and_curves(whole_run):
    folder, out = whole_run
    others = {"4_gt_9_supervised_epoch_2.bin", "4_gt_9_log.csv", "4_gt_9_settings.json",
              "4_gt_9_curves.png"}
    assert {LAST, BEST} | others == set(os.listdir(folder))
    rows = list(csv.DictReader(open(folder / "4_gt_9_log.csv")))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    valid = [float(row["3d_valid"]) for row in rows]
    assert min(valid) < valid[0]
    assert checkpoint.load(folder / BEST)["epoch"] == 1 + valid.index(min(valid))
    assert checkpoint.load(folder / LAST)["epoch"] == 3
    assert "[1] time 0." in out and f"3d_valid {valid[0]:.1f}" in out
    settings = json.loads((folder / "4_gt_9_settings.json").read_text())
    assert (settings["seed"], settings["keypoints"], settings["architecture"]["channels"]) == (1234, "gt", 4)
    for file in (BEST, LAST, "4_gt_9_log.csv", "4_gt_9_curves.png"):
        assert f"written to {folder / file}\n" in out


def test_the_best_checkpoint_evaluates_to_its_validation_error(whole_run, demo_data, tmp_path):
    folder, _ = whole_run
    done = run_script(*command(demo_data, folder, "--evaluate", "--json", tmp_path / "a.json"))
    assert done.status == 0, done.err
    table = json.loads((tmp_path / "a.json").read_text())
    # All demo actions have the same number of frames: their mean is the mean over all frames.
    assert table["average"]["mpjpe"] == pytest.approx(
        checkpoint.load(folder / BEST)["suite"]["history"][-1]["3d_valid"], abs=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_at_random_moments_and_resumed_gives_the_same_weights(whole_run, demo_data, tmp_path, seed):
    whole, _ = whole_run
    moments, epochs_killed_in = random.Random(seed), []
    for attempt in range(6):
        resume = ["--resume", LAST] if (tmp_path / LAST).exists() else []
        process = start(command(demo_data, tmp_path, *resume))
        deadline = time.monotonic() + 60
        while not (tmp_path / LAST).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if attempt < 2:
            time.sleep(moments.uniform(0, 0.3))
            process.kill()
            epochs_killed_in.append(checkpoint.load(tmp_path / LAST)["epoch"])
        _, error = process.communicate(timeout=200)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, error
    assert process.returncode == 0 and min(epochs_killed_in) < 3
    for name in (LAST, BEST):
        assert_same_weights(whole / name, tmp_path / name)
    whole_log, log = ((folder / "4_gt_9_log.csv").read_text().splitlines() for folder in (whole, tmp_path))
    assert [line.split(",")[2:] for line in log] == [line.split(",")[2:] for line in whole_log]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_within_the_epoch_ends_with_130_and_resumes_exactly(whole_run, demo_data, tmp_path, number):
    process = start(command(demo_data, tmp_path))
    while process.poll() is None and not (tmp_path / LAST).exists():
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(number)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 130, error
    assert f"--resume {LAST}" in error and len(error.strip().splitlines()) == 1
    assert not [name for name in os.listdir(tmp_path) if "tmp" in name]
    resumed = run_script(*command(demo_data, tmp_path, "--resume", LAST))
    assert resumed.status == 0, resumed.err
    assert_same_weights(whole_run[0] / LAST, tmp_path / LAST)


def test_what_a_kill_left_half_written_is_removed(demo_data, tmp_path):
    leftover = tmp_path / ".4_gt_9_last.abc.tmp.bin"
    leftover.touch()
    assert run_script(*command(demo_data, tmp_path, "-e", 1, "--debug")).status == 0
    assert not leftover.exists()


def test_a_new_run_keeps_the_files_of_an_earlier_one(demo_data, tmp_path):
    assert run_script(*command(demo_data, tmp_path, "-e", 1, "--debug")).status == 0
    files = {name: (tmp_path / name).read_bytes() for name in (LAST, BEST)}
    again = run_script(*command(demo_data, tmp_path, "-e", 1, "--debug", "--seed", 5))
    assert again.status == 0 and "kept as 4_gt_9_last_before.bin" in again.out
    for name, content in files.items():
        assert (tmp_path / name.replace(".bin", "_before.bin")).read_bytes() == content
        assert (tmp_path / name).read_bytes() != content


def test_two_processes_train_resume_and_evaluate_like_one(demo_data, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    whole = run_script(*command(demo_data, tmp_path / "a"), launcher=launcher)
    assert whole.status == 0, whole.err
    assert whole.out.count("[3] time") == 1  # rank 0 speaks for all
    first = run_script(*command(demo_data, tmp_path / "b", "--debug"), launcher=launcher)  # another run in between
    assert first.status == 0, first.err
    process = start(command(demo_data, tmp_path / "c"), launcher=launcher)
    while process.poll() is None and not (tmp_path / "c" / BEST).exists():
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=100)
    assert process.returncode != 0 and checkpoint.load(tmp_path / "c" / LAST)["epoch"] < 3
    resumed = run_script(*command(demo_data, tmp_path / "c", "--resume", LAST), launcher=launcher)
    assert resumed.status == 0, resumed.err
    assert_same_weights(tmp_path / "a" / LAST, tmp_path / "c" / LAST)
    for name, start_with in (("one", ()), ("two", launcher)):
        done = run_script(*command(demo_data, tmp_path / "a", "--evaluate", "--json", tmp_path / f"{name}.json"),
                          launcher=start_with)
        assert done.status == 0, done.err
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


def test_released_checkpoints_resume_with_their_optimiser(humaneva_data, tmp_path):
    done = run_script(
        "run_s-agcn.py", "-d", "humaneva15", "--data-dir", humaneva_data, "-ste", "Validate/S1", "-a", "Walk,Jog,Box",
        "-arc", "3,3,3", "-ch", 32, "-b", 128, "-e", 6, "--subset", 0.3, "-c", tmp_path, "--no-tensorboard",
        "--resume", GOLDEN / "32_gt_27_supervised_epoch_5.bin")
    assert done.status == 0, done.err
    assert "optimiser starts afresh" not in done.out and "\n[6] time" in done.out
    state = checkpoint.load(tmp_path / "32_gt_27_last.bin")["optimizer"]["state"][0]
    assert int(state["step"]) > 100  # the released run made 100 steps


def test_an_optimiser_state_that_does_not_fit_starts_afresh_with_a_notice(humaneva_data, tmp_path):
    released = checkpoint.load(GOLDEN / "32_gt_27_supervised_epoch_5.bin")
    released["optimizer"] = {"state": {}, "param_groups": [{"lr": 1, "params": [0, 1]}]}
    torch.save(released, tmp_path / "odd.bin")
    done = run_script(
        "run_s-agcn.py", "-d", "humaneva15", "--data-dir", humaneva_data, "-ste", "Validate/S1", "-arc", "3,3,3", "-ch",
        32, "-b", 128, "-e", 6, "--subset", 0.3, "--no-eval", "-c", tmp_path, "--no-tensorboard", "--resume", "odd.bin")
    assert done.status == 0, done.err
    assert "INFO: the optimiser starts afresh" in done.out


def test_the_shipped_demo_checkpoints_resume_as_the_best_so_far(demo_data, tmp_path):
    shipped = ROOT / "checkpoint" / "demo" / "16_gt_9_supervised.bin"
    done = run_script("run_s-agcn.py", "-d", "demo", "--data-dir", demo_data, "-str", "S1", "-ste", "S9", "-arc", "3,3",
                      "-ch", 16, "-e", 10, "--no-tensorboard", "-c", tmp_path, "--resume", shipped)
    assert done.status == 0, done.err
    assert "the best epoch by validation MPJPE (49.7 mm)" in done.out  # its ten epochs are done
    ours, theirs = (checkpoint.load(path)["model_pos"] for path in (tmp_path / shipped.name, shipped))
    assert all(value.equal(theirs[name]) for name, value in ours.items())


def test_bare_weights_cannot_be_resumed(demo_data, tmp_path, whole_run):
    torch.save(checkpoint.load(whole_run[0] / BEST)["model_pos"], tmp_path / "weights.bin")
    run_script(*command(demo_data, tmp_path, "--resume", "weights.bin")).assert_fails(4, "not a training state")


@pytest.mark.parametrize("flags", [
    ["--causal"], ["--pose-sequence"], ["--no-eval"], ["--debug"], ["--subset", "0.3", "--downsample", "2"],
    ["--stride", "3", "--no-random-move"], ["--lr-schedule", "exponential", "-lrd", "0.5", "-lr", "0.02"],
    ["--clip-grad-norm", "0.01"],
    pytest.param(["--amp", "bf16"], marks=pytest.mark.skipif(
        not has_bfloat16(), reason="this CPU has no bfloat16 instructions: the network computes in float32")),
    ["-drop", "0", "--disable-optimizations"], ["-k", "detected"], ["--seed", "7"],
], ids=" ".join)
def test_every_training_flag_trains(demo_data, tmp_path, flags, whole_run):
    done = run_script(*command(demo_data, tmp_path, *flags, "-e", 1))
    assert done.status == 0, done.err
    assert "action-wise average" in done.out
    keypoints = "detected" if "-k" in flags else "gt"
    # A flag that changed nothing would give the first epoch of the plain run.
    assert (tmp_path / f"4_{keypoints}_9_last.bin").exists()
    loss = checkpoint.load(tmp_path / f"4_{keypoints}_9_last.bin")["suite"]["history"][0]["3d_train"]
    plain = checkpoint.load(whole_run[0] / LAST)["suite"]["history"][0]["3d_train"]
    assert np.isfinite(loss)
    assert (loss != plain) == (flags != ["--no-eval"])
    if "exponential" in flags:
        state = checkpoint.load(tmp_path / "4_gt_9_last.bin")
        assert state["lr"] == 0.01 and state["suite"]["history"][0]["lr"] == 0.02


def test_tensorboard_scalars_are_written(demo_data, tmp_path):
    flags = [flag for flag in command(demo_data, tmp_path, "-e", "1", "--debug") if flag != "--no-tensorboard"]
    assert run_script(*flags).status == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard" / "4_gt_9"))
    events.Reload()
    assert {"3d_train", "3d_eval", "3d_valid", "lr"} <= set(events.Tags()["scalars"])


def test_schedules_begin_and_end_where_the_paper_says():
    args = SimpleNamespace(lr_schedule="cosine", learning_rate=0.01, epochs=10, lr_decay=0.95)
    assert learning_rate(args, 0) == 0.01
    assert learning_rate(args, 5) == pytest.approx(0.005005)  # as in the released checkpoint of epoch 5 of 10
    assert learning_rate(args, 10) == pytest.approx(1e-5)
    assert bn_momentum(0, 80) == 0.1 and bn_momentum(40, 80) == pytest.approx(0.1 * math.sqrt(0.01))


def test_sigterm_before_the_training_begins_ends_with_130(demo_data, tmp_path):
    process = start(command(demo_data, tmp_path))
    assert process.stdout.readline() == "Loading dataset...\n"
    process.terminate()
    _, error = process.communicate(timeout=200)
    assert process.returncode == 130 and len(error.strip().splitlines()) == 1, error


def test_the_steps_are_those_of_the_release():
    args = SimpleNamespace(lr_schedule="steps", learning_rate=1e-3, lr_decay=0.9, lr_decay_large=0.5,
                           large_decay_epoch=3)
    rate = 1e-3
    for epoch in range(1, 12):  # the release counts epochs from 1 and decays after each
        assert learning_rate(args, epoch - 1) == pytest.approx(rate)
        rate *= 0.5 if epoch % 3 == 0 else 0.9
    assert learning_rate(args, 3, first=1e-5) == pytest.approx(1e-5 * 0.81 * 0.5)


def test_reversed_windows_are_the_windows_backwards_with_the_same_targets():
    from common.arguments import lifting_parser, parse_lifting_args
    from common.distributed import Processes
    from common.lifting import make_generator
    from common.pose_data import PoseSequence
    from common.s_agcn import S_AGCN

    rng = np.random.default_rng(0)
    sequences = [PoseSequence("S1", "a", 0, {}, rng.normal(size=(n, 17, 2)).astype(np.float32),
                              rng.normal(size=(n, 17, 3)).astype(np.float32)) for n in (5, 4)]
    data = SimpleNamespace(flip=lambda: ([4], [1], [4], [1]))
    args = parse_lifting_args(lifting_parser(""), ["-b", "100", "--reverse-augmentation", "--no-random-move"])
    generator = make_generator(args, data, S_AGCN(17, 2, 17, [3], channels=4), sequences, Processes("cpu"))
    generator.shuffle = False
    _, targets, inputs = next(generator.next_epoch())
    assert len(inputs) == 18
    for first, n in ((0, 5), (5, 4)):
        plain, back = slice(first, first + n), slice(9 + first, 9 + first + n)
        np.testing.assert_array_equal(inputs[back], inputs[plain][::-1, ::-1])
        np.testing.assert_array_equal(targets[back], targets[plain][::-1])
