"""The linear probe: blind to scales and to test labels, chosen on validation; features blind to padding."""

from __future__ import annotations

import numpy as np
import pytest

from mmwa_utils.evaluation.probe import STRENGTHS, linear_probe, pool, summarise


def clouds(seed: int, *, classes: int = 3, size: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds: the first feature tells, the others are noise."""
    rng = np.random.default_rng(seed)
    size += 10 * seed
    y = rng.integers(classes, size=size)
    x = rng.standard_normal((size, 4))
    x[:, 0] += 2 * y
    return x, y


@pytest.mark.parametrize("classes", [2, 3])
def test_scales_and_origins_of_features_do_not_matter(classes: int) -> None:
    parts = [clouds(seed, classes=classes) for seed in range(3)]
    scale, shift = np.array([1e-3, 1, 50, 1e4]), np.array([5, -1, 0, 1e5])
    plain = linear_probe(*(array for part in parts for array in part))
    other = linear_probe(*(array for x, y in parts for array in (x * scale + shift, y)))
    assert (plain.predictions == other.predictions).mean() > 0.99
    assert plain.strength == other.strength
    assert 1 / classes + 0.2 < plain.accuracy == (plain.predictions == parts[2][1]).mean()


def test_nothing_is_chosen_by_test_labels() -> None:
    (train, val, (test_x, test_y)) = (clouds(seed) for seed in range(3))
    honest, mocked = (linear_probe(*train, *val, test_x, labels) for labels in (test_y, (test_y + 1) % 3))
    np.testing.assert_array_equal(honest.predictions, mocked.predictions)
    assert (honest.strength, honest.validation) == (mocked.strength, mocked.validation)


def test_the_strength_is_the_best_on_validation_and_the_smallest_of_equals() -> None:
    (train_x, train_y), val, test = (clouds(seed) for seed in range(3))
    found = linear_probe(train_x, train_y, *val, *test)
    assert found.strength in STRENGTHS
    nothing = np.zeros_like(train_x)  # all strengths predict the same
    tied = linear_probe(nothing, train_y, np.zeros_like(val[0]), val[1], np.zeros_like(test[0]), test[1])
    assert tied.strength == min(STRENGTHS)
    assert len(set(tied.predictions)) == 1


def test_pooling_is_the_mean_over_valid_tokens_whatever_the_padding_holds() -> None:
    rng = np.random.default_rng(0)
    values, mask = rng.standard_normal((3, 5, 2)), np.array([[1, 1, 1, 1, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    pooled = pool(values, mask)
    np.testing.assert_allclose(pooled, [values[0].mean(axis=0), (values[1, 0] + values[1, 3]) / 2, [0, 0]])
    np.testing.assert_allclose(pool(np.where(mask[..., None], values, 9e9), mask), pooled)


def test_a_summary_reversed_in_time_has_the_same_numbers_and_reversed_values() -> None:
    stream = np.random.default_rng(0).standard_normal((9, 2))
    there, back = (summarise(s, steps=5) for s in (stream, stream[::-1]))
    np.testing.assert_allclose(there[:10], back[:10])
    np.testing.assert_allclose(there[10:15], back[10:15][::-1])
    np.testing.assert_allclose(there[10:15], stream[::2, 0])
    assert len(summarise(stream[:1])) == 10  # one step has no change
    assert np.isfinite(summarise(stream[:1], steps=3)).all()
