"""Make the demo data: people moved by rule, seen by Human3.6M's cameras, in the files that training reads.

    python prepare_data_demo.py                      # about 34,000 frames of motion, 4 cameras, into data/
    python prepare_data_demo.py --frames 1000        # longer sequences
    python run_s-agcn.py -d demo -k gt -arc 3,3 -ch 16 -b 32 --stride 4 -e 3     # train a small network on it;
                                                     # -k detected: with a detector's noise; -k detectron_pt_coco:
                                                     # that, and COCO's joints
    python prepare_data_demo.py --raw 3dhp           # a miniature MPI-INF-3DHP in its original files, into data/raw/
    python prepare_data_demo.py --raw 3dhp --images  # the same, with pictures of a few frames of its test sequences
    python prepare_data_demo.py --raw h36m           # a miniature Human3.6M with videos, in its original archives
    python prepare_data_demo.py --raw h36m-cdf       # all its sequences, no videos (h36m-mat, h36m-zip: other files)
    python prepare_data_demo.py --raw humaneva       # a miniature HumanEva-I: exported labels, detections in its videos
    python prepare_data_demo.py --raw video          # somebody's own video, and what five 2D detectors say of it
"""
import argparse
import functools
import os
import tempfile
from pathlib import Path

import numpy as np

from common.flags import OneLineParser, natural, positive, split_names
from common.h36m_dataset import h36m_cameras
from common.keypoints import COCO_17, H36M_17, H36M_KEPT, layout_metadata
from common.pose_data import keypoints_path, positions_path
from common.prepared import is_made, write
from common.synthetic import (
    ACTIONS,
    SUBJECTS,
    action_kind,
    detect,
    make_motion,
    project_views,
    write_h36m,
    write_h36m_positions,
    write_humaneva,
    write_mpi_inf_3dhp,
    write_own_video,
)
from common.synthetic_layouts import detector_joints
from common.utils import DataError, UsageError, check_place, progress, run_script

DEMO_CHECKPOINTS = "checkpoint/demo"
OWN_VIDEO_CHECKPOINT = f"{DEMO_CHECKPOINTS}/16_detectron_pt_coco_9_supervised.bin"
RECIPE = 1  # raised when the motion or the noise changes: files made before are then no longer the same data
RAW_RECIPE = 1  # the same for the raw trees
FRAMES = 300
# Per raw dataset: the usual folder below data/raw/, frames per sequence, what writes it, and what reads it.
RAW = {
    "3dhp": ("mpi_inf_3dhp", FRAMES, write_mpi_inf_3dhp, "prepare_data_3dhp.py --source {0}"),
    "h36m": ("human36m", 65, write_h36m, "prepare_data_h36m.py --images --raw {0}"),
    "h36m-cdf": ("human36m_cdf", 50, functools.partial(write_h36m_positions, source="cdf", packed=True),
                 "prepare_data_h36m.py --from-source-cdf {0}"),
    "h36m-mat": ("human36m_mat", 50, functools.partial(write_h36m_positions, source="mat"),
                 "prepare_data_h36m.py --from-source {0}"),
    "h36m-zip": ("human36m_zip", 50, functools.partial(write_h36m_positions, source="archive"),
                 "prepare_data_h36m.py --from-archive {0}/h36m.zip"),
    "humaneva": ("humaneva", 60, write_humaneva,
                 "prepare_data_humaneva.py -p {0} --convert-3d --convert-2d {0} -o detectron_pt_coco"),
    "video": ("video", 100, write_own_video,
              f"run_video.py {{0}}/walking.mp4 --detections {{0}}/walking.mp4.npz --evaluate {OWN_VIDEO_CHECKPOINT}"),
}
IMAGES = 10
RAW_MARK = "demo.npz"  # says that a raw tree is made of demo people, and with which settings
TRIALS = ("", " 1")  # Human3.6M, too, holds every action twice: `Walking` and `Walking 1`


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", choices=list(RAW), help="write a raw dataset in its original files instead")
    parser.add_argument("--output", "--data-dir", dest="output", type=Path, metavar="DIR",
                        help="folder of the .npz files (default: data) or of the raw dataset (default: data/raw/...)")
    parser.add_argument("--seed", type=natural, default=0, metavar="N",
                        help="another seed, other motions of the same people (default: 0)")
    parser.add_argument("--frames", type=positive, metavar="N",
                        help="frames per sequence, 50 a second (default: 300; of --raw fewer, see data/README.md)")
    parser.add_argument("--images", type=positive, nargs="?", const=IMAGES, metavar="N",
                        help="of --raw 3dhp: pictures of N frames of each test sequence, which alone are valid then "
                             f"(N: {IMAGES} unless given; 0.5 MB each)")
    parser.add_argument("--subjects", default=",".join(SUBJECTS), metavar="LIST",
                        help="comma-separated (default: %(default)s)")
    parser.add_argument("--actions", default=",".join(ACTIONS), metavar="LIST",
                        help="comma-separated; a plain name stands for its two trials (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="write the files anew where they exist")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args()
    args.subjects = split_names(args.subjects, "--subjects", SUBJECTS)
    args.actions = split_names(args.actions, "--actions")
    for name in ("subjects", "actions"):
        if args.raw and name in parser.typed:
            raise UsageError(f"--{name} does not apply to --raw {args.raw}: a raw dataset has its own; leave it out")
    if args.images and args.raw != "3dhp":
        raise UsageError("--images applies to --raw 3dhp only: Human3.6M always has pictures, other data never")
    folder, frames = Path("data"), FRAMES
    if args.raw:
        folder, frames = folder / "raw" / RAW[args.raw][0], RAW[args.raw][1]
    args.output, args.frames = args.output or folder, args.frames or frames
    return args


def check_args(args):
    for action in args.actions:
        try:
            action_kind(action)
        except ValueError as error:
            raise UsageError(f"--actions: {error}") from error


def sequence_names(actions):
    """The sequences to make: a plain action stands for its trials, `Walking 1` for itself."""
    names = [action + trial if action in ACTIONS else action for action in actions for trial in TRIALS]
    return list(dict.fromkeys(names))


def make_positions(args):
    """{subject: {action: (frames, 32, 3) float32 world metres}}."""
    actions = sequence_names(args.actions)
    with progress(total=len(args.subjects) * len(actions), desc="motion", unit="sequence") as bar:
        positions = {}
        for subject in args.subjects:
            positions[subject] = {}
            for action in actions:
                positions[subject][action] = make_motion(subject, action, args.frames, args.seed)
                bar.update()
    return positions


def make_keypoints(positions, seed):
    """{name of the file: (layout, {subject: {action: [per camera (frames, 17, 2) float32 pixels]}})}.

    `gt` is true; `detected` and `detectron_pt_coco` are what a detector makes of Human3.6M's and of COCO's joints.
    """
    true, detected, coco = {}, {}, {}
    for subject, actions in progress(positions.items(), desc="cameras", unit="subject"):
        cameras = h36m_cameras(subject)
        true[subject] = {name: project_views(poses[:, H36M_KEPT], cameras) for name, poses in actions.items()}
        faces = {name: project_views(detector_joints(poses, "coco"), cameras) for name, poses in actions.items()}
        for found, seen, skeleton in ((detected, true[subject], H36M_17), (coco, faces, COCO_17)):
            found[subject] = {name: [detect(view, (seed, *subject.encode(), *name.encode(), number), skeleton=skeleton)
                                     for number, view in enumerate(views)] for name, views in seen.items()}
    return {"gt": ("h36m", true), "detected": ("h36m", detected), "detectron_pt_coco": ("coco", coco)}


def settings_of(args):
    """What the files depend on; they keep it, so that a second run knows them again."""
    return {"recipe": RECIPE, "seed": args.seed, "frames": args.frames, "subjects": args.subjects,
            "actions": sequence_names(args.actions)}


def make_raw(args):
    """Write the raw tree beside its place and move it there when it is whole; another tree is never written over."""
    *_, write_tree, reader = RAW[args.raw]
    images = {"images": args.images} if args.images else {}
    kind = f"{args.raw} with {args.images} pictures" if images else args.raw
    settings = {"recipe": RAW_RECIPE, "raw": kind, "seed": args.seed, "frames": args.frames}
    mark = args.output / RAW_MARK
    if not mark.exists() and args.output.exists() and (not args.output.is_dir() or any(args.output.iterdir())):
        raise DataError(f"{args.output} exists and holds other files than demo people; name another folder by --output")
    if not args.force and is_made(mark, settings):
        print(f"{args.output}: exists, kept; --force writes it anew")
    else:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{args.output.name}.", dir=args.output.parent) as temporary:
            made = Path(temporary)
            write_tree(made, frames=args.frames, seed=args.seed, **images)
            write(made / RAW_MARK, settings, quiet=True)
            mark.unlink(missing_ok=True)  # moved last, it says that the tree is whole
            for path in sorted(filter(Path.is_file, made.rglob("*")), key=lambda path: path.name == RAW_MARK):
                target = args.output / path.relative_to(made)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
        print(f"wrote {args.output} ({args.frames} frames a sequence)")
    if images:
        print(f"pictures: for ContextPose with dataset.root {args.output} (experiments/mpi_inf_3dhp/eval/)")
    print(f"next: python {reader.format(args.output)}")


def main(args):
    if args.raw:
        make_raw(args)
        return
    check_args(args)
    settings = settings_of(args)
    paths = [positions_path(args.output, "demo"),
             *[keypoints_path(args.output, "demo", name) for name in ("gt", "detected", "detectron_pt_coco")]]
    if not args.force and all([is_made(path, settings) for path in paths]):
        print(f"{', '.join(map(str, paths))}: exists, kept; --force writes it anew")
    else:
        check_place(paths[0])
        positions = make_positions(args)
        write(paths[0], settings, positions_3d=np.array(positions, dtype=object))
        for name, (layout, views) in make_keypoints(positions, args.seed).items():
            write(keypoints_path(args.output, "demo", name), settings, positions_2d=np.array(views, dtype=object),
                  metadata=np.array(layout_metadata(layout), dtype=object))
        sequences = len(args.subjects) * len(sequence_names(args.actions))
        print(f"{sequences} sequences of {args.frames} frames, {sequences * args.frames * 4:,} camera frames")
    where = "" if args.output == Path("data") else f" --data-dir {args.output}"
    print(f"next: python run_s-agcn.py -d demo -k gt{where} -arc 3,3 -ch 16 -tta --evaluate {DEMO_CHECKPOINTS}/"
          "16_gt_9_supervised.bin")


if __name__ == "__main__":
    run_script(main, get_args)
