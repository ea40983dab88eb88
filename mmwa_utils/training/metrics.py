"""Metrics by task, from scikit-learn and SciPy.

Every function takes (truth, scores) in this order: a weighted F1 is not symmetric in its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.special import expit
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, mean_absolute_error, roc_auc_score

from mmwa_utils.types import DatasetSpec, Task

Truth = Num[np.ndarray, "samples ..."]
Logits = Float[np.ndarray, "samples outputs"]
Metric = Callable[[Truth, Logits], float]


def auroc(truth: Int[np.ndarray, " samples"], logits: Logits) -> float:
    """Area under the ROC curve; NaN where the samples are of one class only, since it is undefined there."""
    return float("nan") if len(np.unique(truth)) < 2 else float(roc_auc_score(truth, logits[:, 0]))


def auprc(truth: Int[np.ndarray, " samples"], logits: Logits) -> float:
    """Area under the precision-recall curve (average precision); NaN without a positive sample."""
    return float("nan") if not truth.any() else float(average_precision_score(truth, logits[:, 0]))


def binary_accuracy(truth: Int[np.ndarray, " samples"], logits: Logits) -> float:
    """Share of samples on the right side of probability 0.5."""
    return float(accuracy_score(truth, logits[:, 0] > 0))


def accuracy(truth: Int[np.ndarray, " samples"], logits: Logits) -> float:
    """Share of samples whose largest logit is the true class."""
    return float(accuracy_score(truth, logits.argmax(axis=1)))


def multilabel_f1(average: str) -> Metric:
    """F1 of labels at probability 0.5; `average` is macro, micro, weighted or samples; 0 where undefined.

    >>> truth, logits = np.array([[1, 0], [1, 1]]), np.array([[2.0, -1.0], [1.0, -3.0]])
    >>> multilabel_f1("macro")(truth, logits), round(multilabel_f1("micro")(truth, logits), 3)
    (0.5, 0.8)
    """

    def metric(truth: Truth, logits: Logits) -> float:
        return float(f1_score(truth.astype(int), (expit(logits) > 0.5).astype(int), average=average, zero_division=0))

    return metric


def mae(truth: Truth, logits: Logits) -> float:
    """Mean absolute error in the units of the label."""
    return float(mean_absolute_error(truth, logits[:, 0]))


def pearson(truth: Truth, logits: Logits) -> float:
    """Pearson correlation of raw values; NaN where either side is constant."""
    prediction = logits[:, 0]
    if np.ptp(truth) == 0 or np.ptp(prediction) == 0:
        return float("nan")
    return float(pearsonr(truth, prediction).statistic)


def accuracy_7(truth: Truth, logits: Logits) -> float:
    """Accuracy of the seven sentiment classes -3..3: clip, round half to even, compare.

    >>> accuracy_7(np.array([0.5, 3.0]), np.array([[0.4], [7.0]]))
    1.0
    """
    return float(np.mean(_seven(truth) == _seven(logits[:, 0])))


def _seven(values: Num[np.ndarray, " samples"]) -> Num[np.ndarray, " samples"]:
    return np.rint(np.clip(values, -3, 3))


def sentiment_2(score: str, *, drop_zeros: bool) -> Metric:
    """Two-class sentiment, as the literature has it in two variants.

    Args:
        score: "accuracy" or "f1" (weighted).
        drop_zeros: False compares negative with non-negative on all samples; True compares negative with
            positive and leaves out the samples whose true value is 0.
    """

    def metric(truth: Truth, logits: Logits) -> float:
        prediction = logits[:, 0]
        kept = truth != 0 if drop_zeros else np.ones(len(truth), dtype=bool)
        if not kept.any():
            return float("nan")
        true_class = truth[kept] > 0 if drop_zeros else truth >= 0
        predicted_class = prediction[kept] > 0 if drop_zeros else prediction >= 0
        if score == "accuracy":
            return float(accuracy_score(true_class, predicted_class))
        return float(f1_score(true_class, predicted_class, average="weighted", zero_division=0))

    return metric


METRICS: Mapping[Task, Mapping[str, Metric]] = {
    "binary": {"auroc": auroc, "auprc": auprc, "accuracy": binary_accuracy},
    "multiclass": {"accuracy": accuracy},
    "multilabel": {f"f1_{average}": multilabel_f1(average) for average in ("macro", "micro", "weighted", "samples")},
    "regression": {
        "mae": mae,
        "pearson": pearson,
        "accuracy_7": accuracy_7,
        "accuracy_2": sentiment_2("accuracy", drop_zeros=False),
        "f1_2": sentiment_2("f1", drop_zeros=False),
        "accuracy_2_nonzero": sentiment_2("accuracy", drop_zeros=True),
        "f1_2_nonzero": sentiment_2("f1", drop_zeros=True),
    },
}
"""Task -> metric name -> metric(truth, logits)."""


def compute_metrics(spec: DatasetSpec, truth: Truth, logits: Logits) -> dict[str, float]:
    """Return all metrics of the dataset's task.

    Raises:
        ValueError: the dataset's own metric is none of its task's.
    """
    available = METRICS[spec.task]
    if spec.metric not in available:
        raise ValueError(f"{spec.name}: metric {spec.metric!r} is none of {', '.join(available)} ({spec.task})")
    return {name: metric(truth, logits) for name, metric in available.items()}


def trivial_logits(spec: DatasetSpec, train_truth: Truth, size: int) -> Float[np.ndarray, "size outputs"]:
    """Return the outputs of a predictor that sees no input: the training split's prior (its median for regression).

    Shape (size, outputs), as a model's: the baseline beside every table.
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
