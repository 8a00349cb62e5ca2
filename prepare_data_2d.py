"""Prepare 2D detections of any common detector, of a user's own videos, Human3.6M's or HumanEva's, for lifting.

    python prepare_data_2d.py -i clip.mp4.npz -o clip                       # Detectron or Detectron2 (VideoPose3D's)
    python prepare_data_2d.py -i openpose_output/ -o clip --video clip.mp4  # a folder of OpenPose's JSON files
    python prepare_data_2d.py -i alphapose-results.json -o clip --size 1920x1080
    python prepare_data_2d.py -i results_clip.json -o clip --video clip.mp4 --person 2       # MMPose, COCO results
    python prepare_data_2d.py -i PATH -d h36m -o detectron_pt_coco          # PATH: S1/Walking 1.54138969.mp4.npz ...
    python prepare_data_2d.py -i PATH -d humaneva15 -o detectron_pt_coco    # PATH: S1/Walking_1_(C1).avi.npz ...

The result is data/data_2d_custom_NAME.npz, data/data_2d_h36m_NAME.npz or data/data_2d_humaneva15_NAME.npz. Of several
people the main one is taken, the largest over time; frames without it are interpolated. HumanEva's detections are cut
to the chunks of its labels, which `python prepare_data_humaneva.py --convert-3d` makes before.
"""
import argparse
import dataclasses
import re
import shlex
from pathlib import Path

import numpy as np

from common.detection_files import dataset_of, find_h36m, find_videos
from common.detection_formats import EVERY_FRAME_LISTED
from common.detections import FORMATS, person_keypoints, read_detections
from common.flags import OneLineParser, natural, positive_float
from common.keypoints import LAYOUTS, layout_metadata
from common.mapping import TARGETS, Mapping
from common.own_video import OwnVideo, on_frames, open_video, upright
from common.pose_data import keypoints_path, positions_path
from common.prepared import is_made, state_of, write
from common.safe_io import load_npz
from common.utils import DataError, UsageError, print_notices, progress, run_script

RECIPE = 2  # raised when the same detections come to give other files
DATASETS = ("auto", "h36m", "humaneva15", "custom")
OPEN_END = 30  # frames without people at a video's end that a file of people may say nothing of


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="PATH",
                        help="detections: a file, an OpenPose folder, or a folder of several videos' detections")
    parser.add_argument("-o", "--output", required=True, metavar="NAME",
                        help="the result is data_2d_<dataset>_NAME.npz; -k NAME uses it")
    parser.add_argument("--format", choices=FORMATS, default="auto",
                        help="of the detections (default: told by content)")
    parser.add_argument("-d", "--dataset", choices=DATASETS, default="auto",
                        help="whose videos they are (default: told by the files' names)")
    parser.add_argument("--layout", choices=list(LAYOUTS), help="of the joints, where the detections tell it wrongly")
    parser.add_argument("--to", choices=TARGETS, default="auto",
                        help="joints of the result (default: Human3.6M's and COCO's stay, others become Human3.6M's)")
    parser.add_argument("--person", type=int, metavar="ID",
                        help="of several people: the file's track id, or from 0 in the order of appearance")
    parser.add_argument("--first-frame", type=natural, metavar="N",
                        help="the number of the first frame (default: 0 or 1, as the numbers tell)")
    parser.add_argument("--video", type=Path, metavar="FILE", help="the video: its size, frames per second and length")
    parser.add_argument("--size", type=picture_size, metavar="WxH", help="of the video, in pixels")
    parser.add_argument("--fps", type=positive_float, metavar="F", help="frames per second of the video")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), metavar="DIR",
                        help="folder of the .npz files (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="write the file anew where it exists")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args()
    args.output = re.sub(r"^data_2d_(custom|h36m|humaneva15)_(.+)$", r"\2", args.output.removesuffix(".npz"))
    if args.video is not None and args.size is not None:
        raise UsageError("--size does not apply to --video, which tells it; leave one out")
    if not re.fullmatch(r"[^/\\\0]+", args.output):
        raise UsageError(f"-o {args.output}: is a name, not a path; --data-dir names the folder")
    return args


def picture_size(text):
    match = re.fullmatch(r"([1-9][0-9]{0,5})[xX]([1-9][0-9]{0,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 1920x1080")
    return int(match[1]), int(match[2])


# --- a user's own videos ---

def placed(args, video, keypoints, detections):
    """(keypoints (T, J, 2) of the video's frames in its upright picture, its (width, height), [notices])."""
    if video is not None:
        keypoints, notices = on_frames(keypoints, video, detections.file_format in EVERY_FRAME_LISTED)
        keypoints, size, more = upright(keypoints, detections.size, video, detections.layout)
        return keypoints, size, [*notices, *more]
    size = args.size or detections.size
    if size is None:
        raise UsageError(f"{detections.path}: does not tell the size of the video; give --video FILE or --size WxH")
    keypoints, _, notices = upright(keypoints, None, OwnVideo(detections.path, size, np.zeros(0), 0, 0))
    if detections.size not in (None, size):
        notices.append(f"{detections.path}: says {detections.size[0]}x{detections.size[1]}; --size is taken")
    return keypoints, size, notices


def prepare_custom(args, videos):
    """{"positions_2d", "metadata"} of videos {name: path of the detections}; of one, the same as plain arrays besides.

    These are called as in a results file: "keypoints_2d" (T, J, 2), "joint_names_2d", "size" and, where known, "fps".
    """
    video = open_video(args.video) if args.video else None
    frames, fps = (None, args.fps) if video is None else (len(video.times), args.fps or round(video.fps, 6))
    mapping, positions, about = Mapping(args.to), {}, {}
    for name, path in videos.items():
        detections = read_detections(path, args.format, args.layout, frames, args.first_frame, strict=False)
        keypoints, notices = person_keypoints(detections, args.person)
        keypoints, size, more = placed(args, video, keypoints, detections)
        print_notices([*notices, *more])
        positions[name] = {"custom": [mapping.apply(keypoints, detections.layout, path)]}
        about[name] = {"w": size[0], "h": size[1]} | ({"fps": fps} if fps else {})
        print(f"{name}: {len(keypoints)} frames of {size[0]}x{size[1]} pixels")
    print_notices(mapping.notices())
    plain = {}
    if len(videos) == 1:
        plain = {"keypoints_2d": positions[name]["custom"][0], "size": size,
                 "joint_names_2d": LAYOUTS[mapping.target].names()} | ({"fps": fps} if fps else {})
    return plain | {"positions_2d": positions, "metadata": layout_metadata(mapping.target, video_metadata=about)}


# --- Human3.6M ---

def frames_of_3d(data_dir):
    """{(subject, action): frames} of data_3d_h36m.npz, or None where it is not there."""
    path = positions_path(data_dir, "h36m")
    if not path.is_file():
        return None
    positions = load_npz(path).get("positions_3d")
    if not isinstance(positions, dict) or not all(isinstance(actions, dict) for actions in positions.values()):
        raise DataError(f"{path}: has no `positions_3d` of the form {{subject: {{action: ...}}}}; prepare it again")
    return {(subject, action): len(poses) for subject, actions in positions.items()
            for action, poses in actions.items()}


def prepare_h36m(args, sequences):
    """{"positions_2d", "metadata"} of {(subject, action): [detections per camera]}."""
    mapping, positions, needed = Mapping(args.to), {}, frames_of_3d(args.data_dir)
    missing, lengths = [0, 0], {}
    with progress(total=sum(map(len, sequences.values())), unit="video") as bar:
        for (subject, action), paths in sequences.items():
            views = []
            for path in paths:
                bar.set_description(f"{subject} {action}")
                detections = at_least(read_detections(path, args.format, args.layout, None, args.first_frame),
                                      (needed or {}).get((subject, action), 0), f"{subject} {action}")
                keypoints, notices = person_keypoints(detections)
                print_notices(notice for notice in notices if notice.startswith("WARNING"))
                missing[0] += detections.frames - len(np.unique(detections.frame))
                missing[1] += detections.frames
                views.append(mapping.apply(keypoints, detections.layout, path))
                bar.update()
            positions.setdefault(subject, {})[action] = views
            lengths[subject, action] = len(views[0])
    print(f"{len(sequences)} sequences, {missing[1]:,} camera frames; nobody was found in {missing[0]:,} of them, "
          "which were interpolated")
    lacking = [" ".join(key) for key in needed or () if key not in lengths and key != ("S11", "Directions")]
    if lacking:
        print_notices([f"data_3d_h36m.npz has {len(lacking)} sequences more ({', '.join(lacking[:3])} ...): leave "
                       "their subjects or actions out (-str, -ste, -a)"])
    print_notices(mapping.notices())
    return {"positions_2d": positions, "metadata": layout_metadata(mapping.target)}


def at_least(detections, frames, sequence):
    """The detections if they have `frames`, or with that many if only people are listed in their file."""
    lacking = frames - detections.frames
    if lacking <= 0:
        return detections
    if detections.file_format not in EVERY_FRAME_LISTED and lacking <= OPEN_END:
        return dataclasses.replace(detections, frames=frames)
    raise DataError(f"{detections.path}: has {detections.frames} frames, and the 3D positions of {sequence} {frames}; "
                    "detect in the whole video")


# --- HumanEva ---

def prepare_humaneva(args):
    """Write the detections in HumanEva's videos, and return the command that uses them."""
    from common.humaneva_run import convert_detections, load_converted, next_command

    if args.to == "h36m":
        raise UsageError("--to h36m: HumanEva's network takes COCO's joints or its own; leave it out or use --to coco")
    if args.output == "gt":
        raise UsageError("-o gt: that is how HumanEva's labels are called; give another name")
    labels = load_converted(args.data_dir)
    convert_detections(args.input, args.output, labels, args.data_dir, force=args.force,
                       to="keep" if args.to == "auto" else args.to, file_format=args.format, layout=args.layout,
                       first_frame=args.first_frame)
    return next_command(labels, args.output, args.data_dir)


# --- all of it ---

def check_flags(args, dataset, videos):
    single = {"--person": args.person, "--video": args.video}
    if dataset != "custom":
        single |= {"--size": args.size, "--fps": args.fps}
    if videos == 1 and dataset == "custom":
        return
    held = {"h36m": "Human3.6M's", "humaneva15": "HumanEva's"}.get(dataset, videos)
    for flag, value in single.items():
        if value is not None:
            raise UsageError(f"{flag} applies to one video of one's own, and {args.input} holds {held}; leave it out")


def main(args):
    dataset = args.dataset
    if dataset == "auto":
        dataset = dataset_of(args.input)
    if dataset == "humaneva15":
        check_flags(args, dataset, 0)
        print(prepare_humaneva(args))
        return
    if dataset == "h36m":
        found, others = find_h36m(args.input)
        paths = [path for views in found.values() for path in views]
    else:
        found, others = find_videos(args.input, args.format), []
        paths = list(found.values())
    check_flags(args, dataset, len(paths))
    if args.video is not None:
        found = {args.video.name: paths[0]}
    target = keypoints_path(args.data_dir, dataset, args.output)
    settings = {"recipe": RECIPE, "videos": [list(key) if isinstance(key, tuple) else key for key in found],
                **{name: getattr(args, name) for name in ("format", "layout", "to", "person", "first_frame", "fps")},
                "size": list(args.size or ()),
                "sources": [state_of(path) for path in [*paths, *filter(None, [args.video])]]}
    if not args.force and is_made(target, settings, renewing=("sources",), elsewhere="another -o NAME"):
        print(f"{target}: exists, kept; --force writes it anew")
    else:
        if others:
            print_notices([f"{len(others)} files are of no known sequence and left out: {', '.join(others[:5])}"])
        made = prepare_h36m(args, found) if dataset == "h36m" else prepare_custom(args, found)
        write(target, settings, **{name: np.array(value, dtype=object) if isinstance(value, dict) else value
                                   for name, value in made.items()})  # VideoPose3D's files hold pickles
    where = "" if args.data_dir == Path("data") else f" --data-dir {shlex.quote(str(args.data_dir))}"
    command = f"next: python run_s-agcn.py -d {dataset} -k {shlex.quote(args.output)}{where} --evaluate FILE"
    if dataset == "custom":
        video = next(iter(found))
        file = args.video or "VIDEO"
        command += (f" --render --viz-subject {shlex.quote(video)} --viz-action custom --viz-video "
                    f"{shlex.quote(str(file))} --viz-output output.mp4")
    print(command)


if __name__ == "__main__":
    run_script(main, get_args)
