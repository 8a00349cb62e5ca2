"""One sequence lifted frame by frame: as a video beside its input, and as numbers for other programs."""
from pathlib import Path

import numpy as np

from common.camera import camera_to_world, image_coordinates
from common.custom_dataset import CustomDataset
from common.engine import predict
from common.keypoints import LAYOUTS
from common.pose_data import thinned, views
from common.resampling import NETWORK_FPS, at_network_rate, steady_rate
from common.utils import DataError, UsageError


def render(args, data, model, device, checkpoint):
    """Lift every frame of the sequence that the arguments name, and write the video and the exported coordinates."""
    sequence = _sequence_to_render(args, data)
    fps, times = _frame_times(args, data.dataset, sequence)
    sequence, fps, times = thinned(sequence, 1, args.downsample), fps / args.downsample, times[::args.downsample]
    flip = data.flip() if args.test_time_augmentation else None
    model.eval()

    def lift(keypoints):
        return predict(model, keypoints, device, flip, args.amp)

    # A user's video has any rate; the sequences of a dataset have the one that the network was trained at.
    relative = lift(sequence.keypoints) if sequence.positions is not None else at_network_rate(lift, sequence.keypoints,
                                                                                               times)
    in_camera, world = _placed(sequence, relative)
    even = steady_rate(times) is not None or len(times) < 2
    if args.viz_export:
        from common.export import write_prediction

        write_prediction(args.viz_export, _prediction(args, checkpoint, data, sequence, in_camera, world, fps,
                                                      None if even else times))
        print(f"3D coordinates of {len(world)} frames written to {args.viz_export}")
    if args.viz_output:
        _write_video(args, data, sequence, world, fps, None if even else times)


def _placed(sequence, relative):
    """Poses (T, J, 3) relative to the root, in the camera's space and in the world."""
    camera, no_shift = sequence.camera, np.zeros(3, np.float32)
    if sequence.trajectory is not None:
        in_camera = relative + sequence.trajectory
        return in_camera, camera_to_world(in_camera, camera["orientation"], camera["translation"])
    # Without ground truth nobody knows where the person is: only the pose, upright, with its lowest point at 0.
    world = camera_to_world(relative, camera["orientation"], no_shift)
    world[..., 2] -= world[..., 2].min()
    return relative, world


def _prediction(args, checkpoint, data, sequence, in_camera, world, fps, times):
    """What was predicted, as the file of results has it."""
    from common.export import Prediction, make_source

    camera = sequence.camera
    size = camera["res_w"], camera["res_h"]
    return Prediction(
        world, data.dataset.skeleton(), fps, "world", "in place" if sequence.trajectory is None else "ground truth",
        make_source(checkpoint, dataset=getattr(args, "dataset", None), subject=sequence.subject,
                    action=sequence.action, camera=sequence.camera_index, video=args.viz_video),
        times, joints_camera=in_camera, ground_truth=_truth(sequence),
        keypoints_2d=image_coordinates(sequence.keypoints, *size), skeleton_2d=LAYOUTS.get(data.keypoints.layout),
        size=size)


def _truth(sequence):
    """The true poses (T, J, 3) in the world, or None."""
    if sequence.positions is None:
        return None
    camera = sequence.camera
    return camera_to_world(sequence.positions + sequence.trajectory, camera["orientation"], camera["translation"])


def _write_video(args, data, sequence, world, fps, times):
    from common.visualization import render_animation

    camera, poses = sequence.camera, {"Reconstruction": world}
    if sequence.positions is not None and not args.viz_no_ground_truth:
        poses["Ground truth"] = _truth(sequence)
    size = camera["res_w"], camera["res_h"]
    frames = render_animation(
        image_coordinates(sequence.keypoints, *size), poses, data.dataset.skeleton(), fps, args.viz_bitrate,
        float(camera["azimuth"]), args.viz_output, size, limit=args.viz_limit, downsample=args.viz_downsample,
        size=args.viz_size, input_video_path=args.viz_video, input_video_skip=args.viz_skip,
        skeleton_2d=LAYOUTS.get(data.keypoints.layout), times=times)
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
