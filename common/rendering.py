"""One sequence lifted frame by frame: beside its input, as a video or an interactive page, and as a file of results."""
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.camera import camera_to_world, image_coordinates
from common.custom_dataset import USUAL_TILT, CustomDataset, camera_orientation
from common.engine import predict, prediction_bar
from common.evaluation import check_finite
from common.export import Prediction, export_prediction, results_paths
from common.keypoints import LAYOUTS
from common.pose_data import thinned, views
from common.resampling import NETWORK_FPS, ascending, at_network_rate, steady_rate
from common.source import make_source
from common.utils import DataError, UsageError, print_notices
from common.video import is_page, shown_frames

RECONSTRUCTION = "Reconstruction"  # the title of what was predicted


def render(args, data, model, device, checkpoint):
    """Lift every frame of the sequence that the arguments name; write its results and the video or page of it."""
    sequence = _sequence_to_render(args, data)
    fps, times = _frame_times(args, data.dataset, sequence)
    sequence, fps, times = thinned(sequence, 1, args.downsample), fps / args.downsample, times[::args.downsample]
    kept = shown_frames(len(sequence), args.viz_skip, args.viz_downsample, args.viz_limit)
    flip = data.flip() if args.test_time_augmentation else None
    model.eval()

    def lift(keypoints):
        with prediction_bar(len(keypoints), flip, "lifting") as bar:
            return predict(model, keypoints, device, flip, args.amp, bar=bar)

    # A user's video has any rate; the sequences of a dataset have the one that the network was trained at.
    relative = lift(sequence.keypoints) if sequence.positions is not None else at_network_rate(lift, sequence.keypoints,
                                                                                               times)
    check_finite(relative)
    even = steady_rate(times) is not None or len(times) < 2
    prediction = _prediction(args, checkpoint, data, sequence, relative, fps, None if even else ascending(times))
    if args.smooth:
        prediction = _smoothed(prediction, args.smooth)
    export_prediction(prediction, results_paths(args.viz_output, args.viz_export))
    if args.viz_no_ground_truth:
        prediction = replace(prediction, ground_truth=None)
    if args.viz_output and is_page(args.viz_output):
        _write_page(args, prediction.cut(kept, fps / args.viz_downsample))
    elif args.viz_output:
        _write_video(args, prediction, float(sequence.camera["azimuth"]))


def _prediction(args, checkpoint, data, sequence, relative, fps, times):
    """What was predicted, poses (T, J, 3) relative to the root in the camera's space, as the file of results has it."""
    camera, truth, extra = sequence.camera, None, {}
    size = camera["res_w"], camera["res_h"]
    if sequence.positions is not None:
        relative = relative + sequence.trajectory
        world = _in_world(relative, camera)
        truth = _in_world(sequence.positions + sequence.trajectory, camera)
    else:
        # Without ground truth nobody knows where the person is: only the pose, upright, with its lowest point at 0.
        tilt = USUAL_TILT if args.camera_tilt is None else args.camera_tilt
        print_notices([f"the camera is taken as looking {'up' if tilt < 0 else 'down'} by {abs(tilt):g} degrees; "
                       "where people lean, --camera-tilt says another angle"])
        world = camera_to_world(relative, camera_orientation(tilt), np.zeros(3, np.float32))
        world[..., 2] -= world[..., 2].min()
        extra = {"camera_tilt": tilt}
    source = make_source(checkpoint, dataset=getattr(args, "dataset", None), subject=sequence.subject,
                         action=sequence.action, camera=sequence.camera_index, video=args.viz_video)
    return Prediction(world, data.dataset.skeleton(), fps, "world", "in place" if truth is None else "ground truth",
                      source, times, joints_camera=relative, ground_truth=truth,
                      keypoints_2d=image_coordinates(sequence.keypoints, *size),
                      skeleton_2d=LAYOUTS.get(data.keypoints.layout), size=size, extra=extra)


def _in_world(poses, camera):
    return camera_to_world(poses, camera["orientation"], camera["translation"])


def _smoothed(prediction, kind):
    from common.smoothing import smooth

    smoothed, effect = smooth(prediction, kind)
    print_notices(effect)
    return smoothed


def _write_page(args, prediction):
    from common.viewer import write_viewer

    write_viewer(args.viz_output, [prediction], [RECONSTRUCTION], args.viz_video, args.viz_skip, args.viz_downsample)
    print(f"page of {len(prediction)} frames written to {args.viz_output}; open it in a browser")


def _write_video(args, prediction, azimuth):
    from common.visualization import render_animation

    poses = {RECONSTRUCTION: prediction.joints}
    if prediction.ground_truth is not None:
        poses["Ground truth"] = prediction.ground_truth
    frames = render_animation(
        prediction.keypoints_2d, poses, prediction.skeleton, prediction.fps, args.viz_bitrate, azimuth,
        args.viz_output, prediction.size, limit=args.viz_limit, downsample=args.viz_downsample, size=args.viz_size,
        input_video_path=args.viz_video, input_video_skip=args.viz_skip, skeleton_2d=prediction.skeleton_2d,
        times=prediction.times)
    print(f"{frames} frames written to {args.viz_output}")


def _sequence_to_render(args, data):
    """The sequence of --viz-subject, --viz-action and --viz-camera. Raises UsageError that lists what there is."""
    dataset = data.dataset
    if isinstance(dataset, CustomDataset):
        args.viz_subject = _video_called(args.viz_subject, dataset.subjects())
    if args.viz_subject not in dataset:
        raise UsageError(f"--viz-subject {args.viz_subject}: there are {', '.join(dataset.subjects())}")
    actions = dataset[args.viz_subject]
    if args.viz_action not in actions:
        raise UsageError(f"--viz-action {args.viz_action}: {args.viz_subject} has {', '.join(actions)}")
    cameras = dataset.cameras()[args.viz_subject]
    if args.viz_camera >= len(cameras):
        raise UsageError(f"--viz-camera {args.viz_camera}: there are {len(cameras)}, counted from 0")
    if args.viz_subject not in data.keypoints.positions or args.viz_action not in \
            data.keypoints.positions[args.viz_subject]:
        raise DataError(f"{data.keypoints.path}: has no {args.viz_action} of {args.viz_subject}")
    return list(views(dataset, data.keypoints, args.viz_subject, args.viz_action))[args.viz_camera]


def _video_called(name, videos):
    """The one of `videos` that is meant by `name`: also by its path, and with its suffix or without."""
    file = Path(Path(name).name)
    alike = [video for video in videos if Path(video).stem == file.stem and not (Path(video).suffix and file.suffix)]
    known = [video for video in (name, file.name) if video in videos]
    return (known or (alike if len(alike) == 1 else [name]))[0]


def _frame_times(args, dataset, sequence):
    """(frames per second, when each frame of the sequence is shown (T,) in seconds).

    Of a dataset its own rate. Of a user's video what --viz-video says, else what the detections' metadata say, else 50.
    """
    frames, fps = np.arange(len(sequence)), dataset.fps()
    if fps is None:
        if args.viz_video:
            from common.video import frame_times, probe

            times, declared = frame_times(args.viz_video), probe(args.viz_video).fps
            fps = _mean_rate(times) or declared
            if len(times) >= len(frames) > 1 and fps:
                even = steady_rate(times[:len(frames)])  # as declared: 30000/1001 is not what rounded times give
                rate = declared if even and abs(even - declared) < 0.01 * declared else fps
                return rate, frames / rate if even else times[:len(frames)]
        fps = fps or dataset.rates[sequence.subject]
        if fps is None:
            print(f"INFO: the metadata has no `fps`, and there is no --viz-video to ask: {NETWORK_FPS} frames a second "
                  "are taken")
            fps = NETWORK_FPS
    return fps, frames / fps


def _mean_rate(times):
    return (len(times) - 1) / times[-1] if len(times) > 1 and times[-1] > 0 else None
