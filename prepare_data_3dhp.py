"""Prepare MPI-INF-3DHP: the annotations of its owners, in the two files that training reads.

    python prepare_data_3dhp.py --source PATH        # PATH holds S1/Seq1/annot.mat ... and the test set
    python prepare_data_demo.py --raw 3dhp           # no licence yet? demo people in the same files

The poses are `univ_annot3`, people scaled to one height, in millimetres; eight cameras, 17 joints. The test set is
looked for in PATH and in PATH/mpi_inf_3dhp_test_set (TS1/annot_data.mat ...). Source: Mehta et al., 3DV 2017.
"""
import argparse
from pathlib import Path

import numpy as np

from common.flags import OneLineParser, split_names
from common.mat5 import read_variables
from common.mpi3dhp_dataset import GROUND_TRUTH, JOINTS_OF_28, TRAINING_CAMERAS, TRAINING_SEQUENCES
from common.mpi3dhp_raw import (
    AGAIN,
    CHANNELS,
    check_finite,
    check_lengths,
    find_test_files,
    kind_of,
    read_test,
    source_error,
)
from common.prepared import is_made, state_of, write
from common.utils import DataError, UsageError, progress, run_script

RECIPE = 1  # raised when the same sources come to give other files
JOINTS_OF_A_FILE = 28
SUBJECTS = tuple(dict.fromkeys(name.split()[0] for name in TRAINING_SEQUENCES))


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, metavar="PATH",
                        help="folder of the raw dataset, with S1/Seq1/annot.mat and so on")
    parser.add_argument("--output", "--data-dir", dest="output", type=Path, default=Path("data/s-agcn"), metavar="DIR",
                        help="folder of the .npz files (default: %(default)s)")
    parser.add_argument("--subjects", default=",".join(SUBJECTS), metavar="LIST",
                        help="training subjects, comma-separated (default: %(default)s)")
    parser.add_argument("--only", choices=["train", "test"],
                        help="prepare one of the two files; evaluation needs the test file only")
    parser.add_argument("--force", action="store_true", help="write the files anew where they exist")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args()
    if args.only == "test" and "subjects" in parser.typed:
        raise UsageError("--subjects does not apply to --only test: it names training subjects; leave one out")
    args.subjects = split_names(args.subjects, "--subjects", SUBJECTS)
    return args


def find_training_files(source, subjects):
    """{"S1 Seq1": path} of the sequences of `subjects`."""
    return {name: source.joinpath(*name.split(), "annot.mat") for name in TRAINING_SEQUENCES
            if name.split()[0] in subjects}


def check_files(files):
    """Every file is there and can be read: nothing is begun that cannot end."""
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        others = f" (and {', '.join(missing[1:])})" if missing[1:] else ""
        raise DataError(f"{files[missing[0]]}: {missing[0]} is missing{others}; put it there, or name another "
                        "--source; --subjects and --only leave parts out")
    for name, path in files.items():
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            raise DataError(f"{path}: {name} could not be read ({error.strerror or error}); check its permissions or "
                            f"{AGAIN}") from None


def read_cells(path, name, variable):
    """One annotation of a training sequence: per camera used (frames, 17, 2 or 3), float32."""
    try:
        content = read_variables(path, [variable])
    except Exception as error:  # a damaged file raises about anything
        raise source_error(path, error) from None
    if variable not in content:
        raise DataError(f"{path}: {name} has no variable {variable}: truncated, or another file; {AGAIN}")
    cells = content[variable]
    if cells is None or cells.dtype != object:
        found = f"an array of shape {cells.shape}" if cells is not None else "no array"
        raise DataError(f"{path}: {name} {variable} is {found}, not a cell per camera; {AGAIN}")
    cells = cells.ravel()  # (14, 1) as published, or (1, 14)
    views = []
    for camera in TRAINING_CAMERAS:
        where = f"{path}: {name} camera {camera} {variable}"
        if camera >= len(cells):
            raise DataError(f"{where} is missing: the file has {len(cells)} of 14 cameras; {AGAIN}")
        cell, columns = cells[camera], JOINTS_OF_A_FILE * CHANNELS[variable]
        if cell is None or cell.size == 0:
            raise DataError(f"{where} is {'empty' if cell is not None else 'no array of numbers'}; {AGAIN}")
        if cell.dtype.kind not in "iuf" or cell.ndim != 2 or cell.shape[1] != columns:
            raise DataError(f"{where} has the shape {cell.shape}, not (frames, {columns}): {JOINTS_OF_A_FILE} joints "
                            f"of {CHANNELS[variable]} numbers; {AGAIN}")
        with np.errstate(over="ignore"):  # what single precision cannot hold becomes infinite, and is found below
            view = cell.reshape(len(cell), JOINTS_OF_A_FILE, -1)[:, JOINTS_OF_28].astype(np.float32)
        check_finite(view, where)
        views.append(view)
    return views


def read_training(path, name):
    """A training sequence as published: ([{"0": {"data_2d": (n, 17, 2), "data_3d": (n, 17, 3)}, ...}, fps], notices).

    float32 pixels and millimetres in the camera's space; fps: frames per second; notices: [(what to know, where)].
    """
    if kind_of(path) != "MATLAB 5":
        raise DataError(f"{path}: {name} is {kind_of(path)}, and training annotations are MATLAB 5 files; {AGAIN} "
                        "(or save it in MATLAB with -v7)")
    views = {variable: read_cells(path, name, variable) for variable in CHANNELS}  # one variable in memory at a time
    published, fps = TRAINING_SEQUENCES[name]
    for number, camera in enumerate(TRAINING_CAMERAS):
        check_lengths({variable: len(cells[number]) for variable, cells in views.items()},
                      f"{path}: {name} camera {camera}")
    found = {f"camera {camera}": len(view) for camera, view in zip(TRAINING_CAMERAS, views["annot2"], strict=True)}
    check_lengths({camera: min(frames, published) for camera, frames in found.items()}, f"{path}: {name}")
    notices, frames = [], max(found.values())
    if frames < published:
        notices.append(("fewer frames than published, a part of the dataset or demo people",
                        f"{name} ({frames} of {published})"))
    elif frames > published:
        notices.append(("cut to the frames that are published", f"{name} ({published} of {frames})"))
    cameras = {str(camera): {"data_2d": flat[:published], "data_3d": pose[:published]}
               for camera, flat, pose in zip(TRAINING_CAMERAS, *views.values(), strict=True)}
    return [cameras, fps], notices


def prepare(target, files, read, settings, force):
    """Write what `read` makes of the `files` to `target`, unless it is there already."""
    if not force and is_made(target, settings, renewing=("sources",)):
        print(f"{target}: exists, kept; --force writes it anew")
        return
    if target.exists():
        print(f"INFO: {target} is made anew{'' if force else ', as the source has changed'}")
    data, notices = {}, {}
    for name, path in progress(files.items(), desc=target.stem, unit="sequence"):
        data[name], found = read(path, name)
        for notice, item in found:
            notices.setdefault(notice, []).append(item)
    for notice, items in notices.items():
        print(f"INFO: {notice}: {', '.join(items)}")
    write(target, settings, data=np.array(data, dtype=object))


def main(args):
    if not args.source.is_dir():
        raise DataError(f"{args.source}: no such folder; --source names the folder of the raw MPI-INF-3DHP")
    parts = {}
    if args.only != "test":
        parts["train"] = find_training_files(args.source, args.subjects), read_training, {"subjects": args.subjects}
    if args.only != "train":
        parts["test"] = find_test_files(args.source), read_test, {}
    for files, _, _ in parts.values():
        check_files(files)
    print(f"ground truth: {GROUND_TRUTH} (people scaled to one height), millimetres, {len(JOINTS_OF_28)} joints")
    for part, (files, read, options) in parts.items():
        settings = {"recipe": RECIPE, "ground_truth": GROUND_TRUTH, **options,
                    "sources": {path.relative_to(args.source).as_posix(): state_of(path) for path in files.values()}}
        prepare(args.output / f"data_{part}_3dhp.npz", files, read, settings, args.force)
    print(f"next: python main_sagcn_gpus_individual_fc_3dhp.py --dataset 3dhp --root_path {args.output} --frames 81")


if __name__ == "__main__":
    run_script(main, get_args)
