"""The files of a training run: where its best weights, its last state and its logs lie."""
from pathlib import Path

from common import checkpoint


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

    def best(self):
        """The paths that hold the best weights."""
        return [self.path("supervised.bin")]

    def leftovers(self):
        """What a killed run left half-written under a temporary name."""
        for stem in (f"{self.stem}_*", *(path.stem for path in self.best())):
            yield from self.folder.glob(f".{stem}.*.tmp.*")

    def save_best(self, model, state):
        """Write the weights of `model` as the best; `state`: the whole training state."""
        checkpoint.save(self.path("supervised.bin"), state)

    def load_best(self, model):
        """Load what `save_best` wrote. Raises CheckpointError."""
        self.load(model, self.path("supervised.bin"))

    def load(self, model, path):
        """Load the weights in `path`. Raises CheckpointError."""
        checkpoint.load_into(model, checkpoint.load(path), path)

    def load_start(self, args, model, say):
        """Load the weights that a training starts from, where the arguments name any."""

    def find(self, name, model):
        """The checkpoint of this name, or without one the best of such a run. Raises CheckpointError."""
        return checkpoint.find(name or self.path("supervised.bin").name, [self.folder, *self.elsewhere])


