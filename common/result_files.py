"""What a file of results holds, told by its content: errors, predicted poses, or the curves of a training.

    result = read_result("errors.json", "ours")     # ErrorTables, PoseErrors or TrainingCurves

Errors are the JSON files of run_s-agcn.py, main_sagcn_gpus_individual_fc_3dhp.py and run_contextpose.py; poses those
that `common.export` describes; curves are the table of a GLA-GCN run and the folder of a ContextPose run.
"""
import csv
import itertools
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.evaluation import METRICS
from common.export import FORMAT, Prediction, read_prediction
from common.keypoints import MPI_INF_3DHP_17
from common.loss import AUC_THRESHOLDS_MM, PCK_JOINTS, align, joint_errors, share_below
from common.plots import CURVE_AXES
from common.training_log import CONTEXTPOSE_TABLE, settings_of
from common.utils import DataError, UsageError

RATES = ("pck", "auc")
TORCH_FILE = b"data.pkl"  # the first name in the archive of a checkpoint
SEED = re.compile(r"seed[-_ =]?\d+", re.IGNORECASE)
# What ContextPose calls the errors, in mm.
OTHER_NAMES = {"mpjpe_mm": "mpjpe", "p_mpjpe_mm": "p_mpjpe"}
KNOWN = ("errors of an evaluation (JSON), results that --viz-export, --export or --predict wrote (.npz, .json), the "
         "..._log.csv of a training, or the folder of a ContextPose run")


@dataclass
class ErrorTables:
    """The errors of one method: {what the rows are, such as "action": {row: {metric: value}}}.

    Metrics are those of `common.evaluation`, in mm, and pck and auc in percent; a last row may be "average" or "all".
    """

    label: str
    tables: dict


@dataclass
class PoseErrors:
    """The poses that one method predicted, and what they are worth where the truth is known."""

    label: str
    prediction: Prediction

    def per_joint(self):
        """{"mpjpe": (T, J), "p_mpjpe": (T, J)} in mm, relative to the root and after the best similarity."""
        prediction = self.prediction
        aligned = joint_errors(align(prediction.joints, prediction.ground_truth), prediction.ground_truth)
        return {"mpjpe": prediction.errors_mm(), "p_mpjpe": 1000 * aligned}

    def counted(self):
        """The joints that PCK counts, and those that it leaves out by name.

        Of MPI-INF-3DHP's joints the 14 of its protocol; of others all but the root, which poses are relative to.
        """
        skeleton = self.prediction.skeleton
        names = skeleton.names()
        joints = list(range(PCK_JOINTS)) if names == MPI_INF_3DHP_17.names() else \
            [joint for joint in range(len(names)) if joint != skeleton.root()]
        return joints, [name for joint, name in enumerate(names) if joint not in joints]

    def pck(self, thresholds_mm):
        """(PCK in percent at every threshold, AUC in percent) over the joints of `counted`."""
        errors = self.prediction.errors_mm()[:, self.counted()[0]]
        return share_below(errors, thresholds_mm), float(share_below(errors, AUC_THRESHOLDS_MM).mean())

    def bone_deviation_mm(self):
        """How far the bones are from their median lengths, as the mean over the bones: (T,) in mm."""
        child, parent = np.array(self.prediction.skeleton.bones()).T
        lengths = 1000 * np.linalg.norm(self.prediction.joints[:, child] - self.prediction.joints[:, parent], axis=-1)
        return np.abs(lengths - np.median(lengths, axis=0)).mean(1)


@dataclass
class TrainingCurves:
    """The losses and errors of one run over its epochs: {key of `CURVE_AXES`: {epoch: value}}.

    seed, settings: what the run's files say of them, else None; settings are those without the seed.
    """

    label: str
    path: Path
    curves: dict
    seed: int | None = None
    settings: dict | None = field(default=None, repr=False)


def labels_of(paths):
    """A name for each path: its stem; those of one stem have the nearest folder whose name tells them apart."""
    paths = [Path(path).absolute() for path in paths]
    paths = [path.parent if path.name == CONTEXTPOSE_TABLE else path for path in paths]
    stems = [re.sub(r"_log$", "", path.name if path.is_dir() else path.stem) for path in paths]
    names = list(stems)
    for stem in {stem for stem in stems if stems.count(stem) > 1}:
        alike = [i for i, other in enumerate(stems) if other == stem]
        folders = itertools.zip_longest(*[reversed(paths[i].parts[:-1]) for i in alike], fillvalue="")
        apart = next((found for found in folders if len(set(found)) == len(found)), [str(paths[i]) for i in alike])
        for i, name in zip(alike, apart, strict=True):
            names[i] = name
    return names if len(set(names)) == len(names) else list(map(str, paths))


def read_results(paths, labels=None):
    """The results in files and folders; labels: their names joined by commas, or None for those of the files.

    Raises DataError as `read_result` does, UsageError for a path given twice and labels that are not as many as the
    paths, or alike where they may not be.
    """
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice is not None:
        raise UsageError(f"{twice}: is given twice; give it once")
    names = labels_of(paths) if labels is None else [label.strip() for label in labels.split(",")]
    if len(names) != len(paths) or not all(names):
        raise UsageError(f"--labels: {len(list(filter(None, names)))} names for {len(paths)} files; give one for each")
    results = [read_result(path, name) for path, name in zip(paths, names, strict=True)]
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, PoseErrors) and result.prediction.ground_truth is None:
            print(f"INFO: {path} has no ground truth: its bone lengths are drawn, no errors")
    for kind in (ErrorTables, PoseErrors):
        found = [result.label for result in results if isinstance(result, kind)]
        twice = next((label for label in found if found.count(label) > 1), None)
        if twice is not None:
            raise UsageError(f"--labels: {twice!r} stands for two files; only runs of a training may share a name")
    return results


def read_result(path, label):
    """What the file or the folder of a run holds. Raises DataError for what is unknown, damaged or empty."""
    path = Path(path)
    if path.is_dir():
        return _contextpose_run(path, label)
    try:
        with open(path, "rb") as file:
            start = file.read(512).lstrip(b"\xef\xbb\xbf \r\n\t")
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror or error}); check the path") from None
    if start.startswith(b"PK") and TORCH_FILE not in start:
        return PoseErrors(label, read_prediction(path))
    if start.startswith(b"{"):
        content = _json(path)
        if content.get("format") == FORMAT:
            return PoseErrors(label, read_prediction(path))
        return ErrorTables(label, _tables(path, content))
    if start.startswith(b"epoch,"):
        return _training_table(path, label)
    raise DataError(f"{path}: is none of the files that can be drawn; give {KNOWN}")


def _json(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON, or cut short ({error}); let it be written again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is none of the files that can be drawn; give {KNOWN}")
    return content


# ---- errors


def _tables(path, content):
    """The tables of an evaluation's JSON file."""
    try:
        if "per_action" in content:
            found = _contextpose_tables(content)
        elif "sequences" in content.get("tables", content):
            found = _mpi3dhp_tables(content.get("tables", content))
        elif "average" in content:
            found = {"action": content}
        else:
            found = {f"action of {subject}": table for subject, table in content.items() if "average" in table}
        tables = {rows: {name: _numbers(entry) for name, entry in table.items()} for rows, table in found.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        tables = {}
    if not any(map(any, map(dict.values, tables.values()))):
        raise DataError(f"{path}: is none of the files that can be drawn; give {KNOWN}")
    for table in tables.values():
        for row, entry in table.items():
            for metric, value in entry.items():
                if not math.isfinite(value):
                    raise DataError(f"{path}: {metric} of {row} is {value}; evaluate again with other weights")
    return tables


def _contextpose_tables(content):
    average = {"mpjpe_mm": content["action_average_mpjpe_mm"]}
    tables = {"action": content["per_action"] | {"average": average}}
    tables["joint"] = {name: {"mpjpe": error} for name, error in content["per_joint"].items()} | {"all": content}
    return tables | {f"action of {subject}": entry["per_action"] | {"all": entry}
                     for subject, entry in content["per_subject"].items()}


def _mpi3dhp_tables(content):
    total = {"all": content["all"]}
    tables = {"sequence": content["sequences"] | total, "joint": content["all"]["joints"] | total,
              "joint group": content["all"]["groups"] | total}
    return tables | ({"activity": content["activities"] | total} if "activities" in content else {})


def _numbers(entry):
    entry = {OTHER_NAMES.get(name, name): value for name, value in entry.items()}
    return {metric: float(entry[metric]) for metric in (*METRICS, *RATES) if entry.get(metric) is not None}


# ---- curves


def _training_table(path, label):
    """The `<stem>_log.csv` of a run, with the `<stem>_settings.json` beside it, if it is there."""
    curves = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                for name in CURVE_AXES:
                    if row.get(name):
                        curves.setdefault(name, {})[int(row["epoch"])] = float(row[name])
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path}: is no table of a training, or a damaged one ({error})") from None
    settings = _json(settings_of(path)) if path.stem.endswith("_log") and settings_of(path).is_file() else {}
    return _checked(path, TrainingCurves(label, path, curves, settings.pop("seed", None), settings or None))


def _contextpose_run(folder, label):
    """The table of a ContextPose run, or without one the errors beside every checkpoint that it keeps."""
    from common.contextpose import runs

    if not runs.is_run(folder):
        raise DataError(f"{folder}: is a folder, but not of a ContextPose run; give one, or files")
    run = runs.RunFolder(folder)
    if run.table.is_file():
        return _training_table(run.table, label)
    curves = {"3d_valid": {epoch + 1: error for epoch, error in run.errors().items()}}
    return _checked(folder, TrainingCurves(label, folder, curves))


def _checked(path, run):
    """The run without what is no number, which a line tells of; DataError where nothing is left."""
    for name, points in run.curves.items():
        wrong = [epoch for epoch, value in points.items() if not math.isfinite(value)]
        if wrong:
            print(f"INFO: {path}: {name} is no finite number in {len(wrong)} of {len(points)} epochs, the first is "
                  f"{wrong[0]}: left out")
        run.curves[name] = {epoch: value for epoch, value in points.items() if math.isfinite(value)}
    run.curves = {name: points for name, points in run.curves.items() if points}
    if not run.curves:
        raise DataError(f"{path}: holds no epoch that can be drawn; train at least one, with an evaluation")
    return run


def groups_of(runs):
    """The runs that differ in the seed only, together: {label: [TrainingCurves]}, in order of appearance.

    Runs of one label were put together by the user. Others are, whose files say the same settings and different
    seeds, or, where they say none, whose paths differ in the number after "seed" only. Raises DataError for runs of
    one group that have no epoch in common.
    """
    labels = [run.label for run in runs]
    found = {}
    for run in runs:
        if labels.count(run.label) > 1:
            key = run.label
        elif run.settings is not None and run.seed is not None:
            key = json.dumps(run.settings, sort_keys=True)
        else:
            key = SEED.sub("seed", str(run.path.absolute()))
        found.setdefault(key, []).append(run)
    groups = {}
    for group in found.values():
        seeds = [run.seed for run in group if run.seed is not None]
        typed = len({run.label for run in group}) == 1
        for members in [group] if typed or len(set(seeds)) == len(seeds) else [[run] for run in group]:
            name = _common_name(members)
            groups[members[0].label if name in groups else name] = members
    for members in groups.values():
        if not any(set.intersection(*[set(run.curves.get(name, ())) for run in members]) for name in CURVE_AXES):
            raise DataError(f"{members[-1].path}: has no epoch in common with {members[0].path}, with which it would "
                            "be one curve; give each a name of its own by --labels")
    return groups


def _common_name(runs):
    """What the labels of a group have in common, without the seed."""
    if len(runs) == 1:
        return runs[0].label
    common = os.path.commonprefix([run.label for run in runs])
    common = re.sub(r"(@.*|[-_ .=]*(seed)?[-_ .=]*)$", "", common, flags=re.IGNORECASE)
    return common or labels_of([runs[0].path])[0]
