"""Pictures of results: errors per action and joint and over time, PCK curves, training curves with their seeds' spread.

    for path in draw_results(results, "output/plots"):     # results: of common.result_files.read_result
        print(path)

Pictures are as wide as one or two columns of a paper, with text of 8 points.
"""
import textwrap
from pathlib import Path

import numpy as np

from common.loss import AUC_THRESHOLDS_MM
from common.plots import (
    COLORS,
    CURVE_AXES,
    GREY,
    line_style,
    log_scale,
    new_figure,
    outlined,
    save_figure,
    whole_epochs,
)
from common.result_files import ErrorTables, PoseErrors, TrainingCurves, groups_of

ONE_COLUMN, TWO_COLUMNS, DPI = 3.5, 7.2, 250  # inches, pixels an inch
PCK_HEIGHT = 3  # inches
TEXT = 8  # points
LETTER, LINE = 0.062, 0.16  # inches that a letter and a line of this size take, about
BESIDE = 0.55  # inches that an axis takes for its name and numbers
AXES = {"mpjpe": "MPJPE (mm)", "p_mpjpe": "P-MPJPE (mm)", "n_mpjpe": "N-MPJPE (mm)", "mpjve": "MPJVE (mm/frame)",
        "pck": "PCK at 150 mm (%)", "auc": "AUC (%)"}
USUAL = ("mpjpe", "p_mpjpe", "pck", "auc")  # the metrics that are drawn where no others are asked for
SAMPLE = 0.6  # inches that a line takes beside its name in a legend
TOTALS = ("average", "all", "mean")  # rows that stand apart
LONGEST = 24  # letters of a name on an axis
NUMBERS = TEXT - 1, TEXT - 2  # points of the numbers on bars, where these are wide enough for them
MEANS = 3  # methods whose means are lines; of more, these would hide the curves
HATCHES = ("", "///", "...", "xxx")
QUARTILES = (25, 75)


def draw_results(results, folder, suffix="png", metrics=USUAL):
    """Draw everything that the results hold into `folder`; yields each path when it is written.

    results: a list of ErrorTables, PoseErrors and TrainingCurves; those of a kind share pictures, and so their labels
    must differ, but for runs of one method. metrics: keys of `AXES`, for the bars.
    """
    folder = Path(folder)
    tables = [result for result in results if isinstance(result, ErrorTables)]
    for rows in dict.fromkeys(rows for result in tables for rows in result.tables):
        bars = {result.label: result.tables[rows] for result in tables if rows in result.tables}
        path = folder / f"errors_per_{_file_name(rows)}.{suffix}"
        if draw_bars(path, f"errors per {rows}", bars, metrics):
            yield path
    poses = [result for result in results if isinstance(result, PoseErrors)]
    scored = [result for result in poses if result.prediction.ground_truth is not None]
    for name, of, draw in (("poses_per_joint", scored, lambda *given: draw_joints(*given, metrics)),
                           ("poses_over_time", scored, draw_over_time), ("poses_pck", scored, draw_pck),
                           ("poses_bone_lengths", poses, draw_bones)):
        path = folder / f"{name}.{suffix}"
        if of and draw(path, of):
            yield path
    runs = [result for result in results if isinstance(result, TrainingCurves)]
    if runs:
        path, groups = folder / f"training_curves.{suffix}", groups_of(runs)
        for label, members in groups.items():
            if len(members) > 1:
                print(f"INFO: {label} is one curve with its spread, over the epochs that all have: "
                      f"{', '.join(map(_described, members))}")
        draw_training(path, groups)
        yield path


def _described(run):
    return str(run.path) + ("" if run.seed is None else f" (seed {run.seed})")


def _short(text):
    """A text that leaves room for what is drawn."""
    return text if len(text) <= LONGEST else text[:LONGEST - 1] + "…"


def _file_name(text):
    """A text as a part of a file's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in text)


# ---- bars


def draw_bars(path, title, methods, metrics, spreads=None):
    """Bars side by side, a panel for each metric that there is; False, and no picture, where there is none.

    methods: {label: {row: {metric: value}}}; spreads: {label: {row: {metric: (low, high)}}}, lines over the bars.
    """
    rows = list(dict.fromkeys(row for table in methods.values() for row in table))
    rows.sort(key=lambda row: row in TOTALS)
    metrics = [metric for metric in metrics if any(metric in entry for table in methods.values()
                                                   for row, entry in table.items() if row not in TOTALS)]
    if not metrics:
        return False
    bars = len(rows) * len(methods)
    width = ONE_COLUMN if bars <= 10 else TWO_COLUMNS
    size = next((size for size in NUMBERS if 5 * LETTER * size / TEXT < 0.6 * width / bars), None)
    names = [_short(row.replace("_", " ")) for row in rows]
    longest = max(map(len, names)) * LETTER
    turned = longest + 2 * LETTER > (width - BESIDE) / (_places(rows)[-1] + 1)
    below = 0.65 * longest if turned else 0.2
    figure, panels = _figure((width, 0.7 + below + 1.35 * len(metrics)), len(metrics))
    for axes, metric in zip(panels, metrics, strict=True):
        _fill(axes, rows, methods, metric, spreads, size)
    _name(panels[-1], rows, names, turned)
    _finish(figure, panels, path, title, methods, spreads and "line: middle half of the frames")
    return True


def _places(rows):
    """Where on the x axis rows stand: totals a bit apart."""
    return np.arange(len(rows)) + 0.4 * np.array([row in TOTALS for row in rows])


def _fill(axes, rows, methods, metric, spreads, size):
    """Draw the bars of a metric, with lines for their spreads and, of this size in points, numbers over both."""
    width = 0.8 / len(methods)
    for i, (label, table) in enumerate(methods.items()):
        place = _places(rows) + (i - (len(methods) - 1) / 2) * width
        shown = [j for j, row in enumerate(rows) if metric in table.get(row, {})]
        values = [table[rows[j]][metric] for j in shown]
        ranges = [spreads[label][rows[j]][metric] if spreads else (0, 0) for j in shown]
        if not shown:
            continue  # no bars have no colour in a legend
        axes.bar(place[shown], values, width * 0.92, label=label, color=COLORS[i % len(COLORS)],
                 hatch=HATCHES[i // len(COLORS) % len(HATCHES)])
        if spreads:
            axes.vlines(place[shown], *zip(*ranges, strict=True), color=GREY, linewidth=0.9, path_effects=outlined())
        for x, value, (_, high) in zip(place[shown], values, ranges, strict=True) if size else ():
            axes.annotate(f"{value:.1f}", (x, max(value, high)), (0, 1.5), textcoords="offset points", fontsize=size,
                          color=GREY, ha="center", va="bottom")
    axes.margins(y=0.15 if size else 0.05)
    axes.set_ylabel(AXES[metric])
    axes.grid(axis="x", visible=False)
    axes.margins(x=0.02)
    axes.tick_params(axis="x", length=0)


def _name(axes, rows, names, turned):
    style = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks(_places(rows), names, **style)


def draw_joints(path, poses, metrics):
    """The mean error of every joint over the frames as bars, with the middle half of the frames as lines."""
    methods, spreads = {}, {}
    for result in poses:
        names = result.prediction.skeleton.names()
        errors = {metric: values for metric, values in result.per_joint().items() if metric in metrics}
        columns = {name: {metric: values[:, joint] for metric, values in errors.items()}
                   for joint, name in enumerate(names)}
        columns["mean"] = {metric: values.mean(1) for metric, values in errors.items()}
        methods[result.label] = {row: {metric: values.mean() for metric, values in entry.items()}
                                 for row, entry in columns.items()}
        spreads[result.label] = {row: {metric: np.percentile(values, QUARTILES) for metric, values in entry.items()}
                                 for row, entry in columns.items()}
    return draw_bars(path, f"errors per joint, {_sequence(poses)}", methods, metrics, spreads)


# ---- lines


def draw_over_time(path, poses):
    """The MPJPE of every frame over the seconds, and of a few methods its mean over the frames as a thin line."""
    figure, (axes,) = _figure((TWO_COLUMNS, 2.4))
    labels = []
    for i, result in enumerate(poses):
        errors = result.prediction.errors_mm().mean(1)  # (T,)
        labels.append(f"{result.label}, mean {errors.mean():.1f} mm")
        _line(axes, result.prediction.seconds(), errors, i, labels[-1])
        if len(poses) <= MEANS:
            axes.axhline(errors.mean(), linewidth=0.7, **line_style(i))
    axes.set(xlabel="time (s)", ylabel="MPJPE (mm)", ylim=(0, None))
    axes.margins(x=0)
    _finish(figure, [axes], path, f"error over time, {_sequence(poses)}", labels, always=True)
    return True


def draw_pck(path, poses):
    """PCK over the threshold, with the AUC and what joints are counted in the legend."""
    figure, (axes,) = _figure((ONE_COLUMN, PCK_HEIGHT))
    thresholds = np.arange(AUC_THRESHOLDS_MM[0], AUC_THRESHOLDS_MM[-1] + 1)  # mm
    counts = [(len(joints), ", ".join(map(_short, left_out)).replace("_", " "))
              for joints, left_out in (result.counted() for result in poses)]
    alike = len(set(counts)) == 1
    labels = []
    for i, (result, (joints, left_out)) in enumerate(zip(poses, counts, strict=True)):
        curve, auc = result.pck(thresholds)
        labels.append(f"{result.label}, AUC {auc:.1f} %" + ("" if alike else f", {joints} joints: without {left_out}"))
        _line(axes, thresholds, curve, i, labels[-1], 1.5)
    of = f" of {counts[0][0]} joints, without {counts[0][1]}" if alike else ""
    axes.set(xlabel="threshold (mm)", xlim=(0, thresholds[-1]), ylim=(0, 101),
             xticks=np.arange(0, thresholds[-1] + 1, 25), yticks=np.arange(0, 101, 20),
             ylabel=textwrap.fill(f"PCK (%){of}", int(0.6 * PCK_HEIGHT / LETTER)))
    _finish(figure, [axes], path, f"PCK, {_sequence(poses)}", labels, always=True)
    return True


def draw_bones(path, poses):
    """How far the bones of every frame are from their median lengths; those of people do not change."""
    figure, (axes,) = _figure((TWO_COLUMNS, 2.4))
    labels = []
    for i, result in enumerate(poses):
        deviation = result.bone_deviation_mm()
        labels.append(f"{result.label}, mean {deviation.mean():.1f} mm")
        _line(axes, result.prediction.seconds(), deviation, i, labels[-1])
    axes.set(xlabel="time (s)", ylabel="deviation of bone lengths\nfrom their medians (mm)", ylim=(0, None))
    axes.margins(x=0)
    _finish(figure, [axes], path, f"bone lengths over time, {_sequence(poses)}", labels, always=True)
    return True


def draw_training(path, groups):
    """The curves of {label: [TrainingCurves]}, a panel for each column: a group's mean, and its range as a band."""
    columns = [name for name in CURVE_AXES if any(name in run.curves for runs in groups.values() for run in runs)]
    width = ONE_COLUMN if len(groups) == 1 else TWO_COLUMNS * 0.7
    figure, panels = _figure((width, 0.8 + 1.6 * len(columns)), len(columns))
    labels, several = [], False
    for i, (label, runs) in enumerate(groups.items()):
        what = "seeds" if all(run.seed is not None for run in runs) else "runs"
        labels.append(f"{label} ({len(runs)} {what})" if len(runs) > 1 else label)
        several = several or len(runs) > 1
        for axes, name in zip(panels, columns, strict=True):
            _curve(axes, [run.curves[name] for run in runs if name in run.curves], i, labels[-1])
    for axes, name in zip(panels, columns, strict=True):
        log_scale(axes)
        axes.set_ylabel(CURVE_AXES[name])
    whole_epochs(panels[-1])
    _finish(figure, panels, path, "training", labels, "line: mean, band: lowest to highest" if several else None,
            always=True)


def _curve(axes, curves, number, label):
    """The mean of curves {epoch: mm} over the epochs that all of them have, and their range."""
    epochs = sorted(set.intersection(*map(set, curves))) if curves else []
    if not epochs:
        return
    values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])  # (runs, epochs)
    marker = "o" if len(epochs) <= 20 else ""
    axes.plot(epochs, values.mean(0), label=label, linewidth=1.2, marker=marker, markersize=2.5, **line_style(number))
    if len(curves) > 1:
        axes.fill_between(epochs, values.min(0), values.max(0), color=COLORS[number % len(COLORS)], alpha=0.2,
                          linewidth=0)


def _line(axes, x, y, number, label, width=1.0):
    """A line, or a dot where there is one frame."""
    axes.plot(x, y, label=label, linewidth=width, marker="o" if len(x) == 1 else "", markersize=3, **line_style(number))


# ---- what all have in common


def _sequence(poses):
    """The sequence that the poses are of, in words."""
    sources = [result.prediction.source for result in poses]
    names = [", ".join(filter(None, (" ".join(filter(None, (source.get("subject"), source.get("action")))),
                                     f"camera {source['camera']}" if "camera" in source else "")))
             for source in sources]
    return names[0] or poses[0].label if len(set(names)) == 1 else "different sequences"


def _figure(size, panels=1):
    """A figure with its panels as a list, in text of the size that columns have."""
    figure, axes = new_figure(size, panels, DPI, text=TEXT)
    return figure, axes if panels > 1 else [axes]


def _finish(figure, panels, path, title, labels, note=None, always=False):
    """Set the title and, where there is more than one label, the legend of all panels beneath; then write."""
    title = title[0].upper() + title[1:]
    labels = list(labels)
    if len(labels) == 1 and not always:
        title = f"{title}: {labels[0]}"
    letters = int((figure.get_figwidth() - SAMPLE) / LETTER)  # in a line
    title = "\n".join([textwrap.fill(title, letters), *([f"({note})"] if note else [])])
    figure.suptitle(title, x=0.01, ha="left", fontsize=TEXT)
    if len(labels) > 1 or always:
        found = {}
        for axes in panels:
            found = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True)) | found
        for label in labels:
            if label not in found:
                print(f"INFO: {path}: {label} has nothing that is drawn there")
        drawn = [label for label in labels if label in found]
        texts = [textwrap.fill(label, letters) for label in drawn]
        widest = max(map(len, "\n".join(texts).split("\n"))) * LETTER + SAMPLE
        columns = max(1, min(len(texts), int(figure.get_figwidth() / widest)))
        lines = -(-len(texts) // columns) * max(text.count("\n") + 1 for text in texts)
        figure.set_figheight(figure.get_figheight() + LINE * (lines - 1))
        figure.legend([found[label] for label in drawn], texts, loc="outside lower center", frameon=False,
                      fontsize=TEXT, handlelength=2.4, ncols=columns)
    save_figure(figure, path)
