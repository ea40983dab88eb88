"""A gain divided among modalities: exact Shapley values, their shares, and the imbalance index. Mathematics only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import factorial
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

V = TypeVar("V", float, np.ndarray)


def subsets(modalities: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Return all subsets, the empty one first and the whole one last.

    >>> len(subsets(["text", "vision", "audio"]))
    8
    """
    names = tuple(modalities)
    return tuple(frozenset(some) for size in range(len(names) + 1) for some in combinations(names, size))


def shapley(values: Mapping[frozenset[str], V]) -> dict[str, V]:
    """Return each modality's Shapley value: its mean contribution over the orders in which modalities may arrive.

    phi_m = sum over S without m of s! (M - s - 1)! / M! (v(S + m) - v(S)), where s is the size of S; exact, over all
    2^M subsets (Shapley, "A value for n-person games", 1953). It is the only division of v(all) - v(none) that gives
    nothing to a modality that contributes nothing, gives the same to modalities that contribute the same, and adds up
    when values do.

    Args:
        values: v of each subset, a number or a number with its resamples.

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
    phi: dict[str, Any] = dict.fromkeys(names, 0.0)
    for some in subsets(names):
        for name in set(names) - some:
            orders = factorial(len(some)) * factorial(len(names) - len(some) - 1)
            phi[name] += orders / factorial(len(names)) * (values[some | {name}] - values[some])
    return phi


def shares(phi: Mapping[str, Any]) -> dict[str, Float[np.ndarray, "*resamples"]]:
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


def imbalance(phi: Mapping[str, Any]) -> Float[np.ndarray, "*resamples"]:
    """Return (M max share - 1) / (M - 1): 0 where M modalities help alike, 1 where one helps alone, NaN where none.

    Raises:
        ValueError: a single modality has no balance.

    >>> [float(imbalance({"text": text, "image": 1})) for text in (1, 3, -0.5, -1)]
    [0.0, 0.5, 1.0, nan]
    """
    if len(phi) < 2:
        raise ValueError(f"phi: {len(phi)} modality; a balance needs two or more")
    largest = np.stack(list(shares(phi).values())).max(axis=0)
    return np.asarray((len(phi) * largest - 1) / (len(phi) - 1))
