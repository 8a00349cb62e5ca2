"""Joint positions as tables that other programs read: CSV, TRC (OpenSim) and C3D.

Each writer takes a `common.export.Prediction` and returns lines to print. Ground truth is not in these formats.
"""
import csv
import re

import numpy as np

from common.resampling import at_even_rate
from common.utils import DataError, progress, require

BLOCK = 1000  # frames that are formatted at once
MM = 1000  # per metre
BVH_UNITS = {"m": 1.0, "cm": 100.0}  # per metre
C3D_FRAMES = 65535  # the number of frames has 16 bits


def even_frames(prediction):
    """What formats of a fixed rate and a world of their own hold of a prediction.

    Returns joints (T, J, 3) float64 in metres with z up, frames per second, and lines on what was changed for it. Where
    the root joint is 0 in every frame, people stand on the ground instead of half in it.
    """
    joints, fps, notices = at_even_rate(prediction.joints.astype(np.float64), prediction.fps, prediction.times)
    joints, notices = prediction.upright(joints), list(notices)
    if prediction.root_path == "origin":
        joints = joints - [0, 0, joints[..., 2].min()]
        notices.append("the path of the root joint is not known: the lowest point is put at height 0")
    if prediction.frame == "camera":
        place = "" if prediction.root_path == "origin" else ", and its position as the origin"
        notices.append(f"the world is not known: the camera is taken as level{place}")
    return joints, fps, notices


def y_up(joints):
    """Positions (..., 3) with z up as those with y up: x stays, z points to where -y was."""
    x, y, z = np.moveaxis(joints, -1, 0)
    return np.stack([x, z, -y], axis=-1)


def joint_labels(skeleton):
    """Joint names for formats whose words end at white space; all different."""
    labels = []
    for name in skeleton.names():
        label = re.sub(r"\s+", "_", name.strip())
        while label in labels:
            label += "_"
        labels.append(label)
    return labels


def write_rows(file, rows, formats, delimiter):
    """Rows (T, columns) of numbers, each column in its printf format, to a text file."""
    for start in progress(range(0, len(rows), BLOCK), desc="writing", unit="frame", unit_scale=BLOCK):
        np.savetxt(file, rows[start:start + BLOCK], formats, delimiter)


def write_csv(path, prediction):
    """One row per frame: its number from 0, its time in seconds, then x, y and z of each joint in metres.

    The first line names the columns and nothing stands before it, which is what `pandas.read_csv` and spreadsheets
    take without being told anything. Frames keep their times, uneven or not, and coordinates their frame of reference.
    """
    joints = prediction.joints.reshape(len(prediction), -1)
    names = [f"{name}_{axis}_m" for name in prediction.skeleton.names() for axis in "xyz"]
    rows = np.column_stack([np.arange(len(joints)), prediction.seconds(), joints])
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(["frame", "time_s", *names])
        write_rows(file, rows, ["%d"] + ["%.6f"] * (rows.shape[1] - 1), ",")
    return [f"metres and seconds; axes of the {prediction.frame}: {prediction.axes}"]


def write_trc(path, prediction):
    """Markers for OpenSim: millimetres, y up, x and z on the ground as the world's x and -y.

    These are OpenSim's axes (x forward, y up, z right) for people who walk along the world's x axis. The layout is that
    of TRC files of version 4: a header of three lines, marker names, their axes, a blank line, tab-separated rows.
    """
    joints, fps, notices = even_frames(prediction)
    frames, labels = np.arange(len(joints)), joint_labels(prediction.skeleton)
    rows = np.column_stack([frames + 1, frames / fps, MM * y_up(joints).reshape(len(joints), -1)])
    header = {"DataRate": f"{fps:.10g}", "CameraRate": f"{fps:.10g}", "NumFrames": len(joints),
              "NumMarkers": len(labels), "Units": "mm", "OrigDataRate": f"{fps:.10g}", "OrigDataStartFrame": 1,
              "OrigNumFrames": len(joints)}
    axes = [f"{axis}{marker}" for marker in range(1, len(labels) + 1) for axis in "XYZ"]
    lines = [["PathFileType", 4, "(X/Y/Z)", "joints.trc"], header, header.values(),
             ["Frame#", "Time", *(cell for label in labels for cell in (label, "", ""))], ["", "", *axes], [""]]
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines("\t".join(map(str, line)) + "\n" for line in lines)
        write_rows(file, rows, ["%d", "%.6f"] + ["%.4f"] * (rows.shape[1] - 2), "\t")
    return [*notices, "millimetres; axes: y up, x that of the world, z against its y (OpenSim: x forward, z right)"]


def _check_length(path, numbers):
    """Raise OSError where a C3D of so many coordinates is cut short: ezc3d does not tell that a disk is full."""
    with open(path, "rb") as file:
        start = int.from_bytes(file.read(18)[16:], "little")  # the block of 512 bytes, from 1, where they begin
    if path.stat().st_size < 512 * max(start - 1, 1) + 4 * numbers:
        raise OSError("it is cut short, as by a full disk")


def write_c3d(path, prediction):
    """Points for C3D readers: millimetres, the axes of the world, z up.

    Raises DependencyError without ezc3d, DataError of more frames than the format can count.
    """
    ezc3d = require("ezc3d", "ezc3d")
    joints, fps, notices = even_frames(prediction)
    if len(joints) > C3D_FRAMES:
        raise DataError(f"C3D holds at most {C3D_FRAMES} frames, not {len(joints)}; export to .trc or .csv")
    file = ezc3d.c3d()
    for name, value in (("RATE", [fps]), ("UNITS", ["mm"]), ("LABELS", joint_labels(prediction.skeleton)),
                        ("X_SCREEN", ["+X"]), ("Y_SCREEN", ["+Z"])):
        file.add_parameter("POINT", name, value)
    points = np.ones((4, joints.shape[1], len(joints)))  # homogeneous: x, y, z, 1
    points[:3] = MM * joints.transpose(2, 1, 0)
    file["data"]["points"] = points
    file.write(str(path))
    _check_length(path, points.size)
    return [*notices, "millimetres; axes: z up, x and y those of the world"]
