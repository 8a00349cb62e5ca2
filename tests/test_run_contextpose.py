"""run_contextpose.py as its users run it: train, evaluate, go on, own images, other data; and what it refuses."""
import hashlib
import json
import pickle
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, run_script

import run_contextpose
from common.contextpose.runs import find_run
from common.export import read_prediction
from common.h36m_images import image_path
from common.safe_io import load_npz
from common.synthetic_raw import write_mpi_inf_3dhp
from common.utils import CheckpointError, DataError, UsageError

TRAIN = ROOT / "experiments/human36m/train/human36m_vol_softmax_single.yaml"
EVAL = ROOT / "experiments/human36m/eval/human36m_vol_softmax_single.yaml"
EVAL_3DHP = ROOT / "experiments/mpi_inf_3dhp/eval/mpi_inf_3dhp_vol_softmax_single.yaml"
TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]


def flags_of(settings, config=TRAIN):
    """The script's flags for the smallest network."""
    return ["--config", config, "--device", "cpu", *(part for setting in settings for part in ("--set", setting))]


def metrics_in(folder):
    """The content of metric.json, without what it says of its origin."""
    metrics = json.loads((folder / "metric.json").read_text())
    metrics.pop("of", None)
    return metrics


def run(*flags):
    """Run the script in this process."""
    with mock.patch.object(sys, "argv", ["run_contextpose.py", *map(str, flags)]):
        run_contextpose.main(run_contextpose.get_args())


@pytest.fixture(scope="module")
def settings(tiny_contextpose):
    return [*tiny_contextpose, "train.n_epochs=1", "model.backbone.init_weights=false"]


@pytest.fixture(scope="module")
def logs(settings, tmp_path_factory):
    """A folder with the run of one epoch that the published configuration, made small, trains."""
    folder = tmp_path_factory.mktemp("logs")
    run(*flags_of(settings), "--logdir", folder)
    return folder


@pytest.fixture
def copied(logs, tmp_path):
    shutil.copytree(logs, tmp_path / "logs")
    return tmp_path / "logs"


def test_a_run_leaves_its_settings_checkpoints_and_results(logs, settings, made_h36m):
    found = find_run(logs, "tiny")
    assert yaml.safe_load((found.path / "config.yaml").read_text())["model"]["volume_net"]["volume_size"] == 8
    newest = found.newest()
    assert newest.name == "0000"
    assert {path.name for path in newest.iterdir()} == {"weights.pth", "optimizer.pth", "metric.json", "results.pkl",
                                                        "results.npz"}
    metrics = json.loads((newest / "metric.json").read_text())
    results = load_npz(newest / "results.npz")
    predicted, truth = (poses - poses[:, 6:7] for poses in (results["keypoints_3d"], results["keypoints_gt"]))
    assert metrics["mpjpe_mm"] == pytest.approx(np.linalg.norm(predicted - truth, axis=-1).mean(), rel=1e-4)
    assert set(results["subjects"]) == {"S9"} and len(predicted) == 4 * len(np.unique(results["indexes"]))
    published = pickle.loads((newest / "results.pkl").read_bytes())
    np.testing.assert_array_equal(published["keypoints_3d"], results["keypoints_3d"])
    assert set(torch.load(newest / "optimizer.pth", weights_only=True)) >= {"optimizer_2d", "optimizer_3d",
                                                                            "scheduler_2d", "scheduler_3d"}


def test_the_same_line_goes_on_and_fresh_starts_anew(copied, settings, capsys):
    flags = [*flags_of(settings), "--logdir", copied]
    run(*flags, "--set", "train.n_epochs=2", "--set", "model.heatmap_multiplier=7")
    out = capsys.readouterr().out
    assert "going on with" in out and "other settings than before: model.heatmap_multiplier, train.n_epochs" in out
    assert "no result depends on model.heatmap_multiplier" in out
    found = find_run(copied, "tiny")
    assert found.epochs() == [0, 1] and (found.path / "config_before_0001.yaml").is_file()
    run(*flags, "--fresh")
    assert len(list(copied.glob("tiny@*"))) == 2 and find_run(copied, "tiny").epochs() == [0]


def test_evaluation_repeats_what_training_measured_and_takes_the_training_data_too(copied, settings, capsys):
    newest = find_run(copied, "tiny").newest()
    before = metrics_in(newest)
    run(*flags_of(settings), "--logdir", copied, "--eval")
    out = capsys.readouterr().out
    assert f"MPJPE, relative to the pelvis:{before['mpjpe_mm']:14.1f} mm" in out and "MPJPE, absolute" in out
    assert metrics_in(newest) == before
    run(*flags_of(settings), "--logdir", copied, "--eval", "--eval_dataset", "train")
    assert set(load_npz(newest / "train" / "results.npz")["subjects"]) == {"S1"}
    run(*flags_of(settings), "--logdir", newest.parents[1], "--eval", "--output", copied / "elsewhere")
    assert metrics_in(copied / "elsewhere") == before and not list(newest.parents[1].glob("*@*"))


def test_several_processes_train_and_evaluate_to_the_figures_of_one(settings, tmp_path):
    flags = flags_of([*settings, "train.n_iters_per_epoch=1"])
    alone, several = tmp_path / "alone", tmp_path / "several"
    run(*flags, "--logdir", alone)
    trained = run_script("run_contextpose.py", *flags, "--logdir", several, "--sync_bn", "--set", "train.batch_size=1",
                         launcher=TORCHRUN)
    assert trained.status == 0, trained.err
    newest = find_run(several, "tiny").newest()
    before = metrics_in(newest)
    run(*flags, "--logdir", several, "--eval")
    assert metrics_in(newest) == before
    # Two processes of one sample each, with synchronised batch norm, count what one with both does. Only the backbone
    # is compared, after one step: volumes are turned by other angles in every process.
    expected = torch.load(find_run(alone, "tiny").newest() / "weights.pth", weights_only=True)
    found = torch.load(newest / "weights.pth", weights_only=True)
    names = [name for name in expected if name.startswith("backbone.") and "running" in name]
    assert len(names) > 40
    for name in names:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5)


def test_both_published_configurations_run(logs, settings, tmp_path):
    weights = find_run(logs, "tiny").newest() / "weights.pth"
    run(*flags_of([*settings, f"model.checkpoint={weights}"], EVAL), "--eval", "--eval_dataset", "val", "--logdir",
        tmp_path)
    results = next(tmp_path.glob("tiny@*/checkpoints/0000"))
    assert metrics_in(results) == metrics_in(weights.parent)
    run(*flags_of(settings), "--logdir", tmp_path / "other", "--weights", weights)
    assert find_run(tmp_path / "other", "tiny").epochs() == [0]


def test_images_of_ones_own_become_poses_and_pictures(logs, settings, made_h36m, tmp_path, capsys):
    image = image_path(made_h36m / "processed", "S9", "Walking-1", "54138969", 0)
    run(*flags_of(settings), "--logdir", logs, "--predict", image, "--intrinsics", "1145,1144,512,515", "--boxes",
        "200,200,700,800", "--output", tmp_path)
    for name in ("predictions.npz", "predictions.json"):
        found = read_prediction(tmp_path / name)
        assert len(found) == 1 and found.extra["images"] == [str(image)]
        weights = find_run(logs, "tiny").newest() / "weights.pth"
        assert found.source["checkpoint"] == str(weights)
        assert found.source["checkpoint_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (tmp_path / f"{image.stem}_pose.png").stat().st_size > 10_000
    assert "depth of the pelvis" in capsys.readouterr().out


def test_weights_know_the_limb_lengths_that_they_were_trained_with(logs, settings, made_h36m, tmp_path):
    image = image_path(made_h36m / "processed", "S9", "Walking-1", "54138969", 0)
    run(*flags_of([*settings, "train.limb_length_path=nowhere.h5"]), "--logdir", logs, "--predict", image,
        "--intrinsics", "1145,1144,512,515", "--output", tmp_path, "--pelvis-depth", 4000)
    assert (tmp_path / "predictions.npz").is_file()


def test_mpi_inf_3dhp_gives_pck_and_auc(logs, settings, tmp_path, capsys):
    write_mpi_inf_3dhp(tmp_path / "set", test_frames=24, subjects=(), test_sequences=("TS1",), images=1)
    weights = find_run(logs, "tiny").newest() / "weights.pth"
    run(*flags_of([*settings, f"dataset.root={tmp_path / 'set'}"], EVAL_3DHP), "--eval", "--logdir", tmp_path / "logs",
        "--weights", weights)
    metrics = json.loads(next(tmp_path.glob("logs/tiny@*/checkpoints/0000/metric.json")).read_text())
    assert 0 <= metrics["auc"] <= metrics["pck"] <= 100
    assert "PCK" in capsys.readouterr().out


@pytest.mark.parametrize("flags, words", [
    (["--set", "train.batchsize=2"], "train.batch_size"),
    (["--eval", "--predict", "a.jpg", "--intrinsics", "1,1,1,1"], "--predict and --eval"),
    (["--predict", "a.jpg"], "--intrinsics"),
    (["--predict", "a.jpg", "--intrinsics", "1,2"], "four numbers"),
    (["--boxes", "1,2,3,4"], "without --predict"),
    (["--fps", "30"], "--fps does not apply without --predict"),
    (["--eval_dataset", "val"], "without --eval"),
    (["--eval", "--fresh"], "do not apply to --eval"),
    (["--output", "there"], "does not apply to training"),
    (["--set", "model.image_shape=[65, 64]"], "multiples of 32"),
    (["--set", "train.n_epochs=-5"], "train.n_epochs must be more than 0"),
    (["--set", "train.backbone_lr=-1"], "train.backbone_lr must be 0 or more"),
    (["--set", "train.backbone_lr_step=[-3]"], "train.backbone_lr_step must be epochs"),
    (["--set", "dataset.kind=mpi_inf_3dhp"], "evaluation only"),
])
def test_flags_that_do_not_fit_are_refused(settings, tmp_path, flags, words):
    with pytest.raises(UsageError, match=words):
        run(*flags_of(settings), "--logdir", tmp_path, *flags)


def test_what_is_missing_is_named(settings, tmp_path):
    with pytest.raises(CheckpointError, match="no run of 'tiny'"):
        run(*flags_of(settings), "--logdir", tmp_path, "--eval")
    with pytest.raises(CheckpointError, match="none.pth"):
        run(*flags_of(settings), "--logdir", tmp_path, "--eval", "--weights", "none.pth")
    with pytest.raises(CheckpointError, match="model.init_weights=false"):
        run(*flags_of([*settings, "model.checkpoint=none.pth"], EVAL), "--logdir", tmp_path, "--eval")
    with pytest.raises(CheckpointError, match="model.backbone.init_weights=false"):
        run(*flags_of([*settings, "model.backbone.init_weights=true"]), "--logdir", tmp_path)
    with pytest.raises(DataError, match="labels.npy"):
        run(*flags_of([*settings, "dataset.train_labels_path=labels.npy"]), "--logdir", tmp_path)


def test_another_backbone_is_refused_with_the_setting_that_fits(logs, settings):
    with pytest.raises(CheckpointError, match="model.backbone.num_layers: 18"):
        run(*flags_of([*settings, "model.backbone.num_layers=34"]), "--logdir", logs, "--eval")


def test_an_error_is_one_line_and_its_exit_status(settings, tmp_path):
    failed = run_script("run_contextpose.py", "--config", tmp_path / "none.yaml")
    failed.assert_fails(2, "none.yaml")
