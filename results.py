"""What the other scripts wrote, to look at and to take elsewhere: view, export, plot, compare.

    python results.py view walking.npz                              # walking.html: one file, opens in any browser
    python results.py view walking.npz --serve                      # the same, shown at http://localhost:8000
    python results.py view --compare ours.npz theirs.npz            # two methods on the same sequence
    python results.py export walking.npz walking.bvh                # .npz .json .csv .bvh .trc .c3d
    python results.py export walking.npz walking.trc --smooth savgol
    python results.py plot errors.json output/*_curves.csv          # errors, PCK, training curves as PNG
    python results.py compare ours.npz theirs.npz                   # errors of both, joint by joint

Results are the .npz or .json files that --viz-export, --export and --predict write.
"""
import argparse
from pathlib import Path

from common.flags import OneLineParser
from common.utils import run_script


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser)
    view_flags(commands.add_parser("view", help="an interactive page of 3D skeletons"))
    export_flags(commands.add_parser("export", help="poses in the formats of other programs"))
    plot_flags(commands.add_parser("plot", help="errors, PCK and training curves as pictures"))
    compare_flags(commands.add_parser("compare", help="two methods on the same sequence"))
    args = parser.parse_args()
    return args


def view_flags(parser):
    parser.set_defaults(run=view)
    parser.add_argument("results", nargs="?", type=Path, metavar="RESULTS", help="a results file, .npz or .json")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def export_flags(parser):
    parser.set_defaults(run=export)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="a results file, .npz or .json")
    parser.add_argument("output", type=Path, metavar="OUT", help="the file to write: .npz .json .csv .bvh .trc .c3d")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def plot_flags(parser):
    parser.set_defaults(run=plot)
    parser.add_argument("results", nargs="+", type=Path, metavar="FILE", help="errors, curves or results files")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def compare_flags(parser):
    parser.set_defaults(run=compare)
    parser.add_argument("results", nargs=2, type=Path, metavar="RESULTS", help="two results files of one sequence")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def view(args):
    raise NotImplementedError


def export(args):
    raise NotImplementedError


def plot(args):
    raise NotImplementedError


def compare(args):
    raise NotImplementedError


def main(args):
    args.run(args)


if __name__ == "__main__":
    run_script(main, get_args)
