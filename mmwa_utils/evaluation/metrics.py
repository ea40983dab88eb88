"""Every metric of every task, defined once, for many weightings of the samples at a time.

A metric is called with (truth, logits, counts); a row of counts says how often each sample occurs. With all counts one
it is the metric of the split as it is; with the counts of a resample it is the metric of that resample. All our metrics
are functions of weighted sums over samples, so a matrix of counts takes a few array operations where calling
scikit-learn once per resample would take longer than training a small model. The tests compare both draw by draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy.special import expit

from mmwa_utils.types import DatasetSpec, Task

Truth = Num[np.ndarray, "samples ..."]
Logits = Float[np.ndarray, "samples outputs"]
Counts = Int[np.ndarray, "resamples samples"]
Values = Float[np.ndarray, " resamples"]
Metric = Callable[[Any, Any, Any], Values]
LOWER_IS_BETTER = frozenset({"mae"})


def auroc(truth: Truth, logits: Logits, counts: Counts) -> Values:
    """Area under the ROC curve by trapezoids, which count a tie as half; NaN where all samples are of one class."""
    true, false = _above_thresholds(truth, logits, counts)
    area = (np.diff(false) * (true[:, 1:] + true[:, :-1]) / 2).sum(axis=1)
    total = true[:, -1] * false[:, -1]
    return np.where(total > 0, _ratio(area, total), np.nan)


def auprc(truth: Truth, logits: Logits, counts: Counts) -> Values:
    """Average precision: precision at each threshold, weighted by the recall gained there; NaN without a positive."""
    true, false = _above_thresholds(truth, logits, counts)
    precision = _ratio(true[:, 1:], true[:, 1:] + false[:, 1:])
    total = true[:, -1]
    return np.where(total > 0, _ratio((np.diff(true) * precision).sum(axis=1), total), np.nan)


def _above_thresholds(
    truth: Truth, logits: Logits, counts: Counts
) -> tuple[Int[np.ndarray, "resamples thresholds"], Int[np.ndarray, "resamples thresholds"]]:
    """Return true and false positives at each distinct score, from none (threshold above all) to all."""
    score = logits[:, 0]
    order = np.argsort(-score, kind="stable")
    first = np.flatnonzero(np.diff(score[order], prepend=np.inf))  # ties share one threshold
    positive = truth[order].astype(bool)
    parts = (counts[:, order] * kept for kept in (positive, ~positive))
    true, false = (np.add.reduceat(part, first, axis=1).cumsum(axis=1) for part in parts)
    return np.pad(true, ((0, 0), (1, 0))), np.pad(false, ((0, 0), (1, 0)))


def pearson(truth: Truth, logits: Logits, counts: Counts) -> Values:
    """Pearson correlation of raw values; NaN where either side is constant."""
    share = counts / counts.sum(axis=1, keepdims=True)
    x, y = truth - truth.mean(), logits[:, 0] - logits[:, 0].mean()
    xx, yy, xy = (share @ (a * b) - (share @ a) * (share @ b) for a, b in ((x, x), (y, y), (x, y)))
    # A resample in which one side is constant has variance 0 but for rounding.
    defined = (xx > 1e-12 * np.mean(x * x)) & (yy > 1e-12 * np.mean(y * y))
    return np.where(defined, xy / np.sqrt(np.where(defined, xx * yy, 1)), np.nan)


def mean_of(score: Callable[[Any, Any], Num[np.ndarray, " samples"]]) -> Metric:
    """Return the metric that is the mean over samples of a score of each."""
    return lambda truth, logits, counts: counts @ score(truth, logits) / counts.sum(axis=1)


def multilabel_f1(average: str) -> Metric:
    """Return the F1 of labels at probability 0.5; `average` is macro, micro, weighted or samples; 0 where undefined."""

    def metric(truth: Truth, logits: Logits, counts: Counts) -> Values:
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

    return metric


def sentiment_2(score: str, *, drop_zeros: bool) -> Metric:
    """Return a metric of two-class sentiment, which the literature has in two variants.

    Args:
        score: "accuracy" or "f1" (weighted by the true shares, so not symmetric in truth and prediction).
        drop_zeros: False compares negative with non-negative on all samples; True compares negative with
            positive and leaves out the samples whose true value is 0.
    """

    def metric(truth: Truth, logits: Logits, counts: Counts) -> Values:
        kept = truth != 0 if drop_zeros else np.ones(len(truth), dtype=bool)
        counts, x, y = counts[:, kept], truth[kept], logits[kept, 0]
        true, predicted = (x > 0, y > 0) if drop_zeros else (x >= 0, y >= 0)
        if score == "accuracy":
            above = counts @ (true == predicted)
        else:
            above = sum(_supported_f1(true == side, predicted == side, counts) for side in (True, False))
        total = counts.sum(axis=1)
        return np.where(total > 0, _ratio(above, total), np.nan)

    return metric


def _supported_f1(true: Bool[np.ndarray, " samples"], predicted: Bool[np.ndarray, " samples"], counts: Counts) -> Any:
    """Return the F1 of one class times the number of samples that truly are of it."""
    support, found, both = (counts @ a.astype(float) for a in (true, predicted, true & predicted))
    return support * _f1(support, found, both)


def _f1(true: Num[np.ndarray, ...], predicted: Num[np.ndarray, ...], both: Num[np.ndarray, ...]) -> Any:
    """2 TP / (TP + FN + TP + FP), and 0 where nothing is true or predicted."""
    return _ratio(2.0 * both, true + predicted)


def _ratio(above: Num[np.ndarray, "*shape"], below: Num[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return above / below, and 0 where below is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below != 0)


def _seven(values: Num[np.ndarray, " samples"]) -> Num[np.ndarray, " samples"]:
    """Return the sentiment classes -3..3: clip, and round half to even."""
    return np.rint(np.clip(values, -3, 3))


METRICS: Mapping[Task, Mapping[str, Metric]] = {
    "binary": {
        "auroc": auroc,
        "auprc": auprc,
        "accuracy": mean_of(lambda truth, logits: truth == (logits[:, 0] > 0)),
    },
    "multiclass": {"accuracy": mean_of(lambda truth, logits: truth == logits.argmax(axis=1))},
    "multilabel": {f"f1_{average}": multilabel_f1(average) for average in ("macro", "micro", "weighted", "samples")},
    "regression": {
        "mae": mean_of(lambda truth, logits: np.abs(truth - logits[:, 0])),
        "pearson": pearson,
        "accuracy_7": mean_of(lambda truth, logits: _seven(truth) == _seven(logits[:, 0])),
        "accuracy_2": sentiment_2("accuracy", drop_zeros=False),
        "f1_2": sentiment_2("f1", drop_zeros=False),
        "accuracy_2_nonzero": sentiment_2("accuracy", drop_zeros=True),
        "f1_2_nonzero": sentiment_2("f1", drop_zeros=True),
    },
}
"""Task -> metric name -> metric(truth, logits, counts)."""


def bounds(metric: str) -> tuple[float, float]:
    """Return the least and the largest value that a metric can have.

    >>> bounds("auroc"), bounds("pearson"), bounds("mae")
    ((0.0, 1.0), (-1.0, 1.0), (0.0, inf))
    """
    return {"pearson": (-1.0, 1.0), "mae": (0.0, float("inf"))}.get(metric, (0.0, 1.0))


def headline(spec: DatasetSpec) -> str:
    """Return the metric that enters averages over datasets: one that is higher where better, and 1 at best.

    It is the dataset's own metric; where that is an error (CMU-MOSEI), the accuracy of negative against non-negative.
    """
    return spec.metric if spec.higher_is_better else "accuracy_2"


def compute_metrics(spec: DatasetSpec, truth: Truth, logits: Logits) -> dict[str, float]:
    """Return all metrics of the dataset's task on the samples as they are.

    Raises:
        ValueError: the dataset's own metric is none of its task's.

    >>> from mmwa_utils.types import ModalitySpec
    >>> spec = DatasetSpec("demo", (ModalitySpec("text", "text"),), "multilabel", 2, ("a", "b"), "f1_macro")
    >>> found = compute_metrics(spec, np.array([[1, 0], [1, 1]]), np.array([[2.0, -1.0], [1.0, -3.0]]))
    >>> found["f1_macro"], found["f1_micro"]
    (0.5, 0.8)
    """
    available = METRICS[spec.task]
    if spec.metric not in available:
        raise ValueError(f"{spec.name}: metric {spec.metric!r} is none of {', '.join(available)} ({spec.task})")
    once = np.ones((1, len(truth)), int)
    return {name: float(metric(truth, logits, once)[0]) for name, metric in available.items()}


def trivial_logits(spec: DatasetSpec, train_truth: Truth, size: int) -> Float[np.ndarray, "size outputs"]:
    """Return the outputs of a predictor that sees no input: the training split's prior (its median for regression).

    Shape (size, outputs), like a model's: the baseline beside every table.
    """
    if spec.task == "regression":
        outputs = np.array([np.median(train_truth)])
    elif spec.task == "multiclass":
        shares = np.bincount(train_truth.astype(int), minlength=spec.n_labels) / len(train_truth)
        outputs = np.log(np.maximum(shares, 1e-12))
    else:
        shares = np.clip(np.atleast_1d(train_truth.mean(axis=0)), 1e-6, 1 - 1e-6)
        outputs = np.log(shares / (1 - shares))
    return np.tile(outputs, (size, 1))
