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
import contextlib
from pathlib import Path

from common.comparison import comparison_table, same_sequence
from common.export import read_prediction
from common.flags import OneLineParser, natural
from common.serving import open_browser, serve_page, server
from common.utils import UsageError, run_script
from common.viewer import check_viewer, write_viewer


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
    parser.add_argument("--compare", nargs=2, type=Path, metavar="RESULTS", help="two results files of one sequence")
    page_flags(parser)
    video = parser.add_mutually_exclusive_group()
    video.add_argument("--video", type=Path, metavar="PATH",
                       help="the input video, shown beside the poses (default: the one that the results name)")
    video.add_argument("--no-video", action="store_true", help="leave the video out")
    parser.add_argument("--video-skip", type=natural, default=0, metavar="N",
                        help="frames of the video before the first pose")
    serving = parser.add_argument_group("showing the page")
    serving.add_argument("--serve", action="store_true", help="show the page at an address, until Ctrl-C")
    serving.add_argument("--host", default="127.0.0.1", help="address for --serve; 0.0.0.0 lets other machines in")
    serving.add_argument("--port", type=port, default=8000, help="port for --serve; 0 takes a free one")
    serving.add_argument("--open", action=argparse.BooleanOptionalAction, default=False, help="open a browser")
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
    page_flags(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def page_flags(parser):
    parser.add_argument("--output", type=Path, metavar="OUT.html", help="the page (default: beside the results)")
    parser.add_argument("--labels", metavar="A,B", help="names of the methods (default: those of the files)")


def port(value):
    number = natural(value)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{value} is no port; they end at 65535")
    return number


def view(args):
    if (args.results is None) == (args.compare is None):
        raise UsageError("give one results file, or two after --compare")
    paths = args.compare or [args.results]
    output = args.output or page_path(paths)
    check_viewer(output)
    labels = method_labels(paths, args.labels)
    predictions = [read_prediction(path) for path in paths]
    with server(args.host, args.port) if args.serve else contextlib.nullcontext() as served:
        video = None if args.no_video else args.video or find_video(predictions)
        write_viewer(output, predictions, labels, video, args.video_skip)
        print(f"viewer written to {output}")
        if served:
            serve_page(served, output, args.open)
        elif args.open:
            open_browser(output.resolve().as_uri())


def page_path(paths):
    """Where the page goes: beside the first results file."""
    return paths[0].with_name("_vs_".join([path.stem for path in paths]) + ".html")


def method_labels(paths, labels):
    """A name for each file: those given, else their stems, with folders where these are the same."""
    if labels is not None:
        given = [label.strip() for label in labels.split(",")]
        if len(given) != len(paths) or not all(given):
            raise UsageError(f"--labels {labels}: give {len(paths)}, joined by commas")
        return given
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path.with_suffix("")) for path in paths]


def find_video(predictions):
    """The first video that the results name and that is there, else None."""
    named = [Path(prediction.source["video"]) for prediction in predictions if "video" in prediction.source]
    return next((path for path in named if path.is_file()), None)


def export(args):
    raise NotImplementedError


def plot(args):
    raise NotImplementedError


def compare(args):
    output = args.output or page_path(args.results)
    check_viewer(output)
    labels = method_labels(args.results, args.labels)
    predictions = same_sequence(*[read_prediction(path) for path in args.results], labels)
    print(*comparison_table(*predictions, labels), sep="\n")
    write_viewer(output, predictions, labels, find_video(predictions))
    print(f"viewer written to {output}")


def main(args):
    args.run(args)


if __name__ == "__main__":
    run_script(main, get_args)
