"""MPI-INF-3DHP: errors per sequence, activity, scene and joint, as tables, as files and for the official evaluation.

Protocol: Mehta et al., "Monocular 3D Human Pose Estimation in the Wild Using Improved CNN Supervision", 3DV 2017:
root-relative poses of the valid test frames, ground truth `univ_annot3`. The two CSV files have the shape that the
dataset's MATLAB evaluation gives them, and `inference_data.mat` is what that evaluation reads.
"""
import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.evaluation import write_json
from common.keypoints import MPI_INF_3DHP_17
from common.loss import PCK_JOINTS, align, auc, joint_errors, pck, pck_curve
from common.mat5 import read_variables
from common.mpi3dhp_dataset import ACTIVITIES, GROUND_TRUTH, JOINT_GROUPS, SCENES
from common.mpi3dhp_raw import kind_of
from common.plots_3dhp import draw_joint_errors, draw_pck_curves
from common.utils import DataError, atomic_path, require

THRESHOLD_MM = 150
UNLABELLED = 0  # the activity of a frame that belongs to none: it counts in the totals only
JOINTS = MPI_INF_3DHP_17.names()
HEADINGS = {"frames": "frames", "mpjpe": "MPJPE", "p_mpjpe": "P-MPJPE", "pck": "PCK", "auc": "AUC"}
SEQUENCE_CSV = "mpii_3dhp_evaluation_sequencewise.csv"
ACTIVITY_CSV = "mpii_3dhp_evaluation_activitywise.csv"
MATLAB_FILE = "inference_data.mat"


@dataclass(eq=False)
class ScoredSequence:
    """What a network predicted for the valid frames of one sequence, and the truth.

    name: `TS1`; predicted, target: (frames, 17, 3) in mm, made root-relative here; activity: (frames,) of the numbers
    of `ACTIVITIES`, 0 for a frame without one, or None without labels. Raises DataError for shapes that do not fit,
    no frames, NaN or infinite values, and activities that do not exist.
    """

    name: str
    predicted: np.ndarray
    target: np.ndarray
    activity: np.ndarray | None = None

    def __post_init__(self):
        self.predicted, self.target = self._root_relative("predicted"), self._root_relative("target")
        if self.predicted.shape != self.target.shape:
            raise DataError(f"{self.name}: {len(self.predicted)} predicted poses for {len(self.target)} valid frames")
        if self.activity is None:
            return
        self.activity = np.asarray(self.activity)
        if self.activity.shape != (len(self.target),):
            raise DataError(f"{self.name}: activities of shape {self.activity.shape} for {len(self.target)} frames")
        unknown = np.setdiff1d(self.activity, [UNLABELLED, *ACTIVITIES])
        if unknown.size:
            raise DataError(f"{self.name}: unknown activity {unknown[0]}; known are {min(ACTIVITIES)} to "
                            f"{max(ACTIVITIES)}, and {UNLABELLED} for none")

    def _root_relative(self, kind):
        poses = np.asarray(getattr(self, kind), np.float64)
        if poses.ndim != 3 or poses.shape[1:] != (len(JOINTS), 3) or not len(poses):
            raise DataError(f"{self.name}: expected {kind} poses (frames, {len(JOINTS)}, 3) of one frame or more, got "
                            f"{poses.shape}")
        if not np.isfinite(poses).all():
            raise DataError(f"{self.name}: the {kind} poses hold NaN or infinite values")
        root = MPI_INF_3DHP_17.root()
        return poses - poses[:, root : root + 1]


def joined(sequences):
    """One sequence per name, in order of appearance: parts of a sequence are put together in the order given.

    A sequence has activities when all its parts have.
    """
    parts = {}
    for sequence in sequences:
        parts.setdefault(sequence.name, []).append(sequence)
    if not parts:
        raise DataError("no sequences to evaluate")
    whole = []
    for name, found in parts.items():
        labels = [part.activity for part in found]
        whole.append(ScoredSequence(name, np.concatenate([part.predicted for part in found]),
                                    np.concatenate([part.target for part in found]),
                                    None if any(label is None for label in labels) else np.concatenate(labels)))
    return whole


class Scores:
    """The error of every joint in every frame, measured once; tables and curves are selections of them.

    errors, aligned_errors: (frames of all sequences, 17) in mm, as predicted and after the best similarity per frame.
    """

    def __init__(self, sequences):
        sequences = joined(sequences)
        self.names = [sequence.name for sequence in sequences]
        self.unlabelled = [sequence.name for sequence in sequences if sequence.activity is None]
        self.errors = np.concatenate([joint_errors(s.predicted, s.target) for s in sequences])
        self.aligned_errors = np.concatenate([joint_errors(align(s.predicted, s.target), s.target) for s in sequences])
        self._sequence = np.repeat(self.names, [len(s.target) for s in sequences])  # (frames,)
        self._activity = None if self.unlabelled else np.concatenate([s.activity for s in sequences])  # (frames,)

    def tables(self):
        """All tables as plain numbers, for JSON; see `tables`."""
        result = {"ground_truth": GROUND_TRUTH, "unit": "mm", "threshold_mm": THRESHOLD_MM,
                  "sequences": {name: self.entry(self._sequence == name) for name in self.names}}
        if self.unlabelled:
            result["without_activity_labels"] = self.unlabelled
        else:
            result["activities"] = self._entries({name: self._activity == i for i, name in ACTIVITIES.items()})
        scenes = {scene: np.isin(self._sequence, names) for scene, names in SCENES.items()}
        return result | {"scenes": self._entries(scenes), "all": self.entry()}

    def _entries(self, selections):
        return {name: self.entry(chosen) for name, chosen in selections.items() if chosen.any()}

    def entry(self, chosen=slice(None)):
        """The errors of the chosen frames (a mask, an index, or all): in mm, PCK and AUC in percent."""
        errors, aligned = self.errors[chosen], self.aligned_errors[chosen]
        groups = {name: {"mpjpe": float(errors[:, joints].mean()), "p_mpjpe": float(aligned[:, joints].mean()),
                         "pck": pck(errors, THRESHOLD_MM, joints), "auc": auc(errors, joints)}
                  for name, joints in JOINT_GROUPS.items()}
        means = zip(JOINTS, errors.mean(0).tolist(), aligned.mean(0).tolist(), strict=True)
        return {"frames": len(errors), "mpjpe": float(errors.mean()), "p_mpjpe": float(aligned.mean()),
                "pck": pck(errors, THRESHOLD_MM), "auc": auc(errors), "groups": groups,
                "joints": {name: {"mpjpe": error, "p_mpjpe": aligned_error} for name, error, aligned_error in means}}

    def pck_curves(self, thresholds_mm):
        """PCK in percent at every threshold, over all frames: {"Head": (thresholds,), ..., "All": (thresholds,)}."""
        curves = {name: pck_curve(self.errors, thresholds_mm, joints) for name, joints in JOINT_GROUPS.items()}
        return curves | {"All": pck_curve(self.errors, thresholds_mm)}


def tables(sequences):
    """The errors of `ScoredSequence`s as a plain dict, for JSON.

    `sequences`, `activities`, `scenes`: {name: entry}, and `all`: the entry of all frames together; an entry is
    {frames, mpjpe, p_mpjpe, pck, auc, groups: {Head: {mpjpe, p_mpjpe, pck, auc}, ...}, joints: {head_top: {mpjpe,
    p_mpjpe}, ...}}. MPJPE and P-MPJPE are means over frames and all 17 joints (the root counts) in mm; PCK (strictly
    below 150 mm) and AUC are percentages over the 14 joints of the groups. An activity or scene without frames has no
    entry; where any sequence has no labels, `activities` is absent and `without_activity_labels` names the sequences.
    """
    return Scores(sequences).tables()


# ---- printed and as CSV


def print_tables(tables):
    """Print the tables; see `tables_text`."""
    print(tables_text(tables))


def tables_text(tables):
    """The tables per sequence, activity, scene, joint group and joint as lines of text; `-` stands for no frames."""
    total = tables["all"]
    lines = [f"MPI-INF-3DHP: ground truth {tables['ground_truth']}, valid frames only, {total['frames']} frames",
             f"MPJPE and P-MPJPE in {tables['unit']} over {len(total['joints'])} joints; PCK (below "
             f"{tables['threshold_mm']} mm) and AUC in % over {PCK_JOINTS}",
             *_table("sequence", tables["sequences"] | {"all": total})]
    if "activities" in tables:
        rows = {name: tables["activities"].get(name) for name in ACTIVITIES.values()}
        lines += _table("activity", rows | {"all": total})
    else:
        missing = tables["without_activity_labels"]
        where = "the data" if len(missing) == len(tables["sequences"]) else ", ".join(missing)
        lines += ["", f"INFO: no activity labels in {where}: the activity tables are skipped"]
    lines += _table("scene", {name: tables["scenes"].get(name) for name in SCENES} | {"all": total})
    lines += _table("joint group", total["groups"], ("mpjpe", "p_mpjpe", "pck", "auc"))
    return "\n".join(lines + _table("joint", total["joints"] | {"all": total}, ("mpjpe", "p_mpjpe")))


def _table(title, rows, columns=tuple(HEADINGS)):
    width = max(28, *map(len, rows))
    lines = ["", f"{title:<{width}}" + "".join(f" {HEADINGS[column]:>9}" for column in columns)]
    for name, entry in rows.items():
        cells = ["-" if entry is None else f"{entry[column]:.{0 if column == 'frames' else 2}f}" for column in columns]
        lines.append(f"{name:<{width}}" + "".join(f" {cell:>9}" for cell in cells))
    return lines


def write_csv(folder, tables):
    """Write the tables as the official MATLAB evaluation does; returns the paths.

    Without activity labels there is no activity-wise file: one that an earlier evaluation left is removed.
    """
    sequences = {re.sub(r"^TS(\d+)$", r"TestSeq\1", name): entry for name, entry in tables["sequences"].items()}
    paths = [_write_csv_file(Path(folder) / SEQUENCE_CSV, sequences)]
    activity_path = Path(folder) / ACTIVITY_CSV
    if "activities" in tables:
        rows = {name: tables["activities"].get(name) for name in ACTIVITIES.values()} | {"All": tables["all"]}
        paths.append(_write_csv_file(activity_path, rows))
    else:
        activity_path.unlink(missing_ok=True)
    return paths


def _write_csv_file(path, rows):
    lines = [["", *JOINTS, "Average"]]
    lines += [[name, *_numbers(entry, "joints", "mpjpe")] for name, entry in rows.items()]
    for metric in ("pck", "auc"):
        lines.append([metric.upper(), *JOINT_GROUPS, "Total"])
        lines += [[name, *_numbers(entry, "groups", metric)] for name, entry in rows.items()]
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        # Every line of the official files has as many commas as the widest, and one at its end.
        csv.writer(file, lineterminator="\n").writerows(line + [""] * (len(lines[0]) + 1 - len(line)) for line in lines)
    return path


def _numbers(entry, parts, metric):
    """The cells of a row: the metric of every joint or group and of them all; NaN, as in MATLAB, for no frames."""
    if entry is None:
        return ["NaN"] * (len(JOINTS if parts == "joints" else JOINT_GROUPS) + 1)
    return [f"{part[metric]:.10g}" for part in (*entry[parts].values(), entry)]


# ---- for the official evaluation, which runs in MATLAB


def write_inference_mat(path, sequences):
    """Write the predictions for the official MATLAB evaluation: a variable (3, 17, 1, valid frames) per sequence.

    In mm, root-relative. Raises DataError for a sequence whose name no variable can have.
    """
    sequences = joined(sequences)
    for sequence in sequences:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,30}", sequence.name):
            raise DataError(f"{path}: no MATLAB variable can be called {sequence.name!r}; rename the sequence")
    savemat = require("scipy.io", "scipy").savemat
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        savemat(file, {s.name: s.predicted.transpose(2, 1, 0)[:, :, None] for s in sequences})


def read_inference_mat(path):
    """The poses of such a file, of any method: {name: (frames, 17, 3)} in mm, as they are in the file.

    Raises DataError for a file that is missing or not MATLAB 5, and for variables of another shape or with NaN.
    """
    if not Path(path).exists():
        raise DataError(f"{path}: no such file; check the path")
    if kind_of(path) == "MATLAB 7.3":
        raise DataError(f"{path}: saved as MATLAB 7.3; save it with -v7 in MATLAB")
    try:
        content = read_variables(path, None)
    except ValueError as error:
        raise DataError(f"{path}: unusable as inference_data.mat ({error}); save it again, in MATLAB with "
                        "-v7") from None
    poses = {name: _poses(path, name, value) for name, value in content.items()}
    if not poses:
        raise DataError(f"{path}: holds no variables; expected TS1, TS2, ...")
    return poses


def _poses(path, name, value):
    """(3, 17, 1, frames) as MATLAB keeps it -> (frames, 17, 3); of one frame MATLAB drops the trailing ones."""
    shape = getattr(value, "shape", ())
    numbers = isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
    full = shape + (1,) * (4 - len(shape)) if len(shape) < 4 else shape
    if not numbers or len(full) != 4 or full[:3] != (3, len(JOINTS), 1) or not full[3]:
        raise DataError(f"{path}: {name} is {shape}, expected numbers of shape (3, {len(JOINTS)}, 1, frames)")
    if not np.isfinite(value).all():
        raise DataError(f"{path}: {name} holds NaN or infinite values")
    return value.reshape(full)[:, :, 0].transpose(2, 1, 0).astype(np.float64)


# ---- all of it


def report(sequences, folder, json_path=None):
    """Print the tables and write everything into `folder`: CSV, JSON, plots, and `inference_data.mat`.

    json_path: another place for the JSON. Returns the tables.
    """
    folder = Path(folder)
    sequences = list(sequences)
    scores = Scores(sequences)
    result = scores.tables()
    print_tables(result)
    paths = write_csv(folder, result)
    paths.append(Path(json_path or folder / "mpii_3dhp_evaluation.json"))
    write_json(paths[-1], result)
    for name, draw in {"pck_curves": draw_pck_curves, "joint_errors": draw_joint_errors}.items():
        paths.append(folder / f"mpii_3dhp_{name}.png")
        draw(paths[-1], scores)
    paths.append(folder / MATLAB_FILE)
    write_inference_mat(paths[-1], sequences)
    print()
    for path in paths:
        print(f"wrote {path}")
    return result
