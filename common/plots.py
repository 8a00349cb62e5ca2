"""Plots as PNG files, without a display: a figure, how it is written, and the curves of a training."""
from common.utils import atomic_path, require


def new_figure(size):
    """A matplotlib figure of this size in inches, and its axes."""
    figure = require("matplotlib.figure", "matplotlib").Figure(figsize=size, dpi=120, layout="constrained")
    require("matplotlib.backends.backend_agg", "matplotlib").FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def save_figure(figure, path):
    """Write the figure, atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def draw_training_curves(history, path):
    """Training, training-set and validation MPJPE in mm over the epochs, as PNG."""
    figure, axes = new_figure((6, 4))
    labels = {"3d_train": "training loss", "3d_eval": "training set", "3d_valid": "validation"}
    for name, label in labels.items():
        points = [(row["epoch"], row[name]) for row in history if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=".")
    axes.set(xlabel="epoch", ylabel="MPJPE (mm)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save_figure(figure, path)
