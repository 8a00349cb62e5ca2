"""Figures without a display: their style and colours, how they are written, and the curves of a training."""
import warnings

from common.utils import atomic_path, require

# Eight hues that colour-blind people tell apart (Paul Tol's "muted" scheme, the light ones darkened for thin lines).
COLORS = ("#332288", "#CC6677", "#117733", "#4FA8D8", "#AA7700", "#882255", "#44AA99", "#8C8C2B")
DASHES = ("-", "--", "-.", ":")
GREY = "#444444"  # of numbers beside what is drawn
FORMATS = ("png", "svg", "pdf")
STYLE = {"axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.4,
         "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False}
CURVES = {"3d_train": "training loss", "3d_eval": "training set", "3d_valid": "validation"}  # of GLA-GCN's table
# What is drawn of the tables of trainings, by column, and how its axis is called.
CURVE_AXES = {"heatmap_loss": "training loss\nof the heatmaps\n(no unit)", "loss": "training loss\n(no unit)",
              "absolute_train": "training\nabsolute MPJPE\n(mm)", "3d_train": "training loss\n(mm)",
              "3d_eval": "training set\nMPJPE (mm)", "3d_valid": "validation\nMPJPE (mm)"}


def new_figure(size, panels=1, dpi=120, text=10):
    """A matplotlib figure of this size in inches, and its axes: a list of `panels`, one below another, if several.

    The panels have their x axis in common; text: the size of the letters in points.
    """
    with require("matplotlib", "matplotlib").rc_context({**STYLE, "font.size": text, "axes.titlesize": text}):
        figure = require("matplotlib.figure", "matplotlib").Figure(figsize=size, dpi=dpi, layout="constrained")
        require("matplotlib.backends.backend_agg", "matplotlib").FigureCanvasAgg(figure)
        axes = list(figure.subplots(panels, sharex=True, squeeze=False)[:, 0])
    return figure, axes if panels > 1 else axes[0]


def save_figure(figure, path):
    """Write the figure in the format of the suffix, atomically; the text of a PDF stays text."""
    with require("matplotlib", "matplotlib").rc_context({"pdf.fonttype": 42}), atomic_path(path) as temporary, \
            warnings.catch_warnings(record=True) as caught:
        figure.savefig(temporary)
    if any("Glyph" in str(warning.message) for warning in caught):
        print(f"INFO: {path}: the font lacks some letters of the names; give others with --labels")


def line_style(number):
    """How the line of this number looks: colours repeat after eight, neighbours differ in dashes, too."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": DASHES[number % len(DASHES)]}


def outlined():
    """The path effects of a thin line that is seen on bars of any colour."""
    return [require("matplotlib.patheffects", "matplotlib").withStroke(linewidth=1.7, foreground="white")]


def log_scale(axis):
    """Make the y axis of drawn curves logarithmic where they need it, with plain numbers at 1, 2 and 5 of a decade."""
    lowest, highest = axis.dataLim.intervaly
    if not 0 < lowest < highest / 5:
        return
    ticker = require("matplotlib.ticker", "matplotlib")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())


def whole_epochs(axis):
    """Name an x axis of epochs, whose ticks are whole numbers."""
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(require("matplotlib.ticker", "matplotlib").MaxNLocator(integer=True, min_n_ticks=1))


def draw_training_curves(history, path):
    """Training, training-set and validation MPJPE in mm over the epochs, as a picture.

    history: a dict per epoch, with `epoch` and those of `CURVES` that were measured.
    """
    figure, axes = new_figure((6, 4))
    for i, (name, label) in enumerate(CURVES.items()):
        points = [(row["epoch"], row[name]) for row in history if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=".", **line_style(i))
    log_scale(axes)
    whole_epochs(axes)
    axes.set_ylabel("MPJPE (mm)")
    axes.legend(frameon=False)
    save_figure(figure, path)
