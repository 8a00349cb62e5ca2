"""run_contextpose.py's training: what a step does and does not, and that a run goes on exactly where it stopped."""
import copy
import csv
import json
import math
import os
import types

import numpy as np
import pytest
import torch

from common import checkpoint
from common.contextpose.config import load_config
from common.contextpose.dataset import Human36MViews, limb_lengths
from common.contextpose.loading import Loader
from common.contextpose.model import ContextPose
from common.contextpose.pose_resnet import FEATURES, BasicBlock
from common.contextpose.runs import RunFolder
from common.contextpose.training import Trainer
from common.contextpose.volumetric import cuboid_points
from common.distributed import Processes
from common.utils import Interrupted, SuiteError


def make_narrow(backbone):
    """A quarter of the network's weights: what is done with them does not depend on their number."""
    for stage, channels in ((backbone.layer3, 128), (backbone.layer4, 16)):
        stage[0], stage[1] = BasicBlock(channels, 16, 2), BasicBlock(16, 16)
    backbone.deconv_layers[0] = torch.nn.ConvTranspose2d(16, FEATURES, 4, 2, 1, bias=False)
    backbone._initialise()


@pytest.fixture
def make_trainer(tiny_contextpose, tmp_path, monkeypatch):
    """A function that makes a trainer of a tiny network, always the same at first; keywords: settings."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nobody pulls a plug here, and every checkpoint would wait for it
    def make(run="run", seed=1, **settings):
        config = load_config(None, tiny_contextpose)
        for name, value in settings.items():
            section, _, key = name.rpartition("__")
            setattr(getattr(config, section) if section else config, key, value)
        torch.manual_seed(0)
        model = ContextPose(config, *limb_lengths(config.train.limb_length_path))
        make_narrow(model.backbone)
        processes = Processes("cpu")
        loaders = [Loader(Human36MViews(config, split), 0, processes.device) for split in ("train", "val")]
        folder = RunFolder(tmp_path / run)
        return Trainer(config, folder, model, *loaders, processes,
                       types.SimpleNamespace(seed=seed, amp="off", sync_bn=False, keep=None, fresh=True, weights=None))
    return make


def weights(trainer):
    return copy.deepcopy(trainer.model.state_dict())


def logged(trainer, but=()):
    """The rows of a run's table, without the columns `but`."""
    with open(trainer.run.table, newline="") as file:
        return [{name: value for name, value in row.items() if name not in but} for row in csv.DictReader(file)]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


class StopAfter:
    """A stop that is requested after so many batches."""

    def __init__(self, batches):
        self.batches = batches

    @property
    def requested(self):
        self.batches -= 1
        return self.batches < 0


def test_a_run_stopped_within_an_epoch_and_gone_on_with_ends_with_the_same_weights(make_trainer, monkeypatch):
    whole = make_trainer("whole", train__n_epochs=2)
    whole.train()
    stopped = make_trainer("stopped", train__n_epochs=2)
    assert len(stopped.loader.dataset.plan(1, 0)) > 1
    stopped._prepare()
    with pytest.raises(Interrupted, match="after 1 batches.* the same command without --fresh goes on"):
        stopped._train_epoch(StopAfter(1))
    resumed = make_trainer("stopped", train__n_epochs=2)
    resumed.resume(stopped.run.newest())
    assert (resumed.epoch, resumed.sums.batches) == (0, 1)
    resumed.train()
    assert_same(weights(whole), weights(resumed))
    states = [checkpoint.load(trainer.run.newest() / "optimizer.pth") for trainer in (whole, resumed)]
    assert all(row.pop("time") > 0 for state in states for row in state["suite"]["history"])
    assert states[0]["suite"] == states[1]["suite"]
    assert [row["epoch"] for row in logged(resumed)] == ["1", "2"]
    assert logged(resumed, ("time",)) == logged(whole, ("time",))
    moments = [state["optimizer_3d"]["state"][0]["exp_avg_sq"] for state in states]
    assert torch.equal(*moments)


def test_a_checkpoint_that_was_not_validated_is_validated_when_the_run_goes_on(make_trainer):
    trainer = make_trainer(train__n_epochs=1)
    trainer.train()
    metrics = trainer.run.checkpoint(0) / "metric.json"
    before = json.loads(metrics.read_text())
    metrics.unlink()
    again = make_trainer(train__n_epochs=1)
    again.resume(trainer.run.newest())
    log = logged(trainer)
    trainer.run.table.unlink()
    again.train()
    assert json.loads(metrics.read_text()) == before
    assert logged(again) == log
    # Killed later, between the errors' file and the table, the run has its line all the same.
    trainer.run.table.unlink()
    later = make_trainer(train__n_epochs=1)
    later.resume(trainer.run.newest())
    later.train()
    assert logged(later) == log


def test_a_run_that_is_stopped_while_validating_says_how_it_goes_on(make_trainer):
    trainer = make_trainer(train__n_epochs=1)
    trainer._prepare()
    batches = len(trainer.loader.dataset.plan(1, 0))
    with pytest.raises(Interrupted, match="validating epoch 1, saved in .*0000; the same command without --fresh goes"):
        trainer._train_epoch(StopAfter(batches))
    assert trainer.run.newest() == trainer.run.checkpoint(0) and not (trainer.run.newest() / "metric.json").exists()


def test_the_table_tells_what_was_minimised_and_measured(make_trainer):
    trainer = make_trainer(train__n_epochs=2, train__backbone_epochs=1, train__backbone_batch_size=1,
                           train__volume_net_lr_step=[1])
    sums = []
    trainer._step, step = lambda batch: sums.append((step(batch), len(batch.keys))) or sums[-1][0], trainer._step
    trainer.train()
    first, second = logged(trainer)
    batches = len(trainer.loader.dataset)

    def mean(name, part):
        return sum(losses[name] * count for losses, count in part) / sum(count for _, count in part)

    assert float(first["heatmap_loss"]) == pytest.approx(mean("loss", sums[:batches]))
    assert float(first["heatmap_px"]) == pytest.approx(mean("joint_px", sums[:batches]))
    assert float(second["loss"]) == pytest.approx(mean("loss", sums[batches:]))
    assert float(second["absolute_train"]) == pytest.approx(mean("joint_l2_mm", sums[batches:]))
    metrics = json.loads((trainer.run.checkpoint(1) / "metric.json").read_text())
    assert (float(second["3d_valid"]), float(second["absolute_valid"])) == (
        metrics["mpjpe_mm"], metrics["absolute_mpjpe_mm"])
    assert (float(second["lr_backbone"]), float(second["lr"])) == (1e-4, 5e-4)
    assert [name for name, value in first.items() if not value] == [
        "loss", "absolute_train", "3d_valid", "absolute_valid"]
    assert [name for name, value in second.items() if not value] == ["heatmap_loss", "heatmap_px"]
    settings = json.loads((trainer.run.path / "training_settings.json").read_text())
    assert (settings["seed"], settings["processes"], settings["train"]["backbone_epochs"]) == (1, 1, 1)
    assert "logdir" not in settings


def test_another_process_than_the_first_writes_no_table(make_trainer, monkeypatch):
    trainer = make_trainer(train__n_epochs=1, train__n_iters_per_epoch=1)
    monkeypatch.setattr(Processes, "is_main", False)
    trainer.train()
    assert not trainer.run.path.exists() and trainer.log.rows[0]["loss"] > 0


def test_a_batch_whose_loss_is_not_finite_changes_nothing_and_is_announced(make_trainer, capsys):
    trainer = make_trainer()
    batch = next(iter(trainer.loader.epoch(trainer.loader.dataset.plan(1, 0)[:1])))
    trainer.model.train()
    before = weights(trainer)
    broken = batch._replace(projections=batch.projections * math.nan)
    broken = broken._replace(keypoints=broken.keypoints * math.nan)
    assert trainer._step(broken) is None
    after = weights(trainer)
    assert_same(before, after)
    assert trainer.sums.skipped == 1 and "skipped" in capsys.readouterr().out
    assert trainer._step(batch) is not None
    assert any(not torch.equal(before[name], value) for name, value in weights(trainer).items())


def test_an_epoch_without_a_finite_loss_ends_the_run(make_trainer):
    trainer = make_trainer()
    trainer.config.loss.scale_keypoints_3d = math.nan
    with pytest.raises(SuiteError, match="no finite loss"):
        trainer.train()


def test_a_fixed_backbone_stays_and_the_rest_learns(make_trainer):
    trainer = make_trainer(train__n_epochs=1)
    trainer.model.fix_backbone()
    fixed = make_trainer("fixed", train__n_epochs=1)
    fixed.config.model.backbone.fix_weights = True
    fixed.model.fix_backbone()
    fixed = Trainer(fixed.config, fixed.run, fixed.model, fixed.loader, fixed.validation, fixed.processes,
                    fixed.options)
    before = weights(fixed)
    fixed.train()
    after = weights(fixed)
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and not any(name.startswith("backbone.") for name in changed)
    state = checkpoint.load(fixed.run.newest() / "optimizer.pth")
    assert state["optimizer_2d"] is None and state["scheduler_2d"] is None
    # Trained again, the backbone's optimiser starts afresh.
    trainer = make_trainer("fixed", train__n_epochs=2)
    trainer.resume(fixed.run.newest())
    trainer.train()
    changed = {name for name, value in weights(trainer).items() if not torch.equal(value, after[name])}
    assert any(name.startswith("backbone.layer1") for name in changed)


def test_a_state_of_another_network_starts_the_optimiser_afresh(make_trainer, capsys):
    trainer = make_trainer(train__n_epochs=1)
    trainer.train()
    path = trainer.run.newest() / "optimizer.pth"
    state = checkpoint.load(path)
    state["optimizer_3d"]["state"][0]["exp_avg"] = torch.zeros(3)
    torch.save(state, path)
    other = make_trainer(train__n_epochs=1)
    other.resume(trainer.run.newest())
    assert "optimizer_3d starts afresh: it is of another network" in capsys.readouterr().out


def test_an_epoch_under_way_begins_anew_with_other_batches(make_trainer, capsys):
    stopped = make_trainer("stopped", train__n_epochs=2)
    stopped._prepare()
    with pytest.raises(Interrupted):
        stopped._train_epoch(StopAfter(1))
    other = make_trainer("stopped", seed=2)
    other.resume(stopped.run.newest())
    assert (other.epoch, other.sums.batches) == (0, 0) and "begins anew" in capsys.readouterr().out


def test_a_run_takes_its_rates_from_the_milestones_of_its_settings(make_trainer):
    trainer = make_trainer(train__n_epochs=3, train__n_iters_per_epoch=1, train__backbone_lr_step=[1],
                           train__volume_net_lr_step=[2])
    seen = []
    for optimizer in trainer.optimizers:
        optimizer.register_step_pre_hook(lambda one, *_: seen.append([group["lr"] for group in one.param_groups]))
    trainer._end_epoch = lambda *_: None  # no validation
    trainer.train()
    backbone, rest = seen[::2], seen[1::2]
    assert backbone == [pytest.approx([rate]) for rate in (1e-4, 1e-5, 1e-5)]
    assert rest == [pytest.approx([rate, rate]) for rate in (1e-3, 1e-3, 5e-4)]


def test_volumes_are_turned_by_angles_of_the_seed_epoch_batch_and_process(make_trainer):
    trainer, other = make_trainer(), make_trainer("other")

    def angles(epoch=0, batches=0, rank=0, seed=1):
        trainer.epoch, trainer.sums.batches = epoch, batches
        trainer.processes.rank, trainer.options.seed = rank, seed
        return trainer._angles(2)

    drawn = torch.cat([angles(), angles(epoch=1), angles(batches=1), angles(rank=1), angles(seed=2)])
    assert len(set(drawn.tolist())) == 10 and 0 <= drawn.min() and 1 < drawn.max() < 2 * math.pi
    torch.manual_seed(5)
    assert torch.equal(angles(epoch=3, batches=2), angles(epoch=3, batches=2))
    other.epoch, other.sums.batches = 3, 2
    assert torch.equal(other._angles(2), trainer._angles(2))

    outputs = []
    trainer.model.register_forward_hook(lambda _, __, output: outputs.append(output))
    batch = next(iter(trainer.loader.epoch(trainer.loader.dataset.plan(1, 0)[:1])))
    trainer.model.train()
    trainer._step(batch)
    volume = trainer.config.model.volume_net
    turned = cuboid_points(batch.pelvis, volume.cuboid_size, volume.volume_size, trainer._angles(2))
    torch.testing.assert_close(outputs[0].coordinates, turned)


def test_a_step_goes_by_the_gradients_of_all_processes(make_trainer):
    trainer = make_trainer()
    batch = next(iter(trainer.loader.epoch(trainer.loader.dataset.plan(1, 0)[:1])))
    trainer.model.train()
    before = weights(trainer)
    trainer.processes.average_gradients = lambda model: [weight.grad.zero_() for weight in model.parameters()
                                                         if weight.grad is not None]
    assert trainer._step(batch) is not None
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.named_parameters())


def test_a_published_state_without_ours_goes_on_after_its_epoch(make_trainer):
    trainer = make_trainer(train__n_epochs=1)
    trainer.train()
    newest = trainer.run.newest()
    state = checkpoint.load(newest / "optimizer.pth")
    del state["suite"]
    torch.save(state, newest / "optimizer.pth")
    other = make_trainer(train__n_epochs=2)
    other.resume(newest)
    assert other.epoch == 1
    first = trainer.optimizers[1].state_dict()["state"][0]["exp_avg"]
    assert torch.equal(other.optimizers[1].state_dict()["state"][0]["exp_avg"], first)


def test_the_best_and_the_last_checkpoints_are_kept(make_trainer):
    trainer = make_trainer(train__n_epochs=1)
    trainer.train()
    (trainer.run.checkpoint(0) / "metric.json").write_text('{"mpjpe_mm": 0}')
    resumed = make_trainer(train__n_epochs=3)
    resumed.options.keep = 1
    resumed.resume(trainer.run.newest())
    resumed.train()
    assert resumed.run.epochs() == [0, 2]


def test_pictures_and_losses_reach_tensorboard(make_trainer):
    trainer = make_trainer(train__n_epochs=1, vis_freq=1, vis_n_elements=2)
    trainer.train()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trainer.run.path / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert {"joints", "heatmaps", "volumes"} <= set(events.Tags()["images"])
    batches = len(trainer.loader.dataset.plan(1, 0))
    assert len(events.Scalars("batch/loss")) == batches
    assert np.isfinite([event.value for event in events.Scalars("valid/mpjpe_mm")]).all()


def test_at_first_the_backbone_alone_learns_where_joints_are(make_trainer):
    trainer = make_trainer(train__n_epochs=2, train__backbone_epochs=1, train__backbone_batch_size=1)
    trainer._prepare()
    assert all(len(batch) == 1 for batch in trainer._plan())
    before = weights(trainer)
    trainer._train_epoch(StopAfter(100))
    first = weights(trainer)
    changed = {name for name, value in before.items() if not torch.equal(value, first[name])}
    assert "backbone.final_layer.weight" in changed and all(name.startswith("backbone.") for name in changed)
    trainer._train_epoch(StopAfter(100))
    second = weights(trainer)
    assert any(len(batch) == 2 for batch in trainer._plan())
    assert torch.equal(first["backbone.final_layer.weight"], second["backbone.final_layer.weight"])
    assert not torch.equal(first["volume_net.output_layer.weight"], second["volume_net.output_layer.weight"])
