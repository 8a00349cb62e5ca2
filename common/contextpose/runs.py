"""The folders of ContextPose's runs: `<logdir>/<title>@<date>/` with config.yaml and checkpoints/NNNN/.

NNNN counts epochs from 0000. A checkpoint is whole when it holds weights.pth and optimizer.pth: its folder appears with
both of them. metric.json, results.pkl and results.npz, which say how good it is, come after them.
"""
import contextlib
import json
import re
import shutil
import time
from pathlib import Path

from common import checkpoint
from common.folders import atomic_folder, remove_leftovers
from common.training_log import CONTEXTPOSE_TABLE
from common.utils import CheckpointError, WriteError, atomic_path, require

WEIGHTS, STATE, METRICS = "weights.pth", "optimizer.pth", "metric.json"
HEADLINE = "mpjpe_mm"  # in the metrics: what the best checkpoint is chosen by
LONGEST_TITLE = 150
CONFIG, CHECKPOINTS, LOGS = "config.yaml", "checkpoints", "tensorboard"
LIMBS = "mean_and_std_limb_length.h5"  # what the network was built with: evaluation elsewhere needs it


class RunFolder:
    """One run's folder."""

    def __init__(self, path):
        self.path = Path(path)

    @property
    def table(self):
        """The table of the epochs."""
        return self.path / CONTEXTPOSE_TABLE

    def checkpoint(self, epoch):
        """The folder of the checkpoint of an epoch, counted from 0."""
        return self.path / CHECKPOINTS / f"{epoch:04d}"

    def epochs(self):
        """The epochs, counted from 0, of which there are whole checkpoints, in order."""
        found = [path for path in (self.path / CHECKPOINTS).glob("[0-9][0-9][0-9][0-9]*") if path.name.isdecimal()]
        return sorted(int(path.name) for path in found if (path / WEIGHTS).is_file() and (path / STATE).is_file())

    def newest(self):
        """The newest whole checkpoint's folder, or None."""
        epochs = self.epochs()
        return self.checkpoint(epochs[-1]) if epochs else None

    def launch(self):
        """The `common.distributed.Processes.launch` that wrote the newest checkpoint, or None where it tells none."""
        return (checkpoint.load(self.newest() / STATE).get("suite") or {}).get("launch")

    def save(self, epoch, weights, state):
        """Write a checkpoint; what was measured of an earlier one in its place goes with that."""
        with atomic_folder(self.checkpoint(epoch)) as temporary:
            checkpoint.save(temporary / WEIGHTS, weights)
            checkpoint.save(temporary / STATE, state)

    def errors(self, name=HEADLINE):
        """{epoch: error in mm} of the checkpoints that have been validated, by that name in their metric.json."""
        found = {}
        for epoch in self.epochs():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not validated, or damaged since
                found[epoch] = float(json.loads((self.checkpoint(epoch) / METRICS).read_text())[name])
        return found

    def places(self):
        """Lines that say where the run's newest and best weights, their errors and its logs lie."""
        errors, newest = self.errors(), self.newest()
        best = min(errors, key=errors.get, default=None)
        if newest is not None:
            yield f"newest weights written to {newest / WEIGHTS}"
        if best is not None:
            yield f"best weights, {errors[best]:.1f} mm, written to {self.checkpoint(best) / WEIGHTS}"
            yield f"all errors of an epoch written to {self.path / CHECKPOINTS}/NNNN/{METRICS}"
        yield f"losses and errors of every epoch written to {self.table}"
        yield f"TensorBoard events written to {self.path / LOGS}"

    def keep(self, count):
        """Remove checkpoints but the last `count` and the one with the lowest error."""
        errors = self.errors()
        best = min(errors, key=errors.get, default=None)
        for epoch in self.epochs()[:-count]:
            if epoch != best:
                shutil.rmtree(self.checkpoint(epoch), ignore_errors=True)

    def settings(self):
        """The nested dicts of config.yaml, or None where there is none that can be read."""
        yaml = require("yaml", "pyyaml")
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
            content = yaml.safe_load((self.path / CONFIG).read_text())
            return content if isinstance(content, dict) else None

    def prepare(self, settings, limb_lengths):
        """Make the folder: settings (nested dicts) as config.yaml, a copy of the file of limb lengths; no leftovers.

        Other settings that the run had until now stay as config_before_NNNN.yaml, NNNN the next epoch.
        """
        yaml = require("yaml", "pyyaml")
        (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path / CHECKPOINTS)
        for leftover in self.path.glob("checkpoints/*/.*.tmp.*"):
            leftover.unlink(missing_ok=True)
        if self.settings() not in (None, settings):
            following = max(self.epochs(), default=-1) + 1
            (self.path / CONFIG).replace(self.path / f"config_before_{following:04d}.yaml")
        with atomic_path(self.path / CONFIG) as temporary:
            temporary.write_text(yaml.safe_dump(settings, sort_keys=False))
        if Path(limb_lengths).is_file() and not (self.path / LIMBS).is_file():
            with atomic_path(self.path / LIMBS) as temporary:
                shutil.copyfile(limb_lengths, temporary)


def is_run(path):
    """Whether a folder is a run's own, and not one of several runs."""
    return (Path(path) / CHECKPOINTS).is_dir()


def folder_name(title):
    """A title as a part of a folder's name."""
    return re.sub(r"[^\w.,+=() -]", "-", title).strip(" .")[:LONGEST_TITLE] or "run"


def find_run(logdir, title):
    """The newest run of this title in `logdir` that has a checkpoint, or `logdir` itself if it is one; None without."""
    runs = [Path(logdir)] if is_run(logdir) else [path for path in Path(logdir).glob("*@*")
                                                  if path.name.rpartition("@")[0] == folder_name(title)]
    runs = [run for run in map(RunFolder, sorted(runs)) if run.newest()]
    return max(runs, key=lambda run: (run.newest() / STATE).stat().st_mtime_ns, default=None)


def new_run(logdir, title):
    """A new run's folder in `logdir`, which is made; WriteError where it cannot be."""
    name = f"{folder_name(title)}@{time.strftime('%Y-%m-%d-%H.%M.%S')}"
    for number in range(1000):
        path = Path(logdir) / (f"{name}-{number}" if number else name)
        try:
            path.mkdir(parents=True)
            return RunFolder(path)
        except FileExistsError:
            continue
        except OSError as error:
            raise WriteError(f"--logdir {logdir}: cannot be written ({error.strerror or error}); name another "
                             "folder") from None
    raise WriteError(f"--logdir {logdir}: holds a thousand runs of this second already")


def run_of(weights):
    """The run that a weights file is a checkpoint of, or None."""
    folder = Path(weights).resolve().parent
    return RunFolder(folder.parents[1]) if folder.parent.name == CHECKPOINTS else None


def required_run(logdir, title):
    """`find_run`, or CheckpointError that says where weights may come from."""
    run = find_run(logdir, title)
    if run is None:
        raise CheckpointError(f"no weights: {logdir} holds no run of {title!r} with a checkpoint; train one, or name "
                              "a file by --weights FILE (or by model.init_weights and model.checkpoint)")
    return run

