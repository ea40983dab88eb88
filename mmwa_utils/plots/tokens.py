"""Figures of tokens: attention between them, plans over an image, how much a model leans on a modality, rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mmwa_utils.plots.style import GREY, INK, INK_MAP, MASS, PALETTE, PAPER, VERMILION, hide_ticks

_MARKS = ("o", "s", "D", "^", "v", "P", "X")


def strips(
    axes: Axes, scan: Float[np.ndarray, "height width"], columns: Mapping[str, slice], *, title: str = ""
) -> Axes:
    """Draw a scan cut into vertical strips, with a gap and a frame around each: an image that plays the modalities.

    Args:
        axes: where to draw.
        scan: grey values, 0 for paper.
        columns: name of each strip -> its columns of the scan, from left to right.
        title: title of the axes.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> axes = strips(axes, np.ones((8, 8)), {"left": slice(0, 3), "right": slice(3, 8)})
    >>> [text.get_text() for text in axes.get_xticklabels()]
    ['left', 'right']
    >>> plt.close(drawing)
    """
    height = scan.shape[0]
    middles, gap = [], 0.8
    for position, (cut, colour) in enumerate(zip(columns.values(), PALETTE, strict=False)):
        left, right = cut.start + gap * position, cut.stop + gap * position
        axes.imshow(scan[:, cut], cmap=INK_MAP, vmin=0, vmax=scan.max(), extent=(left, right, height, 0))
        axes.add_patch(Rectangle((left, 0), right - left, height, fill=False, edgecolor=colour, linewidth=2))
        middles.append((left + right) / 2)
    hide_ticks(axes)
    axes.set(xlim=(-0.3, right + 0.3), ylim=(height + 0.3, -0.3), title=title, aspect="equal")
    axes.set_xticks(middles, list(columns))
    axes.tick_params(length=0)
    return axes


def attention_map(
    axes: Axes,
    attention: Float[np.ndarray, "tokens tokens"],
    segments: Mapping[str, slice],
    *,
    title: str = "",
    ceiling: float | None = None,
) -> Axes:
    """Draw attention weights, a row a query, with lines between the modalities' stretches and their names.

    Args:
        axes: where to draw.
        attention: weight of each key (column) for each query (row); rows sum to one.
        segments: name of each stretch -> its tokens; stretches may leave tokens unnamed.
        title: title of the axes.
        ceiling: weight of the darkest colour; by default the largest. Give it to compare maps.

    Raises:
        ValueError: a row does not sum to one.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> attention_map(axes, np.full((4, 4), 0.25), {"a": slice(0, 2), "b": slice(2, 4)}).get_xlabel()
    'key'
    >>> plt.close(drawing)
    """
    attention = np.asarray(attention)
    sums = attention.sum(axis=1)
    if not np.allclose(sums, 1, atol=1e-3):
        raise ValueError(f"attention: rows sum to between {sums.min():.3f} and {sums.max():.3f}, expected 1")
    axes.imshow(attention, cmap=MASS, norm=PowerNorm(0.5, vmin=0, vmax=ceiling or attention.max()))
    axes.grid(False)
    for cut in segments.values():
        for edge in (cut.start - 0.5, cut.stop - 0.5):
            axes.axhline(edge, color=INK, linewidth=0.7)
            axes.axvline(edge, color=INK, linewidth=0.7)
    middles = [(cut.start + cut.stop - 1) / 2 for cut in segments.values()]
    axes.set_xticks(middles, list(segments))
    axes.set_yticks(middles, list(segments), rotation=90, va="center")
    axes.tick_params(length=0)
    axes.set(title=title, xlabel="key", ylabel="query")
    return axes


def shares(axes: Axes, table: pd.DataFrame, *, label: str, title: str = "") -> Axes:
    """Draw rows of shares as stacked horizontal bars with the numbers in them.

    Args:
        axes: where to draw.
        table: one row a bar, one column a part; each row sums to one.
        label: name of what is shared out.
        title: title of the axes.

    Raises:
        ValueError: a row does not sum to one.
    """
    if not np.allclose(table.sum(axis=1), 1, atol=1e-3):
        raise ValueError(f"table: rows sum to {table.sum(axis=1).round(3).tolist()}, expected 1")
    before = np.zeros(len(table))
    for (name, part), colour in zip(table.items(), PALETTE, strict=False):
        axes.barh(np.arange(len(table)), part, left=before, color=colour, edgecolor=PAPER, height=0.7, label=str(name))
        for row, (start, width) in enumerate(zip(before, part, strict=True)):
            if width > 0.08:
                axes.text(start + width / 2, row, f"{width:.0%}", ha="center", va="center", color=PAPER, fontsize=8)
        before = before + part.to_numpy()
    axes.set_yticks(np.arange(len(table)), [str(name) for name in table.index])
    axes.set(xlim=(0, 1), xlabel=label)
    axes.set_title(title, pad=22)
    axes.invert_yaxis()
    axes.grid(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(table.columns), borderaxespad=0.1, fontsize=8)
    return axes


def reliance(axes: Axes, table: pd.DataFrame, *, label: str, chance: float, title: str = "") -> Axes:
    """Draw a metric on whole and on damaged samples, a colour and a mark a model, with intervals and a chance line.

    Args:
        axes: where to draw.
        table: columns `model`, `condition`, `value`, `low`, `high`; conditions are drawn from top to bottom.
        label: name of the metric.
        chance: value of a guess, drawn as a dashed line.
        title: title of the axes.
    """
    conditions = list(dict.fromkeys(table["condition"]))
    models = list(dict.fromkeys(table["model"]))
    for number, model in enumerate(models):
        rows = table[table["model"] == model]
        place = [conditions.index(c) + 0.22 * (number - (len(models) - 1) / 2) for c in rows["condition"]]
        error = np.stack([rows["value"] - rows["low"], rows["high"] - rows["value"]]).clip(min=0)
        axes.errorbar(
            rows["value"], place, xerr=error, fmt=_MARKS[number], color=PALETTE[number], label=model, capsize=2
        )
    axes.axvline(chance, color=GREY, linestyle="--", linewidth=1)
    axes.text(chance, len(conditions) - 0.45, " chance", color=GREY, fontsize=8, va="bottom")
    axes.set_yticks(range(len(conditions)), conditions)
    axes.set(xlim=(0, 1), ylim=(len(conditions) - 0.4, -0.6), xlabel=label)
    axes.set_title(title, pad=22)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(models), borderaxespad=0.1)
    return axes


def patch_mass(
    axes: Axes,
    image: Any,
    mass: Float[np.ndarray, "rows columns"],
    *,
    true_patches: Bool[np.ndarray, "rows columns"] | None = None,
    title: str = "",
) -> Axes:
    """Draw over an image how much mass goes to each of its patches: fully covered at none, clear at the most.

    Args:
        axes: where to draw.
        image: pixels (height, width, 3) or a picture.
        mass: mass of each patch, in raster order.
        true_patches: patches to frame, where the truth is known.
        title: title of the axes.

    Raises:
        ValueError: a negative mass.
    """
    mass = np.asarray(mass)
    if mass.min() < 0:
        raise ValueError(f"mass: the smallest entry is {mass.min():.3g}; a plan has no negative mass")
    rows, columns = mass.shape
    axes.imshow(np.asarray(image), extent=(0, columns, rows, 0))
    veil = np.ones((rows, columns, 4))
    veil[..., 3] = 0.88 * (1 - mass / mass.max())
    axes.imshow(veil, extent=(0, columns, rows, 0))
    for row, column in np.argwhere(np.zeros((rows, columns), bool) if true_patches is None else true_patches):
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=VERMILION, linewidth=2))
    hide_ticks(axes)
    axes.set(xlim=(-0.05, columns + 0.05), ylim=(rows + 0.05, -0.05))
    axes.set_title(title, fontsize=9)
    return axes


def word_patch_plan(
    axes: Axes,
    plan: Float[np.ndarray, "words patches"],
    words: Sequence[str],
    truth: Bool[np.ndarray, "words patches"],
    *,
    title: str = "",
    ceiling: float | None = None,
) -> Axes:
    """Draw a plan between words and patches; a frame stands around each pair that truly belongs together.

    Args:
        axes: where to draw.
        plan: mass that each word (row) sends to each patch (column).
        words: the words.
        truth: which pairs are about the same thing.
        title: title of the axes.
        ceiling: mass of the darkest colour; by default the largest. Give it to compare plans.

    Raises:
        ValueError: the words or the truth do not fit the plan.
    """
    plan = np.asarray(plan)
    if plan.shape != truth.shape or len(words) != len(plan):
        raise ValueError(f"plan {plan.shape}, truth {truth.shape} and {len(words)} words: they must fit each other")
    axes.imshow(plan, cmap=MASS, norm=PowerNorm(0.5, vmin=0, vmax=ceiling or plan.max()), aspect="auto")
    axes.grid(False)
    for row, column in np.argwhere(truth):
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=VERMILION, linewidth=1.4, clip_on=False)
        )
    axes.set_yticks(range(len(words)), words, fontsize=8)
    axes.set_xticks(range(0, plan.shape[1], max(1, plan.shape[1] // 4)))
    axes.set(title=title, xlabel="patch, in raster order")
    return axes


def bands(
    axes: Axes,
    curves: Mapping[str, Float[np.ndarray, "seeds steps"]],
    *,
    x: Float[np.ndarray, " steps"],
    x_label: str,
    label: str,
    title: str = "",
) -> Axes:
    """Draw curves over training: the mean over seeds as a line with marks, the range over seeds as a band.

    Args:
        axes: where to draw.
        curves: name -> one row a seed.
        x: place of each column.
        x_label: name and unit of `x`.
        label: name and unit of the curves.
        title: title of the axes.
    """
    for (name, values), colour, mark in zip(curves.items(), PALETTE, _MARKS, strict=False):
        values = np.atleast_2d(values)
        axes.plot(x, values.mean(axis=0), color=colour, marker=mark, markersize=4, label=name)
        axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    axes.set(xlabel=x_label, ylabel=label, title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)  # beside the curves, never on them
    return axes
