"""The story behind every stand-in: what is drawn, what each modality sees of it, and the best possible scores.

Four hidden signs are drawn for a sample, each -1 or +1 with equal probability: `shared`, two `parts` and `own`. The
label depends on them through one score per label,

    score = bias + weights . (shared, part_1 * part_2 + lean * (part_1 + part_2), own),

as a Bernoulli variable of probability sigmoid(score) (binary and multilabel tasks) or as a rating, a discretised
normal variable around the score (regression). What a modality sees of the signs:

- `shared`, in every modality, wrong with the probability `flips[modality]`;
- one of the two `parts`, in each of the two `interacting` modalities, without error: only both together give their
  product. With `lean` 0 one part alone says nothing of the label (an exclusive or), with `lean` 1 the label leans to
  one side where both parts are +1 (a conjunction). Networks find a part slowly if it says nothing alone;
- `own`, in the `dominant` modality alone.

A modality can be absent with a probability that depends on nothing else. The hidden state is finite, so the
probability of the label given what any subset of the modalities sees is a finite sum: the Bayes-optimal predictions
and scores below are exact for the story, not estimates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

RATINGS = np.round(np.arange(-9, 10) / 3, 6)
"""The values of a regression label: mean ratings in steps of a third, from -3 to 3."""


@dataclass(frozen=True)
class Draws:
    """Hidden states, sights and labels of `samples` samples, in file order.

    `seen[modality]` is int8 (samples, 3) with the columns shared, part, own: -1 or +1, and 0 where the modality has
    no such sign or is absent. `present[modality]` is bool (samples,). `signals` is int8 (samples, 3): shared,
    product of the parts, own. `labels` is (samples,) or, with several labels, (samples, labels).
    """

    signals: Int[np.ndarray, "samples 3"]
    seen: Mapping[str, Int[np.ndarray, "samples 3"]]
    present: Mapping[str, Shaped[np.ndarray, " samples"]]
    labels: Shaped[np.ndarray, "samples ..."]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Story:
    """One stand-in's numbers.

    Args:
        modalities: names, in the order of the dataset's specification.
        dominant: the modality that alone sees `own`, the strongest signal.
        interacting: the two modalities that see one part each.
        weights: of shared, product of parts and own, for each label: (labels, 3), in log-odds (or in rating points).
        flips: probability that a modality's `shared` is wrong.
        task: what a label is.
        bias: log-odds (or rating) where the signals cancel, for each label.
        lean: what a part weighs alone, as a share of what the product weighs; from 0 to 1.
        noise: regression: standard deviation of the rating around its score.
        absence: probability that a modality is absent; 0 where not named.

    >>> story = Story(("text", "image"), "text", ("text", "image"), weights=((1.0, 1.0, 2.0),),
    ...               flips={"text": 0.2, "image": 0.2})
    >>> best, worst = story.scores()["auroc"], story.scores(("image",))["auroc"]
    >>> bool(0.5 < worst < best < 1)
    True
    """

    modalities: tuple[str, ...]
    dominant: str
    interacting: tuple[str, str]
    weights: tuple[tuple[float, float, float], ...]
    flips: Mapping[str, float]
    task: Literal["binary", "multilabel", "regression"] = "binary"
    bias: tuple[float, ...] = (0.0,)
    lean: float = 0.0
    noise: float = 0.5
    absence: Mapping[str, float] = field(default_factory=dict)

    def draw(self, samples: int, *, seed: int, split: int = 0) -> Draws:
        """Draw hidden states, sights and labels; the same (samples, seed, split) gives the same draws."""
        rng = np.random.default_rng([seed, split])
        states = rng.choice(len(self._mass), size=samples, p=self._mass)
        labels: np.ndarray
        if self.task == "regression":
            cumulated = self._outcomes[states].cumsum(axis=1)
            labels = RATINGS[(rng.random((samples, 1)) > cumulated[:, :-1]).sum(axis=1)]
        else:
            labels = (rng.random((samples, len(self.weights))) < self._outcomes[states]).astype(np.int64)
            labels = labels[:, 0] if self.task == "binary" else labels
        seen = {name: self._seen[name][states] for name in self.modalities}
        present = {name: self._present[name][states] for name in self.modalities}
        return Draws(self._signals[states], seen, present, labels)

    def predictions(self, draws: Draws, present: Sequence[str] | None = None) -> Float[np.ndarray, "samples ..."]:
        """Return Bayes-optimal predictions from the named modalities (default all).

        Probabilities (samples,) or (samples, labels); for regression the expected rating (samples,).
        """
        groups = self._groups(present)
        keys = np.concatenate([draws.seen[name] for name in groups.names], axis=1) if groups.names else None
        if keys is None:
            rows = np.zeros(len(draws), dtype=np.int64)
        else:
            index = {key.tobytes(): row for row, key in enumerate(groups.keys)}
            rows = np.array([index[np.ascontiguousarray(key).tobytes()] for key in keys], dtype=np.int64)
        outcomes = groups.outcomes[rows]
        if self.task == "regression":
            return outcomes @ RATINGS
        return outcomes[:, 0] if self.task == "binary" else outcomes

    def scores(self, present: Sequence[str] | None = None) -> dict[str, float]:
        """Return the exact expected scores of the Bayes-optimal prediction from the named modalities (default all).

        - binary: `auroc`, `auprc`, `accuracy`;
        - multilabel, at the threshold 0.5: `f1_macro`, `f1_micro`, `f1_weighted`;
        - regression: `mae` (of the posterior median), `pearson` (of the posterior mean), `acc2` (negative against
          non-negative), `acc7` (of the likeliest class).

        Raises:
            KeyError: a name is no modality of the story.
        """
        groups = self._groups(present)
        if self.task == "binary":
            return _binary_scores(groups.mass, groups.outcomes[:, 0])
        if self.task == "multilabel":
            return _multilabel_scores(groups.mass, groups.outcomes)
        return _regression_scores(groups.mass, groups.outcomes)

    # The finite table of hidden states: one row per state.

    @cached_property
    def _table(self) -> Int[np.ndarray, "states columns"]:
        varying = [name for name in self.modalities if self.absence.get(name, 0.0) > 0.0]
        signs = list(product((-1, 1), repeat=4 + len(self.modalities)))
        rows = [(*sign, *there) for sign in signs for there in product((0, 1), repeat=len(varying))]
        return np.array(rows, dtype=np.int8)

    @cached_property
    def _present(self) -> dict[str, np.ndarray]:
        column, present = 4 + len(self.modalities), {}
        for name in self.modalities:
            if self.absence.get(name, 0.0) > 0.0:
                present[name] = self._table[:, column] == 1
                column += 1
            else:
                present[name] = np.ones(len(self._table), dtype=bool)
        return present

    @cached_property
    def _mass(self) -> Float[np.ndarray, " states"]:
        mass = np.full(len(self._table), 1 / 16)
        for position, name in enumerate(self.modalities):
            wrong, gone = self.flips[name], self.absence.get(name, 0.0)
            mass = mass * np.where(self._table[:, 4 + position] < 0, wrong, 1 - wrong)
            if gone > 0.0:
                mass = mass * np.where(self._present[name], 1 - gone, gone)
        return mass / mass.sum()

    @cached_property
    def _signals(self) -> Int[np.ndarray, "states 3"]:
        shared, first, second, own = self._table[:, :4].T
        return np.stack([shared, first * second, own], axis=1)

    @cached_property
    def _seen(self) -> dict[str, np.ndarray]:
        seen = {}
        for position, name in enumerate(self.modalities):
            sight = np.zeros((len(self._table), 3), dtype=np.int8)
            sight[:, 0] = self._table[:, 0] * self._table[:, 4 + position]
            if name in self.interacting:
                sight[:, 1] = self._table[:, 1 + self.interacting.index(name)]
            if name == self.dominant:
                sight[:, 2] = self._table[:, 3]
            seen[name] = sight * self._present[name][:, None].astype(np.int8)
        return seen

    @cached_property
    def _outcomes(self) -> Float[np.ndarray, "states outcomes"]:
        weights = np.asarray(self.weights)
        parts = self._table[:, 1:3].sum(axis=1, dtype=float)
        score = np.asarray(self.bias) + self._signals @ weights.T + self.lean * parts[:, None] * weights[:, 1]
        if self.task != "regression":
            return 1 / (1 + np.exp(-score))
        density = np.exp(-0.5 * ((RATINGS - score) / self.noise) ** 2)
        return density / density.sum(axis=1, keepdims=True)

    def _groups(self, present: Sequence[str] | None) -> _Groups:
        names = tuple(self.modalities if present is None else present)
        for name in names:
            if name not in self.modalities:
                raise KeyError(f"the story has no modality {name!r}; it has {', '.join(self.modalities)}")
        columns = [self._seen[name] for name in names] or [np.zeros((len(self._table), 1), dtype=np.int8)]
        keys, rows = np.unique(np.concatenate(columns, axis=1), axis=0, return_inverse=True)
        mass = np.bincount(rows.ravel(), weights=self._mass)
        total = np.zeros((len(keys), self._outcomes.shape[1]))
        np.add.at(total, rows.ravel(), self._mass[:, None] * self._outcomes)
        return _Groups(names, keys, mass, total / mass[:, None])


@dataclass(frozen=True)
class _Groups:
    """What can be seen with some modalities: each sight's probability, and the outcome's probabilities given it."""

    names: tuple[str, ...]
    keys: np.ndarray
    mass: np.ndarray
    outcomes: np.ndarray


def _binary_scores(mass: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    _, rows = np.unique(np.round(probability, 12), return_inverse=True)
    positive = np.bincount(rows.ravel(), weights=mass * probability)[::-1]  # the highest prediction first
    negative = np.bincount(rows.ravel(), weights=mass * (1 - probability))[::-1]
    below = negative.sum() - negative.cumsum()
    auroc = (positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum())
    precision = positive.cumsum() / (positive + negative).cumsum()
    auprc = (positive * precision).sum() / positive.sum()
    accuracy = (mass * np.maximum(probability, 1 - probability)).sum()
    return {"auroc": float(auroc), "auprc": float(auprc), "accuracy": float(accuracy)}


def _multilabel_scores(mass: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    predicted = probability >= 0.5
    weight = mass[:, None]
    true_positive = (weight * probability * predicted).sum(axis=0)
    n_predicted, n_true = (weight * predicted).sum(axis=0), (weight * probability).sum(axis=0)
    f1 = 2 * true_positive / (n_predicted + n_true)
    micro = 2 * true_positive.sum() / (n_predicted.sum() + n_true.sum())
    return {
        "f1_macro": float(f1.mean()),
        "f1_micro": float(micro),
        "f1_weighted": float((f1 * n_true).sum() / n_true.sum()),
    }


def _regression_scores(mass: np.ndarray, outcomes: np.ndarray) -> dict[str, float]:
    joint = mass[:, None] * outcomes
    median = RATINGS[(outcomes.cumsum(axis=1) < 0.5).sum(axis=1)]
    mae = (joint * np.abs(RATINGS - median[:, None])).sum()
    mean = outcomes @ RATINGS
    centre = mass @ mean
    spread = (joint * (RATINGS - centre) ** 2).sum()
    explained = (mass * (mean - centre) ** 2).sum()
    negative = outcomes[:, RATINGS < 0].sum(axis=1)
    classes = np.clip(np.round(RATINGS), -3, 3)
    share = np.stack([outcomes[:, classes == value].sum(axis=1) for value in range(-3, 4)], axis=1)
    return {
        "mae": float(mae),
        "pearson": float(np.sqrt(explained / spread)),
        "acc2": float((mass * np.maximum(negative, 1 - negative)).sum()),
        "acc7": float((mass * share.max(axis=1)).sum()),
    }


def sizes(samples: int) -> dict[str, int]:
    """Return the size of each split: a quarter of the training samples to validate, and as many to test.

    The releases' own shares are not kept: a twentieth of a small stand-in would tell no two models apart.

    >>> sizes(2000)
    {'train': 2000, 'val': 500, 'test': 500}
    """
    if samples < 16:
        raise ValueError(f"samples = {samples}: a stand-in needs at least 16 training samples")
    return {"train": samples, "val": samples // 4, "test": samples // 4}


def locate(sample_id: str, draws: Mapping[str, Draws], *, first: int) -> tuple[int, int]:
    """Return the split (0, 1, 2) of a sample, and its index there.

    The first digits of `sample_id` are the sample's number over all splits, counted from `first`.

    Raises:
        KeyError: there is no such sample.
    """
    number = re.search("[0-9]+", sample_id)
    position = int(number.group()) - first if number else -1
    for split, drawn in enumerate(draws.values()):
        if 0 <= position < len(drawn):
            return split, position
        position -= len(drawn)
    raise KeyError(f"the stand-in has no sample {sample_id!r}")
