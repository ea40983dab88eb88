"""Figures of reliance draw what the tables say, also where a number is undefined."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from mmwa_utils.plots import figure
from mmwa_utils.plots import reliance as draw


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_a_bar_is_the_mean_of_its_runs_and_every_run_is_shown() -> None:
    rows = [("text", "drop", 0.1), ("text", "drop", 0.3), ("image", "drop", -0.1), ("text", "attention", 0.9)]
    _, axes = figure()
    draw.measures(axes, pd.DataFrame(rows, columns=["modality", "measure", "value"]), reference={"image": 0.05})
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(
        [0.2, -0.1]
    )  # attention is no change of a metric
    shown = np.concatenate([line.get_ydata() for line in axes.lines if line.get_marker() == "."])
    assert sorted(shown) == [-0.1, 0.1, 0.3]
    ((start, end),) = axes.collections[0].get_segments()
    assert start[1] == end[1] == 0.05
    assert start[0] < 1 < end[0]  # over the second modality


def means(*values: tuple[str, float, float, float]) -> pd.DataFrame:
    rows = [("digits", "late", *value) for value in values]
    return pd.DataFrame(rows, columns=["dataset", "fusion", "alignment", "mean", "low", "high"])


def test_the_index_stays_in_its_range_and_an_undefined_one_is_named() -> None:
    _, axes = figure()
    draw.imbalance(axes, means(("none", 0.8, 0.4, 1.7), ("wasserstein", np.nan, np.nan, np.nan)))
    interval = next(line for line in axes.lines if len(line.get_xdata()) == 2)
    assert list(interval.get_xdata()) == pytest.approx([0.4, 1.0])
    assert [text.get_text() for text in axes.texts] == ["undefined"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["baseline"]


def test_baseline_aligned_and_the_best_are_told_apart() -> None:
    _, axes = figure()
    draw.imbalance(axes, means(("none", 0.8, 0.7, 0.9), ("wasserstein", 0.5, 0.4, 0.6)), reference={"digits": 0.3})
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["baseline", "aligned", "reference"]
    marked = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in marked] == [0.8, 0.5, 0.3]
    assert len({line.get_marker() for line in marked}) == 3


def test_fragility_leaves_undefined_runs_out_and_hollows_the_aligned() -> None:
    rows = [("digits", "none", 0.2, 0.1), ("digits", "wasserstein", 0.3, 0.2), ("digits", "none", np.nan, 0.9)]
    _, axes = figure()
    draw.fragility(axes, pd.DataFrame(rows, columns=["dataset", "alignment", "index", "noise"]), "noise")
    full, hollow = axes.lines[:2]
    assert list(full.get_ydata()) == [0.1]
    assert list(hollow.get_ydata()) == [0.2]
    assert hollow.get_markerfacecolor() == "none"
    assert to_hex(full.get_markerfacecolor()) == to_hex(hollow.get_markeredgecolor())


def test_agreement_is_drawn_on_one_scale_with_its_line() -> None:
    rows = [("digits", "early", 0.7, 0.5), ("digits", "late", 0.6, 0.4), ("digits", "late", np.nan, 0.4)]
    _, axes = figure()
    draw.agreement(axes, pd.DataFrame(rows, columns=["dataset", "fusion", "shapley", "attention"]), "attention")
    assert axes.get_xlim() == axes.get_ylim()
    line, *points = axes.lines
    assert list(line.get_xdata()) == list(line.get_ydata()) == [0, 1]
    assert [len(point.get_xdata()) for point in points] == [1, 1]
    assert len({point.get_marker() for point in points}) == 2


def test_excess_is_coloured_by_the_side_of_its_interval() -> None:
    rows = [("a", "late", "text", 0.2, 0.1, 0.3), ("b", "late", "text", -0.2, -0.3, -0.1),
            ("c", "late", "text", 0.0, -0.1, 0.1), ("d", "late", "text", np.nan, np.nan, np.nan)]  # fmt: skip
    _, axes = figure()
    draw.excess(axes, pd.DataFrame(rows, columns=["dataset", "fusion", "modality", "mean", "low", "high"]))
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]]
    assert len({line.get_color() for line in bars}) == 3
    assert [text.get_text() for text in axes.texts] == ["undefined"]
    assert len(axes.get_yticks()) == 4
