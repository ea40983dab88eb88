"""Figures of robustness: a panel per dataset and fusion, with curves over levels or what is lost by modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmwa_utils.plots.arms import COLOURS, arm_name
from mmwa_utils.plots.intervals import MARKS, dots_with_bars
from mmwa_utils.plots.style import GREEN, GREY, INK, ORANGE, PINK, SKY, figure

_OTHERS = (GREEN, ORANGE, PINK, SKY, INK, GREY)
_DODGE = 0.012
"""Shift between curves, as a share of the axis, so that their error bars do not cover each other."""


def panels(
    table: pd.DataFrame,
    titles: Mapping[str, str],
    fusions: Sequence[str],
    paint: Callable[..., Axes],
    *,
    height: float,
    standin: bool,
    sharex: bool = False,
    **options: Any,
) -> Figure:
    """Draw a panel per dataset (downwards) and fusion (to the right), with one legend for all.

    Args:
        table: what is drawn, with the columns dataset and fusion.
        titles: dataset -> its title.
        fusions: one column of panels each; a panel without rows stays empty.
        paint: called with axes, rows, title and `options`.
        height: of a row of panels, in inches.
        standin: mark the figure as a stand-in's.
        sharex: whether the panels have one horizontal axis.
        options: for `paint`.
    """
    size = {"width": 8, "height": height * len(titles)}
    drawing, axes = figure(len(titles), len(fusions), **size, standin=standin, squeeze=False, sharex=sharex)
    for (name, title), line in zip(titles.items(), axes, strict=True):
        for fusion, panel in zip(fusions, line, strict=True):
            rows = table[(table["dataset"] == name) & (table["fusion"] == fusion)]
            if rows.empty:
                panel.set_axis_off()
                continue
            paint(panel, rows, title=f"{title}, {fusion} fusion", **options)
            handles = panel.get_legend_handles_labels()
    drawing.legend(*handles, loc="outside lower center", ncols=3)
    return drawing


def level_curves(
    axes: Axes, table: pd.DataFrame, *, by: str = "alignment", xlabel: str = "level", title: str = ""
) -> Axes:
    """Draw a metric over levels, one curve per alignment (or another column), with intervals as bars.

    Args:
        axes: where to draw.
        table: level, value, low, high, metric and the column `by`, as `robustness.curves` returns. A column `constant`
            is drawn as a dotted line.
        by: the column that tells the curves apart.
        xlabel: what the levels are.
        title: title of the axes.

    Raises:
        ValueError: several rows of one curve have the same level, so the table mixes what should be apart.
    """
    names = list(table[by].unique())
    for position, name in enumerate(names):
        rows = table[table[by] == name].sort_values("level")
        if rows["level"].duplicated().any():
            raise ValueError(f"table: several rows of {by} {name!r} have the same level; choose one modality or fusion")
        bars = np.abs(rows[["low", "high"]].to_numpy().T - rows["value"].to_numpy())
        places = rows["level"] + (position - (len(names) - 1) / 2) * _DODGE * float(table["level"].max())
        colour, mark = COLOURS.get(name, _OTHERS[position % len(_OTHERS)]), MARKS[position % len(MARKS)] + "-"
        options: dict[str, Any] = {"capsize": 3, "elinewidth": 1, "label": arm_name(name)}
        axes.errorbar(places, rows["value"], yerr=bars, fmt=mark, color=colour, **options)
    if "constant" in table:
        axes.axhline(table["constant"].iloc[0], color=INK, linestyle=":", linewidth=1.2, label="constant")
    axes.set_xticks(sorted(table["level"].unique()))
    axes.set(xlabel=xlabel, ylabel=f"test {table['metric'].iloc[0]}", title=title)
    return axes


def clean_to_mean(axes: Axes, means: pd.DataFrame, *, title: str = "") -> Axes:
    """Draw, for each modality and alignment, the way from the clean metric (hollow) to the mean over levels (filled).

    Args:
        axes: where to draw.
        means: modality, alignment, metric, clean, mean, low, high, as `robustness.means` returns; one fusion.
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> drawing, axes = figure()
    >>> row = {"modality": "text", "alignment": "none", "metric": "auroc", "clean": 0.8, "mean": 0.7, "low": 0.6,
    ...        "high": 0.75}
    >>> [tick.get_text() for tick in clean_to_mean(axes, pd.DataFrame([row])).get_yticklabels()]
    ['text']
    >>> plt.close(drawing)
    """
    rows = means.assign(model=means["alignment"].map(arm_name))
    colours = {arm_name(name): colour for name, colour in COLOURS.items()}
    ends = {"label": "modality", "value": "mean", "low": "low", "high": "high", "colour": "model"}
    dots_with_bars(rows, **ends, colours=colours, ax=axes, reference=None, xlabel=f"test {rows['metric'].iloc[0]}")
    order, groups = list(dict.fromkeys(rows["modality"])), list(dict.fromkeys(rows["model"]))
    for number, (_, own) in enumerate(rows.groupby("model", sort=False)):
        shift = min(0.22, 0.7 / len(groups)) * (number - (len(groups) - 1) / 2)  # as `dots_with_bars` does
        places, colour = own["modality"].map(order.index) + shift, COLOURS.get(own["alignment"].iloc[0], GREY)
        axes.hlines(places, own["clean"], own["mean"], color=colour, linewidth=2.2, alpha=0.5)
        axes.plot(own["clean"], places, MARKS[number], color=colour, markerfacecolor="none", markersize=7)
    if legend := axes.get_legend():
        legend.remove()
    axes.set_title(title)
    return axes
