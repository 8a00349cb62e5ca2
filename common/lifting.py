"""The recipe that `run_s-agcn.py` and its variants share: data, network, then train, evaluate or render."""
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
from common.keypoints import LAYOUT_MAPS
from common.pose_data import fetch, load_dataset, load_keypoints, thinned, views
from common.ranger import Ranger
from common.s_agcn import S_AGCN
from common.training import TrainingRun
from common.utils import DataError, UsageError, set_seed

# The graph of the network for each dataset; the HumanEva script has another one for humaneva15.
GRAPHS = {"h36m": "h36m", "demo": "h36m", "custom": "h36m", "humaneva15": "humaneva15", "humaneva20": "humaneva20"}


@dataclass
class LiftingData:
    """A dataset with its 2D keypoints."""

    dataset: object
    keypoints: object

    def flip(self):
        """What mirrors inputs and poses: (kps_left, kps_right, joints_left, joints_right)."""
        skeleton = self.dataset.skeleton()
        return self.keypoints.left, self.keypoints.right, skeleton.joints_left(), skeleton.joints_right()

    def sequences(self, args, subjects, subset=1.0):
        return fetch(self.dataset, self.keypoints, subjects, args.actions, subset, args.downsample)


def run(args, graphs=GRAPHS):
    """Train, or evaluate, or render, as the arguments say. `graphs`: the network's graph for each dataset."""
    processes = Processes(args.device)
    try:
        set_seed(args.seed)
        say = print if processes.is_main else _silent
        if args.amp == "bf16" and processes.device.type == "cpu" and not has_bfloat16():
            say("INFO: this CPU has no bfloat16 instructions: --amp bf16 computes in float32")
        data = load_data(args, say)
        model = build_model(args, data, graphs[args.dataset]).to(processes.device)
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


def load_data(args, say=print):
    """The dataset and the keypoints that the arguments name, in a layout that the network takes. Raises DataError."""
    say("Loading dataset...", flush=True)
    keypoints = load_keypoints(args.data_dir, args.dataset, args.keypoints)
    dataset = load_dataset(args.data_dir, args.dataset, keypoints)
    skeleton = dataset.skeleton()
    if (keypoints.num_joints, skeleton.num_joints()) in LAYOUT_MAPS:
        name, groups = LAYOUT_MAPS[keypoints.num_joints, skeleton.num_joints()]
        keypoints = keypoints.mapped(groups, skeleton, args.dataset)
        say(f"INFO: 2D joints mapped: {name}")
    return LiftingData(dataset, keypoints)


def build_model(args, data, graph):
    """The network for these data and arguments. Raises UsageError where it cannot take the 2D joints."""
    try:
        model = S_AGCN(data.keypoints.num_joints, 2, data.dataset.skeleton().num_joints(), args.architecture,
                       causal=args.causal, dropout=args.dropout, channels=args.channels, dataset=graph,
                       pose_sequence=args.pose_sequence)
    except ValueError as error:
        hint = ""
        if (graph, data.keypoints.num_joints) == ("humaneva15", 17):
            hint = "; run_s-agcn_HE_13.py takes COCO-17 detections"
        raise UsageError(f"-k {args.keypoints} does not fit -d {args.dataset}: {error}{hint}") from None
    model.fast = not args.disable_optimizations
    return model


def stem(args):
    """The beginning of a run's file names: <channels>_<keypoints>_<frames>."""
    return f"{args.channels}_{args.keypoints}_{math.prod(args.architecture)}"


# ---- training


def train(args, data, model, processes, say=print):
    """Train, keep checkpoints, and evaluate the best one."""
    checkpoint.check_writable(args.checkpoint)
    train_sequences = data.sequences(args, args.subjects_train, args.subset)
    test_sequences = data.sequences(args, args.subjects_test)
    generator = make_generator(args, data, model, train_sequences, processes)
    say(f"INFO: Training on {generator.num_frames()} frames")
    say(f"INFO: Testing on {sum(map(len, test_sequences))} frames")
    optimizer = Ranger(model.parameters(), lr=args.learning_rate)
    run_state = TrainingRun(args, stem(args), model, optimizer, generator, processes, train_sequences, test_sequences,
                            data.dataset.mm_per_unit())
    torch.manual_seed(args.seed + processes.rank)  # every process drops out other features
    if args.resume:
        path = checkpoint.find(args.resume, _folders(args))
        say(f"Loading checkpoint {path}")
        run_state.resume(checkpoint.load(path), path)
    say("** Note: reported losses are averaged over all frames; the errors at the end are averaged over the actions.")
    run_state.run()
    best = run_state.path("supervised.bin")
    if best.is_file():
        by = "training loss" if args.no_eval else "validation MPJPE"
        say(f"Evaluating {best}, the best epoch by {by} ({run_state.best:.1f} mm)")
        checkpoint.load_into(model, checkpoint.load(best), best)
    evaluate(args, data, model, test_sequences, processes, say)


def make_generator(args, data, model, sequences, processes):
    """The batches of training windows over `sequences`."""
    pad = (model.receptive_field() - 1) // 2
    generator = ChunkedGenerator(
        args.batch_size, None, [s.positions for s in sequences], [s.keypoints for s in sequences], 1, pad=pad,
        causal_shift=pad if args.causal else 0, shuffle=True, random_seed=args.seed, augment=args.data_augmentation,
        **dict(zip(("kps_left", "kps_right", "joints_left", "joints_right"), data.flip(), strict=True)),
        step=args.stride, move=RandomMove() if args.random_move else None, sequence_targets=args.pose_sequence,
        rank=processes.rank, world_size=processes.world_size)
    if args.batch_size < processes.world_size or generator.num_batches() == 0:
        raise UsageError(f"{processes.world_size} processes share batches of {args.batch_size} windows out of "
                         f"{generator.num_frames()}: each needs one at least")
    return generator


# ---- evaluation


def _folders(args):
    """Where checkpoints are looked for: -c; `checkpoint/`, where many users put files; the demo's own."""
    return [args.checkpoint, "checkpoint"] + (["checkpoint/demo"] if args.dataset == "demo" else [])


def _evaluate_only(args, data, model, processes, say):
    unused = [name for name in TRAINING_ONLY + (NOT_FOR_RENDERING if args.render else ()) if name in args.given]
    if unused:
        say(f"INFO: without effect on {'a rendering' if args.render else 'an evaluation'}: {', '.join(unused)}")
    path = checkpoint.find(args.evaluate or f"{stem(args)}_supervised.bin", _folders(args))
    say(f"Loading checkpoint {path}")
    checkpoint.load_into(model, checkpoint.load(path), path)
    if args.compile:
        model.compile()
    if args.render:
        if processes.is_main:
            render(args, data, model, processes)
        processes.barrier()
        return
    sequences = data.sequences(args, args.subjects_test)
    say(f"INFO: Testing on {sum(map(len, sequences))} frames")
    evaluate(args, data, model, sequences, processes, say)


def evaluate(args, data, model, sequences, processes, say=print):
    """Print the errors of `sequences` and write them as JSON; returns what the JSON holds."""
    if args.last_chunk_only:
        sequences = last_chunks(sequences)
    say("Evaluating...")

    def measure(prediction, sequence):
        return sequence_errors(prediction, sequence.positions, data.dataset.mm_per_unit())

    flip = data.flip() if args.test_time_augmentation else None
    with StopSignals() as stop:
        errors = predict_each(model, sequences, measure, processes, flip, args.amp, stop)
    tables = _tables(args, sequences, errors)
    if processes.is_main:
        for subject, table in tables.items():
            if subject:
                print("Evaluating on subject", subject)
            print_table(table, args.test_time_augmentation)
            print()
        if args.json:
            write_json(args.json, tables if args.by_subject else tables[""])
            print(f"Errors written to {args.json}")
    return tables


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
    from common.keypoints import detection_skeleton
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
        kps = data.keypoints
        size = camera["res_w"], camera["res_h"]
        frames = render_animation(
            image_coordinates(sequence.keypoints, *size), poses, skeleton, fps, args.viz_bitrate,
            float(camera["azimuth"]), args.viz_output, size, limit=args.viz_limit,
            downsample=args.viz_downsample, size=args.viz_size, input_video_path=args.viz_video,
            input_video_skip=args.viz_skip,
            skeleton_2d=detection_skeleton(kps.layout_name, kps.num_joints, kps.left, kps.right))
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
