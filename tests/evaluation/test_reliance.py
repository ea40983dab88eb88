"""Reliance: the axioms of a division, and values known exactly."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmwa_utils.evaluation.reliance import coalition_values
from mmwa_utils.evaluation.shapley import imbalance, shapley, shares, subsets
from mmwa_utils.evaluation.statistics import draw_counts
from mmwa_utils.training import Predictions

SUBSETS = [subsets("abcd"[:size]) for size in (2, 3, 4)]
NUMBERS = st.floats(-10, 10, allow_subnormal=False)


@st.composite
def games(draw: Any) -> dict[frozenset[str], float]:
    """Any value for any subset of two to four modalities."""
    return {some: draw(NUMBERS) for some in draw(st.sampled_from(SUBSETS))}


class TestShapley:
    @given(games())
    def test_is_the_mean_contribution_over_all_orders_of_arrival(self, v: dict[frozenset[str], float]) -> None:
        names = sorted(max(v, key=len))
        orders = list(permutations(names))
        for name, value in shapley(v).items():
            before = [frozenset(order[: order.index(name)]) for order in orders]
            # Sums of at most 24 terms of size 20 in double precision.
            assert value == pytest.approx(np.mean([v[some | {name}] - v[some] for some in before]), abs=1e-11)

    @given(games())
    def test_adds_up_to_what_all_gain_over_none(self, v: dict[frozenset[str], float]) -> None:
        assert sum(shapley(v).values()) == pytest.approx(v[max(v, key=len)] - v[frozenset()], abs=1e-11)

    @given(games(), NUMBERS)
    def test_one_that_adds_the_same_to_everyone_gets_just_that(
        self, v: dict[frozenset[str], float], worth: float
    ) -> None:
        joined = v | {some | {"z"}: value + worth for some, value in v.items()}
        phi = shapley(joined)
        assert phi.pop("z") == pytest.approx(worth, abs=1e-10)
        assert phi == pytest.approx(shapley(v), abs=1e-10)

    def test_refuses_a_game_with_a_hole(self) -> None:
        with pytest.raises(ValueError, match="no value of the subsets"):
            shapley({frozenset(): 0.0, frozenset("ab"): 1.0, frozenset("a"): 0.5})


class TestIndex:
    @given(st.lists(NUMBERS, min_size=2, max_size=4))
    def test_lies_between_0_and_1_wherever_something_was_gained_and_is_undefined_elsewhere(
        self, values: list[float]
    ) -> None:
        phi = dict(zip("abcd", values, strict=False))
        index = float(imbalance(phi))
        assert np.isnan(index) == (not np.sum(values) > 0)
        assert np.isnan(index) or -1e-12 <= index <= 1 + 1e-12
        assert np.isnan(index) or sum(shares(phi).values()) == pytest.approx(1)

    @given(st.lists(st.floats(1e-3, 10), min_size=2, max_size=4), st.floats(1e-3, 1e3))
    def test_does_not_depend_on_the_units_and_rises_when_the_largest_does(
        self, values: list[float], unit: float
    ) -> None:
        phi = dict(zip("abcd", values, strict=False))
        assert imbalance({m: unit * v for m, v in phi.items()}) == pytest.approx(float(imbalance(phi)), abs=1e-9)
        largest = max(phi, key=lambda m: phi[m])
        assert imbalance(phi | {largest: phi[largest] + 1}) > imbalance(phi)

    def test_of_one_modality_there_is_none(self) -> None:
        with pytest.raises(ValueError, match="two or more"):
            imbalance({"text": 1.0})


class TestKnownAnswers:
    def test_of_an_additive_truth_read_part_by_part(self) -> None:
        # y = a + b with a = +-3, b = +-1. Who knows only part of it is off by exactly the other part; who knows
        # nothing and says 0 is off by 3 on average. v = -MAE, so phi_a = ((3 - 1) + 3) / 2 and phi_b = (0 + 1) / 2.
        a, b = np.tile([3.0, 3.0, -3.0, -3.0], 25), np.tile([1.0, -1.0], 50)
        seen = {"a": a, "b": b}
        made = {
            some: Predictions(np.arange(100), np.sum([0 * a, *(seen[m] for m in some)], axis=0)[:, None], a + b)
            for some in subsets("ab")
        }
        counts = draw_counts(100, 50)
        v = coalition_values("regression", "mae", made, counts)
        phi = shapley(v)
        assert {m: value[0] for m, value in phi.items()} == pytest.approx({"a": 2.5, "b": 0.5})
        assert imbalance(phi)[0] == pytest.approx(2 * 2.5 / 3 - 1)
        # The same resample for all subsets: the parts add up in every one of them, not just on average.
        np.testing.assert_allclose(phi["a"] + phi["b"], v[frozenset("ab")] - v[frozenset()], atol=1e-12)

    def test_a_model_that_says_the_same_of_all_samples_gains_nothing_even_where_it_beats_the_prior(self) -> None:
        # Two labels, each true of every other film. The prior is just below one half and names none: F1 0. A model that
        # always names both has F1 2/3 with any modality, and reads none.
        truth, ids = np.tile([[0, 1], [1, 0]], (20, 1)), np.arange(40)
        always, never = (Predictions(ids, np.full((40, 2), logit), truth) for logit in (1.0, -0.01))
        made = {some: always if some else never for some in subsets("ab")}
        v = coalition_values("multilabel", "f1_macro", made, np.ones((1, 40), int))
        assert v[frozenset("ab")][0] == pytest.approx(2 / 3)
        assert all(value == 0 for value in shapley(v).values())
        assert np.isnan(imbalance(shapley(v))).all()
