"""Figures of robustness: a sample under noise, curves over levels with intervals, what is lost by modality."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from PIL import Image

from mmwa_utils.plots.streams import stream
from mmwa_utils.plots.style import GREEN, GREY, INK, ORANGE, PINK, SKY, hide_ticks
from mmwa_utils.plots.training import COLOURS, arm_name

_MARKS = "oDs^vP*X"
_OTHERS = (GREEN, ORANGE, PINK, SKY, INK, GREY)
Bounds = tuple[float, float]
_DODGE = 0.012
"""Shift between curves, as a share of the axis, so that their error bars do not cover each other."""


def value(axes: Axes, shown: Any, *, limit: float | None = None, title: str = "", width: int = 22) -> Axes:
    """Draw a sample's raw modality: a picture, a text in wrapped lines, or a stream as a heat map.

    Args:
        axes: where to draw.
        shown: an image, a text or an array (steps, features).
        limit: of a stream's palette, the same for all that are compared.
        title: title of the axes.
        width: characters of a line of text.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> value(axes, "moves tokens to tokens", width=12).texts[0].get_text().splitlines()
    ['moves tokens', 'to tokens']
    >>> plt.close(drawing)
    """
    if isinstance(shown, str):
        text = textwrap.fill(shown, width) or "(empty)"
        axes.text(0.0, 0.98, text, transform=axes.transAxes, va="top", fontsize=8, color=INK)
    elif isinstance(shown, Image.Image):
        axes.imshow(shown)
    else:
        stream(axes, shown, limit=limit)
        axes.set(xlabel="", ylabel="")
    axes.set_title(title)
    return hide_ticks(axes)


def curves(
    axes: Axes,
    table: pd.DataFrame,
    *,
    by: str = "alignment",
    names: Sequence[str] | None = None,
    reference: float | None = None,
    bounds: Bounds | None = None,
    xlabel: str = "level",
    title: str = "",
) -> Axes:
    """Draw a metric over levels, a curve an alignment (or another column), with intervals as bars.

    Args:
        axes: where to draw.
        table: level, value, low, high, metric and the column `by`, as `robustness.curves` returns; one curve a value.
        by: the column that tells the curves apart.
        names: its values in the order to draw; None is the order of the table.
        reference: a horizontal line, such as what a constant scores.
        bounds: values that the metric can have; bars are cut there, as an interval of few seeds may reach beyond.
        xlabel: what the levels are.
        title: title of the axes.

    Raises:
        ValueError: several rows of one curve have the same level, so the table mixes what should be apart.
    """
    chosen = list(table[by].unique()) if names is None else list(names)
    reach = float(table["level"].max())
    for position, name in enumerate(chosen):
        rows = table[table[by] == name].sort_values("level")
        if rows["level"].duplicated().any():
            raise ValueError(f"table: several rows of {by} {name!r} have the same level; choose one modality or fusion")
        spread = _spread(rows, "value", bounds)
        places = rows["level"] + (position - (len(chosen) - 1) / 2) * _DODGE * reach
        axes.errorbar(
            places,
            rows["value"],
            yerr=spread,
            fmt=_MARKS[position % len(_MARKS)] + "-",
            color=_colour(name, position),
            capsize=3,
            elinewidth=1,
            label=arm_name(str(name)),
        )
    if reference is not None:
        axes.axhline(reference, color=INK, linestyle=":", linewidth=1.2, label="constant")
    axes.set_xticks(sorted(table["level"].unique()))
    axes.set(xlabel=xlabel, ylabel=f"test {table['metric'].iloc[0]}", title=title)
    return axes


def losses(axes: Axes, lost: Mapping[float, Mapping[str, str]], ids: Sequence[str], *, title: str = "") -> Axes:
    """Draw who has lost what: a column each sample, a row each share, a coloured mark each loss.

    Args:
        axes: where to draw.
        lost: share -> sample id -> the modality that it lost, as `corruption.choose_missing` returns.
        ids: the samples, from left to right.
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> axes = losses(axes, {0.5: {"a": "text"}, 1.0: {"a": "text", "b": "image"}}, ["a", "b"])
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['text', 'image']
    >>> plt.close(drawing)
    """
    names = list(dict.fromkeys(name for chosen in lost.values() for name in chosen.values()))
    places = {identifier: column for column, identifier in enumerate(ids)}
    for position, name in enumerate(names):
        marks = [
            (places[identifier], row)
            for row, chosen in enumerate(lost.values())
            for identifier, what in chosen.items()
            if what == name and identifier in places
        ]
        columns, rows = zip(*marks, strict=True) if marks else ((), ())
        axes.plot(columns, rows, "sD^o"[position % 4], color=_OTHERS[position % len(_OTHERS)], label=name)
    axes.set_yticks(range(len(lost)), [f"{share:.0%}" for share in lost])
    axes.set(xlim=(-1, len(ids)), ylim=(len(lost) - 0.5, -0.5), xlabel="test sample", ylabel="share", title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title="lost")
    return axes


def against(
    axes: Axes, table: pd.DataFrame, *, x: str, y: str, by: str = "alignment", xlabel: str = "", ylabel: str = ""
) -> Axes:
    """Draw two columns of a table against each other, with the diagonal on which they are equal.

    Args:
        axes: where to draw.
        table: one mark a row.
        x: column of the horizontal axis.
        y: column of the vertical axis.
        by: column that tells the marks apart.
        xlabel: label of the horizontal axis; by default the column's name.
        ylabel: label of the vertical axis; by default the column's name.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> table = pd.DataFrame({"alignment": ["none"], "without": [0.6], "noisy": [0.5]})
    >>> axes.get_legend_handles_labels()[1], against(axes, table, x="without", y="noisy").get_legend_handles_labels()[1]
    ([], ['baseline'])
    >>> plt.close(drawing)
    """
    for position, (name, rows) in enumerate(table.groupby(by, sort=False)):
        mark = _MARKS[position % len(_MARKS)]
        axes.plot(rows[x], rows[y], mark, color=_colour(name, position), alpha=0.75, label=arm_name(str(name)))
    ends = [float(table[[x, y]].min(axis=None)), float(table[[x, y]].max(axis=None))]
    axes.plot(ends, ends, color=GREY, linewidth=1, zorder=0)
    axes.set(xlabel=xlabel or x, ylabel=ylabel or y)
    axes.legend()
    return axes


def clean_to_mean(axes: Axes, means: pd.DataFrame, *, bounds: Bounds | None = None, title: str = "") -> Axes:
    """Draw, a row each modality and alignment, the way from the clean metric (hollow) to the mean over levels (filled).

    Args:
        axes: where to draw.
        means: modality, alignment, metric, clean, mean, low, high, as `robustness.means` returns; one fusion.
        bounds: values that the metric can have; bars are cut there.
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> row = {"modality": "text", "alignment": "none", "metric": "auroc", "clean": 0.8, "mean": 0.7, "low": 0.6,
    ...        "high": 0.75}
    >>> [tick.get_text() for tick in clean_to_mean(axes, pd.DataFrame([row])).get_yticklabels()]
    ['text']
    >>> plt.close(drawing)
    """
    modalities, alignments = list(means["modality"].unique()), list(means["alignment"].unique())
    offsets = np.linspace(-0.16, 0.16, len(alignments)) if len(alignments) > 1 else [0.0]
    for position, (alignment, offset) in enumerate(zip(alignments, offsets, strict=True)):
        rows = means[means["alignment"] == alignment]
        places = rows["modality"].map(modalities.index).to_numpy() + offset
        colour, mark = _colour(alignment, position), _MARKS[position % len(_MARKS)]
        axes.hlines(places, rows["clean"], rows["mean"], color=colour, linewidth=2.2, alpha=0.5)
        axes.plot(rows["clean"], places, mark, color=colour, markerfacecolor="none", markersize=7)
        spread = _spread(rows, "mean", bounds)
        axes.errorbar(
            rows["mean"],
            places,
            xerr=spread,
            fmt=mark,
            color=colour,
            capsize=3,
            elinewidth=1,
            markersize=7,
            label=arm_name(alignment),
        )
    axes.set_yticks(range(len(modalities)), modalities)
    axes.set(ylim=(len(modalities) - 0.5, -0.5), xlabel=f"test {means['metric'].iloc[0]}", title=title)
    axes.grid(axis="y", visible=False)
    return axes


def _spread(rows: pd.DataFrame, centre: str, bounds: Bounds | None) -> Float[np.ndarray, "2 rows"]:
    """Return the lengths of the bars below and above; a bar that leaves the bounds is cut there."""
    ends = rows[["low", "high"]] if bounds is None else rows[["low", "high"]].clip(*bounds)
    return np.abs(ends.to_numpy().T - rows[centre].to_numpy())


def _colour(name: Any, position: int) -> str:
    """Baseline and aligned have their own colours everywhere; others take what those leave."""
    return COLOURS.get(str(name), _OTHERS[position % len(_OTHERS)])
