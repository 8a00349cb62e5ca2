"""The recipe that all scripts of GLA-GCN share: data, network, then train, evaluate or render.

What differs between datasets is in the object that holds the data: `LiftingData` here, `common.mpi3dhp.Mpi3dhpData`.
"""
import math
from dataclasses import dataclass

import numpy as np
import torch

from common import checkpoint
from common.arguments import NOT_FOR_RENDERING, TRAINING_ONLY
from common.augment import RandomMove
from common.cpu import has_bfloat16
from common.distributed import Processes
from common.engine import StopSignals, predict, predict_each
from common.evaluation import action_table, last_chunks, print_table, sequence_errors, write_json
from common.generators import ChunkedGenerator
from common.graph import LAYOUT_OF
from common.keypoints import LAYOUTS
from common.pose_data import fetch, load_dataset, load_keypoints, thinned, views
from common.refinement import RefinedLifter
from common.run_files import RunFiles
from common.s_agcn import S_AGCN
from common.training import TrainingRun, make_optimizer
from common.utils import DataError, UsageError, set_seed

# The graph of the network for each dataset; the HumanEva script has another one for humaneva15.
GRAPHS = {"h36m": "h36m", "demo": "h36m", "custom": "h36m", "humaneva15": "humaneva15", "humaneva20": "humaneva20"}


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
        elsewhere = ["checkpoint"] + (["checkpoint/demo"] if args.dataset == "demo" else [])
        return RunFiles(args.checkpoint, f"{args.channels}_{args.keypoints}_{math.prod(args.architecture)}", elsewhere)

    def measure(self, prediction, sequence):
        """What the report needs of one sequence."""
        return sequence_errors(prediction, sequence.target(), self.mm_per_unit)

    def report(self, args, sequences, errors):
        """Print the errors of the sequences, and write them as JSON."""
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
    if run_state.best_weights is not None:
        by = "training loss" if args.no_eval else "validation MPJPE"
        paths = " and ".join(map(str, files.best()))
        say(f"Evaluating {paths}, the best epoch by {by} ({run_state.best:.1f} mm)")
        model.load_state_dict(run_state.best_weights)
    evaluate(args, data, model, test_sequences, processes, say)


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
    unused = [name for name in TRAINING_ONLY + (NOT_FOR_RENDERING if args.render else ()) if name in args.given]
    if unused:
        say(f"INFO: without effect on {'a rendering' if args.render else 'an evaluation'}: {', '.join(unused)}")
    files = data.files(args)
    path = files.find(args.evaluate, model)
    say(f"Loading checkpoint {path}")
    files.load(model, path)
    if args.compile:
        model.compile()
    if args.render:
        if processes.is_main:
            render(args, data, model, processes)
        processes.barrier()
        return
    sequences = data.test_sequences(args)
    _say_test_frames(sequences, say)
    evaluate(args, data, model, sequences, processes, say)


def evaluate(args, data, model, sequences, processes, say=print):
    """Predict `sequences` and report their errors."""
    say("Evaluating...")
    flip = data.flip() if args.test_time_augmentation else None
    with StopSignals() as stop:
        results = predict_each(model, sequences, data.measure, processes, flip, args.amp, stop)
    if processes.is_main:
        data.report(args, sequences, results)


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


# ---- rendering


def render(args, data, model, processes):
    """Predict every frame of one sequence, and write the video and the exported coordinates."""
    from common.camera import camera_to_world, image_coordinates
    from common.export import write_export
    from common.visualization import render_animation

    sequence = _sequence_to_render(args, data)
    flip = data.flip() if args.test_time_augmentation else None
    relative = predict(model.eval(), sequence.keypoints, processes.device, flip, args.amp)
    camera, skeleton = sequence.camera, data.dataset.skeleton()
    rotation, no_shift = camera["orientation"], np.zeros(3, np.float32)
    if sequence.trajectory is not None:
        in_camera = relative + sequence.trajectory
        world = camera_to_world(in_camera, rotation, camera["translation"])
    else:
        # Without ground truth nobody knows where the person is: only the pose, upright, with its lowest point at 0.
        in_camera, world = relative, camera_to_world(relative, rotation, no_shift)
        world[..., 2] -= world[..., 2].min()
    fps = _frame_rate(args, data.dataset) / args.downsample
    if args.viz_export:
        write_export(args.viz_export, in_camera, world, skeleton, fps)
        print(f"3D coordinates of {len(world)} frames written to {args.viz_export}")
    if args.viz_output:
        poses = {"Reconstruction": world}
        if sequence.positions is not None and not args.viz_no_ground_truth:
            truth = sequence.positions + sequence.trajectory
            poses["Ground truth"] = camera_to_world(truth, rotation, camera["translation"])
        size = camera["res_w"], camera["res_h"]
        frames = render_animation(
            image_coordinates(sequence.keypoints, *size), poses, skeleton, fps, args.viz_bitrate,
            float(camera["azimuth"]), args.viz_output, size, limit=args.viz_limit,
            downsample=args.viz_downsample, size=args.viz_size, input_video_path=args.viz_video,
            input_video_skip=args.viz_skip,
            skeleton_2d=LAYOUTS.get(data.keypoints.layout))
        print(f"{frames} frames written to {args.viz_output}")


def _sequence_to_render(args, data):
    """The sequence of --viz-subject, --viz-action and --viz-camera. Raises UsageError that lists what there is."""
    dataset = data.dataset
    if args.viz_subject not in dataset:
        raise UsageError(f"--viz-subject {args.viz_subject}: there are {', '.join(dataset.subjects())}")
    actions = dataset[args.viz_subject]
    if args.viz_action not in actions:
        raise UsageError(f"--viz-action {args.viz_action}: {args.viz_subject} has {', '.join(actions)}")
    cameras = dataset.cameras()[args.viz_subject]
    if args.viz_camera >= len(cameras):
        raise UsageError(f"--viz-camera {args.viz_camera}: there are {len(cameras)}, counted from 0")
    if args.viz_subject not in data.keypoints.positions or args.viz_action not in \
            data.keypoints.positions[args.viz_subject]:
        raise DataError(f"{data.keypoints.path}: has no {args.viz_action} of {args.viz_subject}")
    sequences = list(views(dataset, data.keypoints, args.viz_subject, args.viz_action))
    return thinned(sequences[args.viz_camera], 1, args.downsample)


def _frame_rate(args, dataset):
    """Frames per second of the data: the dataset's; of a user's video its own, or 50 where nothing tells."""
    if dataset.fps() is not None:
        return dataset.fps()
    if args.viz_video:
        from common.video import probe

        return probe(args.viz_video).fps
    print("INFO: the metadata has no `fps`, and there is no --viz-video to ask: 50 frames a second are taken")
    return 50
