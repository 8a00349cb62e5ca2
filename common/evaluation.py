"""Errors per action, per subject and on average, in millimetres: the only place where units are converted."""
import json

import numpy as np

from common.loss import joint_errors, mean_velocity_error, n_mpjpe, p_mpjpe
from common.utils import DataError, atomic_path

METRICS = ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve")
LABELS = {
    "mpjpe": "Protocol #1 Error (MPJPE):",
    "p_mpjpe": "Protocol #2 Error (P-MPJPE):",
    "n_mpjpe": "Protocol #3 Error (N-MPJPE):",
    "mpjve": "Velocity Error (MPJVE):",
}
AVERAGE_LABELS = {
    "mpjpe": "Protocol #1   (MPJPE) action-wise average:",
    "p_mpjpe": "Protocol #2 (P-MPJPE) action-wise average:",
    "n_mpjpe": "Protocol #3 (N-MPJPE) action-wise average:",
    "mpjve": "Velocity      (MPJVE) action-wise average:",
}


def check_finite(predicted):
    """DataError where a network predicts anything else than numbers."""
    if not np.isfinite(predicted).all():
        raise DataError("the network predicts NaN or infinite values; evaluate another checkpoint")


def sequence_errors(predicted, target, mm_per_unit):
    """The four errors of one sequence in mm, each with the frames it counts: {metric: (error, frames)}.

    predicted, target: (T, J, 3), root-relative. A sequence of one frame has no velocity and counts none for it.
    """
    check_finite(predicted)
    frames = len(target)
    errors = {
        "mpjpe": joint_errors(predicted, target).mean(),
        "p_mpjpe": p_mpjpe(predicted, target),
        "n_mpjpe": n_mpjpe(predicted, target),
        "mpjve": mean_velocity_error(predicted, target),
    }
    weights = dict.fromkeys(METRICS, frames) | {"mpjve": frames if frames > 1 else 0}
    return {metric: (float(errors[metric] * mm_per_unit), weights[metric]) for metric in METRICS}


def pooled(errors):
    """The errors of several sequences together, each by its frames: [{metric: (error, frames)}] -> {metric: mm}."""
    result = {}
    for metric in METRICS:
        values, frames = zip(*(sequence[metric] for sequence in errors), strict=True)
        result[metric] = float(np.average(values, weights=frames)) if sum(frames) else 0.0
    return result


def action_table(sequences, errors):
    """{action: {metric: mm}, ..., "average": {metric: mm}} of sequences and their errors, in order of appearance."""
    groups = {}
    for sequence, error in zip(sequences, errors, strict=True):
        groups.setdefault(sequence.action_name, []).append(error)
    table = {action: pooled(group) for action, group in groups.items()}
    table["average"] = {metric: float(np.mean([row[metric] for row in table.values()])) for metric in METRICS}
    return table


def last_chunks(sequences):
    """The sequences of the last chunk only of each subject and action: what the GLA-GCN release scores by subject."""
    last = {(sequence.subject, sequence.action_name): sequence.action for sequence in sequences}
    return [sequence for sequence in sequences
            if last[sequence.subject, sequence.action_name] == sequence.action]


def print_table(table, test_time_augmentation):
    """Print a table in the words of VideoPose3D, which other people's scripts read."""
    for action, errors in table.items():
        if action == "average":
            continue
        print(f"----{action}----")
        print("Test time augmentation:", test_time_augmentation)
        for metric in METRICS:
            print(LABELS[metric], errors[metric], "mm")
        print("----------")
    for metric in METRICS:
        print(AVERAGE_LABELS[metric], round(table["average"][metric], 1), "mm")


def write_json(path, content, indent=1):
    """Write the errors in mm as JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + "\n")
