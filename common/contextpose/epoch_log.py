"""The table of a ContextPose run's epochs: learning rates, losses and errors."""
from common.contextpose.config import to_dict
from common.training_log import EpochTable, rows_of

# Its columns, and the losses and metrics that they hold; heatmap_ ones are of the epochs in which the backbone learns
# alone. Times are in minutes, errors in mm; "absolute" ones are not relative to the pelvis.
RATES = ("lr_backbone", "lr")
HEATMAP_LOSSES = {"heatmap_loss": "loss", "heatmap_px": "joint_px"}
POSE_LOSSES = {"loss": "loss", "absolute_train": "joint_l2_mm"}
VALIDATED = {"3d_valid": "mpjpe_mm", "absolute_valid": "absolute_mpjpe_mm"}
COLUMNS = ("epoch", "time", *RATES, *HEATMAP_LOSSES, *POSE_LOSSES, *VALIDATED)
CHANGE_NO_RESULT = ("title", "logdir")  # settings that say where a run lies


class EpochLog:
    """rows: of `COLUMNS`, one for each epoch so far; they are saved with the checkpoints."""

    def __init__(self, run):
        self.run, self.rows = run, []
        self._table = EpochTable(run.table, COLUMNS)

    def begin(self, config, options, processes):
        """Write the table as it is, and beside it the settings that the figures follow from."""
        settings = {name: value for name, value in to_dict(config).items() if name not in CHANGE_NO_RESULT}
        self._table.begin(settings | {"seed": options.seed, "amp": options.amp, "sync_bn": options.sync_bn,
                                      "processes": processes.world_size}, self.rows)

    def add(self, epoch, seconds, optimizers, losses, only_backbone):
        """Take up an epoch, counted from 1, that has been trained and not yet validated.

        optimizers: of the backbone, None where it stays fixed, and of the rest; losses: {name: mean}.
        """
        rates = {name: optimizer.param_groups[-1]["lr"] for name, optimizer in zip(RATES, optimizers, strict=True)
                 if optimizer is not None}
        kind = HEATMAP_LOSSES if only_backbone else POSE_LOSSES
        self.rows.append({"epoch": epoch, "time": seconds / 60, **rates,
                          **{name: losses[loss] for name, loss in kind.items()}})

    def add_errors(self, metrics):
        """Take up what the validation of the last epoch found."""
        self.rows[-1] |= {name: metrics[metric] for name, metric in VALIDATED.items()}

    def write(self):
        """Write the table."""
        self._table.write(self.rows)

    def described(self):
        """The time and the rates of the last epoch, in words."""
        row = self.rows[-1]
        return f"time {row.get('time', 0):.2f} lr " + " ".join(f"{row[name]:g}" for name in RATES if name in row)

    def resume(self, rows, epoch):
        """Go on after `epoch` epochs, of which a checkpoint tells these rows.

        The errors that they lack are taken from the files beside the checkpoints: those of the last epoch come after
        its checkpoint, and a published run tells nothing else.
        """
        known = {row["epoch"]: row for row in rows_of(rows, COLUMNS)}
        if epoch:
            known.setdefault(epoch, {"epoch": epoch})
        for name, metric in VALIDATED.items():
            for number, error in self.run.errors(metric).items():
                if number < epoch:
                    known.setdefault(number + 1, {"epoch": number + 1}).setdefault(name, error)
        self.rows = [known[number] for number in sorted(known)]
