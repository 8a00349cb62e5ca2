"""The full GLA-GCN on MPI-INF-3DHP, in one process or several: train, evaluate with PCK and AUC, refine.

    python prepare_data_3dhp.py --source mpi_inf_3dhp                              # the dataset's files -> data/s-agcn/
    python main_sagcn_gpus_individual_fc_3dhp.py --frames 81                       # train, then evaluate the best epoch
    torchrun --nproc_per_node=8 --max-restarts=3 main_sagcn_gpus_individual_fc_3dhp.py --frames 81 --batch_size 1200
    python -m torch.distributed.launch --nproc_per_node=8 --master_port=22241 main_sagcn_gpus_individual_fc_3dhp.py \
        --dataset '3dhp' --root_path data/s-agcn/ --batch_size 1200 --frames 81 --channel 256 --evaluate
    python main_sagcn_gpus_individual_fc_3dhp.py --predictions inference_data.mat  # score any method's poses

Poses are in millimetres, relative to the pelvis; the ground truth is `univ_annot3`.
"""
import os
from pathlib import Path

from common.arguments import (
    WIDTHS_3DHP,
    check_training_args,
    checkpoint_flags,
    machine_flags,
    make_parser,
    model_flags,
    parse,
    sampling_flags,
    training_flags,
)
from common.flags import SWITCH, natural, positive_float
from common.utils import UsageError, run_script

FOLDERS = "data/s-agcn", "data"
FOR_PREDICTIONS = {"predictions", "root_path", "dataset", "keypoints", "results", "checkpoint", "json", "debug",
                   "local_rank"}


def get_args(argv=None):
    parser = make_parser("The full GLA-GCN on MPI-INF-3DHP", {
        "data": [data_flags, sampling_flags], "what to do": [task_flags, files_flags, reload_flags],
        "model": [architecture_flags, model_flags], "training": [training_flags], "machine": [gpu_flags, machine_flags],
        "flags of the release that do not apply": [inapplicable_flags]})
    parser.set_defaults(
        checkpoint="checkpoint", channels=256, pose_sequence=True, epochs=50, batch_size=256, optimizer="adam",
        learning_rate=1e-3, lr_schedule="steps", data_augmentation=True, test_time_augmentation=True,
        random_move=False, train_eval=False, render=False)
    return check(parse(parser, argv))


def data_flags(add):
    add("-d", "--dataset", default="3dhp", choices=("3dhp", "h36m"), help="h36m is run_s-agcn.py's")
    add("-k", "--keypoints", default="gt", metavar="NAME", help="2D detections: the npz files hold one set, gt")
    add("--root-path", "--data-dir", default=None, metavar="PATH",
        help="folder of data_train_3dhp.npz and data_test_3dhp.npz (default: data/s-agcn, else data)")
    add("-a", "--actions", default="*", metavar="LIST",
        help="only * : the tables list every activity of the test frames, and training frames have none")


def task_flags(add):
    add("--train", **SWITCH | {"default": None}, help="train; what is done unless --evaluate is given")
    add("--test", **SWITCH | {"default": True}, help="evaluate every epoch and the best one at the end")
    add("--predictions", default=None, metavar="FILE", help="score the poses of an inference_data.mat, of any method")
    add("--results", default=None, metavar="PATH", help="folder of tables, plots, inference_data.mat and "
        "predictions/TS1.npz and so on (default: -c)")


def files_flags(add):
    checkpoint_flags(add, usual_folder="checkpoint", unnamed="no_refine_*.pth in --previous_dir, then in -c")


def reload_flags(add):
    add("--previous-dir", default="", metavar="PATH", help="folder of the weights to evaluate or to start from")
    add("--reload", **SWITCH, help="start the training from no_refine_*.pth")
    add("--refine", **SWITCH, help="train, and evaluate with, the refinement of x and y by the 2D input")
    add("--refine-reload", **SWITCH, help="start the training from refine_*.pth")
    add("--lr-refine", type=positive_float, default=1e-5, metavar="LR", help="initial learning rate of the refinement")


def architecture_flags(add):
    add("--frames", type=int, default=351, choices=WIDTHS_3DHP,
        help="frames of a window: filter widths 3,3,3 to 3,9,13")
    add("--layers", type=natural, default=None, metavar="N", help="number of filter widths; it follows from --frames")


def gpu_flags(add):
    add("--gpu", default=None, metavar="LIST", help="numbers of the CUDA GPUs to use, such as 0,1")


def inapplicable_flags(add):
    add("--crop-uv", type=natural, default=0, metavar="N", help="only 0: 2D relative to the image")
    add("--workers", type=natural, default=8, metavar="N", help="no loader processes are needed")


def check(args):
    """Refuse what does not apply here or does not fit together."""
    check_training_args(args)
    given = set(args.given)
    refused = {
        f"--dataset {args.dataset}: this script is for 3dhp; use run_s-agcn.py": args.dataset != "3dhp",
        f"-k {args.keypoints} does not apply: the npz files hold one set of 2D keypoints, gt": args.keypoints != "gt",
        f"-a {args.actions} does not apply: training frames have no activities; the tables list those of the test set":
            args.actions != "*",
        "--crop_uv does not apply: the npz files hold no boxes to crop to; leave it at 0": args.crop_uv != 0,
        f"--layers {args.layers} does not apply: --frames {args.frames} has the filter widths "
        f"{','.join(map(str, WIDTHS_3DHP[args.frames]))}": args.layers not in (None, len(WIDTHS_3DHP[args.frames])),
        "--train and --evaluate exclude each other": args.train and args.evaluate is not None,
        "--test 0 leaves nothing to do without a training":
            not args.test and (args.train is False or args.evaluate is not None),
        "--previous_dir does not apply: a training starts from it with --reload or --refine_reload":
            args.previous_dir and args.train is not False and args.evaluate is None and args.predictions is None
            and not (args.reload or args.refine_reload),
        "--predictions and --evaluate exclude each other": args.predictions is not None and args.evaluate is not None,
        "--predictions and --train exclude each other": args.predictions is not None and args.train,
        "--resume and --reload exclude each other: continue a run or start a new one from its weights":
            args.resume and (args.reload or args.refine_reload),
        "--refine_reload and --lr_refine do not apply without --refine":
            not args.refine and (args.refine_reload or "lr_refine" in given),
        f"--gpu and --device {args.device} exclude each other": args.gpu and args.device not in ("auto", "cuda"),
        "--no-eval and --test exclude each other": args.no_eval and args.test and "test" in given,
    }
    for reason, holds in refused.items():
        if holds:
            raise UsageError(reason)
    others = given - FOR_PREDICTIONS
    if args.predictions is not None and others:
        raise UsageError(f"--{min(others).replace('_', '-')} does not apply to --predictions, scored as they are")
    if args.train is False and args.evaluate is None and args.predictions is None:
        args.evaluate = ""
    args.no_eval |= not args.test
    args.actions, args.subjects_train = None, None
    args.architecture = WIDTHS_3DHP[args.frames]
    if args.root_path is None:
        args.root_path = next((folder for folder in FOLDERS if any(Path(folder).glob("data_*_3dhp.npz"))), FOLDERS[0])
    return args


def main(args):
    if "workers" in args.given and os.environ.get("RANK", "0") == "0":
        print("INFO: --workers does not apply: windows are gathered in the process itself, loaders would be slower")
    if args.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"], args.device = args.gpu, "cuda"  # before torch looks for GPUs
    # torch, which takes seconds: not before the arguments are known to be good
    from common.checkpoint import check_writable
    from common.lifting import run
    from common.mpi3dhp import Mpi3dhpData, score_predictions

    if args.results:
        check_writable(args.results, "--results")  # now, not after the training
    if args.predictions is not None:
        score_predictions(args)
    else:
        run(args, lambda args, say: Mpi3dhpData(args.root_path, with_cameras=args.refine))


if __name__ == "__main__":
    run_script(main, get_args)
