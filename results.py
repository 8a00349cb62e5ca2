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

from common.flags import OneLineParser, split_names
from common.plots import FORMATS
from common.result_files import read_results
from common.result_plots import AXES, USUAL, draw_results
from common.utils import DataError, check_place, run_script


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
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="FILE",
        help="errors (JSON), results with ground truth, ..._log.csv of a training, the folder of a ContextPose run")
    add("--output", type=Path, default=Path("output/plots"), metavar="FOLDER",
        help="the folder of the pictures (default: output/plots)")
    add("--format", choices=FORMATS, default="png", help="of the pictures (default: png)")
    add("--labels", metavar="A,B,...", help="names of the files, in their order; runs of one name are one curve with "
        "its spread (default: the names of files or folders)")
    add("--metrics", metavar="NAMES", help=f"the bars to draw, of {', '.join(AXES)} (default: {','.join(USUAL)})")
    add("--debug", action="store_true", help="show the traceback of an error")


def compare_flags(parser):
    parser.set_defaults(run=compare)
    parser.add_argument("results", nargs=2, type=Path, metavar="RESULTS", help="two results files of one sequence")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def view(args):
    raise NotImplementedError


def export(args):
    raise NotImplementedError


def plot(args):
    metrics = split_names(args.metrics, "--metrics", AXES) if args.metrics else USUAL
    check_place(args.output / f"picture.{args.format}")
    results = read_results(args.results, args.labels)
    drawn = False
    for path in draw_results(results, args.output, args.format, metrics):
        print(f"picture written to {path}")
        drawn = True
    if not drawn:
        raise DataError(f"{args.results[0]}: has no {', '.join(metrics)}; ask for other --metrics")


def compare(args):
    raise NotImplementedError


def main(args):
    args.run(args)


if __name__ == "__main__":
    run_script(main, get_args)
