"""Plots of an evaluation on MPI-INF-3DHP: PCK over the threshold per joint group, and the errors of every joint."""
import numpy as np

from common.loss import AUC_THRESHOLDS_MM
from common.mpi3dhp_dataset import GROUND_TRUTH, JOINT_GROUPS
from common.plots import COLORS, GREY, line_style, new_figure, save_figure

BAR_COLORS = {"mpjpe": COLORS[0], "p_mpjpe": COLORS[6]}
BAR_LABELS = {"mpjpe": "MPJPE", "p_mpjpe": "P-MPJPE"}


def draw_pck_curves(path, scores):
    """PCK in percent over thresholds of 0 to 150 mm, a line per joint group and one for all, as PNG.

    scores: an `evaluation_3dhp.Scores`; the AUC of every line stands in the legend.
    """
    figure, axes = new_figure((7.5, 5))
    thresholds = np.arange(AUC_THRESHOLDS_MM[0], AUC_THRESHOLDS_MM[-1] + 1)  # mm
    curves, entry = scores.pck_curves(thresholds), scores.entry()
    for i, name in enumerate(JOINT_GROUPS):
        axes.plot(thresholds, curves[name], linewidth=1.5, **line_style(i),
                  label=f"{name}, AUC {entry['groups'][name]['auc']:.1f}")
    axes.plot(thresholds, curves["All"], color="black", linewidth=3, label=f"All, AUC {entry['auc']:.1f}")
    axes.set(xlabel="threshold (mm)", ylabel="PCK (%)", xlim=(0, thresholds[-1]), ylim=(0, 102),
             xticks=np.arange(0, thresholds[-1] + 1, 25), yticks=np.arange(0, 101, 10))
    axes.set_title(_title("PCK", entry), fontsize=11, pad=12)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, handlelength=2.6)
    save_figure(figure, path)


def draw_joint_errors(path, scores):
    """MPJPE and P-MPJPE in mm of every joint over all frames as horizontal bars, as PNG.

    scores: an `evaluation_3dhp.Scores`. The pelvis has no MPJPE: it is the root of both poses.
    """
    figure, axes = new_figure((7.5, 7))
    entry = scores.entry()
    rows = {name.replace("_", " "): errors for name, errors in entry["joints"].items()} | {"mean": entry}
    place, height = np.arange(len(rows), dtype=float), 0.38
    place[-1] += 0.4  # the mean stands apart from the joints
    for side, metric in zip((-1, 1), BAR_LABELS, strict=True):
        bars = axes.barh(place + side * height / 2, [errors[metric] for errors in rows.values()], height,
                         color=BAR_COLORS[metric], label=BAR_LABELS[metric])
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=7.5, color=GREY)
    axes.set_yticks(place, list(rows))
    axes.set_xlim(0, 1.1 * max(axes.get_xlim()[1], 1e-3))
    axes.set_ylim(place[-1] + 0.7, place[0] - 0.7)  # the first joint at the top
    axes.set_xlabel("error (mm)")
    axes.set_title(_title("error per joint", entry), fontsize=11, pad=12)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=2, frameon=False)
    save_figure(figure, path)


def _title(what, entry):
    return f"MPI-INF-3DHP: {what}, ground truth {GROUND_TRUTH}, {entry['frames']} valid frames"
