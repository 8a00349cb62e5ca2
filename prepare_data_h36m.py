"""Prepare Human3.6M: what its owners give out, in the files that training reads.

    python prepare_data_h36m.py --from-source-cdf PATH       # their CDF files, folders or .tgz -> the npz files
    python prepare_data_h36m.py --from-source PATH           # the same as MATLAB files, Walking 1.cdf.mat
    python prepare_data_h36m.py --from-archive h36m.zip      # the archive of 3d-pose-baseline, read in place
    python prepare_data_h36m.py --images --raw PATH --jobs 8 # images and labels for ContextPose
    python prepare_data_demo.py --raw h36m                   # no licence yet? demo people in the same files

Positions: data_3d_h36m.npz and data_2d_h36m_gt.npz, the same whichever the source. Images: PATH holds
`Poses_D3_Positions_S1.tgz`, `Videos_S1.tgz`, `Segments_mat_gt_bb_S1.tgz` and so on; the run may be killed at any
moment, and goes on with what is not done. Source: Ionescu et al., TPAMI 2014.
"""
import argparse
import os
from pathlib import Path

from common.flags import OneLineParser, positive, split_names
from common.h36m_image_run import prepare_images
from common.h36m_positions import LIBRARIES
from common.h36m_raw import SUBJECTS
from common.h36m_run import FLAGS, find_all, is_kept, read_all, write_all
from common.utils import UsageError, require, run_script

OF_IMAGES, OF_POSITIONS = ("raw", "jobs"), ("force",)  # flags that apply to one of the two only


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--from-source-cdf", type=Path, metavar="PATH",
                       help="positions of the owners' CDF files: the dataset's folder, a subject's, or their .tgz")
    modes.add_argument("--from-source", type=Path, metavar="PATH",
                       help="positions of MATLAB's conversions of these, .cdf.mat, in the same places")
    modes.add_argument("--from-archive", type=Path, metavar="FILE",
                       help="positions of h36m.zip, or of the folder extracted from it")
    modes.add_argument("--images", action="store_true", help="prepare images, boxes, labels and limb lengths")
    parser.add_argument("--raw", type=Path, metavar="PATH", help="of --images: folder of the archives (.tgz)")
    parser.add_argument("--output", "--data-dir", dest="output", type=Path, metavar="DIR",
                        help="folder of the .npz files (default: data), or of --images, where processed/, extra/ and "
                             "extracted/ are made (default: data/human36m)")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, metavar="N",
                        help="of --images: processes at a time (default: one per core)")
    parser.add_argument("--subjects", metavar="LIST",
                        help="comma-separated (default: all seven; of --images: those with archives in PATH)")
    parser.add_argument("--allow-missing", action="store_true",
                        help="go on without sequences that are damaged or missing, and exit with 0")
    parser.add_argument("--force", action="store_true", help="of positions: write the files anew where they exist")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args()
    args.source, args.path = next(((source, path) for source, path in zip(
        FLAGS, (args.from_source_cdf, args.from_source, args.from_archive), strict=True) if path), (None, None))
    if not args.images and not args.source:
        raise UsageError("say what to prepare: --images, or positions by --from-source-cdf, --from-source or "
                         "--from-archive")
    for flag in OF_POSITIONS if args.images else OF_IMAGES:
        if flag in parser.typed:
            raise UsageError(f"--{flag} applies to {'positions' if args.images else '--images'} only; leave it out")
    if args.images and not args.raw:
        raise UsageError("--images needs --raw PATH, the folder of the archives")
    if args.subjects is not None:
        args.subjects = split_names(args.subjects, "--subjects", SUBJECTS)
    args.output = args.output or Path("data/human36m" if args.images else "data")
    return args


def prepare_positions(args):
    """Read the positions of one source, and write them and their projections."""
    for library in LIBRARIES[args.source]:
        require(library, library)
    subjects = [subject for subject in SUBJECTS if subject in (args.subjects or SUBJECTS)]
    if args.subjects:
        print(f"INFO: only {', '.join(subjects)} of {len(SUBJECTS)} subjects, as --subjects says")
    search = find_all(args.path, args.source, subjects, args.allow_missing)
    if not args.force and is_kept(args.output, subjects, None if args.allow_missing else []):
        return
    positions, left_out = read_all(search, args.source, args.allow_missing)
    if args.allow_missing and not args.force and is_kept(args.output, subjects, left_out):
        return
    write_all(args.output, positions, subjects, left_out)


def main(args):
    if args.images:
        prepare_images(args.raw, args.output, args.subjects, args.jobs, args.allow_missing)
        return
    prepare_positions(args)
    where = "" if args.output == Path("data") else f" --data-dir {args.output}"
    print(f"next: python run_s-agcn.py -k gt{where}")


if __name__ == "__main__":
    run_script(main, get_args)
