"""MPI-INF-3DHP for the recipe of `common.lifting`: its data, its report and the files of its weights."""
import re
from pathlib import Path

from common import checkpoint
from common.evaluation_3dhp import ScoredSequence, read_inference_mat, report
from common.keypoints import MPI_INF_3DHP_17
from common.mpi3dhp_dataset import load_test, load_training
from common.refinement import fit_intrinsics
from common.run_files import RunFiles
from common.utils import CheckpointError, DataError

REFINEMENT = "refinement."  # how the names of its weights begin in a whole network's


class Mpi3dhpData:
    """The npz files in `folder`, each read when it is first needed.

    with_cameras: the sequences tell their intrinsics, fitted to their points, as the refinement needs them.
    """

    graph = "mpi_inf_3dhp"
    joints = MPI_INF_3DHP_17.num_joints(), MPI_INF_3DHP_17.num_joints()
    root = MPI_INF_3DHP_17.root()
    mm_per_unit = 1

    def __init__(self, folder, with_cameras=False):
        self.folder, self.with_cameras = folder, with_cameras

    def flip(self):
        """What mirrors inputs and poses: (kps_left, kps_right, joints_left, joints_right)."""
        return 2 * (MPI_INF_3DHP_17.joints_left(), MPI_INF_3DHP_17.joints_right())

    def training_sequences(self, args):
        return self._located(load_training(self.folder, args.subset, args.downsample))

    def test_sequences(self, args):
        return self._located(load_test(self.folder, args.downsample))

    def _located(self, sequences):
        for sequence in sequences if self.with_cameras else []:
            try:
                points = (sequence.positions + sequence.trajectory).reshape(-1, 3)
                sequence.intrinsics = fit_intrinsics(points, sequence.keypoints.reshape(-1, 2))
            except ValueError as error:
                raise DataError(f"{self.folder}: {sequence.subject} {sequence.action} camera {sequence.camera_index} "
                                f"holds {error}: --refine needs `data_3d` in the camera's space") from None
        return sequences

    def files(self, args):
        return Mpi3dhpFiles(args)

    def measure(self, prediction, sequence):
        return prediction

    def report(self, args, sequences, predictions):
        """Print the tables, and write them, the plots and `inference_data.mat` into the folder of the results."""
        print("Test time augmentation:", args.test_time_augmentation)
        report(map(_scored, sequences, predictions), args.results or args.checkpoint, args.json)


def _scored(sequence, prediction):
    activity = None if sequence.activity is None else sequence.activity[sequence.valid]
    return ScoredSequence(sequence.subject, prediction, sequence.target(), activity)


def score_predictions(args):
    """Report the errors of the poses in `args.predictions`, an `inference_data.mat`. Raises DataError."""
    predictions = read_inference_mat(args.predictions)
    sequences = {sequence.subject: sequence for sequence in load_test(args.root_path)}
    unknown = [name for name in predictions if name not in sequences]
    if unknown:
        raise DataError(f"{args.predictions}: {unknown[0]} is not in the test data, which has {', '.join(sequences)}")
    missing = [name for name in sequences if name not in predictions]
    if missing:
        print(f"INFO: {args.predictions} has no {', '.join(missing)}: not scored")
    report([_scored(sequences[name], poses) for name, poses in predictions.items()],
           args.results or args.checkpoint, args.json)


class Mpi3dhpFiles(RunFiles):
    """`no_refine_<channels>_<frames>.pth`, and with --refine `refine_<channels>_<frames>.pth`: bare state dicts.

    The other files of a run begin with 3dhp_<channels>_<frames>, and those of a refined run end that with _refine.
    """

    def __init__(self, args):
        self.size = f"{args.channels}_{args.frames}"
        super().__init__(args.checkpoint, f"3dhp_{self.size}{'_refine' if args.refine else ''}", ["checkpoint"])
        self.previous, self.refine = args.previous_dir, args.refine

    def best(self):
        kinds = ("no_refine", "refine") if self.refine else ("no_refine",)
        return [self.folder / f"{kind}_{self.size}.pth" for kind in kinds]

    def save_best(self, model, state):
        weights = model.state_dict()
        parts = [{name: value for name, value in weights.items() if not name.startswith(REFINEMENT)}]
        if self.refine:
            parts.append(model.refinement.state_dict())
        for path, part in zip(self.best(), parts, strict=True):
            checkpoint.save(path, part)

    def load_best(self, model):
        lifter, *refinement = self.best()
        self._load_lifter(model, lifter)
        if refinement:
            self._load_refinement(model, refinement[0])

    def load(self, model, path):
        """The weights in `path`; with --refine also those of the refinement, in the same file or in one beside it."""
        state = checkpoint.load(path)
        if self.refine and any(name.startswith(REFINEMENT) for name in checkpoint.model_state(state, path)):
            checkpoint.load_into(model, state, path)
            return
        self._load_lifter(model, path)
        if self.refine:
            beside = Path(path).with_name(re.sub("^no_", "", Path(path).name))
            self._load_refinement(model, beside if beside != Path(path) and beside.is_file()
                                  else self._newest("refine", model.refinement))

    def _load_lifter(self, model, path):
        checkpoint.load_into(model, checkpoint.load(path), path, leave_out=REFINEMENT)

    def _load_refinement(self, model, path):
        checkpoint.load_into(model.refinement, checkpoint.load(path), path)

    def load_start(self, args, model, say):
        """--reload and --refine_reload: the weights that a training starts from."""
        if args.reload:
            path = self.find("", model)
            say(f"Loading checkpoint {path}")
            self._load_lifter(model, path)
        if args.refine_reload:
            path = self._newest("refine", model.refinement)
            say(f"Loading checkpoint {path}")
            self._load_refinement(model, path)

    def find(self, name, model):
        """The checkpoint of this name, or without one the `no_refine_*.pth` that fits the network."""
        if name:
            return checkpoint.find(name, [self.folder, *self.elsewhere])
        return self._newest("no_refine", model)

    def _newest(self, kind, model):
        """The file `<kind>_*.pth` of this network's size, else the newest that fits it.

        Looked for in --previous_dir, or without one in --checkpoint and `checkpoint/`.
        """
        folders = [Path(self.previous)] if self.previous else list(dict.fromkeys([self.folder, *self.elsewhere]))
        found = [path for folder in folders for path in
                 sorted(folder.glob(f"{kind}_*.pth"), key=lambda path: -path.stat().st_mtime)]
        named = [path for path in found if path.name == f"{kind}_{self.size}.pth"]
        if not found:
            tried = " and ".join(str(folder / f"{kind}_*.pth") for folder in folders)
            raise CheckpointError(f"no checkpoint: tried {tried}; put the file there, or name its folder with "
                                  "--previous_dir")
        return named[0] if named else next((path for path in found if self._fits(model, path)), found[0])

    def _fits(self, model, path):
        try:
            checkpoint.fitting_state(model, checkpoint.load(path), path, leave_out=REFINEMENT)
        except CheckpointError:
            return False
        return True
