"""The bootstrap: the same numbers as scikit-learn's draw by draw, seeded, clustered, and honest where undefined."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mmwa_utils.training.metrics import METRICS
from mmwa_utils.training.resampling import RESAMPLED, bootstrap, draw_counts, percentiles, resample

CASES = [(task, metric) for task, metrics in METRICS.items() for metric in metrics]


def problem(task: str, size: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Labels and logits with ties, zero labels and labels that never occur."""
    logits = rng.integers(-6, 7, (size, {"multilabel": 4, "multiclass": 3}.get(task, 1))) / 2.0
    if task == "multilabel":
        truth = (rng.random((size, 4)) < [0.5, 0.2, 0.05, 0.0]).astype(int)
    elif task == "regression":
        truth = rng.integers(-6, 7, size) / 2.0
    else:
        truth = rng.integers(0, logits.shape[1] if task == "multiclass" else 2, size)
    return truth, logits


def test_every_metric_can_be_resampled() -> None:
    assert {task: set(metrics) for task, metrics in RESAMPLED.items()} == {t: set(m) for t, m in METRICS.items()}


@pytest.mark.parametrize("size", [6, 60])
@pytest.mark.parametrize(("task", "metric"), CASES)
def test_each_draw_is_the_metric_of_the_drawn_samples(task: Any, metric: str, size: int) -> None:
    rng = np.random.default_rng(size)
    truth, logits = problem(task, size, rng)
    counts = draw_counts(size, 40, seed=1)
    fast = resample(task, metric, truth, logits, counts)
    for value, row in zip(fast, counts, strict=True):
        drawn = np.repeat(np.arange(size), row)
        assert value == pytest.approx(METRICS[task][metric](truth[drawn], logits[drawn]), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("task", "metric"), CASES)
def test_constant_predictions_are_treated_as_scikit_learn_does(task: Any, metric: str) -> None:
    truth, logits = problem(task, 30, np.random.default_rng(0))
    value = resample(task, metric, truth, np.full_like(logits, 0.1), np.ones((1, 30), int))[0]
    assert value == pytest.approx(METRICS[task][metric](truth, np.full_like(logits, 0.1)), nan_ok=True)


def test_counts_are_seeded_and_draw_whole_clusters() -> None:
    films = np.array(["a", "a", "b", "c", "c", "c"])
    counts = draw_counts(6, 200, seed=3, clusters=films)
    assert (counts == draw_counts(6, 200, seed=3, clusters=films)).all()
    assert (counts != draw_counts(6, 200, seed=4, clusters=films)).any()
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 3] == counts[:, 5]).all()
    assert (counts[:, [0, 2, 3]].sum(axis=1) == 3).all(), "as many clusters as there are"


def test_the_interval_is_seeded_and_its_width_shrinks_as_one_over_root_n() -> None:
    error = np.abs(np.random.default_rng(0).standard_normal(1600))
    widths = []
    for size in (100, 1600):
        one = bootstrap("regression", "mae", np.zeros(size), error[:size, None], seed=1)
        assert one == bootstrap("regression", "mae", np.zeros(size), error[:size, None], seed=1)
        assert one.low < one.value < one.high
        widths.append(one.high - one.low)
    assert 2.5 < widths[0] / widths[1] < 6, "a factor of sqrt(16) = 4, up to sampling error"


def test_one_class_has_no_interval() -> None:
    assert math.isnan(bootstrap("binary", "auroc", np.ones(10, int), np.arange(10.0)[:, None], draws=50).low)


def test_undefined_draws_are_left_out_up_to_half() -> None:
    nan = math.nan
    assert percentiles(np.array([1.0, 1.0, nan, nan])) == (1.0, 1.0)
    assert all(map(math.isnan, percentiles(np.array([1.0, nan, nan, nan]))))
