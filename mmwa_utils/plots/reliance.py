"""Figures of modality reliance: what is lost without a modality, the imbalance index, fragility, and the inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mmwa_utils.plots.style import BLUE, GREEN, GREY, INK, ORANGE, PALETTE, SKY
from mmwa_utils.plots.training import COLOURS, arm_name

_MEASURE_COLOURS: Mapping[str, str] = {"drop": BLUE, "permute": ORANGE, "shapley": GREEN}
_MEASURE_NAMES: Mapping[str, str] = {"drop": "dropped", "permute": "permuted", "shapley": "Shapley value"}
_FUSION_MARKS: Mapping[str, str] = {"early": "o", "late": "s"}
_DATASET_MARKS = "osD^vP"


def measures(axes: Axes, table: pd.DataFrame, *, reference: Mapping[str, float] | None = None, title: str = "") -> Axes:
    """Draw by modality what is lost when it is dropped or permuted, and its Shapley value: bars means, marks runs.

    Args:
        axes: where to draw.
        table: modality, measure, value, one row a run, as `reliance.table` returns it; other measures are left out.
        reference: modality -> Shapley value of another predictor, drawn as a line over the bars.
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> row = {"modality": "text", "measure": "drop", "value": 0.2}
    >>> [tick.get_text() for tick in measures(axes, pd.DataFrame([row])).get_xticklabels()]
    ['text']
    >>> plt.close(drawing)
    """
    names = list(dict.fromkeys(table["modality"]))
    shown = [name for name in _MEASURE_COLOURS if (table["measure"] == name).any()]
    width = 0.8 / len(shown)
    for position, measure in enumerate(shown):
        colour = _MEASURE_COLOURS[measure]
        for place, name in enumerate(names):
            values = table.loc[(table["measure"] == measure) & (table["modality"] == name), "value"].to_numpy()
            x = place + (position - (len(shown) - 1) / 2) * width
            label = _MEASURE_NAMES[measure] if place == 0 else None
            axes.bar(x, values.mean(), 0.9 * width, color=colour, alpha=0.75, label=label)
            across = np.linspace(-0.25, 0.25, len(values)) * width if len(values) > 1 else 0.0
            axes.plot(x + across, values, ".", color=INK, markersize=3.5, zorder=3)
    for name, value in (reference or {}).items():
        place = names.index(name)
        axes.hlines(value, place - 0.45, place + 0.45, color=INK, linestyles="--", linewidth=1.4)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(names)), names)
    axes.set(title=title)
    axes.grid(axis="x", visible=False)
    return axes


def imbalance(
    axes: Axes, means: pd.DataFrame, *, reference: Mapping[str, float] | None = None, title: str = ""
) -> Axes:
    """Draw the imbalance index with its interval, a row a dataset and fusion, baseline and aligned one below the other.

    Args:
        axes: where to draw.
        means: dataset, fusion, alignment, mean, low, high; rows whose mean is NaN are marked "undefined".
        reference: dataset -> index of another predictor, drawn as a cross in each of the dataset's rows.
        title: title of the axes.
    """
    rows = list(dict.fromkeys(zip(means["dataset"], means["fusion"], strict=True)))
    arms = list(dict.fromkeys(means["alignment"]))
    offsets = dict(zip(arms, np.linspace(-0.16, 0.16, len(arms)) if len(arms) > 1 else [0.0], strict=True))
    named: set[str] = set()
    for row in means.itertuples(index=False):
        place = rows.index((row.dataset, row.fusion)) + offsets[row.alignment]
        colour, label = COLOURS.get(row.alignment, INK), arm_name(row.alignment)
        if np.isnan(row.mean):
            axes.text(0.02, place, "undefined", color=colour, va="center", fontsize=8)
            continue
        # The index can't leave [0, 1], its interval by Student's t can: it is cut there.
        low, high = (np.clip(v, 0, 1) if np.isfinite(v) else row.mean for v in (row.low, row.high))
        axes.plot([low, high], [place, place], color=colour, linewidth=1.6)
        mark = "D" if row.alignment != "none" else "o"
        axes.plot(row.mean, place, mark, color=colour, markersize=6, label=None if label in named else label)
        named.add(label)
    for position, (dataset, _) in enumerate(rows):
        if reference and dataset in reference:
            first = None if "reference" in named else "reference"
            axes.plot(reference[dataset], position, "x", color=INK, markersize=8, markeredgewidth=2, label=first)
            named.add("reference")
    axes.set_yticks(range(len(rows)), [f"{dataset}, {fusion}" for dataset, fusion in rows])
    axes.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.5, -0.5), xlabel="imbalance index (0 balanced, 1 one modality)")
    axes.set_title(title)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes


def fragility(axes: Axes, fragile: pd.DataFrame, column: str, *, label: str = "", title: str = "") -> Axes:
    """Draw what each run loses against its imbalance index, colour and mark a dataset, hollow where it is aligned.

    Args:
        axes: where to draw.
        fragile: dataset, alignment, index and `column`, as `reliance.fragility` returns; undefined rows are left out.
        column: "noise" or "loss".
        label: label of the vertical axis.
        title: title of the axes.
    """
    defined = fragile.dropna(subset=["index", column])
    for position, dataset in enumerate(dict.fromkeys(fragile["dataset"])):
        colour, mark = PALETTE[position % len(PALETTE)], _DATASET_MARKS[position % len(_DATASET_MARKS)]
        rows = defined[defined["dataset"] == dataset]
        for aligned in (False, True):
            some = rows[(rows["alignment"] != "none") == aligned]
            face = "none" if aligned else colour
            name = None if aligned else dataset
            axes.plot(some["index"], some[column], mark, color=colour, markerfacecolor=face, markersize=5, label=name)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlim=(-0.04, 1.04), xlabel="imbalance index, one half of the samples", ylabel=label, title=title)
    return axes


def agreement(axes: Axes, shares: pd.DataFrame, column: str, *, label: str = "", title: str = "") -> Axes:
    """Draw a share from the inside of each run against the share of its Shapley values, with the line of agreement.

    Args:
        axes: where to draw.
        shares: dataset, fusion, shapley, and `column`, all shares in [0, 1]; undefined rows are left out.
        column: what is drawn upwards, such as "attention".
        label: label of the vertical axis.
        title: title of the axes.
    """
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1.2)
    for position, dataset in enumerate(dict.fromkeys(shares["dataset"])):
        for fusion, mark in _FUSION_MARKS.items():
            rows = shares[(shares["dataset"] == dataset) & (shares["fusion"] == fusion)].dropna()
            name = dataset if fusion == "late" else None
            colour = PALETTE[position % len(PALETTE)]
            axes.plot(rows["shapley"], rows[column], mark, color=colour, alpha=0.75, markersize=4.5, label=name)
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xlabel="share of the Shapley values", ylabel=label, title=title)
    return axes


def excess(axes: Axes, rows: pd.DataFrame, *, title: str = "") -> Axes:
    """Draw the model's share minus the reference's, one row a dataset and fusion, with intervals and a line at 0.

    Args:
        axes: where to draw.
        rows: dataset, fusion, modality, mean, low, high; a row whose mean is NaN is marked "undefined".
        title: title of the axes.
    """
    for place, row in enumerate(rows.itertuples(index=False)):
        if np.isnan(row.mean):
            axes.text(0.01, place, "undefined", va="center", fontsize=8, color=GREY)
            continue
        low, high = (v if np.isfinite(v) else row.mean for v in (row.low, row.high))
        colour = ORANGE if low > 0 else SKY if high < 0 else GREY
        axes.plot([low, high], [place, place], color=colour, linewidth=1.8)
        axes.plot(row.mean, place, _FUSION_MARKS.get(row.fusion, "D"), color=colour, markersize=6)
    axes.axvline(0, color=INK, linewidth=1)
    names: Sequence[str] = [f"{row.dataset}, {row.fusion}: {row.modality}" for row in rows.itertuples(index=False)]
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="share of the model - share of the reference", title=title)
    axes.grid(axis="y", visible=False)
    return axes
