"""Figures of training draw what the tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmwa_utils.plots import arms as draw
from mmwa_utils.plots import figure


def history(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"epoch": np.arange(1, len(values) + 1), "val_auroc": values})


def test_the_mean_curve_ends_where_the_first_seed_stops() -> None:
    _, axes = figure()
    draw.learning_curves(axes, {"none": [history(0.1, 0.3, 0.5), history(0.3, 0.5)]}, "val_auroc", label="AUROC")
    assert axes.lines[-1].get_ydata() == pytest.approx([0.2, 0.4])


def test_baseline_and_aligned_differ_in_colour_and_mark() -> None:
    _, axes = figure()
    histories = {"none": [history(0.1, 0.2)], "wasserstein": [history(0.2, 0.3)]}
    draw.learning_curves(axes, histories, "val_auroc", label="AUROC")
    means = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in means] == ["baseline", "aligned"]
    assert len({line.get_color() for line in means}) == len({line.get_marker() for line in means}) == 2


def test_an_unknown_column_is_named() -> None:
    _, axes = figure()
    with pytest.raises(KeyError, match="val_f1"):
        draw.learning_curves(axes, {"none": [history(0.1)]}, "val_f1", label="F1")


def test_a_comparison_shows_every_seed_every_mean_and_every_reference() -> None:
    arms = pd.MultiIndex.from_product([["early", "late"], ["none", "wasserstein"]], names=["fusion", "alignment"])
    rng = np.random.default_rng(0)
    means = pd.DataFrame({"mean": rng.random(4)}, index=arms).reset_index().assign(metric="auroc")
    summary = means.assign(low=means["mean"] - 0.1, high=means["mean"] + 0.1)
    table = pd.concat([means.assign(seed=seed, value=rng.random(4)) for seed in range(3)])
    _, axes = figure()
    draw.seed_dots(axes, table, summary, metric="auroc", references={"trivial": 0.5})
    drawn = np.concatenate([np.asarray(line.get_xdata(), float) for line in axes.lines])
    for value in [*table["value"], *summary["mean"], *summary["low"], *summary["high"]]:
        assert np.isclose(drawn, value).any()
    (trivial,) = (line for line in axes.lines if line.get_label() == "trivial")
    assert np.allclose(trivial.get_xdata(), 0.5)
    assert len({label.get_text() for label in axes.get_yticklabels()}) == 4


def test_differences_with_one_name_keep_their_rows_and_state_their_verdicts() -> None:
    table = pd.DataFrame({"fusion": "late", "alignment": "wasserstein", "metric": "mae", "difference": [0.0, 0.5, 0.2]})
    table = table.assign(low=table["difference"] - 0.1, high=table["difference"] + 0.1)
    table["verdict"] = ["cannot tell", "hurts", "hurts"]
    _, axes = figure()
    draw.difference_bars(axes, table)
    assert any(np.allclose(line.get_xdata(), 0) and len(line.get_xdata()) == 2 for line in axes.lines)
    assert [(text.get_text(), text.xy[1]) for text in axes.texts] == list(zip(table["verdict"], range(3), strict=True))
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
    assert dots == list(zip(table["difference"], range(3), strict=True))


def test_bars_are_as_long_as_the_shares() -> None:
    _, axes = figure()
    draw.label_balance(axes, {"train": {"a": 0.25, "b": 0.75}})
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([25, 75])


def test_an_absent_picture_says_so_and_spare_axes_stay_blank() -> None:
    _, axes = figure(1, 3)
    draw.pictures(axes, [np.zeros((2, 2, 3)), None], ["here", "not here"])
    assert [len(panel.images) for panel in axes] == [1, 0, 0]
    assert [text.get_text() for text in axes[1].texts] == ["absent"]
