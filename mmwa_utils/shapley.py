"""A gain divided among modalities: exact Shapley values, their shares, the imbalance index; the best predictor's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import factorial
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

import standins
from mmwa_utils.training.comparison import LOWER_IS_BETTER
from mmwa_utils.training.resampling import resample
from mmwa_utils.training.store import Predictions
from mmwa_utils.types import Task

V = TypeVar("V", float, np.ndarray)
Counts = Int[np.ndarray, "draws samples"]

_STORY_NAMES = {"accuracy_2": "acc2", "accuracy_7": "acc7"}


def subsets(modalities: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Return all subsets, the empty one first and the whole one last.

    >>> len(subsets(["text", "vision", "audio"]))
    8
    """
    names = tuple(modalities)
    return tuple(frozenset(some) for size in range(len(names) + 1) for some in combinations(names, size))


def shapley(values: Mapping[frozenset[str], V]) -> dict[str, V]:
    """Return each modality's Shapley value: its mean contribution over the orders in which modalities may arrive.

    phi_m = sum over S without m of s! (M - s - 1)! / M! (v(S + m) - v(S)), s the size of S, exact, over all 2^M subsets
    (Shapley, "A value for n-person games", 1953). It is the only division of v(all) - v(none) that gives nothing to
    who contributes nothing, the same to who contributes the same, and that adds up when values do.

    Args:
        values: v of each subset, a number or an estimate.

    Raises:
        ValueError: a subset is missing.

    >>> v = {frozenset(): 0.5, frozenset("a"): 0.8, frozenset("b"): 0.6, frozenset("ab"): 0.9}
    >>> {name: round(value, 3) for name, value in shapley(v).items()}
    {'a': 0.3, 'b': 0.1}
    """
    names = sorted(frozenset().union(*values))
    lacking = [sorted(some) for some in subsets(names) if some not in values]
    if lacking:
        raise ValueError(f"values: no value of the subsets {lacking}; all {2 ** len(names)} are needed")
    phi = {}
    for name in names:
        others = [some for some in subsets(names) if name not in some]
        weights = (factorial(len(s)) * factorial(len(names) - len(s) - 1) / factorial(len(names)) for s in others)
        phi[name] = sum(w * (values[s | {name}] - values[s]) for w, s in zip(weights, others, strict=True))
    return phi  # type: ignore[return-value]  # a sum of at least one term is never the integer 0


def shares(phi: Mapping[str, Any]) -> dict[str, Float[np.ndarray, "*draws"]]:
    """Return each modality's share of what helps: max(phi_m, 0) over the sum of these.

    A modality that hurts on average has a share of 0. Where the model is not better than a constant
    (the phi sum to 0 or less) nothing was gained that could be shared, and all shares are NaN.

    >>> {name: float(share) for name, share in shares({"text": 3, "image": 1, "audio": -1}).items()}
    {'text': 0.75, 'image': 0.25, 'audio': 0.0}
    """
    stacked = np.stack([np.asarray(value, dtype=float) for value in phi.values()])
    helpful = np.maximum(stacked, 0)
    gained = np.where(stacked.sum(axis=0) > 0, helpful.sum(axis=0), np.nan)
    return {name: np.asarray(share) for name, share in zip(phi, helpful / gained, strict=True)}


def imbalance(phi: Mapping[str, Any]) -> Float[np.ndarray, "*draws"]:
    """Return (M max share - 1) / (M - 1): 0 where M modalities help alike, 1 where one helps alone, NaN where none.

    Raises:
        ValueError: of one modality there is no balance.

    >>> [float(imbalance({"text": text, "image": 1})) for text in (1, 3, -0.5, -1)]
    [0.0, 0.5, 1.0, nan]
    """
    if len(phi) < 2:
        raise ValueError(f"phi: {len(phi)} modality; a balance needs two or more")
    largest = np.stack(list(shares(phi).values())).max(axis=0)
    return np.asarray((len(phi) * largest - 1) / (len(phi) - 1))


def values_of(
    task: Task, metric: str, predictions: Mapping[Any, Predictions], counts: Counts
) -> dict[Any, Float[np.ndarray, " draws"]]:
    """Return the value of each set of predictions on every resample: the metric, negated where lower is better."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return {key: sign * resample(task, metric, p.truth, p.logits, counts) for key, p in predictions.items()}


def coalition_values(
    task: Task, metric: str, predictions: Mapping[frozenset[str], Predictions], counts: Counts
) -> dict[frozenset[str], Float[np.ndarray, " draws"]]:
    """Return v of each subset of the modalities on every resample; v of none is that of the better of two constants.

    One is what was predicted of no modality, the training prior; the other the model's own mean output. A model that
    says the same of every sample can beat the prior (an F1 of 0 where no label reaches one half). It reads nothing, and
    against its own mean it gains nothing; against the prior its gain would be divided equally, as if it were balanced.

    Args:
        task: the dataset's task.
        metric: one of the task's metrics.
        predictions: for each subset, also the empty one.
        counts: how often each sample occurs in each resample; the constant is chosen once, on the split as it is.
    """
    prior, whole = predictions[frozenset()], predictions[max(predictions, key=len)]
    own = Predictions(whole.ids, np.tile(whole.logits.mean(axis=0), (len(whole.ids), 1)), whole.truth)
    once = values_of(task, metric, {"prior": prior, "own": own}, np.ones_like(counts[:1]))
    constant = own if once["own"][0] > once["prior"][0] else prior
    return values_of(task, metric, {**predictions, frozenset(): constant}, counts)


def optimal(dataset: str, metric: str) -> dict[str, float]:
    """Return the exact Shapley values of a stand-in's Bayes-optimal predictor, the best there is for each subset.

    Raises:
        KeyError: the dataset has no story, or the story no such metric.

    >>> phi = optimal("hateful_memes", "auroc")
    >>> phi["text"] > phi["image"] > 0
    True
    """
    story, name = standins.story(dataset), _STORY_NAMES.get(metric, metric)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    value = {some: sign * story.scores([m for m in story.modalities if m in some])[name]
             for some in subsets(story.modalities)}  # fmt: skip
    phi = shapley(value)
    return {modality: phi[modality] for modality in story.modalities}
