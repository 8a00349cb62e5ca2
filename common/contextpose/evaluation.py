"""ContextPose's figures: errors of poses in mm, rates of joints in the crops, as text and as files.

Poses are (n, 17, 3) in world mm and ContextPose's order of joints. An error is the mean over joints and frames; every
frame weighs the same. "Relative" errors are taken after the pelvis of each pose is moved to the origin (it counts as a
joint, with 0); "absolute" ones are not.
"""
import pickle
from pathlib import Path

import numpy as np
import torch

from common.contextpose.loss import limb_length_error
from common.evaluation import write_json
from common.keypoints import CONTEXTPOSE_17, CONTEXTPOSE_PELVIS
from common.loss import joint_errors, p_mpjpe
from common.utils import DataError, atomic_path

JOINTS = CONTEXTPOSE_17.names()
RATE_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # of a tenth of the crop's side
PICKLE_PROTOCOL = 4  # loads from Python 3.4 on
# The headlines: key in the metrics, and its words; all in mm.
HEADLINES = {
    "mpjpe_mm": "MPJPE, relative to the pelvis:",
    "absolute_mpjpe_mm": "MPJPE, absolute:",
    "p_mpjpe_mm": "P-MPJPE, after the best similarity:",
    "pelvis_mm": "pelvis, absolute:",
    "limb_length_error_mm": "limb lengths, mean absolute error:",
    "action_average_mpjpe_mm": "MPJPE, mean over the actions:",
    "mean_pose_mpjpe_mm": "MPJPE of the mean training pose:",
}
METRICS_FILE, PICKLE_FILE, ARRAYS_FILE = "metric.json", "results.pkl", "results.npz"


def check_predictions(predicted):
    """DataError, which tells how many frames, unless all of (n, 17, 3) are numbers and n is more than 0."""
    if not len(predicted):
        raise DataError("no frames to evaluate; look at the settings of the dataset, which chose none")
    wrong = ~np.isfinite(predicted).all((1, 2))
    if wrong.any():
        raise DataError(f"the network predicts NaN or infinite values in {wrong.sum()} of {len(wrong)} frames: it has "
                        "diverged; evaluate another checkpoint")


def pose_metrics(predicted, truth, groups):
    """All errors in mm, as a dict for JSON.

    predicted, truth: (n, 17, 3); groups: {"action": (n,) names, "subject": (n,) names}. The dict has the keys of
    `HEADLINES`, frames, per_joint {name: mm} (relative), per_action {name: {mpjpe_mm, absolute_mpjpe_mm, frames}} and
    per_subject, the same with a per_action in each; names in order of appearance. Raises DataError for predictions
    that are not finite, and for none; ValueError for shapes that do not fit.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    groups = {kind: np.asarray(names) for kind, names in groups.items()}
    if any(names.shape != (len(truth),) for names in groups.values()):
        raise ValueError(f"expected a name for each of {len(truth)} frames in {', '.join(groups)}")
    if predicted.shape != truth.shape or predicted.shape[1:] != (len(JOINTS), 3):
        raise ValueError(f"expected two arrays (n, {len(JOINTS)}, 3), got {predicted.shape} and {truth.shape}")
    check_predictions(predicted)
    absolute = joint_errors(predicted, truth)  # (n, 17)
    relative = joint_errors(*(poses - poses[:, [CONTEXTPOSE_PELVIS]] for poses in (predicted, truth)))

    def entry(chosen=slice(None)):
        return {"mpjpe_mm": float(relative[chosen].mean()), "absolute_mpjpe_mm": float(absolute[chosen].mean()),
                "frames": len(relative[chosen])}

    def per(kind, chosen):
        return {name: entry(chosen & (groups[kind] == name)) for name in _names(groups[kind][chosen])}

    everything = np.ones(len(truth), dtype=bool)
    per_action = per("action", everything)
    per_subject = {name: values | {"per_action": per("action", groups["subject"] == name)}
                   for name, values in per("subject", everything).items()}
    return entry() | {
        "p_mpjpe_mm": p_mpjpe(predicted, truth), "pelvis_mm": float(absolute[:, CONTEXTPOSE_PELVIS].mean()),
        "limb_length_error_mm": float(limb_length_error(torch.from_numpy(predicted), torch.from_numpy(truth))),
        "action_average_mpjpe_mm": float(np.mean([action["mpjpe_mm"] for action in per_action.values()])),
        "per_joint": dict(zip(JOINTS, relative.mean(0).tolist(), strict=True)),
        "per_action": per_action, "per_subject": per_subject}


def _names(values):
    """The different names among `values`, in order of appearance, as plain text."""
    return list(dict.fromkeys(map(str, values)))


def project_joints(keypoints, projections):
    """Joints (n, 17, 3) in mm by each sample's V cameras (n, V, 3, 4): (n * V, 17, 2) pixels, V running fastest.

    What does not lie in front of a camera is NaN there.
    """
    keypoints, projections = np.asarray(keypoints, np.float64), np.asarray(projections, np.float64)
    found = np.einsum("nvrc,njc->nvjr", projections[..., :3], keypoints) + projections[:, :, None, :, 3]
    depth = found[..., 2:]
    with np.errstate(invalid="ignore", divide="ignore"):
        pixels = np.where(depth > 0, found[..., :2] / depth, np.nan)
    return pixels.reshape(-1, *pixels.shape[2:])


def rates_2d(predicted_px, true_px, image_size):
    """PCKh-like rates, as a dict for JSON: the share, in percent, of joints at most t * image_size / 10 pixels off.

    predicted_px, true_px: (m, 17, 2) pixels of the crops, see `project_joints`, NaN for what counts as missed;
    image_size: of a crop, a number or (height, width), of which the longer counts. The dict has thresholds, the t from
    0.1 to 0.5; pixels, those distances; mean, a rate for each; per_joint {name: a rate for each}.
    """
    distances = np.linalg.norm(np.asarray(predicted_px, np.float64) - np.asarray(true_px, np.float64), axis=-1)
    if distances.ndim != 2 or distances.shape[1] != len(JOINTS) or not len(distances):
        raise ValueError(f"expected two arrays (m, {len(JOINTS)}, 2), got distances of shape {distances.shape}")
    pixels = np.array(RATE_THRESHOLDS) * np.max(image_size) / 10
    rates = 100 * (distances[..., None] <= pixels).mean(0)  # (17, thresholds)
    return {"thresholds": list(RATE_THRESHOLDS), "pixels": pixels.tolist(), "mean": rates.mean(0).tolist(),
            "per_joint": dict(zip(JOINTS, rates.tolist(), strict=True))}


# ---- as text and as files


def describe(metrics):
    """The metrics of `pose_metrics`, with those of `rates_2d` under that name or without, as text of several lines."""
    lines = [f"{words:<37}{metrics[key]:7.1f} mm" for key, words in HEADLINES.items() if key in metrics]
    lines.append(f"frames: {metrics['frames']}")
    subjects = metrics["per_subject"]
    entries = {"all": metrics} | (subjects if len(subjects) > 1 else {})
    lines += ["", "MPJPE in mm, relative to the pelvis"]
    rows = [[action, str(metrics["per_action"][action]["frames"]),
             *(_cell(entry["per_action"].get(action)) for entry in entries.values())]
            for action in metrics["per_action"]]
    rows.append(["all", str(metrics["frames"]), *map(_cell, entries.values())])
    lines += _table(["action", "frames", *entries], rows)
    rates = metrics.get("rates_2d")
    headings, rows = ["joint", "mm"], [[name, f"{error:.1f}"] for name, error in metrics["per_joint"].items()]
    rows.append(["all", _cell(metrics)])
    lines.append("")
    if rates:
        lines.append(f"joints: mm; and in the crops % within t * {rates['pixels'][-1] / rates['thresholds'][-1]:.1f} px"
                     ", t =")
        headings += map(str, rates["thresholds"])
        for row, shares in zip(rows, [*rates["per_joint"].values(), rates["mean"]], strict=True):
            row += [f"{share:.1f}" for share in shares]
    lines += _table(headings, rows)
    return "\n".join(lines)


def _cell(entry):
    return "-" if entry is None else f"{entry['mpjpe_mm']:.1f}"


def _table(headings, rows):
    """Lines of a table: the first column at the left, the others at the right."""
    widths = [max(7, *map(len, column)) for column in zip(headings, *rows, strict=True)]
    return ["  ".join(cell.rjust(width) if i else cell.ljust(width)
                      for i, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in [headings, *rows]]


def write_results(folder, metrics, arrays):
    """Write what was predicted and how well into `folder`; returns the paths.

    metrics: for `metric.json`; arrays: {name: array}, keypoints_3d (n, 17, 3) and indexes (n,), the rows of the
    dataset, among them, numbers or text. `results.npz` holds them all, without pickles; `results.pkl` is a pickled
    dict of them in the published form, whose keypoints_3d in the order of indexes are the precalculated skeletons of
    `pred_results_path` where each row was predicted once.
    """
    folder = Path(folder)
    arrays = {name: np.asarray(values) for name, values in arrays.items()}
    arrays |= {"keypoints_3d": np.asarray(arrays["keypoints_3d"], np.float32),
               "indexes": np.asarray(arrays["indexes"], np.int64)}
    objects = [name for name, values in arrays.items() if values.dtype.hasobject]
    if objects:
        raise ValueError(f"{objects[0]} holds objects, expected numbers or text")
    paths = [folder / name for name in (METRICS_FILE, PICKLE_FILE, ARRAYS_FILE)]
    write_json(paths[0], metrics, indent=2)
    with atomic_path(paths[1]) as temporary, open(temporary, "wb") as file:
        pickle.dump(arrays, file, protocol=PICKLE_PROTOCOL)
    with atomic_path(paths[2]) as temporary:
        np.savez_compressed(temporary, **arrays)
    return paths
