"""What the other scripts wrote, to look at and to take elsewhere: view, export, plot, compare.

    python results.py view walking.npz                              # walking.html: one file, opens in any browser
    python results.py view walking.npz --serve                      # the same, shown at http://localhost:8000
    python results.py view --compare ours.npz theirs.npz            # two methods on the same sequence
    python results.py export walking.npz walking.bvh                # .npz .json .csv .bvh .trc .c3d
    python results.py export walking.npz walking.trc --smooth savgol
    python results.py plot errors.json output/*_log.csv             # errors, PCK, training curves as PNG
    python results.py compare ours.npz theirs.npz                   # errors of both, joint by joint

Results are the .npz or .json files that --viz-export, --export and --predict write.
"""
import argparse
import contextlib
from dataclasses import replace
from pathlib import Path

from common.comparison import comparison_table, same_sequence
from common.export import AXES as FRAMES
from common.export import check_export, export_prediction, read_prediction
from common.export_tables import BVH_UNITS
from common.flags import SMOOTHING, OneLineParser, natural, split_names
from common.plots import FORMATS
from common.result_files import read_results
from common.result_plots import AXES, USUAL, draw_results
from common.serving import open_browser, serve_page, server
from common.utils import DataError, UsageError, check_place, print_notices, run_script
from common.viewer import check_viewer, write_viewer


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser)
    view_flags(commands.add_parser("view", help="an interactive page of 3D skeletons"))
    export_flags(commands.add_parser("export", help="poses in the formats of other programs"))
    plot_flags(commands.add_parser("plot", help="errors, PCK and training curves as pictures"))
    compare_flags(commands.add_parser("compare", help="two methods on the same sequence"))
    return parser.parse_args()


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
    parser.add_argument("--smooth", choices=SMOOTHING, help="smooth over time (default: not)")
    parser.add_argument("--frame", choices=list(FRAMES),
                        help="axes of .npz, .json and .csv (default: the world's, where they are known)")
    parser.add_argument("--bvh-unit", choices=list(BVH_UNITS), help="of .bvh (default: m, Blender's)")
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
    suffix = args.output.suffix.lower()
    check_export(args.output)
    if args.bvh_unit and suffix != ".bvh":
        raise UsageError(f"--bvh-unit does not apply to {suffix}, whose unit is fixed")
    if args.frame and suffix not in (".npz", ".json", ".csv"):
        raise UsageError(f"--frame does not apply to {suffix}, which is always upright; export to .csv, .npz or .json")
    if args.output.resolve() == args.results.resolve():
        raise UsageError(f"{args.output}: is the file to read; give another name to write to")
    prediction = _in_frame(read_prediction(args.results), args.frame, args.results)
    if args.smooth:
        from common.smoothing import smooth

        prediction, effect = smooth(prediction, args.smooth)
        print_notices(effect)
    export_prediction(prediction, [args.output], **({"unit": args.bvh_unit} if args.bvh_unit else {}))


def _in_frame(prediction, frame, path):
    """The prediction with its joints in another frame of reference; None: as it is."""
    if frame in (None, prediction.frame):
        return prediction
    if frame == "world" or prediction.joints_camera is None:
        raise DataError(f"{path}: has no coordinates of the {frame}; leave --frame {frame} away")
    if prediction.ground_truth is not None:
        print("INFO: the ground truth, known in the world alone, is left out")
    return replace(prediction, joints=prediction.joints_camera, frame=frame, joints_camera=None, ground_truth=None)


def plot(args):
    metrics = split_names(args.metrics, "--metrics", AXES) if args.metrics is not None else USUAL
    check_place(args.output / f"picture.{args.format}")
    results = read_results(args.results, args.labels)
    drawn = False
    for path in draw_results(results, args.output, args.format, metrics):
        print(f"picture written to {path}")
        drawn = True
    if not drawn:
        raise DataError(f"{args.results[0]}: has no {', '.join(metrics)}; ask for other --metrics")


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
