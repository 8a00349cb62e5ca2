"""The files of a training run: where its best weights, its last state and its logs lie."""
from pathlib import Path

from common import checkpoint
from common.utils import CheckpointError


class RunFiles:
    """The files `<stem>_*` in the folder of the checkpoints; evaluation looks for weights in `elsewhere` too.

    The best weights are whole training states here, as the GLA-GCN release writes them on Human3.6M and HumanEva.
    """

    def __init__(self, folder, stem, elsewhere=()):
        self.folder, self.stem = Path(folder), stem
        self.elsewhere = [Path(other) for other in elsewhere]
        self.last = self.path("last.bin")

    def path(self, kind):
        return self.folder / f"{self.stem}_{kind}"

    def numbered(self, epoch):
        """The checkpoint that is kept of an epoch, counted from 1."""
        return self.path(f"supervised_epoch_{epoch}.bin")

    def parts(self, weights):
        """Which of these weights {name: tensor} each file of the best weights holds: {path: weights}."""
        return {self.path("supervised.bin"): weights}

    def best(self):
        """The paths that hold the best weights."""
        return list(self.parts({}))

    def hold(self, weights):
        """Whether the files of the best weights hold these."""
        return all(_same(path, part) for path, part in self.parts(weights).items())

    def save_best(self, state):
        """Write the weights of a training state as the best, with what else it holds."""
        checkpoint.save(self.path("supervised.bin"), state)

    def keep_earlier(self, paths):
        """Give files of an earlier run other names, that they are not written over; yields (path, its new path)."""
        for path in filter(Path.exists, paths):
            names = (path.with_stem(f"{path.stem}_before{number}") for number in ("", *range(2, 1000)))
            kept = next(name for name in names if not name.exists())
            yield path, path.replace(kept)

    def leftovers(self):
        """What a killed run left half-written under a temporary name."""
        for stem in (f"{self.stem}_*", *(path.stem for path in self.best())):
            yield from self.folder.glob(f".{stem}.*.tmp.*")

    def load(self, model, path):
        """Load the weights in `path`; returns the files that they came from. Raises CheckpointError."""
        checkpoint.load_into(model, checkpoint.load(path), path)
        return [path]

    def load_start(self, args, model, say):
        """Load the weights that a training starts from, where the arguments name any."""

    def find(self, name, model):
        """The checkpoint of this name, or without one the best of such a run. Raises CheckpointError."""
        return checkpoint.find(name or self.path("supervised.bin").name, [self.folder, *self.elsewhere])


def _same(path, weights):
    """Whether the file holds exactly these weights."""
    try:
        found = checkpoint.model_state(checkpoint.load(path), path)
    except CheckpointError:
        return False
    return found.keys() == weights.keys() and all(
        found[name].equal(value.to(found[name].device)) for name, value in weights.items())
