"""Intervals: seeded, clustered, honest where undefined, and as long over seeds and samples as theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mmwa_utils.evaluation.statistics import draw_counts, interval, joint_interval, measure, percentiles, verdict


def test_counts_are_seeded_and_draw_whole_clusters() -> None:
    films = np.array(["a", "a", "b", "c", "c", "c"])
    counts = draw_counts(6, 200, seed=3, clusters=films)
    assert (counts[0] == 1).all(), "the split itself comes first"
    assert (counts == draw_counts(6, 200, seed=3, clusters=films)).all()
    assert (counts != draw_counts(6, 200, seed=4, clusters=films)).any()
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 3] == counts[:, 5]).all()
    assert (counts[1:, [0, 2, 3]].sum(axis=1) == 3).all(), "as many clusters as there are"


def test_the_interval_is_seeded_and_its_width_shrinks_as_one_over_root_n() -> None:
    error = np.abs(np.random.default_rng(0).standard_normal(1600))
    widths = []
    for size in (100, 1600):
        one, again = (
            interval(measure("regression", "mae", np.zeros(size), error[:size, None], draw_counts(size, 1000, seed=1)))
            for _ in range(2)
        )
        assert one == again
        assert one.low < one.value < one.high
        widths.append(one.high - one.low)
    assert 2.5 < widths[0] / widths[1] < 6, "a factor of sqrt(16) = 4, up to sampling error"


def test_one_class_has_no_interval() -> None:
    values = measure("binary", "auroc", np.ones(10, int), np.arange(10.0)[:, None], draw_counts(10, 50))
    assert math.isnan(interval(values).low)


def test_undefined_draws_are_left_out_up_to_half() -> None:
    nan = math.nan
    assert percentiles(np.array([1.0, 1.0, nan, nan])) == (1.0, 1.0)
    assert all(map(math.isnan, percentiles(np.array([1.0, nan, nan, nan]))))


def test_without_spread_over_samples_the_interval_is_students() -> None:
    here = np.array([0.01, 0.03, 0.02])
    found = joint_interval(np.tile(here, (301, 1)), [0])
    half = stats.t.ppf(0.975, 2) * here.std(ddof=1) / np.sqrt(3)
    # 30000 draws of t_2, whose density at its 97.5 % quantile is 0.006: the quantile's own error is 4 % of it.
    assert [found.low, found.high] == pytest.approx([0.02 - half, 0.02 + half], abs=0.15 * half)


@pytest.mark.parametrize(
    ("low", "high", "up", "expected"), [(-0.1, 0.1, True, "cannot tell"), (-2, -1, False, "helps")]
)
def test_a_verdict_knows_which_way_is_better(low: float, high: float, up: bool, expected: str) -> None:
    assert verdict(low, high, higher_is_better=up) == expected


def test_an_undefined_interval_is_no_verdict() -> None:
    assert verdict(float("nan"), float("nan")) == "cannot tell"


def test_one_seed_and_mostly_undefined_resamples_have_no_joint_interval() -> None:
    assert math.isnan(joint_interval(np.zeros((9, 1)), [0]).low)
    values = np.zeros((9, 2))
    values[2:, 0] = math.nan
    assert math.isnan(joint_interval(values, [0]).low)
