"""What a training run tells of itself beside its checkpoints: settings, errors of every epoch, curves."""
import csv
import re

from common.evaluation import write_json
from common.plots import CURVES, draw_training_curves
from common.utils import atomic_path, require

COLUMNS = ("epoch", "time", "lr", *CURVES)  # of GLA-GCN's table; minutes and mm
CONTEXTPOSE_TABLE = "training_log.csv"  # its name in the folder of a ContextPose run


def rows_of(history, columns):
    """The rows of a table as a checkpoint holds them, of the columns that are known.

    Raises KeyError, TypeError, ValueError and AttributeError for what are no rows.
    """
    return [{name: float(row[name]) for name in columns if name in row} | {"epoch": int(row["epoch"])}
            for row in history]


def settings_of(table):
    """Where the settings of the run lie that wrote a table: `<stem>_settings.json` beside `<stem>_log.csv`."""
    return table.with_name(re.sub(r"_log$", "_settings.json", table.stem))


class EpochTable:
    """The table at `path`, `<stem>_log.csv`, of a line per epoch, and `<stem>_settings.json` beside it.

    The settings tell `results.py plot` the runs that differ in the seed from those that differ in more.
    """

    def __init__(self, path, columns):
        self.path, self.columns = path, columns

    def begin(self, settings, history):
        """Write the settings {name: plain value} and the epochs so far."""
        write_json(settings_of(self.path), settings)
        self.write(history)

    def write(self, history):
        """Write the epochs so far: rows {column: number}, without what is not known."""
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(history)


class TrainingLog:
    """The `EpochTable` of a GLA-GCN run, a plot and TensorBoard scalars in the folder of `files` (RunFiles)."""

    def __init__(self, args, files):
        self.args, self.files = args, files
        self.table = EpochTable(files.path("log.csv"), COLUMNS)
        self._writer = None
        # Found missing now, not after the first epoch.
        if args.export_training_curves:
            require("matplotlib", "matplotlib")
        if args.tensorboard:
            require("tensorboard", "tensorboard")

    def add(self, history):
        """Write the last row of the history: that of an epoch which has just ended."""
        row = history[-1]
        self.table.write(history)
        if self.args.tensorboard:
            writer = self._tensorboard(row["epoch"])
            for name in COLUMNS[2:]:
                if name in row:
                    writer.add_scalar(name, row[name], row["epoch"])
            writer.flush()
        if self.args.export_training_curves:
            draw_training_curves(history, self.files.path("curves.png"))

    def finish(self):
        """Close what is open, and print where everything lies."""
        if self._writer is not None:
            self._writer.close()
        places = {"best weights": self.files.best(), "last state": [self.files.last],
                  "errors of every epoch": [self.table.path]}
        if self.args.export_training_curves:
            places["curves"] = [self.files.path("curves.png")]
        if self.args.tensorboard:
            places["TensorBoard events"] = [self._events()]
        for what, paths in places.items():
            if all(path.exists() for path in paths):
                print(f"{what} written to {' and '.join(map(str, paths))}")

    def _events(self):
        return self.files.folder / "tensorboard" / self.files.stem

    def _tensorboard(self, epoch):
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Events of epochs that are trained again after a kill are purged.
            self._writer = SummaryWriter(self._events(), purge_step=epoch)
        return self._writer
