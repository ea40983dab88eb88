"""Figures of robustness draw what the tables say."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmwa_utils.plots import figure
from mmwa_utils.plots import robustness as draw


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def curve(alignment: str, *values: float) -> pd.DataFrame:
    levels = np.linspace(0, 0.75, len(values))
    rows = pd.DataFrame({"alignment": alignment, "level": levels, "value": values, "metric": "auroc"})
    return rows.assign(low=rows["value"] - 0.1, high=rows["value"] + 0.2)


def test_each_alignment_has_a_curve_with_its_interval() -> None:
    _, axes = figure()
    draw.curves(axes, pd.concat([curve("none", 0.9, 0.7), curve("wasserstein", 0.8, 0.75)]), reference=0.5)
    assert [container.get_label() for container in axes.containers] == ["baseline", "aligned"]
    line, _, (bars,) = axes.containers[0].lines
    assert line.get_ydata() == pytest.approx([0.9, 0.7])
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == pytest.approx(
        np.array([[0.8, 1.1], [0.6, 0.9]])
    )
    assert len({c.lines[0].get_color() for c in axes.containers}) == 2
    assert len({c.lines[0].get_marker() for c in axes.containers}) == 2


def test_curves_of_two_modalities_in_one_table_are_refused() -> None:
    _, axes = figure()
    with pytest.raises(ValueError, match="same level"):
        draw.curves(axes, pd.concat([curve("none", 0.9, 0.7), curve("none", 0.8, 0.6)]))


def test_the_order_of_names_is_the_order_of_curves() -> None:
    _, axes = figure()
    table = pd.concat([curve("none", 0.9, 0.7), curve("coral", 0.8, 0.75)])
    draw.curves(axes, table, names=["coral", "none"])
    assert [container.get_label() for container in axes.containers] == ["coral", "baseline"]


def test_a_value_is_a_picture_a_text_or_a_stream() -> None:
    _, axes = figure(1, 3)
    for panel, shown in zip(axes, [Image.new("RGB", (4, 6)), "", np.ones((3, 2), np.float32)], strict=True):
        draw.value(panel, shown, title="level 0")
    assert [len(panel.images) for panel in axes] == [1, 0, 1]
    assert axes[1].texts[0].get_text() == "(empty)"


def test_the_way_from_clean_to_mean_has_both_ends() -> None:
    rows = pd.DataFrame({
        "modality": ["text", "image"] * 2, "alignment": ["none"] * 2 + ["wasserstein"] * 2, "metric": "auroc",
        "clean": [0.9, 0.9, 0.8, 0.8], "mean": [0.7, 0.6, 0.75, 0.7], "low": 0.5, "high": 0.95,
    })  # fmt: skip
    _, axes = figure()
    draw.clean_to_mean(axes, rows)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["text", "image"]
    ends = [segment[:, 0].tolist() for lines in axes.collections[:1] for segment in lines.get_segments()]
    assert ends == [[0.9, 0.7], [0.9, 0.6]]
    assert [container.get_label() for container in axes.containers] == ["baseline", "aligned"]


def test_bars_end_where_the_metric_does_and_no_two_methods_look_alike() -> None:
    _, axes = figure()
    names = ["none", "wasserstein", "a", "b", "c", "d", "e", "f"]
    draw.curves(axes, pd.concat([curve(name, 0.95, 0.05) for name in names]), bounds=(0.0, 1.0))
    bars = np.concatenate([segment[:, 1] for c in axes.containers for segment in c.lines[2][0].get_segments()])
    assert (bars.min(), bars.max()) == pytest.approx((0.0, 1.0))
    looks = {(c.lines[0].get_color(), c.lines[0].get_marker()) for c in axes.containers}
    assert len(looks) == len({colour for colour, _ in looks}) == len(names)
