"""Prepare HumanEva-I: its labels, and 2D detections in its videos, in the files that training reads.

    python prepare_data_humaneva.py -p PATH --convert-3d                    # PATH: Train/S1/Walking_1.mat and so on
    python prepare_data_humaneva.py --convert-2d PATH -o detectron_pt_coco  # PATH: S1/Walking_1_(C1).avi.npz and so on
    python prepare_data_humaneva.py -p PATH --convert-3d --convert-2d PATH -o detectron_pt_coco       # both at once

The .mat files are exported from the dataset's own toolbox by data/export_humaneva.m, in MATLAB or Octave, with 15 or 20
joints. Runs of whole frames become chunks. Detections of frames without labels are kept as `Unlabeled/S1` and so on.
Source: Sigal et al., IJCV 2010.
"""
import argparse
import re
from pathlib import Path

import numpy as np

from common.flags import OneLineParser
from common.humaneva_raw import SUBJECTS, all_takes, find_root, find_takes, read_labels
from common.humaneva_run import RECIPE, convert_detections, few, is_current, load_converted, next_command
from common.keypoints import layout_metadata
from common.pose_data import keypoints_path, positions_path
from common.prepared import state_of, write
from common.utils import DataError, UsageError, run_script


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-p", "--path", type=Path, metavar="PATH",
                        help="folder of the exported labels, with Train/S1/Walking_1.mat and so on")
    parser.add_argument("--convert-3d", action="store_true", help="write the labels, 3D and 2D (gt)")
    parser.add_argument("--convert-2d", type=Path, metavar="PATH",
                        help="write the detections below this folder, S1/Walking_1_(C1).avi.npz and so on, of any "
                             "detector; without -p for the labels that were converted before")
    parser.add_argument("-o", "--output", metavar="NAME", help="name of the detections, such as detectron_pt_coco")
    parser.add_argument("--output-dir", "--data-dir", dest="output_dir", type=Path, default=Path("data"), metavar="DIR",
                        help="folder of the .npz files (default: %(default)s)")
    parser.add_argument("--align", action=argparse.BooleanOptionalAction, default=True,
                        help="shift the detections by one frame where they fit the labels better so (default: on)")
    parser.add_argument("--allow-missing", action="store_true", help="do without takes or videos that are missing")
    parser.add_argument("--force", action="store_true", help="write the files anew where they exist")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args()
    check_args(args, parser.typed)
    return args


def check_args(args, typed):
    if not args.convert_3d and args.convert_2d is None:
        raise UsageError("say what to prepare: --convert-3d, --convert-2d PATH or both")
    if args.convert_3d and args.path is None:
        raise UsageError("--convert-3d: name the folder of the exported labels by -p PATH")
    if args.convert_2d is None and args.output is not None:
        raise UsageError("-o names detections and applies to --convert-2d only; the folder is --output-dir")
    if args.convert_2d is None and "align" in typed:
        raise UsageError("--align and --no-align apply to --convert-2d only; leave it out")
    if args.convert_2d is not None:
        if args.output is None:
            raise UsageError("--convert-2d: name the detections by -o, such as -o detectron_pt_coco")
        if not re.fullmatch(r"\w[\w.-]*", args.output) or args.output == "gt":
            raise UsageError(f"-o {args.output}: a name of letters, digits, _ - and . is wanted; gt are the labels; "
                             "the folder is --output-dir")


def find_labels(path, allow_missing):
    """{("Train/S1", "Walking 1"): path}; says what there is besides and what is missing. Raises DataError."""
    root = find_root(path)
    files, others = find_takes(root)
    if not files:
        raise DataError(f"{root}: no labels such as {SUBJECTS[0]}/Walking_1.mat are in it; export them by "
                        "data/export_humaneva.m, or name another folder by -p")
    if others:
        print(f"INFO: left out, as the labels of no known take: {', '.join(others)}")
    present = dict.fromkeys(subject for subject, _ in files)
    absent = [subject for subject in SUBJECTS if subject not in present]
    if absent:
        print(f"INFO: {root}: holds nothing of {', '.join(absent)}, a part of the dataset")
    missing = [f"{subject}/{take.replace(' ', '_')}.mat" for subject, take in all_takes()
               if subject in present and (subject, take) not in files]
    if missing and not allow_missing:
        raise DataError(f"{root / missing[0]}: {len(missing)} of {len(files) + len(missing)} takes are missing, "
                        f"{few(missing)}; export them by data/export_humaneva.m, or do without by --allow-missing")
    if missing:
        print(f"INFO: missing and left out: {', '.join(missing)}")
    return root, files


def load_labels(args):
    """The `Labels` below -p; with --convert-3d they are written too."""
    root, files = find_labels(args.path, args.allow_missing)
    labels, notices = read_labels(files)
    for notice, items in notices.items():
        print(f"INFO: {notice}: {few(items)}")
    if args.convert_3d:
        settings = {"recipe": RECIPE, "sources": {f"{subject}/{path.name}": state_of(path)
                                                  for (subject, _), path in files.items()}}
        name = f"humaneva{labels.joints}"
        target = positions_path(args.output_dir, name)
        if not is_current(target, settings, args.force):
            write(target, settings, positions_3d=np.array(labels.positions, dtype=object),
                  frames=np.array(labels.frames, dtype=object))
        target = keypoints_path(args.output_dir, name, "gt")
        if not is_current(target, settings, args.force):
            write(target, settings, positions_2d=np.array(labels.views, dtype=object),
                  metadata=np.array(layout_metadata(name), dtype=object))
        chunks = [len(poses) for actions in labels.positions.values() for poses in actions.values()]
        print(f"{len(files)} takes, {labels.joints} joints: {len(chunks)} chunks of {sum(chunks):,} whole frames")
    return labels


def main(args):
    labels = load_converted(args.output_dir) if args.path is None else load_labels(args)
    if args.convert_2d is not None:
        convert_detections(args.convert_2d, args.output, labels, args.output_dir, args.align, args.allow_missing,
                           args.force)
    print(next_command(labels, args.output or "gt", args.output_dir))


if __name__ == "__main__":
    run_script(main, get_args)
