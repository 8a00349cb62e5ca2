"""Prepare HumanEva-I: its labels, and 2D detections in its videos, in the files that training reads.

    python prepare_data_humaneva.py -p PATH --convert-3d                    # PATH: Train/S1/Walking_1.mat and so on
    python prepare_data_humaneva.py --convert-2d PATH -o detectron_pt_coco  # PATH: S1/Walking_1_(C1).avi.npz and so on
    python prepare_data_humaneva.py -p PATH --convert-3d --convert-2d PATH -o detectron_pt_coco       # both at once

The .mat files are exported from the dataset's own toolbox by data/export_humaneva.m, in MATLAB or Octave, with 15 or 20
joints. Runs of whole frames become chunks. Detections of frames without labels are kept as `Unlabeled/S1` and so on.
Source: Sigal et al., IJCV 2010.
"""
import argparse
import json
import re
from pathlib import Path

import numpy as np

from common.archives import state_of
from common.flags import OneLineParser
from common.humaneva_raw import (
    CAMERAS,
    JOINTS,
    SUBJECTS,
    Labels,
    all_takes,
    find_root,
    find_takes,
    layout_metadata,
    read_labels,
)
from common.prepared import is_made, write
from common.safe_io import load_npz
from common.utils import DataError, UsageError, run_script

RECIPE = 2  # raised when the same sources come to give other files
SHOWN = 5  # names or notices in one line


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


def few(names):
    """Some names in one line, and how many more there are."""
    return f"{', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if names[SHOWN:] else ''}"


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


def is_current(target, settings, force):
    """Whether `target` can be kept; says so, or that it is made anew."""
    if not force and is_made(target, settings, renewing=tuple(settings)):
        print(f"{target}: exists, kept; --force writes it anew")
        return True
    if target.exists():
        print(f"INFO: {target} is made anew{'' if force else ', as its sources or settings have changed'}")
    return False


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
        target = args.output_dir / f"data_3d_{name}.npz"
        if not is_current(target, settings, args.force):
            write(target, settings, positions_3d=np.array(labels.positions, dtype=object),
                  frames=np.array(labels.frames, dtype=object))
        target = args.output_dir / f"data_2d_{name}_gt.npz"
        if not is_current(target, settings, args.force):
            write(target, settings, positions_2d=np.array(labels.views, dtype=object),
                  metadata=np.array(layout_metadata(name), dtype=object))
        chunks = [len(poses) for actions in labels.positions.values() for poses in actions.values()]
        print(f"{len(files)} takes, {labels.joints} joints: {len(chunks)} chunks of {sum(chunks):,} whole frames")
    return labels


def load_converted(folder):
    """The `Labels` (without poses) that an earlier --convert-3d wrote into `folder`. Raises DataError."""
    paths = [folder / f"data_3d_humaneva{joints}.npz" for joints in JOINTS]
    found = next(((path, joints) for path, joints in zip(paths, JOINTS, strict=True) if path.is_file()), None)
    if found is None:
        raise DataError(f"{paths[0]}: no such file; convert the labels by -p PATH --convert-3d, or give -p PATH here")
    path, joints = found
    frames = load_npz(path).get("frames")
    if not are_frames(frames):
        raise DataError(f"{path}: does not tell which frames its chunks are, as files of this script do; convert the "
                        "labels again by -p PATH --convert-3d --force")
    flat = folder / f"data_2d_humaneva{joints}_gt.npz"
    views = load_npz(flat).get("positions_2d") if flat.is_file() else None
    return Labels(joints, {}, views if are_views(views, frames, joints) else {}, frames)


def are_frames(frames):
    """Whether these are {subject: {chunk: (first, end)}} as this script writes them."""
    return isinstance(frames, dict) and all(
        subject in SUBJECTS and isinstance(chunks, dict) and all(
            isinstance(chunk, str) and isinstance(span, tuple) and len(span) == 2 and
            all(isinstance(frame, int) for frame in span) and 0 <= span[0] < span[1] for chunk, span in chunks.items())
        for subject, chunks in frames.items())


def are_views(views, frames, joints):
    """Whether these are the labels of exactly these chunks, [per camera (n, joints, 2)]."""
    try:
        return all(np.shape(views[subject][chunk]) == (len(CAMERAS), end - first, joints, 2)
                   for subject, chunks in frames.items() for chunk, (first, end) in chunks.items())
    except (KeyError, TypeError, ValueError):
        return False


def convert_detections(args, labels):
    """Write the detections below --convert-2d for the chunks of `labels`, and what is not labelled."""
    from common import humaneva_detections as detections

    files = detections.find_videos(args.convert_2d)
    sources = {f"{person} {take} {camera}": detections.state_of(path) for (person, take), cameras in files.items()
               for camera, path in cameras.items()}
    settings = {"recipe": RECIPE, "align": args.align, "allow_missing": args.allow_missing,
                "frames": json.loads(json.dumps(labels.frames)), "sources": sources}
    target = args.output_dir / f"data_2d_humaneva{labels.joints}_{args.output}.npz"
    if is_current(target, settings, args.force):
        return
    videos, layout, notices = detections.read_videos(files)
    tell(notices)
    shift = align(videos, layout, labels) if args.align else 0
    positions, missing = detections.cut_labelled(videos, labels.frames, shift, args.allow_missing)
    rest, left_out = detections.cut_unlabelled(videos, labels.frames, shift)
    if missing:
        print(f"INFO: no detections, and left out: {', '.join(missing)}")
    if left_out:
        print(f"INFO: not labelled and not seen by all cameras, left out: {', '.join(left_out)}")
    write(target, settings, positions_2d=np.array(positions | rest, dtype=object),
          metadata=np.array(layout_metadata(layout), dtype=object))
    labelled, others = (sum(len(views[0]) for actions in part.values() for views in actions.values())
                        for part in (positions, rest))
    print(f"{len(sources)} videos, layout {layout}: {labelled:,} labelled and {others:,} other frames of three cameras")


def tell(notices):
    """Print what reading many videos gave to say: all warnings, and some of the rest."""
    warnings, rest = ([line for line in notices if line.startswith("WARNING") == urgent] for urgent in (True, False))
    for line in warnings + [f"INFO: {line}" for line in rest[:SHOWN]]:
        print(line)
    if rest[SHOWN:]:
        print(f"INFO: and {len(rest) - SHOWN} more notices of this sort")


def align(videos, layout, labels):
    """By how many frames the published synchronisation is to be shifted; says so."""
    from common.humaneva_detections import fitting_shift

    shift, medians = fitting_shift(videos, layout, labels, f"humaneva{labels.joints}")
    if medians is None:
        print("INFO: too few labelled frames and joints to check the synchronisation; it is as published")
    elif shift:
        print(f"INFO: all videos are shifted by {shift:+d} frame: so detections are {medians[shift]:.2f} px from the "
              f"labels, and {medians[0]:.2f} px as published (medians); --no-align keeps what is published")
    else:
        print(f"the detections are {medians[0]:.2f} px from the labels (median)")
    return shift


def main(args):
    labels = load_converted(args.output_dir) if args.path is None else load_labels(args)
    if args.convert_2d is not None:
        convert_detections(args, labels)
    keypoints = args.output or "gt"
    script = "run_s-agcn_HE_13.py" if labels.joints == 15 else "run_s-agcn.py -d humaneva20"
    where = "" if args.output_dir == Path("data") else f" --data-dir {args.output_dir}"
    print(f"next: python {script} -k {keypoints}{where}")


if __name__ == "__main__":
    run_script(main, get_args)
