"""A training run: epochs, schedule, checkpoints, logs, and continuing exactly where it stopped."""
import math
import operator
import time

import numpy as np
import torch

from common import checkpoint
from common.engine import EpochProgress, StopSignals, predict_each, train_one_epoch
from common.loss import joint_errors, mpjpe
from common.plots import CURVES
from common.ranger import Ranger, load_released_state
from common.training_log import COLUMNS, TrainingLog, rows_of
from common.utils import CheckpointError, Interrupted

FINAL_LEARNING_RATE = 1e-5
BN_MOMENTUM = 0.1, 0.001  # of the first epoch, and towards the last
SETTINGS_OF_A_RUN = ("epochs", "batch_size", "learning_rate", "lr_schedule", "lr_decay", "lr_decay_large",
                     "large_decay_epoch", "optimizer", "data_augmentation", "reverse_augmentation", "stride",
                     "random_move", "subset", "downsample", "dropout", "amp", "seed", "clip_grad_norm", "debug",
                     "refine", "lr_refine", "subjects_train", "actions", "keypoints", "dataset")


def learning_rate(args, epoch, first=None):
    """The learning rate of an epoch, counted from 0; first: that of the first epoch, if not `--learning-rate`."""
    first = args.learning_rate if first is None else first
    if args.lr_schedule == "exponential":
        return first * args.lr_decay**epoch
    if args.lr_schedule == "steps":
        large = epoch // args.large_decay_epoch
        return first * args.lr_decay ** (epoch - large) * args.lr_decay_large**large
    cosine = (1 + math.cos(math.pi * epoch / args.epochs)) / 2
    last = min(FINAL_LEARNING_RATE, first)
    return last + (first - last) * cosine


def make_optimizer(args, model):
    """Ranger, or Adam with amsgrad, over the parameters of `model`; those of a refinement have a rate of their own."""
    refining = [(weight, name.startswith("refinement.")) for name, weight in model.named_parameters()]
    groups = [{"params": [weight for weight, refines in refining if not refines], "lr": args.learning_rate}]
    if any(refines for _, refines in refining):
        groups.append({"params": [weight for weight, refines in refining if refines], "lr": args.lr_refine})
    if args.optimizer == "adam":
        return torch.optim.Adam(groups, lr=args.learning_rate, amsgrad=True)
    return Ranger(groups, lr=args.learning_rate)


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
    """MPJPE of the target frame, plus that of everything else that the network predicts: intermediate results.

    A prediction of one frame is compared with the target frame, one of all frames with the whole sequence.
    """

    def __init__(self, model):
        self.frame = model.target_frame()

    def __call__(self, output, targets):
        predictions = output if isinstance(output, tuple) else (output,)
        target = targets if targets.shape[1] == 1 else targets[:, self.frame : self.frame + 1]
        return sum(mpjpe(poses.float(), target if poses.shape[1] == 1 else targets) for poses in predictions)


class TrainingRun:
    """Trains `model` on `generator` and keeps what is needed to evaluate it and to go on.

    Beside the best weights by validation MPJPE the folder gets the state after every epoch (`<stem>_last.bin`),
    numbered checkpoints and what `log` (TrainingLog) writes; `files` (RunFiles) says where.
    """

    def __init__(self, args, files, model, optimizer, generator, processes, train_sequences, test_sequences,
                 mm_per_unit):
        self.args, self.files = args, files
        self.model, self.optimizer, self.generator, self.processes = model, optimizer, generator, processes
        self._first_rates = [group["lr"] for group in optimizer.param_groups]
        self.train_sequences, self.test_sequences = train_sequences, test_sequences
        self.mm_per_unit = mm_per_unit
        self.epoch, self.history = 0, []
        self.best, self.best_weights = math.inf, None  # the lowest error so far in mm, and the weights that had it
        self.continued = False  # whether these are the next epochs of a run of ours
        self.progress, self._seconds = EpochProgress(), 0.0
        self.log = TrainingLog(args, files)

    @property
    def criterion(self):
        """What the best epoch is chosen by: the validation error, or the training loss where there is none."""
        return "3d_train" if self.args.no_eval else "3d_valid"

    def run(self):
        """Train the epochs that are left. Raises Interrupted after saving on Ctrl-C or SIGTERM."""
        self.processes.broadcast(self.model.parameters())
        network = compiled(self.model, self.args.epochs) if self.args.compile else self.model
        criterion = PoseCriterion(self.model)
        with StopSignals() as stop:
            self._prepare_folder()
            try:
                while self.epoch < self.args.epochs:
                    self._train_epoch(network, criterion, stop)
            except Interrupted:
                self._save(self.files.last)
                raise Interrupted(f"stopped in epoch {self.epoch + 1} after {self.progress.batches} batches; continue "
                                  f"with --resume {self.files.last.name}") from None
        if self.processes.is_main:
            self.log.finish()
        if self.processes.any(stop.requested):
            raise Interrupted(f"stopped after the last epoch; evaluate with --evaluate {self.files.best()[0]}")

    def _train_epoch(self, network, criterion, stop):
        args, started = self.args, time.monotonic()
        for group, first in zip(self.optimizer.param_groups, self._first_rates, strict=True):
            group["lr"] = learning_rate(args, self.epoch, first)
        self.model.set_bn_momentum(bn_momentum(self.epoch, args.epochs))
        try:
            train_one_epoch(network, self.generator, criterion, self.optimizer, self.processes, self.progress, stop,
                            args.amp, args.clip_grad_norm, limit=10 if args.debug else None)
            row = {"epoch": self.epoch + 1, "lr": learning_rate(args, self.epoch), "3d_train": self._training_loss()}
            self.processes.broadcast(self.model.buffers())  # running statistics: all evaluate the same network
            if args.train_eval and not args.no_eval:
                row["3d_eval"] = self._error(self.train_sequences, "evaluating on the training set", stop)
            if not args.no_eval:
                row["3d_valid"] = self._error(self.test_sequences, "validating", stop)
        finally:
            self._seconds += time.monotonic() - started
        row["time"] = self._seconds / 60
        self._end_epoch(row)

    def _training_loss(self):
        parts = self.processes.gather((self.progress.loss_sum, self.progress.windows))
        return sum(loss for loss, _ in parts) / max(1, sum(n for _, n in parts)) * self.mm_per_unit

    def _error(self, sequences, desc, stop):
        """MPJPE in mm over the frames of `sequences` that count."""
        def measure(prediction, sequence):
            return float(joint_errors(prediction, sequence.target()).mean()), len(prediction)

        parts = predict_each(self.model, sequences, measure, self.processes, amp=self.args.amp, stop=stop, desc=desc)
        errors, frames = zip(*parts, strict=True)
        return float(np.average(errors, weights=frames)) * self.mm_per_unit

    def _end_epoch(self, row):
        self.epoch, self.progress, self._seconds = self.epoch + 1, EpochProgress(), 0.0
        self.generator.finish_epoch()
        self.history.append(row)
        self._print(row)
        # The last state is written last: a kill before it repeats the epoch and writes the same files again.
        if row[self.criterion] < self.best:
            self._take_as_best(row[self.criterion], self.model.state_dict())
            self._save(None)
        if self.epoch % self.args.checkpoint_frequency == 0:
            self._save(self.files.numbered(self.epoch))
        self._save(self.files.last)
        if self.processes.is_main:
            self.log.add(self.history)

    def _take_as_best(self, error, weights):
        self.best, self.best_weights = error, {name: value.detach().clone().cpu() for name, value in weights.items()}

    def _print(self, row):
        if self.processes.is_main:
            errors = " ".join(f"{name} {row[name]:.1f}" for name in CURVES if name in row)
            print(f"[{row['epoch']}] time {row['time']:.2f} lr {row['lr']:f} {errors}", flush=True)

    # ---- checkpoints

    def _prepare_folder(self):
        """Clear what a killed run left half-written, and keep what an earlier run left whole."""
        if self.processes.is_main:
            for leftover in self.files.leftovers():
                leftover.unlink(missing_ok=True)
            earlier, ours = ([] if self.continued else [self.files.last]), self.best_weights
            if ours is None or not self.files.hold(ours):
                earlier += self.files.best()
            for path, kept in self.files.keep_earlier(earlier):
                print(f"INFO: {path} is of an earlier run: kept as {kept.name}")
            if ours is not None and not self.files.hold(ours):  # resumed in another folder than the run began in
                self.files.save_best({"epoch": self.epoch, "model_pos": ours})
            # The table, too: a kill may have come between the last state and its line there.
            self.log.table.begin(self._settings() | {"architecture": checkpoint.architecture(self.model)}, self.history)
        self._save(self.files.last)  # a kill in the first epoch goes back to it

    def _state(self, processes, with_best):
        """What the released checkpoints hold, and under `suite` what an exact continuation needs besides."""
        return {
            "epoch": self.epoch,
            "lr": learning_rate(self.args, self.epoch),
            "random_state": self.generator.random_state(),
            "optimizer": self.optimizer.state_dict(),
            "model_pos": self.model.state_dict(),
            "suite": {
                "architecture": checkpoint.architecture(self.model),
                "settings": self._settings(),
                "history": self.history,
                "seconds": self._seconds,
                "processes": processes,
                "launch": self.processes.launch,
                "best": {"error": self.best, "weights": self.best_weights} if with_best else None,
            },
        }

    def _settings(self):
        return {name: getattr(self.args, name) for name in SETTINGS_OF_A_RUN}

    def _save(self, path):
        """Write the state of all processes to `path`; None: as the best weights."""
        own = {"torch": torch.get_rng_state(), "progress": vars(self.progress)}
        if self.processes.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.processes.device)
        every = self.processes.gather(own)
        if self.processes.is_main:
            if path is None:
                self.files.save_best(self._state(every, with_best=False))
            else:
                checkpoint.save(path, self._state(every, with_best=self.best_weights is not None))
        self.processes.barrier()

    def resume_after_restart(self):
        """After a restart by torchrun go on from the last state that this launch saved; tells whether there is one.

        The state of another launch is another run's: it is left alone.
        """
        if not self.processes.restarted:
            return False
        main, last = self.processes.is_main, self.files.last
        state = self.processes.share(checkpoint.load(last) if main and last.is_file() else None)
        if state is None or (state.get("suite") or {}).get("launch") != self.processes.launch:
            return False
        if self.processes.is_main:
            print(f"INFO: restarted: continuing from {self.files.last}")
        self.resume(state, self.files.last)
        return True

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
            self.history = rows_of(suite.get("history", []), COLUMNS)
            self._seconds = float(suite.get("seconds", 0))
            self._resume_best(suite, state)
            settings = dict(suite.get("settings", {}))
            self._resume_process(suite.get("processes"))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(f"{path}: not a training state ({type(error).__name__}: {error}); --resume takes "
                                  "checkpoints that a training run wrote") from None
        changed = [name for name, value in settings.items() if getattr(self.args, name, value) != value]
        if changed and self.processes.is_main:
            print(f"INFO: resumed with other settings than before: {', '.join(changed)}; the result will differ")

    def _resume_best(self, suite, state):
        """The best weights so far: kept in the state, or those of the state itself, where it was saved as the best."""
        best = suite.get("best")
        if isinstance(best, dict):  # the demo's checkpoints hold the error alone: they are the best themselves
            self._take_as_best(float(best["error"]), best["weights"])
        elif self.history and self.criterion in self.history[-1]:
            errors = [row[self.criterion] for row in self.history if self.criterion in row]
            if errors[-1] == min(errors):
                self._take_as_best(errors[-1], self.model.state_dict())

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
