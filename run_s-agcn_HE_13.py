"""GLA-GCN on HumanEva-I from COCO-17 detections (or the 15 HumanEva joints), reported by subject.

    python run_s-agcn_HE_13.py -da -tta -k detectron_pt_coco --evaluate 96_detectron_pt_coco_27_supervised.bin

Its network has the graph with 13 well-connected joints that the released weights were trained with.
"""
import functools

from common.arguments import USUAL_SUBJECTS, lifting_parser, parse_lifting_args
from common.flags import names
from common.utils import UsageError, run_script

GRAPHS = {"humaneva15": "humaneva15_he13"}


def get_args():
    parser = lifting_parser("GLA-GCN on HumanEva-I: COCO-17 detections to 15 joints")
    train, test = USUAL_SUBJECTS["humaneva15"]
    parser.set_defaults(
        dataset="humaneva15", keypoints="detectron_pt_coco", subjects_train=names(train), subjects_test=names(test),
        actions=names("Walk,Jog,Box"), checkpoint="checkpoint/humaneva", epochs=1000, batch_size=1024,
        architecture=[3, 3, 3], by_subject=True,
    )
    return parse_lifting_args(parser)


def main(args):
    from common.lifting import load_data, run  # torch, which takes seconds: not before the arguments are good

    if args.dataset not in GRAPHS:
        raise UsageError(f"-d {args.dataset}: this script is for {', '.join(GRAPHS)}; use run_s-agcn.py")
    run(args, functools.partial(load_data, graphs=GRAPHS))


if __name__ == "__main__":
    run_script(main, get_args)
