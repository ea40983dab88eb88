"""Figures of training: learning curves, a comparison's metrics, paired differences; tables are pandas frames."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mmwa_utils.plots.intervals import dots_with_bars
from mmwa_utils.plots.style import BLUE, GREEN, GREY, INK, ORANGE, PALETTE, VERMILION, hide_ticks

COLOURS: Mapping[str, str] = {"none": BLUE, "wasserstein": VERMILION}
"""Baseline and aligned, the same in every figure; the marks differ too."""
_MARKS: Mapping[str, str] = {"none": "o", "wasserstein": "D"}
_NAMES: Mapping[str, str] = {"none": "baseline", "wasserstein": "aligned"}


def arm_name(alignment: str) -> str:
    """Return what a figure calls an alignment.

    >>> arm_name("none"), arm_name("wasserstein"), arm_name("coral")
    ('baseline', 'aligned', 'coral')
    """
    return _NAMES.get(alignment, alignment.replace("_", " "))


def learning_curves(
    axes: Axes, histories: Mapping[str, Sequence[pd.DataFrame]], column: str, *, label: str, title: str = ""
) -> None:
    """Draw a column of the histories against the epoch: seeds as thin lines, their mean as a thick one.

    Seeds that stopped early leave the mean; it is drawn up to the epoch that all of them reached.

    Args:
        axes: where to draw.
        histories: alignment (or another name) -> one history per seed, each with the columns `epoch` and `column`.
        column: what to draw, such as "task_loss" or "val_auroc".
        label: label of the vertical axis.
        title: title of the axes.

    Raises:
        KeyError: a history lacks the column.
    """
    for number, (name, found) in enumerate(histories.items()):
        colour, mark = COLOURS.get(name, PALETTE[2 + number % 4]), _MARKS.get(name, "s^vP"[number % 4])
        curves = pd.concat([history.set_index("epoch")[column] for history in found], axis=1)
        axes.plot(curves.index, curves, color=colour, linewidth=0.8, alpha=0.45)
        mean = curves.dropna().mean(axis=1)
        axes.plot(mean.index, mean, mark + "-", color=colour, markersize=4, label=arm_name(name))
    axes.set(xlabel="epoch", ylabel=label, title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def seed_dots(
    axes: Axes, table: pd.DataFrame, summary: pd.DataFrame, *, metric: str, references: Mapping[str, float]
) -> None:
    """Draw a metric of each fusion and alignment: small dots for seeds, the mean with its interval, references.

    Args:
        axes: where to draw.
        table: one row per run and metric: fusion, alignment, seed, metric, value.
        summary: one row per arm and metric: fusion, alignment, metric, mean, low, high.
        metric: which metric.
        references: name -> value, each a vertical line, such as the trivial predictor; three at most.
    """
    chosen = summary[summary["metric"] == metric]
    models = chosen["alignment"].map(arm_name)
    rows = chosen.assign(model=models, arm=chosen["fusion"] + ", " + models)
    colours = {arm_name(name): colour for name, colour in COLOURS.items()}
    dots_with_bars(
        rows, label="arm", value="mean", low="low", high="high", colour="model", colours=colours, ax=axes,
        reference=None, xlabel=f"test {metric}",
    )  # fmt: skip
    seeds = table[table["metric"] == metric].groupby(["fusion", "alignment"])["value"]
    for place, arm in enumerate(zip(rows["fusion"], rows["alignment"], strict=True)):
        values = seeds.get_group(arm)
        axes.plot(values, [place - 0.25] * len(values), ".", color=GREY)
    for (name, value), style in zip(references.items(), ("--", ":", "-."), strict=False):
        axes.axvline(value, color=INK, linestyle=style, linewidth=1.2, label=name)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def difference_bars(axes: Axes, differences: pd.DataFrame, *, title: str = "") -> None:
    """Draw aligned - baseline, one row each: its interval, a line at zero and the verdict in words.

    Args:
        axes: where to draw.
        differences: fusion, alignment, metric, difference, low, high, verdict: see `comparison.paired_differences`.
        title: title of the axes.
    """
    rows = differences.assign(row=np.arange(len(differences)))
    dots_with_bars(rows, label="row", value="difference", low="low", high="high", ax=axes)
    for place, verdict in zip(rows["row"], rows["verdict"], strict=True):
        axes.annotate(verdict, (1.02, place), xycoords=("axes fraction", "data"), va="center", color=INK)
    arms = rows["alignment"].map(arm_name)
    several = ", " + arms if arms.nunique() > 1 else ""
    axes.set_yticks(rows["row"], rows["fusion"] + " fusion, " + rows["metric"] + several)
    axes.set(xlabel=f"difference, {'arm' if arms.nunique() > 1 else 'aligned'} - baseline", title=title)


def label_balance(axes: Axes, shares: Mapping[str, Mapping[str, float]], *, title: str = "") -> None:
    """Draw the share of each label in each split as horizontal bars.

    Args:
        axes: where to draw.
        shares: split -> label -> share in [0, 1].
        title: title of the axes.
    """
    (100 * pd.DataFrame(shares)).plot.barh(ax=axes, color=[BLUE, ORANGE, GREEN], width=0.75)
    axes.invert_yaxis()
    axes.set(xlabel="share of samples (%)", title=title)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def pictures(axes: np.ndarray, images: Sequence[Any], captions: Sequence[str], *, width: int = 26) -> None:
    """Draw pictures with wrapped captions under them, one per axes; axes that are left over are blank.

    Args:
        axes: as many as there are pictures, or more.
        images: what `imshow` accepts; None where a sample has no picture.
        captions: one per picture; a line break in it stays.
        width: characters of a line, beyond which it is broken between words.
    """
    for panel in axes.flat:
        hide_ticks(panel)
    for panel, image, caption in zip(axes.flat, images, captions, strict=False):
        if image is None:
            panel.text(0.5, 0.5, "absent", ha="center", va="center", transform=panel.transAxes, color=GREY)
        else:
            panel.imshow(image)
        panel.set_xlabel("\n".join(textwrap.fill(line, width) for line in caption.splitlines()), fontsize=8)
