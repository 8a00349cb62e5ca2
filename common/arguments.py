"""One parser for the lifting scripts, in groups; a script sets its own defaults on it and adds its own flags."""
import argparse
from pathlib import Path

from common.export import check_export, results_paths
from common.flags import (
    SMOOTHING,
    SWITCH,
    HelpFormatter,
    OneLineParser,
    fraction,
    names,
    natural,
    picture_size,
    positive,
    positive_float,
    probability,
    tilt,
    widths,
)
from common.pose_data import DATASETS, keypoints_path, positions_path
from common.utils import DataError, UsageError, check_apart, check_place
from common.video import check_output, is_page

_H36M_SUBJECTS = ("S1,S5,S6,S7,S8", "S9,S11")
_HUMANEVA_SUBJECTS = ("Train/S1,Train/S2,Train/S3", "Validate/S1,Validate/S2,Validate/S3")
USUAL_SUBJECTS = {"h36m": _H36M_SUBJECTS, "demo": _H36M_SUBJECTS, "humaneva15": _HUMANEVA_SUBJECTS,
                  "humaneva20": _HUMANEVA_SUBJECTS}
USUAL_CHECKPOINTS = {"h36m": "checkpoint/h36m", "custom": "checkpoint/h36m", "demo": "output",
                     "humaneva15": "checkpoint/humaneva", "humaneva20": "checkpoint/humaneva"}

# Frames of a window: the filter widths of the networks on MPI-INF-3DHP.
WIDTHS_3DHP = {27: [3, 3, 3], 81: [3, 3, 3, 3], 243: [3, 3, 3, 3, 3], 351: [3, 9, 13]}


def make_parser(description, groups):
    """A parser of groups {title: functions that add their flags with the `add_argument` they are given}."""
    parser = OneLineParser(description=description, formatter_class=HelpFormatter)
    for title, functions in groups.items():
        group = parser.add_argument_group(title)
        for add_to in functions:
            add_to(group.add_argument)
    return parser


def lifting_parser(description):
    """The parser of `run_s-agcn.py` and its variants: VideoPose3D's names, GLA-GCN's defaults."""
    parser = make_parser(description, {
        "data": [_data, sampling_flags], "checkpoints and evaluation": [checkpoint_flags, _reports],
        "model": [_architecture, model_flags], "training": [training_flags], "machine": [machine_flags],
        "rendering": [_viz], "VideoPose3D's flags that do not apply": [_inapplicable]})
    parser.set_defaults(refine=False, lr_refine=None, test=True)  # flags of the script for MPI-INF-3DHP
    return parser


def parse(parser, argv=None):
    """Parse; `args.given` names the settings that the user typed."""
    args = parser.parse_args(argv)
    args.given = [name for name in vars(args) if name in parser.typed]
    return args


def parse_lifting_args(parser, argv=None):
    """Parse and check the arguments of `lifting_parser`."""
    return check_lifting_args(parse(parser, argv))


def _data(add):
    add("-d", "--dataset", default="h36m", choices=DATASETS, help="target dataset")
    add("-k", "--keypoints", default="gt", metavar="NAME", help="2D detections: data_2d_<dataset>_<NAME>.npz")
    add("--data-dir", default="data", metavar="PATH", help="folder of the npz files")
    add("-str", "--subjects-train", type=names, metavar="LIST", default=None,
        help="training subjects, joined by commas (default: the dataset's usual ones: S1,S5,S6,S7,S8 of h36m)")
    add("-ste", "--subjects-test", type=names, metavar="LIST", default=None,
        help="test subjects, joined by commas (default: the dataset's usual ones: S9,S11 of h36m)")
    add("-a", "--actions", type=names, metavar="LIST", default="*",
        help="actions by their first letters, joined by commas, or * for all")


def sampling_flags(add):
    add("--subset", type=fraction, default=1.0, metavar="FRACTION", help="share of the training frames to use")
    add("--downsample", type=positive, default=1, metavar="N", help="keep every N-th frame, in training and evaluation")


def checkpoint_flags(add, usual_folder="checkpoint/h36m, checkpoint/humaneva or output",
                     unnamed="<channels>_<keypoints>_<frames>_supervised.bin"):
    add("-c", "--checkpoint", metavar="PATH", default=None,
        help=f"folder of the checkpoints (default: {usual_folder})")
    add("--checkpoint-frequency", type=positive, default=10, metavar="N",
        help="keep a numbered checkpoint every N epochs")
    add("-r", "--resume", default="", metavar="FILE", help="continue a training run")
    add("--evaluate", nargs="?", const="", default=None, metavar="FILE",
        help=f"evaluate a checkpoint (no name: {unnamed})")
    add("-tta", "--test-time-augmentation", "--test-augmentation", **SWITCH,
        help="average with the prediction of the mirrored input")
    add("--json", metavar="FILE", default=None, help="write the errors in mm to FILE")


def _reports(add):
    add("--by-subject", action=argparse.BooleanOptionalAction, default=False, help="report errors by subject")
    add("--last-chunk-only", action="store_true",
        help="score the last chunk of an action only, as the GLA-GCN release does by subject; to reproduce its figures")
    add("--render", action="store_true", help="render a sequence instead of evaluating (--viz-*)")


def _architecture(add):
    add("-arc", "--architecture", type=widths, default="3,3,3,3,3", metavar="LIST",
        help="filter widths; their product is the number of frames")


def model_flags(add):
    add("-ch", "--channels", "--channel", type=positive, default=96, metavar="N", help="channels of every layer")
    add("-drop", "--dropout", type=probability, default=0.1, metavar="P", help="dropout probability")
    add("--causal", action="store_true", help="predict a window's last frame: no look into the future")
    add("--pose-sequence", action=argparse.BooleanOptionalAction, default=False,
        help="the paper's full model, with the intermediate pose sequence and individually connected layers")


TRAINING_ONLY = ("subjects_train", "subset", "stride", "epochs", "batch_size", "learning_rate", "lr_schedule",
                 "lr_decay", "lr_decay_large", "large_decay_epoch", "optimizer", "data_augmentation",
                 "reverse_augmentation", "random_move", "clip_grad_norm", "no_eval", "train_eval",
                 "checkpoint_frequency", "export_training_curves", "tensorboard", "dropout", "seed", "reload",
                 "refine_reload", "lr_refine")
NOT_FOR_RENDERING = ("actions", "subjects_test", "by_subject", "last_chunk_only")
FOR_VIDEO_ONLY = ("viz_video", "viz_skip", "viz_bitrate", "viz_no_ground_truth", "viz_limit", "viz_downsample",
                  "viz_size")


def training_flags(add):
    add("-s", "--stride", type=positive, default=1, metavar="N", help="train on every N-th window")
    add("-e", "--epochs", "--nepoch", type=positive, default=80, metavar="N", help="number of training epochs")
    add("-b", "--batch-size", type=positive, default=512, metavar="N", help="windows in a batch, over all processes")
    add("--optimizer", choices=("ranger", "adam"), default="ranger", help="Ranger (GLA-GCN), or Adam with amsgrad")
    add("-lr", "--learning-rate", "--lr", type=positive_float, default=0.01, metavar="LR",
        help="initial learning rate; it does not change with the number of processes")
    add("--lr-schedule", choices=("cosine", "exponential", "steps"), default="cosine",
        help="per epoch: cosine annealing to 1e-5 (GLA-GCN); times --lr-decay (VideoPose3D); or times --lr-decay, but "
             "--lr-decay-large after every --large-decay-epoch epochs (GLA-GCN on MPI-INF-3DHP)")
    add("-lrd", "--lr-decay", type=positive_float, default=None, metavar="FACTOR",
        help="decay per epoch of the schedules exponential and steps (default: 0.95)")
    add("--lr-decay-large", type=positive_float, default=None, metavar="FACTOR",
        help="the large decay of the schedule steps (default: 0.5)")
    add("--large-decay-epoch", type=positive, default=None, metavar="N",
        help="epochs from one large decay of the schedule steps to the next (default: 5)")
    add("-da", "--data-augmentation", **SWITCH, help="train on every window's mirror image too")
    add("--reverse-augmentation", **SWITCH, help="train on every window backwards in time too")
    add("--random-move", action=argparse.BooleanOptionalAction, default=True,
        help="scale and turn each training target, not its input, a little, as the GLA-GCN release does")
    add("--clip-grad-norm", type=positive_float, default=None, metavar="NORM",
        help="clip the gradient (default: never)")
    add("--no-eval", action="store_true",
        help="train without evaluating the epochs: the best is the one of the lowest training loss")
    add("--train-eval", action=argparse.BooleanOptionalAction, default=True,
        help="evaluate every epoch on the training set too (the column 3d_eval)")
    add("--export-training-curves", action=argparse.BooleanOptionalAction, default=True,
        help="draw the training curves as PNG beside the checkpoints")
    add("--tensorboard", action=argparse.BooleanOptionalAction, default=True,
        help="log scalars for TensorBoard beside the checkpoints")


def machine_flags(add):
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    add("--amp", choices=("off", "bf16"), default="off", help="mixed precision")
    add("--compile", action="store_true", help="compile the network with torch.compile")
    add("--seed", type=natural, default=1234, metavar="N", help="seed of weights, shuffles and augmentation")
    add("--disable-optimizations", action="store_true", help="compute the network with ordinary operations only")
    add("--local-rank", type=int, default=None, help=argparse.SUPPRESS)
    add("-dg", "--debug", action="store_true", help="10 batches an epoch, and tracebacks of errors")


OUTPUTS = ".mp4 or .gif; .html: a page to turn, play and step through"
EXPORTS = ".npz .json .csv .bvh .trc .c3d; beside others than the first two, or without, STEM.results.npz holds all"


def _viz(add):
    add("--viz-subject", metavar="NAME", default=None, help="subject to render")
    add("--viz-action", metavar="NAME", default=None, help="action to render")
    add("--viz-camera", type=natural, default=0, metavar="N", help="camera to render")
    add("--viz-video", metavar="PATH", default=None, help="input video to show")
    add("--viz-output", metavar="PATH", default=None, help=f"rendered file ({OUTPUTS})")
    add("--viz-export", metavar="PATH", default=None, help=f"write the 3D coordinates ({EXPORTS})")
    add("--viz-no-ground-truth", action="store_true", help="do not show the ground truth")
    picture_flags(add)


def picture_flags(add):
    add("--camera-tilt", type=tilt, default=None, metavar="DEGREES",
        help="by how much the camera of your own video looks down (default: 11, as Human3.6M's do)")
    add("--smooth", choices=SMOOTHING, default=None, help="smooth what is shown and exported over time (default: not)")
    add("--viz-skip", type=natural, default=0, metavar="N", help="frames of the input video to skip")
    add("--viz-bitrate", type=positive, default=3000, metavar="KBPS", help="bitrate of mp4 files")
    add("--viz-limit", type=int, default=-1, metavar="N", help="render the first N frames only")
    add("--viz-downsample", type=positive, default=1, metavar="N", help="render every N-th frame, at 1/N of the rate")
    add("--viz-size", type=picture_size, default=5, metavar="INCHES", help="height of the picture, at 100 dpi")


INAPPLICABLE = {
    "--dense": "GLA-GCN has no dilated convolutions to make dense",
    "--linear-projection": "it belongs to VideoPose3D's semi-supervised training, which GLA-GCN has not",
    "--no-bone-length": "it belongs to VideoPose3D's semi-supervised training, which GLA-GCN has not",
    "--no-proj": "it belongs to VideoPose3D's semi-supervised training, which GLA-GCN has not",
}


def _inapplicable(add):
    for flag, reason in INAPPLICABLE.items():
        add(flag, action="store_true", help=f"refused: {reason}")


DECAYS = {"lr_decay": 0.95, "lr_decay_large": 0.5, "large_decay_epoch": 5}
DECAYS_USED = {"cosine": (), "exponential": ("lr_decay",), "steps": tuple(DECAYS)}


def check_training_args(args):
    """Refuse what does not fit together in the shared groups, and fill in the decays of the schedule."""
    if args.json:
        check_place(args.json)
    if args.resume and args.evaluate is not None:
        raise UsageError("--resume and --evaluate exclude each other: continue a training run or evaluate its result")
    for name, usual in DECAYS.items():
        if getattr(args, name) is None:
            setattr(args, name, usual)
        elif name not in DECAYS_USED[args.lr_schedule]:
            others = " or ".join(schedule for schedule, used in DECAYS_USED.items() if name in used)
            raise UsageError(f"--{name.replace('_', '-')} does not apply to --lr-schedule {args.lr_schedule}; add "
                             f"--lr-schedule {others}")
    if args.disable_optimizations and args.compile:
        raise UsageError("--disable-optimizations and --compile exclude each other")


def check_lifting_args(args):
    """Refuse what does not apply or does not fit together, and fill in what follows from the dataset."""
    for flag, reason in INAPPLICABLE.items():
        if getattr(args, flag[2:].replace("-", "_")):
            raise UsageError(f"{flag} does not apply: {reason}")
    check_training_args(args)
    if args.render:
        _check_render(args)
    else:
        given = [name for name in args.given if name.startswith("viz_") or name in ("smooth", "camera_tilt")]
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')} does not apply without --render")
    if args.dataset == "custom" and not args.render:
        raise UsageError("-d custom has no ground truth to train on or to compare with; add --evaluate FILE --render")
    if args.dataset in USUAL_SUBJECTS:
        train, test = map(names, USUAL_SUBJECTS[args.dataset])
        args.subjects_train, args.subjects_test = args.subjects_train or train, args.subjects_test or test
    args.checkpoint = args.checkpoint or USUAL_CHECKPOINTS[args.dataset]
    return args


def _check_render(args):
    if args.evaluate is None:
        raise UsageError("--render shows the predictions of a checkpoint; add --evaluate FILE")
    if not (args.viz_subject and args.viz_action):
        raise UsageError("--render needs --viz-subject and --viz-action")
    if not (args.viz_output or args.viz_export):
        raise UsageError("--render writes nothing without --viz-output FILE or --viz-export FILE")
    if args.viz_output:
        check_picture(args, args.viz_output)
    elif any(name in args.given for name in FOR_VIDEO_ONLY):
        flag = next(name for name in FOR_VIDEO_ONLY if name in args.given).replace("_", "-")
        raise UsageError(f"--{flag} does not apply without --viz-output: --viz-export writes all frames")
    if args.viz_video and args.downsample > 1:
        raise UsageError("--downsample does not apply with --viz-video, whose frames it would not thin; use "
                         "--viz-downsample")
    paths = results_paths(args.viz_output, args.viz_export)
    for path in paths:
        check_export(path)
    check_apart([*paths, *filter(None, [args.viz_output])], {
        "the checkpoint": args.evaluate, "the input video": args.viz_video,
        "the 3D data": positions_path(args.data_dir, args.dataset),
        "the 2D detections": keypoints_path(args.data_dir, args.dataset, args.keypoints)})
    if args.camera_tilt is not None and args.dataset != "custom":
        raise UsageError(f"--camera-tilt does not apply to -d {args.dataset}, whose cameras are known; leave it out")
    if args.json:
        raise UsageError("--json does not apply to --render; evaluate without it")
    if args.viz_video and not Path(args.viz_video).is_file():
        raise DataError(f"--viz-video {args.viz_video}: no such file; check the path")


def check_picture(args, output):
    """Refuse a rendered file that cannot be, and those of `picture_flags` that do not apply to it."""
    check_output(output, page=True)
    kind, reasons = Path(output).suffix.lower(), {}
    if kind == ".gif":
        reasons = {"viz_bitrate": "they have no bitrate"}
    elif is_page(output):
        reasons = {"viz_bitrate": "they hold the poses themselves, not pictures of them",
                   "viz_size": "the browser's window has the size that it has"}
    for name, reason in reasons.items():
        if name in args.given:
            raise UsageError(f"--{name.replace('_', '-')} does not apply to {kind} files; {reason}")
    if args.viz_limit == 0 or args.viz_limit < -1:
        raise UsageError(f"--viz-limit {args.viz_limit}: give a positive number of frames, or -1 for all")
