r"""A trained network as an ONNX file, checked against the network itself before it is written.

    python export_onnx.py --evaluate 96_cpn_ft_h36m_dbb_243_supervised.bin lifter.onnx
    python export_onnx.py --evaluate checkpoint/demo/16_detectron_pt_coco_9_supervised.bin -k coco lifter.onnx
    python export_onnx.py --evaluate 96_detectron_pt_coco_27_supervised.bin -d humaneva15_he13 lifter.onnx
    python export_onnx.py --evaluate no_refine_256_81.pth [--refine] lifter.onnx
    python export_onnx.py --config experiments/demo/contextpose.yaml [--evaluate weights.pth] contextpose.onnx
    python examples/lift_video_onnx.py lifter.onnx data/data_2d_custom_mine.npz poses.npz       # to use it, no torch

GLA-GCN, for any number of windows (batch); window and joints stand in the metadata:
    keypoints_2d (batch, window, joints, 2)      pixels normalised as `normalisation` says
    intrinsics (batch, 9)                        of --refine only: fx, fy, cx, cy so normalised, and five zeros
    pose_3d (batch, 1, joints, 3)                of one frame, `target_frame` of the window, relative to the root joint:
                                                 x right, y down, z away; in `units`, m, or mm of MPI-INF-3DHP
    pose_unrefined_3d (batch, 1, joints, 3)      of --refine only
    pose_sequence_3d (batch, window, joints, 3)  of the full model only: the intermediate poses of all frames
ContextPose, for any number of samples and views of each:
    images (batch, views, 3, height, width)      RGB normalised as `normalisation` says
    projections (batch, views, 3, 4)             K [R|t], world mm onto pixels of the images
    pelvis (batch, 3)                            world mm, the centre of the volume
    keypoints_3d (batch, 17, 3)                  world mm
    heatmaps (batch, views, 17, height / 4, width / 4)

Metadata, text or JSON: format, version, exported_by, network, dataset, units, axes, root, joint_names, parents,
joints_left, joints_right, normalisation, checkpoint, checkpoint_sha256; of GLA-GCN also joint_names_2d, parents_2d,
joints_left_2d, joints_right_2d, window, target_frame (counted from 0), pose_of, causal, frames_per_second that it was
trained at (null: not known), padding, with --refine intrinsics, and refinement and refinement_sha256 where it has
a file of its own; of ContextPose also image_mean, image_deviation, cuboid_size, projections, pelvis.
"""
import argparse
from pathlib import Path

from common.arguments import WIDTHS_3DHP
from common.flags import OneLineParser, natural, positive, widths
from common.graph import GRAPHS
from common.keypoints import LAYOUTS
from common.utils import UsageError, check_place, run_script

CHECKPOINT_FOLDERS = ("checkpoint", "checkpoint/h36m", "checkpoint/humaneva", "checkpoint/demo", "output")
DATASETS = {"3dhp": "mpi_inf_3dhp", "demo": "h36m"}  # what the other scripts call them
FOR_LIFTING = ("dataset", "keypoints", "architecture", "frames", "causal", "pose_sequence", "refine")
FOR_CONTEXTPOSE = ("set", "azureroot", "logdir")


def get_args(argv=None):
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("output", type=Path, metavar="OUT", help="the file to write, .onnx")
    add("--evaluate", "--weights", metavar="FILE", help="checkpoint: a path, or a name in checkpoint/")
    add("--opset", type=positive, metavar="N", help="of ONNX (default: 17; of --exporter dynamo 18)")
    add("--exporter", choices=("torchscript", "dynamo"), help="which of torch's: torchscript takes seconds, dynamo "
        "longer, and needs onnxscript (default: torchscript, and dynamo where torch has no other)")
    add("--seed", type=natural, default=1234, metavar="N", help="of the random input it is compared with")
    add("--debug", action="store_true", help="show the traceback of an error")
    own = parser.add_argument_group("GLA-GCN: what the checkpoint does not tell")
    own.add_argument("-d", "--dataset", choices=[*GRAPHS, *DATASETS], help="the graph (default: by the number of "
                     "joints, and mpi_inf_3dhp by the name no_refine_*.pth)")
    own.add_argument("-k", "--keypoints", choices=list(LAYOUTS), metavar="LAYOUT", help="the 2D joints that it takes, "
                     f"mapped to its graph: {', '.join(LAYOUTS)}")
    own.add_argument("-arc", "--architecture", type=widths, metavar="LIST", help="filter widths (default: 3,3,...)")
    own.add_argument("--frames", type=int, choices=WIDTHS_3DHP, help="of a window on mpi_inf_3dhp")
    own.add_argument("--causal", action=argparse.BooleanOptionalAction, default=None, help="the network is causal")
    own.add_argument("--pose-sequence", action=argparse.BooleanOptionalAction, default=None,
                     help="the full model or not: the weights tell, and what they do not is refused")
    own.add_argument("--refine", action="store_true", help="on mpi_inf_3dhp: with the refinement, in a "
                     "refine_*.pth beside it")
    other = parser.add_argument_group("ContextPose")
    other.add_argument("--config", metavar="YAML", help="its settings, as of run_contextpose.py")
    other.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    other.add_argument("--logdir", metavar="PATH", help="without --evaluate: the runs, of which the newest is taken")
    other.add_argument("--azureroot", metavar="PATH", help="put before every path of the configuration")
    args = parser.parse_args(argv)
    return check(args, parser.typed)


def check(args, typed):
    """Refuse flags that do not fit together, and an output that cannot be written."""
    idle = sorted(typed & set(FOR_LIFTING if args.config else FOR_CONTEXTPOSE))
    if idle:
        raise UsageError(f"--{idle[0].replace('_', '-')} does not apply {'to' if args.config else 'without'} --config")
    if not (args.evaluate or args.config):
        raise UsageError("give --evaluate FILE, a checkpoint of GLA-GCN, or --config YAML, the settings of ContextPose")
    if args.architecture and args.frames:
        raise UsageError("--frames and -arc exclude each other: the number of frames tells the filter widths")
    if args.output.suffix.lower() != ".onnx":
        raise UsageError(f"{args.output}: the suffix must be .onnx, not {args.output.suffix or 'none'}")
    check_place(args.output)
    args.dataset = DATASETS.get(args.dataset, args.dataset)
    return args


def main(args):
    from common.onnx_export import choose_exporter, write_onnx
    from common.utils import set_seed

    exporter = choose_exporter(args.exporter, args.opset)
    set_seed(args.seed)
    made = contextpose(args) if args.config else lifter(args)
    write_onnx(args.output, made, exporter, args.opset)


def lifter(args):
    from common import checkpoint
    from common.onnx_lifting import exportable, load_lifter

    path = checkpoint.find(args.evaluate, CHECKPOINT_FOLDERS)
    model, files = load_lifter(path, args)
    if args.pose_sequence not in (None, model.pose_sequence):
        raise UsageError(f"{path}: is {'of' if model.pose_sequence else 'not of'} the full model: leave "
                         f"--{'no-' if model.pose_sequence else ''}pose-sequence out")
    print(f"{path}: {model.dataset}, {model.receptive_field()} frames{', causal' if model.causal else ''}")
    return exportable(model, files)


def contextpose(args):
    from common.contextpose.config import load_config
    from common.onnx_contextpose import exportable, load_contextpose

    config = load_config(args.config, args.set)
    config.logdir, config.azureroot = args.logdir or config.logdir, args.azureroot or config.azureroot
    model, weights = load_contextpose(config, args.evaluate)
    print(f"{weights}: ContextPose, images of {config.model.image_shape} pixels, {config.model.volume_net.volume_size} "
          "points a side")
    return exportable(model, weights)


if __name__ == "__main__":
    run_script(main, get_args)
