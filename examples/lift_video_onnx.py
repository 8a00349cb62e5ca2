"""Lift the 2D joints in a video with an ONNX file of export_onnx.py, without torch: numpy, onnxruntime [and av].

    python prepare_data_2d.py -i clip.mp4.npz -o mine --video clip.mp4          # once: who is who, gaps, joints, pixels
    python examples/lift_video_onnx.py lifter.onnx data/data_2d_custom_mine.npz poses.npz [clip.mp4]

The video tells its frame rate where the 2D file does not. Poses (T, J, 3) are relative to the root joint, in the
camera's space.
"""
import json
import sys

import numpy as np
import onnxruntime


def resampled(values, times, at):
    """Values (T, ...) at `times`, linearly at other times (N,)."""
    columns = [np.interp(at, times, column) for column in values.reshape(len(values), -1).T]
    return np.stack(columns, axis=1).reshape(len(at), *values.shape[1:]).astype(np.float32)


def main(model, detections, output, video=None):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    window, target, rate = (json.loads(told[name]) for name in ("window", "target_frame", "frames_per_second"))
    with np.load(detections, allow_pickle=True) as data:  # VideoPose3D's layout; only files that you trust
        (clip, size), = data["metadata"].item()["video_metadata"].items()  # of one video
        pixels = np.asarray(data["positions_2d"].item()[clip]["custom"][0], np.float32)  # (T, J, 2)
    if "fps" not in size:
        import av
        size["fps"] = av.open(video).streams.video[0].average_rate
    screen = (pixels / size["w"] * 2 - [1, size["h"] / size["w"]]).astype(np.float32)
    times = np.arange(len(screen)) / float(size["fps"])
    at = np.linspace(0, times[-1], max(round(times[-1] * rate), 1) + 1) if rate else times  # 50 frames a second
    padded = np.pad(resampled(screen, times, at), ((target, window - 1 - target), (0, 0), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0).transpose(0, 3, 1, 2)
    poses = [session.run(["pose_3d"], {"keypoints_2d": windows[start:start + 64]})[0][:, 0]
             for start in range(0, len(windows), 64)]
    np.savez(output, poses=resampled(np.concatenate(poses), at, times), joint_names=json.loads(told["joint_names"]))


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) in (4, 5) else sys.exit(__doc__)
