"""Metrics against cases worked out by hand: zeros, rounding, constants, one class, argument order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn import metrics as sk

from mmwa_utils.evaluation.metrics import METRICS, bounds, compute_metrics, trivial_logits
from mmwa_utils.evaluation.statistics import draw_counts
from mmwa_utils.types import DatasetSpec, ModalitySpec, Task

TEXT = (ModalitySpec("text", "text"),)
METRIC_OF: dict[Task, str] = {
    "binary": "auroc",
    "multiclass": "accuracy",
    "multilabel": "f1_macro",
    "regression": "mae",
}


def spec(task: Task, labels: int = 1) -> DatasetSpec:
    return DatasetSpec(
        "demo", TEXT, task, labels, tuple(map(str, range(labels))), METRIC_OF[task], task != "regression"
    )


def once(task: Task, metric: str, truth: np.ndarray, logits: np.ndarray) -> float:
    """The metric with every sample counted once."""
    return float(METRICS[task][metric](truth, logits, np.ones((1, len(truth)), int))[0])


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    truth, logits = np.array([0, 0, 1, 1]), column(0.1, 0.4, 0.35, 0.8)
    # Pairs (negative, positive): .1<.35, .1<.8, .4>.35, .4<.8: three of four are in order.
    assert once("binary", "auroc", truth, logits) == 0.75


def test_one_class_only_is_undefined_and_not_an_error() -> None:
    assert math.isnan(once("binary", "auroc", np.ones(4, dtype=int), column(1, 2, 3, 4)))
    assert math.isnan(once("binary", "auprc", np.zeros(4, dtype=int), column(1, 2, 3, 4)))


def test_auprc_by_hand() -> None:
    # Sorted by score: positive, negative, positive. Precision at the positives 1 and 2/3, recall steps 1/2.
    assert once("binary", "auprc", np.array([1, 0, 1]), column(3, 2, 1)) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_f1_of_labels_by_hand() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    guess = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
    scores = {n: once("multilabel", n, truth, np.where(guess, 5.0, -5.0)) for n in METRICS["multilabel"]}
    first, second = 2 * 2 / (2 * 2 + 1 + 0), 2 * 1 / (2 * 1 + 0 + 1)  # third label: never true, never guessed: 0
    assert scores["f1_macro"] == pytest.approx((first + second + 0) / 3)
    assert scores["f1_micro"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert scores["f1_weighted"] == pytest.approx((2 * first + 2 * second) / 4)
    assert scores["f1_samples"] == pytest.approx((1 + 2 / 3 + 2 / 3 + 0) / 4)


def test_weighted_f1_is_called_as_truth_then_prediction() -> None:
    truth, prediction = np.array([-1.0, -1.0, -1.0, 1.0]), column(-1, 1, 1, 1)
    # Weights are the true shares (3/4 negative); called the other way round they would be 1/4 and 3/4.
    negative, positive = 2 * 1 / (2 * 1 + 0 + 2), 2 * 1 / (2 * 1 + 2 + 0)
    assert once("regression", "f1_2", truth, prediction) == pytest.approx(0.75 * negative + 0.25 * positive)


def test_weighted_f1_is_not_symmetric() -> None:
    truth, prediction = np.array([-1.0, -1.0, -1.0, -1.0, 1.0]), column(-1, 1, -1, 1, 1)
    there, back = ((truth, prediction), (prediction[:, 0], truth[:, None]))
    assert once("regression", "f1_2", *there) != pytest.approx(once("regression", "f1_2", *back))


@pytest.mark.parametrize(
    ("truth", "prediction", "equal"),
    [(3.0, 7.0, True), (-3.0, -2.6, True), (0.5, 0.0, True), (1.5, 2.0, True), (2.5, 2.0, True), (0.5, 1.0, False)],
)
def test_seven_classes_clip_and_round_half_to_even(truth: float, prediction: float, equal: bool) -> None:
    assert once("regression", "accuracy_7", np.array([truth]), column(prediction)) == float(equal)


def test_two_classes_in_both_variants() -> None:
    truth, prediction = np.array([-1.0, 0.0, 0.0, 2.0]), column(-0.5, -0.1, 0.3, 0.1)
    scores = compute_metrics(spec("regression"), truth, prediction)
    assert scores["accuracy_2"] == 0.75, "a zero is non-negative; the second is guessed negative"
    assert scores["accuracy_2_nonzero"] == 1.0, "zeros are left out"
    only_zeros = compute_metrics(spec("regression"), np.zeros(3), column(1, -1, 0))
    assert math.isnan(only_zeros["accuracy_2_nonzero"])


def test_constant_predictions_have_no_correlation() -> None:
    assert math.isnan(once("regression", "pearson", np.array([1.0, 2.0, 3.0]), column(1, 1, 1)))
    assert once("regression", "pearson", np.array([1.0, 2.0, 3.0]), column(10, 8, 6)) == pytest.approx(-1)


def test_an_unknown_metric_is_named() -> None:
    wrong = DatasetSpec("demo", TEXT, "binary", 1, ("yes",), "mae")
    with pytest.raises(ValueError, match="'mae' is none of auroc, auprc, accuracy"):
        compute_metrics(wrong, np.array([0, 1]), column(0, 1))


@pytest.mark.parametrize("task", METRICS)
def test_the_trivial_predictor_is_the_training_prior(task: Task) -> None:
    labels = {"multiclass": 3, "multilabel": 2}.get(task, 1)
    train = {
        "binary": np.array([1, 0, 0, 0]),
        "multiclass": np.array([2, 2, 1, 0]),
        "multilabel": np.array([[1, 0], [1, 0], [1, 1], [0, 0]]),
        "regression": np.array([0.0, 1.0, 5.0]),
    }[task]
    logits = trivial_logits(spec(task, labels), train, 5)
    assert logits.shape == (5, labels)
    assert (logits == logits[0]).all()
    expected = {"binary": 1 / 4, "multilabel": 3 / 4, "regression": 1.0, "multiclass": 1 / 4}[task]
    first = logits[0, 0]
    got = {"regression": first, "multiclass": np.exp(first)}.get(task, 1 / (1 + np.exp(-first)))
    assert got == pytest.approx(expected)


def two_classes(score: Callable[..., Any], *, drop_zeros: bool) -> Callable[[Any, Any], float]:
    def reference(truth: Any, logits: Any) -> float:
        kept = truth != 0 if drop_zeros else np.ones(len(truth), bool)
        x, y = truth[kept], logits[kept, 0]
        return float(score(*((x > 0, y > 0) if drop_zeros else (x >= 0, y >= 0)))) if kept.any() else math.nan

    return reference


def weighted_f1(truth: Any, prediction: Any) -> float:
    return float(sk.f1_score(truth, prediction, average="weighted", zero_division=0))


def labels_f1(average: str) -> Callable[[Any, Any], float]:
    return lambda truth, logits: float(sk.f1_score(truth, logits > 0, average=average, zero_division=0))


def correlation(truth: Any, logits: Any) -> float:
    return math.nan if np.ptp(truth) == 0 or np.ptp(logits) == 0 else float(pearsonr(truth, logits[:, 0]).statistic)


REFERENCES: dict[tuple[Task, str], Callable[[Any, Any], Any]] = {
    ("binary", "auroc"): lambda t, z: sk.roc_auc_score(t, z[:, 0]) if 0 < t.mean() < 1 else math.nan,
    ("binary", "auprc"): lambda t, z: sk.average_precision_score(t, z[:, 0]) if t.any() else math.nan,
    ("binary", "accuracy"): lambda t, z: sk.accuracy_score(t, z[:, 0] > 0),
    ("multiclass", "accuracy"): lambda t, z: sk.accuracy_score(t, z.argmax(axis=1)),
    **{("multilabel", f"f1_{average}"): labels_f1(average) for average in ("macro", "micro", "weighted", "samples")},
    ("regression", "mae"): lambda t, z: sk.mean_absolute_error(t, z[:, 0]),
    ("regression", "pearson"): correlation,
    ("regression", "accuracy_7"): lambda t, z: np.mean(np.rint(np.clip(t, -3, 3)) == np.rint(np.clip(z[:, 0], -3, 3))),
    ("regression", "accuracy_2"): two_classes(sk.accuracy_score, drop_zeros=False),
    ("regression", "f1_2"): two_classes(weighted_f1, drop_zeros=False),
    ("regression", "accuracy_2_nonzero"): two_classes(sk.accuracy_score, drop_zeros=True),
    ("regression", "f1_2_nonzero"): two_classes(weighted_f1, drop_zeros=True),
}
"""scikit-learn's and SciPy's definition of every metric."""


def test_every_metric_has_a_reference() -> None:
    assert set(REFERENCES) == {(task, name) for task, metrics in METRICS.items() for name in metrics}


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


@pytest.mark.parametrize("size", [6, 60])
@pytest.mark.parametrize(("task", "metric"), REFERENCES)
def test_each_draw_is_the_reference_on_the_drawn_samples(task: Any, metric: str, size: int) -> None:
    truth, logits = problem(task, size, np.random.default_rng(size))
    counts = draw_counts(size, 40, seed=1)
    least, most = bounds(metric)
    for value, row in zip(METRICS[task][metric](truth, logits, counts), counts, strict=True):
        assert math.isnan(value) or least <= value <= most
        drawn = np.repeat(np.arange(size), row)
        assert value == pytest.approx(REFERENCES[task, metric](truth[drawn], logits[drawn]), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("task", "metric"), REFERENCES)
def test_constant_predictions_are_treated_as_the_reference_does(task: Any, metric: str) -> None:
    truth, logits = problem(task, 30, np.random.default_rng(0))
    flat = np.full_like(logits, 0.1)
    assert once(task, metric, truth, flat) == pytest.approx(REFERENCES[task, metric](truth, flat), nan_ok=True)
