"""Figures of sensitivity draw what the tables say."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mmwa_utils.plots import figure
from mmwa_utils.plots import sensitivity as draw


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_a_map_writes_every_number_and_is_white_at_zero() -> None:
    _, axes = figure()
    table = pd.DataFrame([[0.1, -0.2], [0.0, np.nan]], index=[0.1, 5.0], columns=[0.4, 1.0])
    draw.heat_map(axes, table)
    assert [text.get_text() for text in axes.texts] == ["+0.100", "−0.200", "+0.000"]
    image = axes.images[0]
    assert (image.norm.vmin, image.norm.vmax) == (-0.2, 0.2)
    assert min(image.cmap(image.norm(0.0))[:3]) > 0.9
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.4", "1"]


def test_the_default_is_framed_and_a_map_of_zeros_is_drawn() -> None:
    _, axes = figure()
    table = pd.DataFrame(np.zeros((2, 3)), index=[0.1, 5.0], columns=[0.4, 1.0, 10.0])
    draw.heat_map(axes, table, default=(5.0, 1.0))
    (frame,) = axes.patches
    assert (frame.get_x(), frame.get_y()) == (0.5, 0.5)


def test_a_forest_follows_the_names_and_fills_what_excludes_zero() -> None:
    _, axes = figure()
    rows = [("b", 0.5, 0.1), ("a", 0.0, 0.2), ("one seed", 0.3, np.nan), ("not asked", 9.0, 0.1)]
    table = pd.DataFrame([{"name": n, "difference": d, "low": d - h, "high": d + h} for n, d, h in rows])
    names = ["a", "b", "one seed", "not measured"]
    draw.forest(axes, table, names)
    marks = {int(bars.lines[0].get_ydata()[0]): bars.lines[0].get_marker() for bars in axes.containers}
    assert marks == {0: "o", 1: "D"}
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert any(line.get_marker() == "x" for line in axes.lines)
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first name is on top"


def test_a_metric_by_setting_shows_every_run_and_the_means() -> None:
    _, axes = figure()
    rows = [
        {"rate": rate, "alignment": arm, "value": rate * factor}
        for rate in (1e-3, 1e-2)
        for arm in ("none", "wasserstein")
        for factor in (1, 3)
    ]
    draw.by_setting(axes, pd.DataFrame(rows), x="rate", label="accuracy")
    means = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in means] == ["baseline", "aligned"]
    assert means[0].get_ydata() == pytest.approx([2e-3, 2e-2])
    assert sum(len(line.get_ydata()) for line in axes.lines if line not in means) == len(rows)
    assert axes.get_xscale() == "log"
