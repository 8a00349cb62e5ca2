"""What a training run tells of itself beside its checkpoints: settings, errors of every epoch, curves."""
import csv

from common.evaluation import write_json
from common.plots import CURVES, draw_training_curves
from common.utils import atomic_path, require

COLUMNS = ("epoch", "time", "lr", *CURVES)  # of the table; minutes and mm


class TrainingLog:
    """`<stem>_log.csv`, `<stem>_settings.json`, a plot and TensorBoard scalars in the folder of `files` (RunFiles).

    The settings tell `results.py plot` the runs that differ in the seed from those that differ in more.
    """

    def __init__(self, args, files):
        self.args, self.files = args, files
        self._writer = None
        # Found missing now, not after the first epoch.
        if args.export_training_curves:
            require("matplotlib", "matplotlib")
        if args.tensorboard:
            require("tensorboard", "tensorboard")

    def begin(self, settings, history):
        """Write the settings {name: plain value} and the table of the epochs so far, rows of `COLUMNS`."""
        write_json(self.files.path("settings.json"), settings)
        self._write_table(history)

    def add(self, history):
        """Write the last row of the history: that of an epoch which has just ended."""
        row = history[-1]
        self._write_table(history)
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
                  "errors of every epoch": [self.files.path("log.csv")]}
        if self.args.export_training_curves:
            places["curves"] = [self.files.path("curves.png")]
        if self.args.tensorboard:
            places["TensorBoard events"] = [self._events()]
        for what, paths in places.items():
            if all(path.exists() for path in paths):
                print(f"{what} written to {' and '.join(map(str, paths))}")

    def _write_table(self, history):
        with atomic_path(self.files.path("log.csv")) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(history)

    def _events(self):
        return self.files.folder / "tensorboard" / self.files.stem

    def _tensorboard(self, epoch):
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Events of epochs that are trained again after a kill are purged.
            self._writer = SummaryWriter(self._events(), purge_step=epoch)
        return self._writer
