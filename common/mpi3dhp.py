"""MPI-INF-3DHP for the recipe of `common.lifting`: its data, its report and the files of its weights."""
import os
import re
from pathlib import Path

import numpy as np

from common import checkpoint
from common.camera import image_coordinates
from common.evaluation_3dhp import ScoredSequence, read_inference_mat, report
from common.export import Prediction, write_prediction
from common.keypoints import MPI_INF_3DHP_17
from common.mpi3dhp_dataset import TEST_FPS, TEST_SEQUENCES, load_test, load_training
from common.refinement import fit_intrinsics
from common.run_files import RunFiles
from common.source import make_source
from common.utils import CheckpointError, DataError

PREDICTIONS = "predictions"  # the folder of the results files
REFINEMENT = "refinement."  # how the names of its weights begin in a whole network's


class Mpi3dhpData:
    """The npz files in `folder`, each read when it is first needed.

    with_cameras: the sequences tell their intrinsics, fitted to their points, as the refinement needs them.
    """

    graph, input_layout = "mpi_inf_3dhp", None
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
                frames = sequence.scored_frames()  # the others may hold anything
                points = (sequence.positions + sequence.trajectory)[frames].reshape(-1, 3)
                sequence.intrinsics = fit_intrinsics(points, sequence.keypoints[frames].reshape(-1, 2))
            except ValueError as error:
                raise DataError(f"{self.folder}: {sequence.subject} {sequence.action} camera {sequence.camera_index} "
                                f"holds {error}: --refine needs `data_3d` in the camera's space") from None
        return sequences

    def files(self, args):
        return Mpi3dhpFiles(args)

    def measure(self, prediction, sequence):
        return prediction

    def report(self, args, sequences, predictions, weights):
        """Print the tables, and write all that there is into the folder of the results; weights: their files."""
        print("Test time augmentation:", args.test_time_augmentation)
        _report(args, sequences, list(map(_scored, sequences, predictions)), weights)


def _scored(sequence, prediction):
    activity = None if sequence.activity is None else sequence.activity[sequence.valid]
    return ScoredSequence(sequence.subject, prediction, sequence.target(), activity)


def _report(args, sequences, scored, weights=()):
    """Tables, plots, `inference_data.mat` and a results file per sequence; scored: its `ScoredSequence`."""
    folder = Path(args.results or args.checkpoint)
    report(scored, folder, args.json)
    folder /= PREDICTIONS
    for name in set(TEST_SEQUENCES) - {sequence.subject for sequence in sequences}:
        (folder / f"{name}.npz").unlink(missing_ok=True)  # of an earlier evaluation
    source = make_source(*weights, dataset=args.dataset)
    for sequence, poses in zip(sequences, scored, strict=True):
        write_prediction(folder / f"{sequence.subject}.npz",
                         _prediction(sequence, poses, args.downsample, source | {"subject": sequence.subject}))
    names = ", ".join(sequence.subject for sequence in sequences)
    print(f"wrote {folder}: {names} as .npz; {TEST_FPS} frames a second are taken, the dataset does not tell")


def _prediction(sequence, scored, downsample, source):
    """What was predicted for the valid frames of a sequence, as the file of results has it."""
    frames, fps = sequence.scored_frames(), TEST_FPS / downsample
    size = sequence.camera["res_w"], sequence.camera["res_h"]
    extra = {"frames": frames * downsample}  # their numbers in the sequence, from 0
    if scored.activity is not None:
        extra["activity"] = scored.activity
    try:
        return Prediction(
            scored.predicted / 1000, MPI_INF_3DHP_17, fps, "camera", "origin", source,
            times=frames / fps if (np.diff(frames) > 1).any() else None, ground_truth=scored.target / 1000,
            keypoints_2d=image_coordinates(sequence.keypoints[frames], *size), skeleton_2d=MPI_INF_3DHP_17, size=size,
            extra=extra)
    except ValueError as error:  # finite numbers of mm that no single precision holds
        raise DataError(f"{sequence.subject}: no file of results can hold these poses ({error})") from None


def score_predictions(args):
    """Report the errors of the poses in `args.predictions`, an `inference_data.mat`. Raises DataError."""
    if os.environ.get("RANK", "0") != "0":
        return  # nothing to share among processes
    predictions = read_inference_mat(args.predictions)
    sequences = {sequence.subject: sequence for sequence in load_test(args.root_path)}
    unknown = [name for name in predictions if name not in sequences]
    if unknown:
        raise DataError(f"{args.predictions}: {unknown[0]} is not in the test data, which has {', '.join(sequences)}")
    missing = [name for name in sequences if name not in predictions]
    if missing:
        print(f"INFO: {args.predictions} has no {', '.join(missing)}: not scored")
    scored = [_scored(sequences[name], poses) for name, poses in predictions.items()]
    _report(args, [sequences[name] for name in predictions], scored)


class Mpi3dhpFiles(RunFiles):
    """`no_refine_<size>.pth`, a bare state dict; size: <channels>_<frames>, with --causal <channels>_<frames>_causal.

    With --refine: `refine_<size>.pth`, and the lifter that was trained with it in `no_refine_<size>_refined.pth`. The
    other files of a run begin with 3dhp_<size>, and those of a refined run with 3dhp_<size>_refine.
    """

    def __init__(self, args):
        self.size, self.frames = f"{args.channels}_{args.frames}" + ("_causal" if args.causal else ""), args.frames
        super().__init__(args.checkpoint, f"3dhp_{self.size}{'_refine' if args.refine else ''}", ["checkpoint"])
        self.refine = args.refine
        self.previous = Path(args.previous_dir) if args.previous_dir else None

    def parts(self, weights):
        if not self.refine:
            return {self.folder / f"no_refine_{self.size}.pth": weights}
        lifter = {name: value for name, value in weights.items() if not name.startswith(REFINEMENT)}
        refinement = {name.removeprefix(REFINEMENT): value for name, value in weights.items()
                      if name.startswith(REFINEMENT)}
        return {self.folder / f"no_refine_{self.size}_refined.pth": lifter,
                self.folder / f"refine_{self.size}.pth": refinement}

    def save_best(self, state):
        for path, part in self.parts(state["model_pos"]).items():
            checkpoint.save(path, part)

    def load(self, model, path):
        """The weights in `path`; with --refine also those of the refinement, in the same file or in one beside it.

        Returns the files: of the lifter and, if it has one of its own, of the refinement.
        """
        state = checkpoint.load(path)
        if self.refine and any(name.startswith(REFINEMENT) for name in checkpoint.model_state(state, path)):
            checkpoint.load_into(model, state, path)
            return [path]
        self._load_lifter(model, path)
        if not self.refine:
            return [path]
        beside = path.with_name(path.name.removeprefix("no_").replace("_refined.pth", ".pth"))
        if beside == path or not beside.is_file():
            beside = self._unnamed(model.refinement, "refine", [f"refine_{self.size}.pth"])
        checkpoint.load_into(model.refinement, checkpoint.load(beside), beside)
        return [path, beside]

    def _load_lifter(self, model, path):
        self._check_frames(path)
        checkpoint.load_into(model, checkpoint.load(path), path, leave_out=REFINEMENT)

    def _check_frames(self, path):
        """Weights of 27 and of 351 frames have the same shapes: only their names tell."""
        found = re.match(r"no_refine_\d+_(27|81|243|351)(_causal)?(_refined)?(_before\d*)?\.pth$", path.name)
        causal = self.size.endswith("_causal")
        if found and (int(found[1]), bool(found[2])) != (self.frames, causal):
            raise CheckpointError(f"{path}: of {found[1]} frames, {'' if found[2] else 'not '}causal, by its name: it "
                                  f"would fit with --frames {found[1]} and {'--causal' if found[2] else 'no --causal'}")

    def load_start(self, args, model, say):
        """--reload and --refine_reload: the weights that a training starts from."""
        if args.reload:
            path = self._unnamed(model, "no_refine", self._names(refined=args.refine_reload))
            say(f"Loading checkpoint {path}")
            self._load_lifter(model, path)
        if args.refine_reload:
            path = self._unnamed(model.refinement, "refine", [f"refine_{self.size}.pth"])
            say(f"Loading checkpoint {path}")
            checkpoint.load_into(model.refinement, checkpoint.load(path), path)

    def find(self, name, model):
        """The checkpoint of this name, or without one the `no_refine_*.pth` that fits the network."""
        if name:
            return checkpoint.find(name, ([self.previous] if self.previous else []) + [self.folder, *self.elsewhere])
        return self._unnamed(model, "no_refine", self._names(refined=self.refine))

    def _names(self, refined):
        """The lifter's own names, the wanted one first: trained with a refinement, or alone."""
        names = [f"no_refine_{self.size}.pth", f"no_refine_{self.size}_refined.pth"]
        return names[::-1] if refined else names

    def _unnamed(self, model, kind, names):
        """The first of `names` that is there, else the newest `<kind>_*.pth` that fits `model`.

        Looked for in --previous_dir, or without one in --checkpoint and `checkpoint/`.
        """
        folders = [self.previous] if self.previous else list(dict.fromkeys([self.folder, *self.elsewhere]))
        named = [folder / name for folder in folders for name in names if (folder / name).is_file()]
        if named:
            return named[0]
        found = [path for folder in folders for path in
                 sorted(folder.glob(f"{kind}_*.pth"), key=lambda path: -path.stat().st_mtime)]
        if not found:
            tried = " and ".join(str(folder / f"{kind}_*.pth") for folder in folders)
            raise CheckpointError(f"no checkpoint: tried {tried}; put the file there, or name its folder with "
                                  "--previous_dir")
        return next((path for path in found if self._fits(model, path)), found[0])

    def _fits(self, model, path):
        try:
            self._check_frames(path)
            checkpoint.fitting_state(model, checkpoint.load(path), path, leave_out=REFINEMENT)
        except CheckpointError:
            return False
        return "_before" not in path.stem
