"""Two predictions of the same sequence, side by side: brought to one order of joints, and their errors in mm."""
from dataclasses import replace

import numpy as np

from common.loss import joint_errors, mean_velocity_error, p_mpjpe
from common.utils import DataError

ALIKE = 1e-3  # metres: ground truths that differ by less are the same, for files round


def same_sequence(first, second, labels):
    """The two predictions with joints in the order of the first, and the ground truth of either for both.

    labels: two names for the message. Raises DataError that says what differs where they are of different sequences.
    """
    where = f"{labels[0]} and {labels[1]}: are not of the same sequence"
    if len(first) != len(second):
        raise DataError(f"{where}, one has {len(first)} frames and the other {len(second)}; predict the same frames")
    names, others = first.skeleton.names(), second.skeleton.names()
    if set(names) != set(others):
        only = sorted(set(names) ^ set(others))
        raise DataError(f"{where}, only one of them has the joints {', '.join(only)}; predict the same skeleton")
    if first.frame != second.frame:
        raise DataError(f"{where}, one is in {first.frame} coordinates and the other in {second.frame} coordinates; "
                        "export both in the same")
    if round(first.fps, 2) != round(second.fps, 2):
        print(f"INFO: {labels[0]} has {first.fps:g} frames a second and {labels[1]} {second.fps:g}: those of "
              f"{labels[0]} are taken")
    second = _reordered(second, [others.index(name) for name in names], first.skeleton)
    truths = [pose.ground_truth for pose in (first, second) if pose.ground_truth is not None]
    if len(truths) == 2 and (apart := float(np.abs(truths[0] - truths[1]).max())) > ALIKE:
        raise DataError(f"{where}, their ground truths are up to {1000 * apart:.0f} mm apart; give two predictions of "
                        "one sequence")
    truth = truths[0] if truths else None
    return replace(first, ground_truth=truth), replace(second, ground_truth=truth)


def _reordered(prediction, order, skeleton):
    poses = {name: getattr(prediction, name) for name in ("joints", "joints_camera", "ground_truth")}
    return replace(prediction, skeleton=skeleton,
                   **{name: pose[:, order] for name, pose in poses.items() if pose is not None})


def sequence_errors(prediction):
    """{"mpjpe", "p_mpjpe", "mpjve": mm} of poses relative to the root joint; {} without truth.

    mpjve, in mm per frame, is there where there are two frames.
    """
    if prediction.ground_truth is None:
        return {}
    poses, truth = prediction.relative()
    errors = {"mpjpe": float(prediction.errors_mm().mean()), "p_mpjpe": 1000 * p_mpjpe(poses, truth)}
    return errors | ({"mpjve": 1000 * mean_velocity_error(poses, truth)} if len(poses) > 1 else {})


def distances_mm(first, second):
    """Distance of two predictions (T, J) in mm, joint by joint, each relative to its root joint."""
    return 1000 * joint_errors(*[pose.joints - pose.joints[:, [pose.skeleton.root()]] for pose in (first, second)])


def frames_better(first, second):
    """In how many frames the MPJPE of each is the lower one: (first, second); equal frames count for neither."""
    difference = first.errors_mm().mean(1) - second.errors_mm().mean(1)
    return int((difference < 0).sum()), int((difference > 0).sum())


def comparison_table(first, second, labels):
    """Lines of text: the errors in mm of two predictions that `same_sequence` gave, for all joints and joint by joint.

    Without ground truth the distance between the two.
    """
    names = first.skeleton.names()
    head = max(24, *(len(name) + 6 for name in names))
    if first.ground_truth is None:
        distances = distances_mm(first, second)
        lines = [f"No ground truth: the distance between {labels[0]} and {labels[1]}, relative to the root joint",
                 f"{'mean of all joints':{head}}{distances.mean():9.1f} mm"]
        return lines + [f"{name:{head}}{value:9.1f} mm" for name, value in zip(names, distances.mean(0), strict=True)]
    width = max(12, *(len(label) + 2 for label in labels))
    errors = [sequence_errors(pose) for pose in (first, second)]
    rows = [(name, [error[key] for error in errors]) for name, key in
            (("MPJPE (mm)", "mpjpe"), ("P-MPJPE (mm)", "p_mpjpe"), ("MPJVE (mm per frame)", "mpjve"))
            if key in errors[0]]
    joints = [pose.errors_mm().mean(0) for pose in (first, second)]
    rows += [(f"{name} (mm)", values) for name, *values in zip(names, *joints, strict=True)]
    lines = [f"{'':{head}}{labels[0]:>{width}}{labels[1]:>{width}}{'difference':>12}"]
    lines += [f"{name:{head}}{a:{width}.1f}{b:{width}.1f}{a - b:+12.1f}" for name, (a, b) in rows]
    better = frames_better(first, second)
    return [*lines, f"{'frames with less error':{head}}{better[0]:{width}}{better[1]:{width}}{'':5}of {len(first)}"]
