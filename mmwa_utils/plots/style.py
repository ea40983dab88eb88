"""The book's one plot style: colours, sizes, the stand-in mark."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Okabe and Ito's palette: distinguishable with any of the common colour-vision deficiencies, and in grey.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
PINK, SKY, VERMILION = "#CC79A7", "#56B4E9", "#D55E00"
INK, GREY, PAPER = "#222222", "#777777", "#FFFFFF"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PINK, SKY, INK)
DIVERGING = "RdBu_r"
# White where there is no mass, so that empty rows and columns of a plan read as empty.
MASS = LinearSegmentedColormap.from_list("mass", [PAPER, "#D6E6F1", "#7FB4D6", BLUE, "#00304D"])
INK_MAP = LinearSegmentedColormap.from_list("ink", [PAPER, INK])

# A figure is a light card of its own, so that it reads the same on a dark page.
STYLE: Any = {
    "figure.dpi": 110, "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "figure.constrained_layout.use": True,
    "axes.facecolor": PAPER, "axes.edgecolor": GREY, "axes.labelcolor": INK, "axes.labelsize": 10,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.prop_cycle": plt.cycler(color=PALETTE),
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.8,
    "image.cmap": "cividis", "image.interpolation": "nearest", "legend.frameon": False, "legend.fontsize": 9,
    "lines.linewidth": 1.8, "lines.markersize": 5, "text.color": INK, "font.size": 10,
    "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 9, "ytick.labelsize": 9,
}  # fmt: skip


def apply_style() -> None:
    """Make this the style of every figure of the running notebook, drawn at twice the screen's resolution."""
    plt.rcParams.update(STYLE)
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")
    except (ImportError, AttributeError):  # outside a notebook there is no inline back end to tell
        pass


def figure(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = 7.2,
    height: float | None = None,
    standin: bool = False,
    **subplot_options: Any,
) -> tuple[Figure, Any]:
    """Return a figure in the book's style and its axes (one Axes, or an array of them).

    Args:
        rows: rows of axes.
        columns: columns of axes.
        width: width of the whole figure in inches; 7.2 fills the text column.
        height: height in inches; by default each axes is drawn at the ratio 4 to 3.
        standin: write on the face of the figure that its data are a stand-in's.
        subplot_options: handed to `matplotlib.pyplot.subplots`, such as `sharey=True`.

    >>> drawing, axes = figure(1, 2, standin=True)
    >>> axes.shape
    (2,)
    >>> plt.close(drawing)
    """
    with plt.rc_context(STYLE):
        tall = height if height is not None else rows * (width / columns) * 0.75
        drawing, axes = plt.subplots(rows, columns, figsize=(width, tall), **subplot_options)
    if standin:
        mark: dict[str, Any] = {"fontsize": 9, "color": PAPER, "backgroundcolor": VERMILION}
        drawing.text(1.0, 1.0, "stand-in data", ha="right", va="bottom", **mark)
    return drawing, axes


def hide_ticks(axes: Axes) -> Axes:
    """Remove ticks, grid and frame: for axes that show an image or a plan."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes
