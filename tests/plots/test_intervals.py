"""Dots with bars show what the table says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from mmwa_utils.plots import dots_with_bars, figure

COLUMNS: dict[str, Any] = {"label": "name", "value": "mean", "low": "low", "high": "high"}


@pytest.fixture
def axes() -> Iterator[Axes]:
    drawing, axes = figure()
    yield axes
    drawing.canvas.draw()  # a figure that cannot be rendered fails here, whatever the test looked at


def table(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "model"])


def test_a_dot_is_filled_where_the_interval_excludes_the_reference(axes: Axes) -> None:
    rows = table(("yes", 0.5, 0.4, 0.6, "a"), ("no", 0.1, -0.1, 0.2, "a"), ("below", -0.5, -0.6, -0.4, "a"))
    dots_with_bars(rows, **COLUMNS, ax=axes)
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == [(0.5, 0), (0.1, 1), (-0.5, 2)]
    filled = [dot.get_markerfacecolor() == dot.get_color() for dot in dots]
    assert filled == [True, False, True]
    bars = [tuple(line.get_xdata()) for line in axes.lines if line.get_marker() == "|"]
    assert bars == [(0.4, 0.6), (-0.1, 0.2), (-0.6, -0.4)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row is on top"


def test_a_value_without_interval_is_a_cross_and_no_value_keeps_its_line(axes: Axes) -> None:
    dots_with_bars(table(("one seed", 0.3, np.nan, np.nan, "a"), ("none", *[np.nan] * 3, "a")), **COLUMNS, ax=axes)
    assert not any(line.get_marker() in ("|", "o") for line in axes.lines)
    assert axes.lines[0].get_marker() == "x"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["one seed", "none"]


def test_groups_share_a_line_apart_and_in_their_own_colours(axes: Axes) -> None:
    rows = table(("whole", 0.9, 0.8, 1.0, "early"), ("whole", 0.7, 0.6, 0.8, "late"), ("cut", 0.5, 0.4, 0.6, "late"))
    dots_with_bars(rows, **COLUMNS, colour="model", colours={"late": "#123456"}, reference=None, ax=axes)
    dots = [line for line in axes.lines if len(line.get_xdata()) == 1]
    places = [dot.get_ydata()[0] for dot in dots]
    np.testing.assert_array_equal(np.round(places), [0, 0, 1])
    assert places[0] != places[1]
    assert [dot.get_color() == "#123456" for dot in dots] == [False, True, True]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["early", "late"]
