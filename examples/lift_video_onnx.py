"""Lift the 2D joints in a video with an ONNX file of export_onnx.py, without torch.

    python prepare_data_2d.py -i clip.mp4.npz -o mine --video clip.mp4          # once: who is who, gaps, joints
    python examples/lift_video_onnx.py lifter.onnx data/data_2d_custom_mine.npz poses.npz

Any npz file does that holds `keypoints_2d` (T, J, 2) in pixels, without gaps, their `joint_names_2d`, the `size` of the
pictures (width, height) and `fps`. The poses (T, J, 3) are relative to the root joint, in the camera's space.
"""
import json
import sys

import numpy as np
import onnxruntime


def at(new, old, values):
    """Values (T, J, C) of the times `old`, linearly at the times `new`."""
    columns = [np.interp(new, old, column) for column in values.reshape(len(old), -1).T]
    return np.stack(columns, axis=1).reshape(-1, *values.shape[1:]).astype(np.float32)


def main(model, detections, output):
    session = onnxruntime.InferenceSession(model)
    told = {name: json.loads(session.get_modelmeta().custom_metadata_map[name])
            for name in ("window", "target_frame", "frames_per_second", "joint_names", "joint_names_2d")}
    data = np.load(detections)
    if missing := {"keypoints_2d", "joint_names_2d", "size", "fps"} - set(data.files):
        sys.exit(f"{detections}: has no {', '.join(sorted(missing))}; prepare it of one video, with --video or --fps")
    if data["joint_names_2d"].tolist() != told["joint_names_2d"]:
        sys.exit(f"{model}: takes other 2D joints than {detections} has; export it with -k for these")
    width, height = data["size"]
    screen = data["keypoints_2d"] / width * 2 - [1, height / width]  # (T, J, 2)
    times = np.arange(len(screen)) / data["fps"]
    rate = told["frames_per_second"] or data["fps"]  # the one that it was trained at
    even = np.linspace(0, times[-1], round(times[-1] * rate) + 1)
    before, after = told["target_frame"], told["window"] - 1 - told["target_frame"]
    padded = np.pad(at(even, times, screen), ((before, after), (0, 0), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, told["window"], axis=0).transpose(0, 3, 1, 2)
    poses = np.concatenate([session.run(["pose_3d"], {"keypoints_2d": windows[start:start + 64]})[0][:, 0]
                            for start in range(0, len(windows), 64)])
    np.savez(output, poses=at(times, even, poses), joint_names=told["joint_names"])
    print(f"{len(times)} poses written to {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
