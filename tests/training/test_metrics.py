"""Metrics against cases worked out by hand: zeros, rounding, constants, one class, argument order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmwa_utils.training.metrics import METRICS, auprc, auroc, compute_metrics, trivial_logits
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


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    truth, logits = np.array([0, 0, 1, 1]), column(0.1, 0.4, 0.35, 0.8)
    # Pairs (negative, positive): .1<.35, .1<.8, .4>.35, .4<.8: three of four are in order.
    assert auroc(truth, logits) == 0.75


def test_one_class_only_is_undefined_and_not_an_error() -> None:
    assert math.isnan(auroc(np.ones(4, dtype=int), column(1, 2, 3, 4)))
    assert math.isnan(auprc(np.zeros(4, dtype=int), column(1, 2, 3, 4)))


def test_auprc_by_hand() -> None:
    # Sorted by score: positive, negative, positive. Precision at the positives 1 and 2/3, recall steps 1/2.
    assert auprc(np.array([1, 0, 1]), column(3, 2, 1)) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_f1_of_labels_by_hand() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    guess = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
    scores = {n: m(truth, np.where(guess, 5.0, -5.0)) for n, m in METRICS["multilabel"].items()}
    first, second = 2 * 2 / (2 * 2 + 1 + 0), 2 * 1 / (2 * 1 + 0 + 1)  # third label: never true, never guessed: 0
    assert scores["f1_macro"] == pytest.approx((first + second + 0) / 3)
    assert scores["f1_micro"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert scores["f1_weighted"] == pytest.approx((2 * first + 2 * second) / 4)
    assert scores["f1_samples"] == pytest.approx((1 + 2 / 3 + 2 / 3 + 0) / 4)


def test_weighted_f1_is_called_as_truth_then_prediction() -> None:
    truth, prediction = np.array([-1.0, -1.0, -1.0, 1.0]), column(-1, 1, 1, 1)
    # Weights are the true shares (3/4 negative); called the other way round they would be 1/4 and 3/4.
    negative, positive = 2 * 1 / (2 * 1 + 0 + 2), 2 * 1 / (2 * 1 + 2 + 0)
    assert METRICS["regression"]["f1_2"](truth, prediction) == pytest.approx(0.75 * negative + 0.25 * positive)


def test_weighted_f1_is_not_symmetric() -> None:
    truth, prediction = np.array([-1.0, -1.0, -1.0, -1.0, 1.0]), column(-1, 1, -1, 1, 1)
    metric = METRICS["regression"]["f1_2"]
    assert metric(truth, prediction) != pytest.approx(metric(prediction[:, 0], truth[:, None]))


@pytest.mark.parametrize(
    ("truth", "prediction", "equal"),
    [(3.0, 7.0, True), (-3.0, -2.6, True), (0.5, 0.0, True), (1.5, 2.0, True), (2.5, 2.0, True), (0.5, 1.0, False)],
)
def test_seven_classes_clip_and_round_half_to_even(truth: float, prediction: float, equal: bool) -> None:
    assert METRICS["regression"]["accuracy_7"](np.array([truth]), column(prediction)) == float(equal)


def test_two_classes_in_both_variants() -> None:
    truth, prediction = np.array([-1.0, 0.0, 0.0, 2.0]), column(-0.5, -0.1, 0.3, 0.1)
    scores = compute_metrics(spec("regression"), truth, prediction)
    assert scores["accuracy_2"] == 0.75, "a zero is non-negative; the second is guessed negative"
    assert scores["accuracy_2_nonzero"] == 1.0, "zeros are left out"
    only_zeros = compute_metrics(spec("regression"), np.zeros(3), column(1, -1, 0))
    assert math.isnan(only_zeros["accuracy_2_nonzero"])


def test_constant_predictions_have_no_correlation() -> None:
    assert math.isnan(METRICS["regression"]["pearson"](np.array([1.0, 2.0, 3.0]), column(1, 1, 1)))
    assert METRICS["regression"]["pearson"](np.array([1.0, 2.0, 3.0]), column(10, 8, 6)) == pytest.approx(-1)


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
