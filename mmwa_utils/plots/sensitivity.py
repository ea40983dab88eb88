"""Figures of sensitivity: a grid of two settings as a heat map, effects ranked as a forest, a metric by a setting."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mmwa_utils.plots.style import DIVERGING, GREY, INK, PAPER, VERMILION
from mmwa_utils.plots.training import COLOURS, arm_name


def heat_map(
    axes: Axes,
    table: pd.DataFrame,
    *,
    limit: float | None = None,
    default: tuple[float, float] | None = None,
    title: str = "",
) -> Axes:
    """Draw a value over alpha (rows) and beta (columns), each cell with its number; white is zero.

    For a colour bar hand `axes.images[0]` to the figure: maps that share a limit share the bar.

    Args:
        axes: where to draw.
        table: index alpha, columns beta, cells the value; NaN stays blank.
        limit: value of the darkest colour, the same in figures that are compared; None: the largest in the table.
        default: (alpha, beta) of the default setting, which gets a frame.
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> table = pd.DataFrame([[0.01, -0.02]], index=[0.1], columns=[0.4, 1.0])
    >>> [text.get_text() for text in heat_map(axes, table, default=(0.1, 1.0)).texts]
    ['+0.010', '−0.020']
    >>> plt.close(drawing)
    """
    values = table.to_numpy(dtype=float)
    most = limit if limit is not None else float(np.nanmax(np.abs(values)))
    most = most or 1.0  # a table of zeros has a colour too
    axes.imshow(values, cmap=DIVERGING, vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = abs(value) > 0.6 * most
            text = f"{value:+.3f}".replace("-", "−")
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=PAPER if dark else INK)
    axes.set_xticks(range(table.shape[1]), [f"{beta:g}" for beta in table.columns])
    axes.set_yticks(range(table.shape[0]), [f"{alpha:g}" for alpha in table.index])
    axes.set(xlabel="beta (weight)", ylabel="alpha (regularisation)", title=title)
    axes.grid(False)
    if default is not None:
        row, column = list(table.index).index(default[0]), list(table.columns).index(default[1])
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2.5, clip_on=False)
        )
    return axes


def forest(axes: Axes, effects: pd.DataFrame, names: list[str], *, title: str = "") -> Axes:
    """Draw one effect a row with its interval, in the order of `names`; filled where the interval excludes zero.

    An effect without interval (one seed) is a cross; a variant that was not measured leaves its row empty.

    Args:
        axes: where to draw.
        effects: columns name, difference, low, high.
        names: the rows, from the top.
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> row = {"name": "cost = sqeuclidean", "difference": 0.1, "low": 0.05, "high": 0.2}
    >>> [tick.get_text() for tick in forest(axes, pd.DataFrame([row]), ["cost = sqeuclidean"]).get_yticklabels()]
    ['cost = sqeuclidean']
    >>> plt.close(drawing)
    """
    for row in effects.itertuples(index=False):
        if row.name not in names:
            continue
        place = names.index(row.name)
        if not np.isfinite([row.low, row.high]).all():
            axes.plot(row.difference, place, "x", color=GREY)
            continue
        excludes = row.low > 0 or row.high < 0
        axes.errorbar(
            row.difference,
            place,
            xerr=[[row.difference - row.low], [row.high - row.difference]],
            fmt="D" if excludes else "o",
            color=VERMILION if excludes else GREY,
            markerfacecolor=VERMILION if excludes else PAPER,
            capsize=3,
            markersize=5,
        )
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="change of the gain", title=title)
    axes.grid(axis="y", visible=False)
    return axes


def by_setting(axes: Axes, table: pd.DataFrame, *, x: str, label: str = "", title: str = "") -> Axes:
    """Draw a metric against a setting on a logarithmic axis: a dot a seed, a line through the means, an arm a colour.

    Args:
        axes: where to draw.
        table: columns `x`, alignment, value; a row a run.
        x: name of the setting's column, which is also the label of the axis.
        label: label of the vertical axis.
        title: title of the axes.
    """
    for alignment, runs in table.groupby("alignment", sort=False):
        colour = COLOURS.get(str(alignment), INK)
        mark = "o" if alignment == "none" else "D"
        shift = 0.97 if alignment == "none" else 1.03  # beside each other on a logarithmic axis
        axes.plot(runs[x] * shift, runs["value"], mark, color=colour, alpha=0.5, markersize=4, markeredgewidth=0)
        means = runs.groupby(x)["value"].mean()
        axes.plot(means.index * shift, means, mark + "-", color=colour, markersize=6, label=arm_name(str(alignment)))
    axes.set_xscale("log")
    values = sorted(table[x].unique())
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set(xlabel=x, ylabel=label, title=title)
    axes.legend()
    return axes
