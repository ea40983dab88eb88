"""The linear probe that stands beside every model: what a straight cut through simple features already tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Values of scikit-learn's C that are tried: the larger, the weaker the regularisation."""


@dataclass(frozen=True)
class Probe:
    """A probe's result; `strength` is the C with the best validation accuracy, the smallest of equals."""

    strength: float
    validation: float
    accuracy: float
    predictions: Int[np.ndarray, " test"]


def linear_probe(
    train_x: Float[np.ndarray, "train features"],
    train_y: Int[np.ndarray, " train"],
    val_x: Float[np.ndarray, "val features"],
    val_y: Int[np.ndarray, " val"],
    test_x: Float[np.ndarray, "test features"],
    test_y: Int[np.ndarray, " test"],
) -> Probe:
    """Fit a logistic regression on standardised features, choose its regularisation on validation, and test it once.

    For binary and multiclass labels; features are standardised with mean and deviation of the training split.

    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((90, 2)), np.tile([0, 1, 2], 30)
    >>> x[:, 0] += 9 * y
    >>> linear_probe(x[:30], y[:30], x[30:60], y[30:60], x[60:], y[60:]).accuracy
    1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def fitted(strength: float) -> tuple[float, float, Int[np.ndarray, " test"]]:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(train_x, train_y)
        return model.score(val_x, val_y), -strength, model.predict(test_x)

    validation, negative, predictions = max(map(fitted, STRENGTHS), key=lambda found: found[:2])
    return Probe(-negative, float(validation), float(np.mean(predictions == test_y)), predictions)


def pool(
    values: Float[np.ndarray, "batch length dim"], mask: Bool[np.ndarray, "batch length"]
) -> Float[np.ndarray, "batch dim"]:
    """Return the mean over each sample's valid tokens, (batch, dim); 0 where it has none."""
    weights = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    return np.einsum("bl,bld->bd", weights, values)


def summarise(stream: Float[np.ndarray, "steps width"], *, steps: int = 0) -> Float[np.ndarray, " features"]:
    """Return what a linear probe reads of a raw stream: five numbers a channel, and its values at some times.

    The numbers are mean, deviation, least and greatest value, and mean absolute change from one step to the next; the
    times are `steps` evenly spaced ones from the first step to the last, between steps by interpolation.

    >>> summarise(np.array([[0.0], [2.0], [4.0]]), steps=2).round(3).tolist()
    [2.0, 1.633, 0.0, 4.0, 2.0, 0.0, 4.0]
    """
    change = np.abs(np.diff(stream, axis=0)).sum(axis=0) / max(1, len(stream) - 1)
    numbers = [stream.mean(axis=0), stream.std(axis=0), stream.min(axis=0), stream.max(axis=0), change]
    times = np.linspace(0, len(stream) - 1, steps)
    return np.concatenate([*numbers, *(np.interp(times, np.arange(len(stream)), channel) for channel in stream.T)])
