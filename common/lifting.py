"""The recipe that all scripts of GLA-GCN share: data, network, then train, evaluate or render.

What differs between datasets is in the object that holds the data: `LiftingData` here, `common.mpi3dhp.Mpi3dhpData`.
"""
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from common import checkpoint
from common.arguments import NOT_FOR_RENDERING, TRAINING_ONLY
from common.augment import RandomMove
from common.cpu import has_bfloat16
from common.distributed import Processes
from common.engine import StopSignals, predict_each
from common.evaluation import action_table, last_chunks, print_table, sequence_errors, write_json
from common.generators import ChunkedGenerator
from common.graph import LAYOUT_OF
from common.keypoints import LAYOUTS
from common.pose_data import fetch, load_dataset, load_keypoints
from common.refinement import RefinedLifter
from common.run_files import RunFiles
from common.s_agcn import S_AGCN
from common.training import TrainingRun, make_optimizer
from common.utils import CheckpointError, UsageError, set_seed

# The graph of the network for each dataset; the HumanEva script has another one for humaneva15.
GRAPHS = {"h36m": "h36m", "demo": "h36m", "custom": "h36m", "humaneva15": "humaneva15", "humaneva20": "humaneva20"}
MOST_WIDTHS = 8  # filter widths: 3^8 frames are more than two minutes


@dataclass
class LiftingData:
    """A dataset in VideoPose3D's layout with its 2D keypoints, and the network's graph for it."""

    dataset: object
    keypoints: object
    graph: str

    @property
    def joints(self):
        """Joints of the 2D and of the 3D poses."""
        return self.keypoints.num_joints, self.dataset.skeleton().num_joints()

    @property
    def input_layout(self):
        """The name of the 2D joints, for the network to map them; None: its own, or what their number says."""
        known = self.keypoints.layout if self.graph != "humaneva15" else None
        return None if known == LAYOUT_OF[self.graph] else known

    @property
    def mm_per_unit(self):
        return self.dataset.mm_per_unit()

    def flip(self):
        """What mirrors inputs and poses: (kps_left, kps_right, joints_left, joints_right)."""
        skeleton = self.dataset.skeleton()
        return self.keypoints.left, self.keypoints.right, skeleton.joints_left(), skeleton.joints_right()

    def training_sequences(self, args):
        return fetch(self.dataset, self.keypoints, args.subjects_train, args.actions, args.subset, args.downsample)

    def test_sequences(self, args):
        return fetch(self.dataset, self.keypoints, args.subjects_test, args.actions, 1.0, args.downsample)

    def files(self, args):
        """<channels>_<keypoints>_<frames>_...; many users put checkpoints into `checkpoint/`, the demo has its own."""
        elsewhere = ["checkpoint"] + (["checkpoint/demo"] if args.dataset in ("demo", "custom") else [])
        return RunFiles(args.checkpoint, f"{args.channels}_{args.keypoints}_{math.prod(args.architecture)}", elsewhere)

    def measure(self, prediction, sequence):
        """What the report needs of one sequence."""
        return sequence_errors(prediction, sequence.target(), self.mm_per_unit)

    def report(self, args, sequences, errors, weights):
        """Print the errors of the sequences, and write them as JSON; of `weights`, files, nothing is told."""
        if args.last_chunk_only:
            kept = {id(sequence) for sequence in last_chunks(sequences)}
            errors = [error for sequence, error in zip(sequences, errors, strict=True) if id(sequence) in kept]
            sequences = last_chunks(sequences)
        tables = _tables(args, sequences, errors)
        for subject, table in tables.items():
            if subject:
                print("Evaluating on subject", subject)
            print_table(table, args.test_time_augmentation)
            print()
        if args.json:
            write_json(args.json, tables if args.by_subject else tables[""])
            print(f"Errors written to {args.json}")


def load_data(args, say=print, graphs=GRAPHS):
    """The dataset and the keypoints that the arguments name, in a layout that the network takes. Raises DataError."""
    keypoints = load_keypoints(args.data_dir, args.dataset, args.keypoints)
    dataset = load_dataset(args.data_dir, args.dataset, keypoints)
    return LiftingData(dataset, keypoints, graphs[args.dataset])


def run(args, load=load_data):
    """Train, or evaluate, or render, as the arguments say. load(args, say): the data."""
    processes = Processes(args.device)
    try:
        set_seed(args.seed)
        say = print if processes.is_main else _silent
        if args.amp == "bf16" and processes.device.type == "cpu" and not has_bfloat16():
            say("INFO: this CPU has no bfloat16 instructions: --amp bf16 computes in float32")
        say("Loading dataset...", flush=True)
        data = load(args, say)
        if args.dataset == "custom" and args.evaluate:
            take_architecture(args, data.files(args).find(args.evaluate, None))
        model = build_model(args, data).to(processes.device)
        if model.input_layout:
            say(f"INFO: 2D joints: {model.input_layout}, mapped to {LAYOUT_OF[data.graph]} by the network")
        say(f"INFO: Receptive field: {model.receptive_field()} frames")
        say(f"INFO: Trainable parameter count: {sum(p.numel() for p in model.parameters() if p.requires_grad)}")
        if args.evaluate is not None:
            _evaluate_only(args, data, model, processes, say)
        else:
            train(args, data, model, processes, say)
    finally:
        processes.close()


def _silent(*_, **__):
    pass


def build_model(args, data):
    """The network for these data and arguments. Raises UsageError where it cannot take the 2D joints."""
    joints_in, joints_out = data.joints
    settings = {"causal": args.causal, "dropout": args.dropout, "channels": args.channels, "dataset": data.graph,
                "pose_sequence": args.pose_sequence, "input_layout": data.input_layout}
    try:
        if args.refine:
            model = RefinedLifter(joints_in, 2, joints_out, args.architecture, **settings, root=data.root,
                                  mm_per_unit=data.mm_per_unit)
        else:
            model = S_AGCN(joints_in, 2, joints_out, args.architecture, **settings)
    except ValueError as error:
        hint = ""
        if (data.graph, joints_in) == ("humaneva15", 17):
            hint = "; run_s-agcn_HE_13.py takes COCO-17 detections"
        raise UsageError(f"-k {args.keypoints} does not fit -d {args.dataset}: {error}{hint}") from None
    model.fast = not args.disable_optimizations
    return model


def take_architecture(args, path):
    """Let a checkpoint tell those settings of its network that the user did not type. Raises CheckpointError."""
    loaded = checkpoint.load(path)
    shapes, said = checkpoint.describe(checkpoint.model_state(loaded, path)), checkpoint.said_architecture(loaded)
    if shapes is None:
        return  # what is of no such network is refused when it is loaded
    told = {"channels": shapes["channels"], "pose_sequence": shapes["pose_sequence"],
            "causal": bool(said.get("causal", args.causal))}
    if "architecture" not in args.given:
        told["architecture"] = widths_of(path, shapes, said)
    for name, value in told.items():
        if name not in args.given:
            setattr(args, name, value)


def widths_of(path, shapes, said):
    """The filter widths that a file says, or those of released ones. Raises CheckpointError where its name differs."""
    widths = said.get("filter_widths") or [3] * shapes["widths"]
    if not isinstance(widths, list | tuple) or not all(isinstance(width, int) and width > 0 for width in widths) or \
            len(widths) != shapes["widths"] or math.prod(widths) > 3**MOST_WIDTHS:
        raise CheckpointError(f"{path}: tells of filter widths {str(widths)[:60]}, which its weights do not have; get "
                              "it again from its author")
    named = re.match(r"\d+_.*?_(\d+)_", Path(path).name)
    if not said and named and int(named[1]) != math.prod(widths):
        raise CheckpointError(f"{path}: its name tells of {named[1]} frames, which are not {shapes['widths']} filter "
                              "widths of 3; give them by -arc")
    return list(widths)


def model_of(path, input_layout=None, widths=None, causal=None):
    """The network that a checkpoint on Human3.6M's graph is of, with its weights, and nothing but the file to tell.

    The shapes tell the channels and how many filter widths there are; what they do not tell our files say. Of others,
    widths are those given, or 3 as in all released ones. Raises CheckpointError.
    """
    loaded = checkpoint.load(path)
    state = checkpoint.model_state(loaded, path)
    shapes, said = checkpoint.describe(state), checkpoint.said_architecture(loaded)
    if shapes is None or shapes["refined"] or said.get("dataset", "h36m") != "h36m" or \
            shapes["joints"] != LAYOUTS["h36m"].num_joints() or shapes["widths"] > MOST_WIDTHS:
        raise CheckpointError(f"{path}: is no GLA-GCN on Human3.6M's 17 joints; train or get one with run_s-agcn.py -d "
                              "h36m")
    return network_of(path, loaded, "h36m", None if input_layout == "h36m" else input_layout, widths, causal)


def network_of(path, loaded, dataset, input_layout=None, widths=None, causal=None):
    """The network on a dataset's graph that a loaded checkpoint, one that `describe` knows, is of, with its weights.

    input_layout: the 2D joints that it is to map; None: those of the graph. widths, causal: see `model_of`.
    """
    shapes = checkpoint.describe(checkpoint.model_state(loaded, path))
    said = checkpoint.said_architecture(loaded)
    widths = widths_of(path, shapes, said) if widths is None else widths
    joints_in = LAYOUTS[input_layout].num_joints() if input_layout else shapes["joints"]
    try:
        model = S_AGCN(joints_in, 2, shapes["joints"], widths, dataset=dataset,
                       causal=bool(said.get("causal", False) if causal is None else causal),
                       channels=shapes["channels"], pose_sequence=shapes["pose_sequence"], input_layout=input_layout)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: builds no network ({error}); get it again from its author") from None
    checkpoint.load_into(model, loaded, path)
    return model.eval()


# ---- training


def train(args, data, model, processes, say=print):
    """Train, keep checkpoints, and evaluate the best one."""
    checkpoint.check_writable(args.checkpoint)
    files = data.files(args)
    train_sequences = data.training_sequences(args)
    test_sequences = data.test_sequences(args) if args.test else []
    generator = make_generator(args, data, model, train_sequences, processes)
    say(f"INFO: Training on {generator.num_frames()} frames")
    if args.test:
        _say_test_frames(test_sequences, say)
    files.load_start(args, model, say)
    run_state = TrainingRun(args, files, model, make_optimizer(args, model), generator, processes, train_sequences,
                            test_sequences, data.mm_per_unit)
    torch.manual_seed(args.seed + processes.rank)  # every process drops out other features
    if not run_state.resume_after_restart() and args.resume:
        path = files.find(args.resume, model)
        say(f"Loading checkpoint {path}")
        run_state.resume(checkpoint.load(path), path)
    say("** Note: reported losses are averaged over all frames; the errors at the end are as the protocol says.")
    run_state.run()
    if not args.test:
        return
    weights = []
    if run_state.best_weights is not None:
        weights = files.best()
        by = "training loss" if args.no_eval else "validation MPJPE"
        paths = " and ".join(map(str, weights))
        say(f"Evaluating {paths}, the best epoch by {by} ({run_state.best:.1f} mm)")
        model.load_state_dict(run_state.best_weights)
    evaluate(args, data, model, test_sequences, processes, weights, say)


def make_generator(args, data, model, sequences, processes):
    """The batches of training windows over `sequences`."""
    pad = (model.receptive_field() - 1) // 2
    positions, keypoints = [s.positions for s in sequences], [s.keypoints for s in sequences]
    cameras = [s.intrinsics for s in sequences] if sequences[0].intrinsics is not None else None
    if args.reverse_augmentation:
        # Padded alike at both ends, a reversed sequence has the reversed windows.
        positions += [poses[::-1] for poses in positions]
        keypoints += [poses[::-1] for poses in keypoints]
        cameras = cameras and 2 * cameras
    generator = ChunkedGenerator(
        args.batch_size, cameras, positions, keypoints, 1, pad=pad,
        causal_shift=pad if args.causal else 0, shuffle=True, random_seed=args.seed, augment=args.data_augmentation,
        **dict(zip(("kps_left", "kps_right", "joints_left", "joints_right"), data.flip(), strict=True)),
        step=args.stride, move=RandomMove() if args.random_move else None, sequence_targets=args.pose_sequence,
        rank=processes.rank, world_size=processes.world_size)
    if args.batch_size < processes.world_size or generator.num_batches() == 0:
        raise UsageError(f"{processes.world_size} processes share batches of {args.batch_size} windows out of "
                         f"{generator.num_frames()}: each needs one at least")
    return generator


# ---- evaluation


def _say_test_frames(sequences, say):
    say(f"INFO: Testing on {sum(len(sequence.scored_frames()) for sequence in sequences)} frames")


def _evaluate_only(args, data, model, processes, say):
    ignored = TRAINING_ONLY + (NOT_FOR_RENDERING if args.render else ())
    unused = [f"--{name.replace('_', '-')}" for name in ignored if name in args.given]
    if unused:
        say(f"INFO: without effect on {'a rendering' if args.render else 'an evaluation'}: {', '.join(unused)}")
    files = data.files(args)
    path = files.find(args.evaluate, model)
    say(f"Loading checkpoint {path}")
    weights = files.load(model, path)
    if args.compile:
        model.compile()
    if args.render:
        if processes.is_main:
            from common.rendering import render

            render(args, data, model, processes.device, path)
        processes.barrier()
        return
    sequences = data.test_sequences(args)
    _say_test_frames(sequences, say)
    evaluate(args, data, model, sequences, processes, weights, say)


def evaluate(args, data, model, sequences, processes, weights, say=print):
    """Predict `sequences` and report their errors; weights: the files that the network's are in."""
    say("Evaluating...")
    flip = data.flip() if args.test_time_augmentation else None
    with StopSignals() as stop:
        results = predict_each(model, sequences, data.measure, processes, flip, args.amp, stop)
    if processes.is_main:
        data.report(args, sequences, results, weights)


def _tables(args, sequences, errors):
    """{subject: table} with --by-subject, else {"": table}."""
    if not args.by_subject:
        return {"": action_table(sequences, errors)}
    subjects = dict.fromkeys(sequence.subject for sequence in sequences)
    return {
        subject: action_table(*zip(*((s, e) for s, e in zip(sequences, errors, strict=True) if s.subject == subject),
                                   strict=True))
        for subject in subjects
    }
