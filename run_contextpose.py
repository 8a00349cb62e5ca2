r"""ContextPose: from images of a person and their cameras to 17 joints in 3D, through a volume (CVPR 2021).

    # train; the same line goes on with a run that was stopped
    python run_contextpose.py --config experiments/human36m/train/human36m_vol_softmax_single.yaml --logdir logs
    torchrun --nproc_per_node=4 run_contextpose.py --config ... --logdir logs --sync_bn
    python run_contextpose.py --config ... --set train.batch_size=2 --set model.backbone.num_layers=50
    # evaluate
    python run_contextpose.py --eval --eval_dataset val --logdir logs \
      --config experiments/human36m/eval/human36m_vol_softmax_single.yaml
    # your own images
    python run_contextpose.py --config ... --predict a.jpg b.jpg --intrinsics 1145,1144,512,515 --output poses
"""
import argparse
from pathlib import Path

from common.flags import OneLineParser, frame_rate, natural, positive, positive_float
from common.utils import UsageError, run_script

FOR_PREDICTING = ("intrinsics", "boxes", "pelvis_depth", "fps")


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="YAML file of settings; experiments/ holds the published ones")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, such as train.batch_size=2")
    add("--logdir", metavar="PATH", help="folder of the runs (default: logdir of the configuration, logs)")
    add("--azureroot", metavar="PATH", help="put before every path of the configuration")
    add("--weights", metavar="FILE", help="the network's weights: to evaluate, to predict, or to start a training from")
    add("--fresh", action="store_true", help="start a new run where the logdir has one to go on with")
    add("--keep", type=positive, metavar="N", help="keep the last N checkpoints and the best (default: all)")
    add("--eval", action="store_true", help="evaluate instead of training")
    add("--eval-dataset", choices=("train", "val"), default="val", help="the data to evaluate on (default: val)")
    add("--output", type=Path, metavar="DIR", help="where results go (default: of --eval, beside the weights of a run "
        "in the logdir or into a new run's folder; of --predict, output/predict)")
    add("--sync-bn", action="store_true", help="batch norm over the batches of all processes")
    add("--seed", type=natural, default=42, metavar="N", help="seed of weights, batches and views (default: 42)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute (default: auto)")
    add("--amp", choices=("off", "bf16"), default="off", help="mixed precision (default: off)")
    add("--local-rank", type=int, help=argparse.SUPPRESS)
    add("--debug", action="store_true", help="show the traceback of an error")
    own = parser.add_argument_group("your own images")
    own.add_argument("--predict", nargs="+", metavar="IMAGE", help="images of one person each, or folders of them")
    own.add_argument("--intrinsics", metavar="FX,FY,CX,CY", help="their camera: focal lengths and centre in pixels")
    own.add_argument("--boxes", nargs="+", metavar="BOX", help="the person in each image: left,top,right,bottom in "
                     "pixels, one per image or one for all, or a JSON file {image: [left, top, right, bottom]} "
                     "(default: the whole image)")
    own.add_argument("--pelvis-depth", type=positive_float, metavar="MM", help="how far away the pelvis is (default: "
                     "from the size of the box)")
    own.add_argument("--fps", type=frame_rate, metavar="F", help="images a second, where they are of one film "
                     "(default: 25)")
    args = parser.parse_args()
    args.given = parser.typed
    return check(args)


def check(args):
    """Refuse flags that do not fit together."""
    refused = {
        "--predict and --eval exclude each other": args.predict and args.eval,
        "--predict needs --intrinsics fx,fy,cx,cy: the camera's focal lengths and centre in pixels":
            args.predict and not args.intrinsics,
        "--eval_dataset does not apply without --eval": "eval_dataset" in args.given and not args.eval,
        "--fresh, --keep and --sync_bn are for training: they do not apply to --eval and --predict":
            (args.eval or args.predict) and args.given & {"fresh", "keep", "sync_bn"},
        **{f"--{name.replace('_', '-')} does not apply without --predict": name in args.given and not args.predict
           for name in FOR_PREDICTING},
        "--output does not apply to training: a run goes into --logdir":
            args.output and not (args.eval or args.predict),
    }
    for reason, holds in refused.items():
        if holds:
            raise UsageError(reason)
    return args


def main(args):
    from common.contextpose.config import load_config
    from common.contextpose.recipe import evaluate_weights, predict_own_images, train
    from common.distributed import Processes
    from common.utils import set_seed

    config = load_config(args.config, args.set)
    config.logdir, config.azureroot = args.logdir or config.logdir, args.azureroot or config.azureroot
    processes = Processes(args.device)
    set_seed(args.seed)
    try:
        if args.predict:
            predict_own_images(args, config, processes)
        elif args.eval:
            evaluate_weights(args, config, processes)
        else:
            train(args, config, processes)
    finally:
        processes.close()


if __name__ == "__main__":
    run_script(main, get_args)
