"""Training ContextPose: two optimisers, epochs, checkpoints, logs, and going on exactly where a run stopped.

Nothing is drawn from a running random state: the batches of an epoch and the angles of its volumes follow from the seed
and the epoch. A checkpoint that says how far its epoch is is therefore all that an exact continuation needs.
"""
import math
import time
from pathlib import Path

import numpy as np
import torch

from common import checkpoint
from common.contextpose.config import to_dict
from common.contextpose.epoch_log import EpochLog
from common.contextpose.evaluation import write_results
from common.contextpose.inference import evaluate
from common.contextpose.loss import heatmap_loss, training_loss
from common.contextpose.optimisers import Schedule, check_moments, make_optimizers
from common.contextpose.pictures import training_pictures
from common.contextpose.runs import LOGS, METRICS, STATE, WEIGHTS
from common.engine import StopSignals, autocast
from common.utils import CheckpointError, Interrupted, SuiteError, progress, require

ANGLES = 1  # sets the random numbers of the volumes' angles apart from those of the batches
PLAN_SETTINGS = ("batch_size", "backbone_epochs", "backbone_batch_size", "shuffle", "randomize_n_views", "min_n_views",
                 "max_n_views", "n_objects_per_epoch", "n_iters_per_epoch", "ignore_cameras", "with_damaged_actions")
HEADLINES = {"mpjpe_mm": "MPJPE", "absolute_mpjpe_mm": "absolute"}


class Sums:
    """Losses of the samples of an epoch so far, batches that were skipped, and seconds that it took."""

    def __init__(self, batches=0, samples=0, skipped=0, losses=None, seconds=0.0):
        self.batches, self.samples, self.skipped, self.losses = batches, samples, skipped, dict(losses or {})
        self.seconds = seconds

    def add(self, parts, samples):
        """Count a batch: {name: its mean} of so many samples."""
        self.samples += samples
        for name, value in parts.items():
            self.losses[name] = self.losses.get(name, 0.0) + value * samples

    def means(self, processes):
        """{name: mean} over the samples of all processes."""
        every = processes.gather(vars(self))
        samples = max(1, sum(part["samples"] for part in every))
        names = dict.fromkeys(name for part in every for name in part["losses"])
        return {name: sum(part["losses"].get(name, 0.0) for part in every) / samples for name in names}


class Trainer:
    """Trains `model` on `loader`'s dataset, validates every epoch, and writes the run's folder.

    config: common.contextpose.config.Config; run: RunFolder; loaders: `loading.Loader` for training and validation;
    options: seed, amp, sync_bn, keep (checkpoints to keep, None: all), and fresh and weights, which began another run.
    """

    def __init__(self, config, run, model, loader, validation, processes, options):
        self.config, self.run, self.model, self.processes = config, run, model, processes
        self.loader, self.validation, self.options = loader, validation, options
        self.optimizers = make_optimizers(model, config.train)
        steps = ((config.train.backbone_lr_step, config.train.backbone_lr_factor),
                 (config.train.volume_net_lr_step, config.train.volume_net_lr_factor))
        self.schedules = [None if optimizer is None else Schedule(optimizer, *step)
                          for optimizer, step in zip(self.optimizers, steps, strict=True)]
        self.epoch, self.sums = 0, Sums()
        self.losses, self.log = {}, EpochLog(run)  # losses: means of the last epoch
        self._buffers = list(model.buffers())
        self._writer = None
        require("tensorboard", "tensorboard")  # found missing now, not after the first epoch

    # ---- the loop

    def train(self):
        """Train the epochs that are left. Raises Interrupted after saving on Ctrl-C or SIGTERM."""
        self._prepare()
        with StopSignals() as stop:
            try:
                self._validate_unmeasured(stop)
                while self.epoch < self.config.train.n_epochs:
                    self._train_epoch(stop)
            finally:
                if self._writer is not None:
                    self._writer.close()

    def _prepare(self):
        if self.processes.is_main:
            config = self.config
            self.run.prepare(to_dict(config), Path(config.azureroot) / config.train.limb_length_path)
            # The table, too: a kill may have come between the last checkpoint and its line there.
            self.log.begin(config, self.options, self.processes)
        self.processes.broadcast([*self.model.parameters(), *self.model.buffers()])

    def _train_epoch(self, stop):
        for schedule in filter(None, self.schedules):
            schedule.set_epoch(self.epoch)
        self.model.fix_backbone(self.config.model.backbone.fix_weights and not self.on_backbone())
        self.model.backbone.final_layer.requires_grad_(self.on_backbone())
        try:
            self._train_batches(stop)
        except Interrupted:
            self._save(self.epoch)
            raise self._stopped(f"in epoch {self.epoch + 1} after {self.sums.batches} batches", self.epoch) from None
        if not self.processes.any(self.sums.samples):
            raise SuiteError(f"all {self.sums.skipped} batches of epoch {self.epoch + 1} gave no finite loss; lower "
                             "train.volume_net_lr and train.backbone_lr, or set loss.grad_clip")
        self.processes.broadcast(self.model.buffers())  # running statistics: all evaluate the same network
        self.losses = self.sums.means(self.processes) | {"skipped": self.sums.skipped}
        self.epoch += 1
        self.log.add(self.epoch, self.sums.seconds, self.optimizers, self.losses, self._was_on_backbone())
        self.sums = Sums()
        self._save(self.epoch - 1)
        self._end_epoch(stop)

    def _stopped(self, where, epoch):
        """The Interrupted that says how to go on from the checkpoint of an epoch, counted from 0."""
        new = " and ".join(flag for flag in ("--fresh", "--weights") if getattr(self.options, flag[2:]))
        return Interrupted(f"stopped {where}, saved in {self.run.checkpoint(epoch)}; the same command"
                           f"{new and f' without {new}'} goes on")

    def _train_batches(self, stop):
        config, self.model = self.config, self.model.train()
        plan, started = self._plan(), time.monotonic() - self.sums.seconds
        bar = progress(total=len(plan), initial=self.sums.batches, desc=f"epoch {self.epoch + 1}", unit="batch")
        for batch in self.loader.epoch(plan, skip=self.sums.batches):
            if self.processes.any(stop.requested):
                raise Interrupted
            parts = self._step(batch)
            self.sums.batches += 1
            self.sums.seconds = time.monotonic() - started
            if parts is not None:
                self.sums.add(parts, len(batch.keys))
                text = " ".join(f"{name} {value:.4g}" for name, value in parts.items())
                if config.batch_output and self.processes.is_main:
                    bar.write(f"epoch {self.epoch + 1} batch {self.sums.batches}/{len(plan)} {text}")
                bar.set_postfix_str(f"loss {parts['loss']:.4g}", refresh=False)
            bar.update()
        bar.close()

    def _plan(self):
        """This process's batches of the present epoch."""
        size = self.config.train.backbone_batch_size if self.on_backbone() else None
        return self.loader.dataset.plan(self.options.seed, self.epoch, self.processes.rank, self.processes.world_size,
                                        size)

    def _number(self):
        """A number of the next batch that grows over all epochs: none of them has more batches than rows."""
        return self.epoch * len(self.loader.dataset) + self.sums.batches

    def _step(self, batch):
        """One step of the optimisers: {name: loss}, or None where the losses are not finite and nothing changed."""
        config = self.config
        before = [buffer.clone() for buffer in self._buffers]
        for optimizer in filter(None, self.optimizers):
            optimizer.zero_grad(set_to_none=True)
        output, loss, parts = (self._backbone_losses if self.on_backbone() else self._pose_losses)(batch)
        loss.backward()
        self.processes.average_gradients(self.model)
        weights = [weight for weight in self.model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(weights, config.loss.grad_clip or math.inf)
        values = {"loss": loss.item()} | {name: value.item() for name, value in parts.items()}
        if self.processes.any(not math.isfinite(values["loss"]) or not math.isfinite(norm.item())):
            self._skip(values["loss"], before)
            return None
        for optimizer in filter(None, self.optimizers):
            optimizer.step()
        self._log_batch(batch, output, values)
        return values

    def on_backbone(self):
        """Whether this epoch is one of the first, in which the backbone learns alone, from its heatmaps."""
        return self.epoch < self.config.train.backbone_epochs

    def _pose_losses(self, batch):
        """(the network's output, the loss, its parts by name) of a batch."""
        with autocast(self.processes.device, self.options.amp):
            output = self.model(*batch.inputs(), angles=self._angles(len(batch.keys)))
        return output, *training_loss(output, batch.keypoints, self.config.loss)

    def _backbone_losses(self, batch):
        """(None, the loss, its parts by name) of the heatmaps of a batch."""
        images, projections, _ = batch.inputs()
        with autocast(self.processes.device, self.options.amp):
            heatmaps = self.model.backbone(images.flatten(0, 1))[0].unflatten(0, images.shape[:2])
        stride = images.shape[-1] / heatmaps.shape[-1]
        loss, distance = heatmap_loss(heatmaps, projections, batch.keypoints, stride)
        return None, loss, {"joint_px": distance.detach()}

    def _angles(self, count):
        """The angles (count,) in radians by which the volumes of this process's batch are turned."""
        draw = np.random.default_rng([self.options.seed, self.epoch, self.sums.batches, self.processes.rank, ANGLES])
        angles = draw.uniform(0, 2 * math.pi, count).astype(np.float32)
        return torch.from_numpy(angles).to(self.processes.device)

    def _skip(self, loss, before):
        """Leave out a batch whose loss or gradient is not finite; running statistics are what they were."""
        self.sums.skipped += 1
        for buffer, value in zip(self._buffers, before, strict=True):
            buffer.copy_(value)
        if self.processes.is_main:
            print(f"NOTICE: epoch {self.epoch + 1}, batch {self.sums.batches + 1}: the loss is {loss:g} or its "
                  "gradient is not finite; the batch is skipped", flush=True)

    # ---- the end of an epoch

    def _was_on_backbone(self):
        """Whether the last epoch was one in which the backbone learnt alone."""
        return self.epoch <= self.config.train.backbone_epochs

    def _end_epoch(self, stop):
        losses, skipped, only_backbone = self.losses, self.losses["skipped"], self._was_on_backbone()
        metrics = {} if only_backbone else self._validate(stop)  # the rest of the network knows nothing yet
        if self.processes.is_main:
            self.log.write()
            errors = " ".join(f"{title} {metrics[name]:.1f}" for name, title in HEADLINES.items() if name in metrics)
            result = (f"backbone: joints {losses['joint_px']:.1f} px off" if only_backbone else
                      f"train {losses['joint_l2_mm']:.1f} valid {errors}")
            print(f"[{self.epoch}] {self.log.described()} loss {losses['loss']:.3f} {result} waited for data "
                  f"{self.loader.waited_share():.0%}{f' skipped {skipped} batches' if skipped else ''}", flush=True)
            writer = self._tensorboard()
            for name, value in losses.items():
                writer.add_scalar(f"train/{name}", value, self.epoch)
            for name, value in metrics.items():
                if isinstance(value, float):
                    writer.add_scalar(f"valid/{name}", value, self.epoch)
            writer.add_scalar("train/waited_for_data", self.loader.waited_share(), self.epoch)
            writer.flush()
            if self.options.keep:
                self.run.keep(self.options.keep)

    def _validate(self, stop):
        """Evaluate on the validation data and write the results beside the newest checkpoint."""
        try:
            metrics, arrays, _ = evaluate(self.model, self.validation, self.processes, self.options.amp, stop,
                                          "validating")
        except Interrupted:
            raise self._stopped(f"validating epoch {self.epoch}", self.epoch - 1) from None
        if self.processes.is_main:
            of = {"split": "val", "seed": self.options.seed}
            write_results(self.run.checkpoint(self.epoch - 1), metrics | {"of": of}, arrays)
        self.log.add_errors(metrics)
        return metrics

    def _validate_unmeasured(self, stop):
        """Validate the checkpoint that this run goes on from, if it was stopped before that."""
        if self._was_on_backbone() or self.sums.batches:
            return
        if not self.processes.share((self.run.checkpoint(self.epoch - 1) / METRICS).is_file()):
            if self.losses:
                self._end_epoch(stop)
            else:  # a published checkpoint, which does not know them
                self._validate(stop)
                if self.processes.is_main:
                    self.log.write()

    # ---- logs

    def _log_batch(self, batch, output, values):
        if not self.processes.is_main:
            return
        number = self._number()
        for name, value in values.items():
            self._tensorboard().add_scalar(f"batch/{name}", value, number)
        if output is not None and self.config.vis_freq and self.sums.batches % self.config.vis_freq == 0:
            for name, picture in training_pictures(batch, output, self.config.vis_n_elements).items():
                self._tensorboard().add_image(name, picture, number, dataformats="HWC")

    def _tensorboard(self):
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What a killed run logged after its last checkpoint is logged again.
            self._writer = SummaryWriter(self.run.path / LOGS, purge_step=self._number())
        return self._writer

    # ---- checkpoints

    def _save(self, epoch):
        """Write the checkpoint of an epoch, counted from 0: whole, or as far as it is."""
        sums = self.processes.gather(vars(self.sums))
        if self.processes.is_main:
            states = {name: None if part is None else part.state_dict() for name, part in
                      zip(("optimizer_2d", "optimizer_3d", "scheduler_2d", "scheduler_3d"),
                          (*self.optimizers, *self.schedules), strict=True)}
            suite = {"epoch": self.epoch, "sums": sums, "losses": self.losses, "history": self.log.rows,
                     "plan": self._plan_settings(), "launch": self.processes.launch}
            self.run.save(epoch, self.model.state_dict(), states | {"suite": suite})
        self.processes.barrier()

    def resume(self, folder):
        """Go on from a checkpoint's folder, ours or a published one."""
        checkpoint.load_into(self.model, checkpoint.load(folder / WEIGHTS), folder / WEIGHTS)
        path = folder / STATE
        state = checkpoint.load(path)
        try:
            suite = state.get("suite")
            self.epoch = int(folder.name) + 1 if suite is None else int(suite["epoch"])
            self.log.resume((suite or {}).get("history", []), self.epoch)
            for name, optimizer in zip(("optimizer_2d", "optimizer_3d"), self.optimizers, strict=True):
                self._resume_optimizer(optimizer, state[name], name)
            if suite is not None:
                self._resume_progress(suite)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(f"{path}: no training state ({type(error).__name__}: {error}); start anew with "
                                  "--fresh, from its weights with --weights") from None

    def _resume_optimizer(self, optimizer, state, name):
        if optimizer is None:
            return
        try:
            if state is None:
                raise ValueError("the backbone was fixed before")
            check_moments(optimizer, state)
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = group["initial_lr"] = rate
        except ValueError as error:
            if self.processes.is_main:
                print(f"INFO: {name} starts afresh: {error}")

    def _resume_progress(self, suite):
        every, self.losses = suite["sums"], dict(suite["losses"])
        if suite["plan"] == self._plan_settings():
            self.sums = Sums(**every[self.processes.rank])
        elif every[0]["batches"] and self.processes.is_main:
            print("INFO: the batches of an epoch are others now (--seed, processes, data or settings): the epoch that "
                  "was under way begins anew")

    def _plan_settings(self):
        """What the batches of an epoch follow from."""
        return {"seed": self.options.seed, "processes": self.processes.world_size, "rows": len(self.loader.dataset),
                **{name: getattr(self.config.train, name) for name in PLAN_SETTINGS}}
