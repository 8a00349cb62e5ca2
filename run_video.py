"""From your own video to 3D: the detections in it, lifted by GLA-GCN, as a video or a page, and as numbers.

    python run_video.py clip.mp4 --detections clip.mp4.npz --evaluate 96_detectron_pt_coco_243_supervised.bin
    python run_video.py clip.mp4 --detections openpose_output/ --evaluate FILE --output clip_3d.mp4 --export clip_3d.npz
    python run_video.py clip.mp4 --detections clip.mp4.npz --evaluate FILE --output clip.html --export clip.bvh
    python run_video.py clip.mp4 --detector yolox_m.onnx,rtmpose_m.onnx --evaluate FILE
    python run_video.py clip.mp4 --detector my_detector.py:find_people --evaluate FILE --person 1

Detections are read from Detectron, OpenPose, AlphaPose, MMPose and COCO results (`prepare_data_2d.py --help`). The
checkpoint tells the network; COCO-17, Halpe-26, BODY_25 and Human3.6M's joints are all taken. Any size, rotation and
frame rate, even or not; nothing is downloaded.
"""
import argparse
from pathlib import Path

from common.arguments import EXPORTS, OUTPUTS, check_picture, picture_flags
from common.detections import FORMATS
from common.export import check_export, results_paths
from common.flags import SWITCH, OneLineParser, natural, widths
from common.keypoints import LAYOUT_MAPS, LAYOUTS
from common.utils import DataError, UsageError, check_apart, print_notices, run_script

CHECKPOINT_FOLDERS = ("checkpoint", "checkpoint/h36m", "checkpoint/demo", "output")


def get_args():
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("video", type=Path, metavar="VIDEO", help="your video")
    add("--evaluate", required=True, metavar="FILE", help="checkpoint: a path, or a name in checkpoint/")
    add("--output", metavar="PATH", help=f"rendered file ({OUTPUTS}; default: VIDEO_3d.mp4 in the working folder)")
    add("--export", metavar="PATH", help=f"write the 3D coordinates ({EXPORTS})")
    add("--detections", type=Path, metavar="PATH", help="a file, or OpenPose's folder")
    add("--format", choices=FORMATS, default="auto", help="of the detections (default: told by content)")
    add("--detector", metavar="SPEC", help="run a detector: module:function, file.py:function, or ONNX files")
    add("--layout", choices=list(LAYOUTS), help="of the joints, where the detections tell it wrongly")
    add("--person", type=int, metavar="ID", help="of several people (default: the largest over time)")
    add("--first-frame", type=natural, metavar="N", help="the number of the first frame in the detections")
    add("-arc", "--architecture", type=widths, metavar="LIST", help="filter widths, where the checkpoint cannot tell")
    add("--causal", action="store_true", default=None, help="the checkpoint is of a causal network and does not say so")
    add("-tta", "--test-time-augmentation", **SWITCH, help="average with the prediction of the mirrored input")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    add("--amp", choices=("off", "bf16"), default="off", help="mixed precision")
    add("--debug", action="store_true", help="show the traceback of an error")
    picture_flags(add)
    args = parser.parse_args()
    args.given = parser.typed
    return check_args(args)


def check_args(args):
    if (args.detections is None) == (args.detector is None):
        raise UsageError("give either --detections PATH, what a detector found in the video, or --detector SPEC to run "
                         "one")
    if args.detector:
        for name in ("format", "first_frame"):
            if getattr(args, name) not in (None, "auto"):
                raise UsageError(f"--{name.replace('_', '-')} does not apply to --detector; it is of files")
    if not args.video.is_file():
        raise DataError(f"{args.video}: no such video file; check the path")
    args.output = args.output or f"{args.video.stem}_3d.mp4"
    check_picture(args, args.output)
    paths = results_paths(args.output, args.export)
    for path in paths:
        check_export(path)
    check_apart([args.output, *paths], {"the video": args.video, "the file of the detections": args.detections,
                                        "the checkpoint": args.evaluate})
    return args


def find_person(args, video):
    """(keypoints (N, J, 2) pixels of the person in every frame of the video as it is shown, their layout)."""
    from common.detection_formats import EVERY_FRAME_LISTED
    from common.detections import person_keypoints, read_detections
    from common.own_video import on_frames, upright

    if args.detector:
        from common.detector import detect, load_detector

        found = detect(video.path, load_detector(args.detector, args.device), args.layout)
    else:
        found = read_detections(args.detections, args.format, args.layout, len(video.times), args.first_frame,
                                strict=False)
    keypoints, notices = person_keypoints(found, args.person)
    keypoints, more = on_frames(keypoints, video, bool(args.detector) or found.file_format in EVERY_FRAME_LISTED)
    keypoints, _, most = upright(keypoints, found.size, video, found.layout)
    print_notices([*notices, *more, *most])
    known = ["h36m", *(source for source, target in LAYOUT_MAPS if target == "h36m")]
    if found.layout not in known:
        raise DataError(f"{found.path}: its joints are {found.layout}'s, and the network takes {', '.join(known)}; "
                        "detect with one of these")
    return keypoints, found.layout


def as_data(args, video, keypoints, layout):
    """The video as the data that the other scripts render: the only subject, with the only action `custom`."""
    from common.custom_dataset import CustomDataset
    from common.lifting import LiftingData
    from common.pose_data import Keypoints

    name, skeleton = video.path.name, LAYOUTS[layout]
    metadata = {name: {"w": video.size[0], "h": video.size[1]}}
    args.viz_subject, args.viz_action, args.viz_camera, args.viz_video = name, "custom", 0, str(video.path)
    args.viz_output, args.viz_export, args.viz_no_ground_truth, args.downsample = args.output, args.export, True, 1
    return LiftingData(CustomDataset(metadata, video.path),
                       Keypoints(video.path, {name: {"custom": [keypoints]}}, skeleton.num_joints(),
                                 skeleton.joints_left(), skeleton.joints_right(), layout, metadata), "h36m")


def main(args):
    from common import checkpoint
    from common.distributed import pick_device
    from common.lifting import model_of
    from common.own_video import open_video
    from common.rendering import render

    path = checkpoint.find(args.evaluate, CHECKPOINT_FOLDERS)
    model_of(path, None, args.architecture, args.causal)  # found wanting now, not after the detector has run
    video = open_video(args.video)
    print(f"{video.path}: {len(video.times)} frames of {video.size[0]}x{video.size[1]} pixels, {video.fps:.4g} a "
          "second")
    keypoints, layout = find_person(args, video)
    data = as_data(args, video, keypoints, layout)
    model = model_of(path, data.input_layout, args.architecture, args.causal).to(pick_device(args.device))
    print(f"lifting with {path}: {model.receptive_field()} frames at a time, {layout} joints to Human3.6M's")
    render(args, data, model, next(model.parameters()).device, path)


if __name__ == "__main__":
    run_script(main, get_args)
