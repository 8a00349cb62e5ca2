"""GLA-GCN: lift 2D keypoint sequences to 3D poses, on Human3.6M, HumanEva-I, demo people or a user's own video.

    python prepare_data_demo.py                                                   # people to try it on
    python run_s-agcn.py -d demo -arc 3,3,3 -ch 32 -e 5                           # train
    python run_s-agcn.py -k cpn_ft_h36m_dbb -tta --evaluate 96_cpn_ft_h36m_dbb_243_supervised.bin
    python run_s-agcn.py -d demo -arc 3,3,3 -ch 32 --evaluate --render --viz-subject S9 --viz-action "Walking 1" \
        --viz-output walking.mp4
    torchrun --nproc_per_node=2 run_s-agcn.py -da                                  # several processes
"""
from common.arguments import lifting_parser, parse_lifting_args
from common.utils import run_script


def get_args():
    return parse_lifting_args(lifting_parser("GLA-GCN: 2D keypoint sequences to 3D poses"))


def main(args):
    from common.lifting import run  # torch, which takes seconds: not before the arguments are known to be good

    run(args)


if __name__ == "__main__":
    run_script(main, get_args)
