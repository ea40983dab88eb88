"""Figures of speed: contenders side by side, the roofline, memory against iterations. Tables come in as data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes

from mmwa_utils.plots.style import BLUE, GREY, INK, PALETTE, VERMILION

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def contender_times(axes: Axes, table: pd.DataFrame, *, ours: str, title: str = "") -> Axes:
    """Draw the time of every contender over ours in every case: median as a mark, quartiles as a bar.

    Args:
        axes: where to draw; its horizontal axis becomes logarithmic.
        table: columns `case`, `contender`, `ratio`, `ratio_q1`, `ratio_q3`, one row a mark.
        ours: the contender whose ratios are 1: drawn filled, on a line, and first in the legend.
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> row = {"case": "64x20x50", "contender": "ours", "ratio": 1.0, "ratio_q1": 1.0, "ratio_q3": 1.0}
    >>> contender_times(axes, pd.DataFrame([row]), ours="ours").get_xscale()
    'log'
    >>> plt.close(drawing)
    """
    cases = list(dict.fromkeys(table.case))
    # By name, so that a contender has the same colour in every panel.
    names = sorted(set(table.contender), key=lambda name: (name != ours, name))
    for position, name in enumerate(names):
        rows = table[table.contender == name]
        # A little apart, so that marks of equal time do not hide each other.
        height = [cases.index(case) + 0.09 * (position - (len(names) - 1) / 2) for case in rows.case]
        spread = np.abs(rows[["ratio_q1", "ratio_q3"]].to_numpy().T - rows.ratio.to_numpy())
        axes.errorbar(
            rows.ratio,
            height,
            xerr=spread,
            fmt=MARKERS[position % len(MARKERS)],
            color=PALETTE[position % len(PALETTE)],
            markerfacecolor=None if name == ours else "white",
            linewidth=1.2,
            label=name,
        )
    axes.axvline(1.0, color=GREY, linewidth=1, zorder=0)
    axes.set(xscale="log", xlabel="time over ours (logarithmic)", title=title)
    axes.set_yticks(range(len(cases)), cases)
    axes.set_ylim(len(cases) - 0.5, -0.5)  # not inverted in place: shared axes would be turned twice
    axes.grid(axis="y", visible=False)
    return axes


def roofline(
    axes: Axes,
    *,
    peak_flops: float,
    peak_bytes: float,
    points: Mapping[str, tuple[float, float]],
    title: str = "",
) -> Axes:
    """Draw a machine's roofline and where computations lie beneath it (Williams, Waterman and Patterson 2009).

    Args:
        axes: where to draw.
        peak_flops: floating-point operations per second that the machine can do.
        peak_bytes: bytes per second that it can move.
        points: by label, (operations per byte moved, operations per second achieved).
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> roofline(axes, peak_flops=1e11, peak_bytes=1e10, points={"here": (1.0, 5e9)}).get_yscale()
    'log'
    >>> plt.close(drawing)
    """
    ridge = peak_flops / peak_bytes
    intensities = [intensity for intensity, _ in points.values()]
    x = np.geomspace(min([*intensities, ridge]) / 4, max([*intensities, ridge]) * 4, 200)
    axes.plot(x, np.minimum(peak_flops, peak_bytes * x) / 1e9, color=INK)
    axes.axvline(ridge, color=GREY, linestyle=":", linewidth=1)
    for position, (label, (intensity, achieved)) in enumerate(points.items()):
        colour, marker = PALETTE[position % len(PALETTE)], MARKERS[position % len(MARKERS)]
        axes.plot(intensity, achieved / 1e9, marker, color=colour, markersize=8, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations per byte from memory",
        ylabel="billion operations per second",
        title=title,
    )
    axes.legend(loc="lower right")
    return axes


def against_iterations(
    axes: Axes,
    iterations: Sequence[int],
    series: Mapping[str, Float[np.ndarray, " k"]],
    *,
    ylabel: str,
    floor: tuple[str, float] | None = None,
    title: str = "",
) -> Axes:
    """Draw quantities that may or may not grow with the number of iterations, both axes logarithmic.

    Args:
        axes: where to draw.
        iterations: the numbers of iterations.
        series: by label, one positive value for each number.
        ylabel: name and unit of the quantity.
        floor: label and height of a horizontal line to compare with.
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> against_iterations(axes, [10, 100], {"unrolled": np.array([1.0, 10.0])}, ylabel="memory, MB").get_ylabel()
    'memory, MB'
    >>> plt.close(drawing)
    """
    for position, (label, values) in enumerate(series.items()):
        colour = (VERMILION, BLUE, *PALETTE[2:])[position % len(PALETTE)]
        axes.plot(iterations, values, marker=MARKERS[position % len(MARKERS)], color=colour, label=label)
    if floor is not None:
        axes.axhline(floor[1], color=GREY, linestyle="--", linewidth=1, label=floor[0])
    axes.set(xscale="log", yscale="log", xlabel="iterations", ylabel=ylabel, title=title)
    axes.set_xticks(iterations, [str(count) for count in iterations])
    axes.minorticks_off()
    axes.legend()
    return axes
