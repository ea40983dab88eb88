"""The book's one figure of values with intervals: rows of dots with bars."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mmwa_utils.plots.style import GREY, INK, PALETTE, PAPER, VERMILION

MARKS = "oDs^vP*X"


def dots_with_bars(
    table: pd.DataFrame,
    *,
    label: str,
    value: str,
    low: str,
    high: str,
    colour: str | None = None,
    colours: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    reference: float | None = 0.0,
    xlabel: str = "",
) -> Axes:
    """Draw each row of a table as a dot with its interval, the first row on top.

    Rows with the same label share a line and stand slightly apart. A row without an interval (NaN), as of a single
    seed, is a cross; one without a value leaves its line empty.

    Args:
        table: one row per dot.
        label: column that names the line.
        value: column of the dot.
        low: column of the interval's lower end.
        high: column of the interval's upper end.
        colour: column that tells groups apart by colour and mark, with a legend where there are several. Without it
            a dot is filled and vermilion where its interval excludes the reference, otherwise hollow and grey.
        colours: value of that column -> colour; by default the palette, in the order of appearance.
        ax: where to draw; by default the current axes.
        reference: place of a vertical line to compare with, if any.
        xlabel: name and unit of the values.

    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> table = pd.DataFrame([{"name": "late", "gain": 0.1, "from": 0.05, "to": 0.2}])
    >>> axes = dots_with_bars(table, label="name", value="gain", low="from", high="to", ax=axes)
    >>> [tick.get_text() for tick in axes.get_yticklabels()]
    ['late']
    >>> plt.close(drawing)
    """
    axes = plt.gca() if ax is None else ax
    names = list(dict.fromkeys(table[label]))
    keys = table[colour] if colour else pd.Series("", index=table.index)
    groups = list(dict.fromkeys(keys))
    apart = min(0.22, 0.7 / len(groups)) if len(table) > len(names) else 0.0
    for number, group in enumerate(groups):
        rows = table[keys == group]
        hue = (colours or {}).get(group, PALETTE[number % len(PALETTE)])
        mark = MARKS[number % len(MARKS)]
        for name, *numbers in rows[[label, value, low, high]].itertuples(index=False):
            dot, *ends = map(float, numbers)
            place = names.index(name) + apart * (number - (len(groups) - 1) / 2)
            known = bool(np.isfinite(ends).all())
            decided = known and reference is not None and not ends[0] <= reference <= ends[1]
            line = hue if colour else (VERMILION if decided else GREY)
            fill = line if colour or decided else PAPER
            if known:
                axes.plot(ends, [place, place], "|-", color=line, markersize=7, linewidth=1.4)
            axes.plot(dot, place, mark if known else "x", color=line, markerfacecolor=fill, zorder=3)
        if len(groups) > 1:
            axes.plot([], [], mark + "-", color=hue, label=str(group))
    if reference is not None:
        axes.axvline(reference, color=INK, linewidth=1, zorder=1)
    axes.set_yticks(range(len(names)), [str(name) for name in names])
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=xlabel)
    axes.grid(axis="y", visible=False)
    if len(groups) > 1:
        axes.legend()
    return axes
