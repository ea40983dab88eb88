"""Figures of robustness draw what the tables say."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mmwa_utils.plots import figure
from mmwa_utils.plots import levels as draw


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
    draw.level_curves(axes, pd.concat([curve("none", 0.9, 0.7), curve("wasserstein", 0.8, 0.75)]).assign(constant=0.5))
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
        draw.level_curves(axes, pd.concat([curve("none", 0.9, 0.7), curve("none", 0.8, 0.6)]))


def test_the_way_from_clean_to_mean_has_both_ends() -> None:
    rows = pd.DataFrame({
        "modality": ["text", "image"] * 2, "alignment": ["none"] * 2 + ["wasserstein"] * 2, "metric": "auroc",
        "clean": [0.9, 0.9, 0.8, 0.8], "mean": [0.7, 0.6, 0.75, 0.7], "low": 0.5, "high": 0.95,
    })  # fmt: skip
    _, axes = figure()
    draw.clean_to_mean(axes, rows)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["text", "image"]
    ends = [segment.tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert [[x for x, _ in end] for end in ends] == [[0.9, 0.7], [0.9, 0.6], [0.8, 0.75], [0.8, 0.7]]
    # Each way lies on the line of the dot that `dots_with_bars` drew at the mean.
    dots = {(x[0], y[0]) for x, y in (line.get_data() for line in axes.lines) if len(x) == 1}
    assert {tuple(end[1]) for end in ends} <= dots
    assert axes.get_legend_handles_labels()[1] == ["baseline", "aligned"]


def test_a_panel_per_dataset_and_fusion_is_drawn_where_there_are_rows() -> None:
    one = curve("none", 0.9, 0.7).assign(dataset="a", fusion="late")
    drawing = draw.panels(one, {"a": "A (real)"}, ["early", "late"], draw.level_curves, height=2, standin=False)
    early, late = drawing.axes
    assert not early.axison
    assert late.get_title() == "A (real), late fusion" or late.get_title(loc="left") == "A (real), late fusion"


def test_no_two_methods_look_alike() -> None:
    _, axes = figure()
    names = ["none", "wasserstein", "a", "b", "c", "d", "e", "f"]
    draw.level_curves(axes, pd.concat([curve(name, 0.95, 0.05) for name in names]))
    looks = {(c.lines[0].get_color(), c.lines[0].get_marker()) for c in axes.containers}
    assert len(looks) == len({colour for colour, _ in looks}) == len(names)
