"""The bootstrap: every metric of every task for many resamples of the test split at once.

A resample is a row of *counts*, how often each sample was drawn. All our metrics are functions of weighted sums over
samples, so a matrix of counts gives all resamples in a few array operations; calling scikit-learn once a resample would
take longer than training a small model. Each function here equals its namesake of `metrics` on every row, which a test
checks draw by draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from scipy.special import expit

from mmwa_utils.training.metrics import METRICS
from mmwa_utils.types import Task

Truth = Num[np.ndarray, "samples ..."]
Logits = Float[np.ndarray, "samples outputs"]
Counts = Int[np.ndarray, "draws samples"]
Values = Float[np.ndarray, " draws"]
Resampled = Callable[[Any, Any, Any], Values]


@dataclass(frozen=True)
class Interval:
    """A value with its percentile bootstrap interval."""

    value: float
    low: float
    high: float


def draw_counts(
    size: int, draws: int, *, seed: int = 0, clusters: Shaped[np.ndarray, " samples"] | None = None
) -> Counts:
    """Return how often each of `size` samples occurs in each of `draws` resamples with replacement.

    Args:
        size: samples of the split; a resample has as many.
        draws: number of resamples.
        seed: of the draws alone.
        clusters: what each sample belongs to, such as the film of a plot; whole clusters are drawn, as many as there
            are. None draws samples.

    >>> draw_counts(4, 3).sum(axis=1)
    array([4, 4, 4])
    """
    owner = np.arange(size) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    total = int(owner.max()) + 1
    generator = np.random.default_rng(seed)
    drawn = np.stack([np.bincount(generator.integers(total, size=total), minlength=total) for _ in range(draws)])
    return drawn[:, owner]


def bootstrap(
    task: Task, metric: str, truth: Truth, logits: Logits, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return a metric with a seeded percentile bootstrap interval over samples.

    A resample for which the metric is undefined (one class only) is left out; with fewer than half of them defined
    the interval is NaN.

    Args:
        task: the dataset's task.
        metric: one of the task's metrics.
        truth: the true labels.
        logits: the model's outputs.
        draws: number of resamples with replacement.
        level: coverage of the interval.
        seed: of the resampling alone.

    >>> truth = np.arange(50.0)
    >>> bootstrap("regression", "mae", truth, truth[:, None] + 1.0, draws=20)
    Interval(value=1.0, low=1.0, high=1.0)
    """
    values = resample(task, metric, truth, logits, draw_counts(len(truth), draws, seed=seed))
    return Interval(METRICS[task][metric](truth, logits), *percentiles(values, level))


def resample(task: Task, metric: str, truth: Truth, logits: Logits, counts: Counts) -> Values:
    """Return a metric of every resample; NaN where it is undefined."""
    return RESAMPLED[task][metric](truth, logits, counts)


def percentiles(values: Values, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval of the defined values; NaN where fewer than half are defined."""
    defined = values[np.isfinite(values)]
    if 2 * len(defined) < len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(above: Num[np.ndarray, "*shape"], below: Num[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return above / below, and 0 where below is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below != 0)


def _mean_of(score: Callable[[Any, Any], Num[np.ndarray, " samples"]]) -> Resampled:
    """Return the metric that is the mean over samples of a score of each."""

    def resampled(truth: Truth, logits: Logits, counts: Counts) -> Values:
        return counts @ score(truth, logits) / counts.sum(axis=1)

    return resampled


def _above_thresholds(
    truth: Truth, logits: Logits, counts: Counts
) -> tuple[Int[np.ndarray, "draws thresholds"], Int[np.ndarray, "draws thresholds"]]:
    """Return true and false positives at each distinct score, from none (threshold above all) to all."""
    score = logits[:, 0]
    order = np.argsort(-score, kind="stable")
    first = np.flatnonzero(np.diff(score[order], prepend=np.inf))  # ties have one threshold
    positive = truth[order].astype(bool)
    parts = (counts[:, order] * kept for kept in (positive, ~positive))
    true, false = (np.add.reduceat(part, first, axis=1).cumsum(axis=1) for part in parts)
    return np.pad(true, ((0, 0), (1, 0))), np.pad(false, ((0, 0), (1, 0)))


def _auroc(truth: Truth, logits: Logits, counts: Counts) -> Values:
    """Area by trapezoids, which counts a tie as half."""
    true, false = _above_thresholds(truth, logits, counts)
    area = (np.diff(false) * (true[:, 1:] + true[:, :-1]) / 2).sum(axis=1)
    total = true[:, -1] * false[:, -1]
    return np.where(total > 0, _ratio(area, total), np.nan)


def _auprc(truth: Truth, logits: Logits, counts: Counts) -> Values:
    """Average precision: precision at each threshold, weighted by the recall gained there."""
    true, false = _above_thresholds(truth, logits, counts)
    precision = _ratio(true[:, 1:], true[:, 1:] + false[:, 1:])
    total = true[:, -1]
    return np.where(total > 0, _ratio((np.diff(true) * precision).sum(axis=1), total), np.nan)


def _f1(true: Num[np.ndarray, ...], predicted: Num[np.ndarray, ...], both: Num[np.ndarray, ...]) -> Any:
    """2 TP / (TP + FN + TP + FP), and 0 where nothing is true or predicted."""
    return _ratio(2.0 * both, true + predicted)


def _multilabel_f1(average: str) -> Resampled:
    def resampled(truth: Truth, logits: Logits, counts: Counts) -> Values:
        true, predicted = truth.astype(bool), expit(logits) > 0.5
        if average == "samples":
            return counts @ _f1(*(a.sum(1) for a in (true, predicted, true & predicted))) / counts.sum(axis=1)
        sums = tuple(counts @ a.astype(float) for a in (true, predicted, true & predicted))
        if average == "micro":
            return _f1(*(a.sum(axis=1) for a in sums))
        per_label = _f1(*sums)
        if average == "macro":
            return per_label.mean(axis=1)
        return _ratio((per_label * sums[0]).sum(axis=1), sums[0].sum(axis=1))

    return resampled


def _pearson(truth: Truth, logits: Logits, counts: Counts) -> Values:
    share = counts / counts.sum(axis=1, keepdims=True)
    x, y = truth - truth.mean(), logits[:, 0] - logits[:, 0].mean()
    xx, yy, xy = (share @ (a * b) - (share @ a) * (share @ b) for a, b in ((x, x), (y, y), (x, y)))
    # A resample in which one side is constant has variance 0 but for rounding.
    defined = (xx > 1e-12 * np.mean(x * x)) & (yy > 1e-12 * np.mean(y * y))
    return np.where(defined, xy / np.sqrt(np.where(defined, xx * yy, 1)), np.nan)


def _sentiment_2(score: str, *, drop_zeros: bool) -> Resampled:
    def resampled(truth: Truth, logits: Logits, counts: Counts) -> Values:
        kept = truth != 0 if drop_zeros else np.ones(len(truth), dtype=bool)
        counts, x, y = counts[:, kept], truth[kept], logits[kept, 0]
        true, predicted = (x > 0, y > 0) if drop_zeros else (x >= 0, y >= 0)
        total = counts.sum(axis=1)
        if score == "accuracy":
            value = _ratio(counts @ (true == predicted), total)
        else:
            value = sum(_weighted_f1(true == side, predicted == side, counts) for side in (True, False)) / np.maximum(
                total, 1
            )
        return np.where(total > 0, value, np.nan)

    return resampled


def _weighted_f1(true: Bool[np.ndarray, " samples"], predicted: Bool[np.ndarray, " samples"], counts: Counts) -> Any:
    support, found, both = (counts @ a.astype(float) for a in (true, predicted, true & predicted))
    return support * _f1(support, found, both)


def _rounded(values: Num[np.ndarray, " samples"]) -> Num[np.ndarray, " samples"]:
    return np.rint(np.clip(values, -3, 3))


RESAMPLED: Mapping[Task, Mapping[str, Resampled]] = {
    "binary": {
        "auroc": _auroc,
        "auprc": _auprc,
        "accuracy": _mean_of(lambda truth, logits: truth == (logits[:, 0] > 0)),
    },
    "multiclass": {"accuracy": _mean_of(lambda truth, logits: truth == logits.argmax(axis=1))},
    "multilabel": {f"f1_{average}": _multilabel_f1(average) for average in ("macro", "micro", "weighted", "samples")},
    "regression": {
        "mae": _mean_of(lambda truth, logits: np.abs(truth - logits[:, 0])),
        "pearson": _pearson,
        "accuracy_7": _mean_of(lambda truth, logits: _rounded(truth) == _rounded(logits[:, 0])),
        "accuracy_2": _sentiment_2("accuracy", drop_zeros=False),
        "f1_2": _sentiment_2("f1", drop_zeros=False),
        "accuracy_2_nonzero": _sentiment_2("accuracy", drop_zeros=True),
        "f1_2_nonzero": _sentiment_2("f1", drop_zeros=True),
    },
}
"""Task -> metric name -> values(truth, logits, counts); the same names as in `metrics.METRICS`."""
