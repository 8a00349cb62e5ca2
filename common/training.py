"""A training run: epochs, schedule, checkpoints, logs, and continuing exactly where it stopped."""
import csv
import math
import operator
import time
from pathlib import Path

import numpy as np
import torch

from common import checkpoint
from common.engine import EpochProgress, StopSignals, predict_each, train_one_epoch
from common.loss import joint_errors, mpjpe
from common.ranger import load_released_state
from common.utils import CheckpointError, Interrupted, atomic_path, require

FINAL_LEARNING_RATE = 1e-5
COLUMNS = ("epoch", "time", "lr", "3d_train", "3d_eval", "3d_valid")  # of the table; minutes and mm
BN_MOMENTUM = 0.1, 0.001  # of the first epoch, and towards the last
SETTINGS_OF_A_RUN = ("epochs", "batch_size", "learning_rate", "lr_schedule", "lr_decay", "data_augmentation", "stride",
                     "random_move", "subset", "downsample", "dropout", "amp", "seed", "clip_grad_norm", "debug",
                     "subjects_train", "actions", "keypoints", "dataset")


def learning_rate(args, epoch):
    """The learning rate of an epoch, counted from 0."""
    if args.lr_schedule == "exponential":
        return args.learning_rate * args.lr_decay**epoch
    cosine = (1 + math.cos(math.pi * epoch / args.epochs)) / 2
    return FINAL_LEARNING_RATE + (args.learning_rate - FINAL_LEARNING_RATE) * cosine


def bn_momentum(epoch, epochs):
    """The batch-norm momentum of an epoch, counted from 0: an exponential from 0.1 to 0.001."""
    first, last = BN_MOMENTUM
    return first * (last / first) ** (epoch / epochs)


def compiled(model, epochs):
    """`model` under torch.compile, which compiles anew in every epoch: the batch-norm momentum is a constant to it."""
    for limit in ("recompile_limit", "cache_size_limit"):  # the second is the name until torch 2.6
        if hasattr(torch._dynamo.config, limit):
            setattr(torch._dynamo.config, limit, 2 * epochs + 16)
    return torch.compile(model)


class PoseCriterion:
    """MPJPE of the target frame, plus that of the whole sequence where the network predicts one."""

    def __init__(self, model):
        self.frame = model.receptive_field() - 1 if model.causal else model.receptive_field() // 2

    def __call__(self, output, targets):
        if not isinstance(output, tuple):
            return mpjpe(output.float(), targets)
        pose, sequence = output
        return mpjpe(pose.float(), targets[:, self.frame : self.frame + 1]) + mpjpe(sequence.float(), targets)


class TrainingRun:
    """Trains `model` on `generator` and keeps what is needed to evaluate it and to go on.

    Beside the best weights by validation MPJPE (`<stem>_supervised.bin`) the folder gets the state after every epoch
    (`<stem>_last.bin`), numbered checkpoints, a CSV log, a plot and TensorBoard scalars.
    """

    def __init__(self, args, stem, model, optimizer, generator, processes, train_sequences, test_sequences,
                 mm_per_unit):
        self.args, self.stem, self.folder = args, stem, Path(args.checkpoint)
        self.model, self.optimizer, self.generator, self.processes = model, optimizer, generator, processes
        self.train_sequences, self.test_sequences = train_sequences, test_sequences
        self.mm_per_unit = mm_per_unit
        self.epoch, self.history = 0, []
        self.continued = False  # whether these are the next epochs of a run of ours
        self.progress, self._seconds = EpochProgress(), 0.0
        # Found missing now, not after the first epoch.
        if args.export_training_curves:
            require("matplotlib", "matplotlib")
        if args.tensorboard:
            require("tensorboard", "tensorboard")

    def path(self, kind):
        return self.folder / f"{self.stem}_{kind}"

    @property
    def criterion(self):
        """What the best epoch is chosen by: the validation error, or the training loss where there is none."""
        return "3d_train" if self.args.no_eval else "3d_valid"

    @property
    def best(self):
        """The lowest error so far in mm, or None."""
        return min((row[self.criterion] for row in self.history if self.criterion in row), default=None)

    def run(self):
        """Train the epochs that are left. Raises Interrupted after saving on Ctrl-C or SIGTERM."""
        wrapped = self.processes.wrap(self.model)
        if self.args.compile:
            wrapped = compiled(wrapped, self.args.epochs)
        criterion = PoseCriterion(self.model)
        with StopSignals() as stop:
            self._prepare_folder()
            try:
                while self.epoch < self.args.epochs:
                    self._train_epoch(wrapped, criterion, stop)
            except Interrupted:
                self._save(self.path("last.bin"))
                raise Interrupted(f"stopped in epoch {self.epoch + 1} after {self.progress.batches} batches; continue "
                                  f"with --resume {self.path('last.bin').name}") from None
        self._finish_logs()
        if self.processes.any(stop.requested):
            raise Interrupted(f"stopped after the last epoch; evaluate with --evaluate {self.path('supervised.bin')}")

    def _train_epoch(self, wrapped, criterion, stop):
        args, started = self.args, time.monotonic()
        rate = learning_rate(args, self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.set_bn_momentum(bn_momentum(self.epoch, args.epochs))
        try:
            train_one_epoch(wrapped, self.generator, criterion, self.optimizer, self.processes, self.progress, stop,
                            args.amp, args.clip_grad_norm, limit=10 if args.debug else None)
            row = {"epoch": self.epoch + 1, "lr": rate, "3d_train": self._training_loss()}
            self.processes.broadcast_buffers(self.model)
            if not args.no_eval:
                row["3d_eval"] = self._error(self.train_sequences, "evaluating on the training set", stop)
                row["3d_valid"] = self._error(self.test_sequences, "validating", stop)
        finally:
            self._seconds += time.monotonic() - started
        row["time"] = self._seconds / 60
        self._end_epoch(row)

    def _training_loss(self):
        parts = self.processes.gather((self.progress.loss_sum, self.progress.windows))
        return sum(loss for loss, _ in parts) / max(1, sum(n for _, n in parts)) * self.mm_per_unit

    def _error(self, sequences, desc, stop):
        """MPJPE in mm over all frames of `sequences`."""
        def measure(prediction, sequence):
            return float(joint_errors(prediction, sequence.positions).mean()), len(sequence)

        parts = predict_each(self.model, sequences, measure, self.processes, amp=self.args.amp, stop=stop, desc=desc)
        errors, frames = zip(*parts, strict=True)
        return float(np.average(errors, weights=frames)) * self.mm_per_unit

    def _end_epoch(self, row):
        self.epoch, self.progress, self._seconds = self.epoch + 1, EpochProgress(), 0.0
        self.generator.finish_epoch()
        self.history.append(row)
        self._print(row)
        earlier = [past[self.criterion] for past in self.history[:-1] if self.criterion in past]
        paths = [self.path("supervised.bin")] if row[self.criterion] < min(earlier, default=math.inf) else []
        if self.epoch % self.args.checkpoint_frequency == 0:
            paths.append(self.path(f"supervised_epoch_{self.epoch}.bin"))
        # The last state is written last: a kill before it repeats the epoch and writes the same files again.
        for path in [*paths, self.path("last.bin")]:
            self._save(path)
        self._log(row)

    def _print(self, row):
        if self.processes.is_main:
            errors = " ".join(f"{name} {row[name]:.1f}" for name in ("3d_train", "3d_eval", "3d_valid") if name in row)
            print(f"[{row['epoch']}] time {row['time']:.2f} lr {row['lr']:f} {errors}", flush=True)

    # ---- checkpoints

    def _prepare_folder(self):
        """Clear what a killed run left half-written, and keep what an earlier run left whole."""
        if self.processes.is_main:
            for leftover in self.folder.glob(f".{self.stem}_*.tmp.*"):
                leftover.unlink(missing_ok=True)
            earlier = [] if self.continued else [self.path("last.bin"), self.path("supervised.bin")]
            for path in filter(Path.exists, earlier):
                kept = path.replace(path.with_stem(f"{path.stem}_before"))
                print(f"INFO: {path} is of an earlier run: kept as {kept.name}")
        self._write_table()  # a kill may have come between the last state and its line in the table
        self._save(self.path("last.bin"))  # a kill in the first epoch goes back to it

    def _state(self, processes):
        """What the released checkpoints hold, and under `suite` what an exact continuation needs besides."""
        return {
            "epoch": self.epoch,
            "lr": learning_rate(self.args, self.epoch),
            "random_state": self.generator.random_state(),
            "optimizer": self.optimizer.state_dict(),
            "model_pos": self.model.state_dict(),
            "suite": {
                "architecture": checkpoint.architecture(self.model),
                "settings": {name: getattr(self.args, name) for name in SETTINGS_OF_A_RUN},
                "history": self.history,
                "seconds": self._seconds,
                "processes": processes,
            },
        }

    def _save(self, path):
        own = {"torch": torch.get_rng_state(), "progress": vars(self.progress)}
        if self.processes.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.processes.device)
        every = self.processes.gather(own)
        if self.processes.is_main:
            checkpoint.save(path, self._state(every))
        self.processes.barrier()

    def resume(self, state, path):
        """Continue from a loaded checkpoint, ours or a released one."""
        checkpoint.load_into(self.model, state, path)
        suite = state.get("suite") or {}
        try:
            self.epoch = operator.index(state["epoch"])
            if self.epoch < 0:
                raise ValueError(f"epoch {self.epoch}")
            self.continued = bool(suite)
            self._resume_optimizer(state["optimizer"], suite)
            self.generator.set_random_state(state["random_state"])
            self.history = [{name: float(row[name]) for name in COLUMNS if name in row} | {"epoch": int(row["epoch"])}
                            for row in suite.get("history", [])]
            self._seconds = float(suite.get("seconds", 0))
            settings = dict(suite.get("settings", {}))
            self._resume_process(suite.get("processes"))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(f"{path}: not a training state ({type(error).__name__}: {error}); --resume takes "
                                  "checkpoints that a training run wrote") from None
        changed = [name for name, value in settings.items() if getattr(self.args, name, value) != value]
        if changed and self.processes.is_main:
            print(f"INFO: resumed with other settings than before: {', '.join(changed)}; the result will differ")

    def _resume_optimizer(self, state, suite):
        try:
            if suite:
                self.optimizer.load_state_dict(state)
            else:
                load_released_state(self.optimizer, state)
        except ValueError as error:
            if self.processes.is_main:
                print(f"INFO: the optimiser starts afresh: {error}")

    def _resume_process(self, every):
        if not every:
            return
        if len(every) != self.processes.world_size and self.processes.is_main:
            print(f"INFO: saved by {len(every)} processes, resumed by {self.processes.world_size}: not bit for bit")
        own = every[min(self.processes.rank, len(every) - 1)]
        torch.set_rng_state(own["torch"])
        if "cuda" in own and self.processes.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"], self.processes.device)
        if len(every) == self.processes.world_size:
            self.progress = EpochProgress(**own["progress"])

    # ---- logs

    def _log(self, row):
        self._write_table()
        if not self.processes.is_main:
            return
        if self.args.tensorboard:
            writer = self._tensorboard()
            for name in COLUMNS[2:]:
                if name in row:
                    writer.add_scalar(name, row[name], row["epoch"])
            writer.flush()
        if self.args.export_training_curves:
            draw_training_curves(self.history, self.path("curves.png"))

    def _write_table(self):
        if self.processes.is_main:
            with atomic_path(self.path("log.csv")) as temporary, open(temporary, "w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, restval="")
                writer.writeheader()
                writer.writerows(self.history)

    def _tensorboard(self):
        if not hasattr(self, "_writer"):
            from torch.utils.tensorboard import SummaryWriter

            # Events of epochs that are trained again after a kill are purged.
            self._writer = SummaryWriter(self.folder / "tensorboard" / self.stem, purge_step=self.epoch)
        return self._writer

    def _finish_logs(self):
        if hasattr(self, "_writer"):
            self._writer.close()


def draw_training_curves(history, path):
    """Training, training-set and validation MPJPE in mm over the epochs, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    labels = {"3d_train": "training loss", "3d_eval": "training set", "3d_valid": "validation"}
    for name, label in labels.items():
        points = [(row["epoch"], row[name]) for row in history if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=".")
    axes.set(xlabel="epoch", ylabel="MPJPE (mm)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary)

