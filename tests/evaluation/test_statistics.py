"""Intervals: seeded, clustered, honest where undefined, and as long over seeds and samples as theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mmwa_utils.evaluation.statistics import (
    Interval,
    draw_counts,
    interval,
    is_trained,
    joint_interval,
    measure,
    percentiles,
    smallest_detectable,
    verdict,
)


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


def test_an_interval_of_a_metric_ends_where_the_metric_does() -> None:
    assert Interval(0.9, 0.7, 1.2).of("f1_macro") == Interval(0.9, 0.7, 1.0)
    assert Interval(0.0, -1.2, 0.4).of("pearson") == Interval(0.0, -1.0, 0.4)
    assert Interval(0.2, -0.1, 9.0).of("mae") == Interval(0.2, 0.0, 9.0)
    undefined = Interval(0.5, math.nan, math.nan).of("auroc")
    assert math.isnan(undefined.low)
    assert math.isnan(undefined.high)


def test_an_arm_is_trained_if_its_whole_interval_is_better_than_the_trivial_predictor() -> None:
    values = np.array([0.5, 0.6, 0.7])
    half = stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    for trivial, expected in ((0.6 - 1.01 * half, True), (0.6 - 0.99 * half, False), (0.6 + 2 * half, False)):
        assert is_trained(values, trivial) is expected
        assert is_trained(-values, -trivial, higher_is_better=False) is expected
    assert not is_trained(values[:1], 0.0), "one seed has no interval"


def baseline_and_twin(seed: int, *, over_seeds: float, over_samples: float, n: int = 10) -> tuple[np.ndarray, ...]:
    """Two arms of n runs of the same law on the same 100 samples and 100 resamples: means of scores of samples."""
    rng = np.random.default_rng(seed)
    shares = draw_counts(100, 100, seed=seed) / 100
    common = rng.standard_normal((100, 1))  # hard and easy samples, for all runs: cancels in pairs
    return tuple(
        shares @ (common + over_seeds * rng.standard_normal(n) + over_samples * rng.standard_normal((100, n)))
        for _ in range(2)
    )


@pytest.mark.parametrize(("over_seeds", "over_samples"), [(0.03, 0.01), (0.03, 0.3), (0.001, 0.3)])
def test_the_smallest_detectable_effect_is_detected_four_times_in_five(over_seeds: float, over_samples: float) -> None:
    detected, alarms, draws = 0, 0, 200
    for draw in range(draws):
        baseline, twin = baseline_and_twin(draw, over_seeds=over_seeds, over_samples=over_samples)
        effect = smallest_detectable(baseline)
        with_it, without = (joint_interval(twin + added - baseline, [draw]) for added in (effect, 0.0))
        detected += with_it.low > 0
        alarms += without.low > 0 or without.high < 0
    # Of 200 draws the share .8 has a standard deviation of .028, and .05 one of .015. Ten seeds leave the effect
    # uncertain by a fifth, which costs a little power; the joint interval is rather too long.
    assert 0.7 < detected / draws < 0.9
    assert alarms / draws < 0.05 + 3 * 0.015


def test_more_seeds_and_less_spread_make_smaller_effects_detectable() -> None:
    few, many = (baseline_and_twin(0, over_seeds=0.03, over_samples=0.01, n=n)[0] for n in (5, 40))
    assert smallest_detectable(many) < 0.5 * smallest_detectable(few)
    assert smallest_detectable(3 * many) == pytest.approx(3 * smallest_detectable(many))
    assert smallest_detectable(many + np.linspace(0, 1, len(many))[:, None]) == pytest.approx(smallest_detectable(many))
    assert math.isnan(smallest_detectable(many[:, :1]))
