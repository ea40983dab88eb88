"""Intervals and paired comparisons of metrics: one place for all chapters.

Three uncertainties are kept apart. *Samples*: another test set of the same size; bootstrap (`interval`). *Seeds*:
another initialisation and another order of the batches, at the same data; few seeds, so Student's t (`half_width`).
*Both*: the mean over seeds of a difference that shares seeds and samples, so that what they have in common cancels
(`joint_interval`, `paired_row`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from mmwa_utils.evaluation.metrics import METRICS, Counts, Logits, Truth, bounds
from mmwa_utils.types import Task

Resamples = Float[np.ndarray, " resamples"]
"""A quantity on the split itself (first entry) and on resamples of it (the others)."""
SeedResamples = Float[np.ndarray, "resamples seeds"]
Verdict = Literal["helps", "hurts", "cannot tell", "no difference"]
SEED_DRAWS = 100
LEVEL = 0.95
"""Coverage of every interval by itself; nothing is corrected for looking at several."""
POWER = 0.8
"""How often the smallest detectable effect would be detected."""


@dataclass(frozen=True)
class Interval:
    """A value with an interval; its ends are NaN where there is none."""

    value: float
    low: float
    high: float

    def of(self, metric: str) -> Interval:
        """Return the same with ends that the metric can have; not for differences of it.

        >>> Interval(0.9, 0.7, 1.1).of("auroc")
        Interval(value=0.9, low=0.7, high=1.0)
        """
        least, most = bounds(metric)
        return replace(self, low=max(self.low, least), high=min(self.high, most))


def draw_counts(
    size: int, draws: int, *, seed: int = 0, clusters: Shaped[np.ndarray, " samples"] | None = None
) -> Counts:
    """Return how often each of `size` samples occurs in the split itself (first row) and in `draws` resamples of it.

    Args:
        size: samples of the split; a resample has as many.
        draws: number of resamples, with replacement.
        seed: of the draws alone.
        clusters: what each sample belongs to, such as the film of a plot; whole clusters are drawn, as many as there
            are. None draws samples.

    >>> draw_counts(4, 2).sum(axis=1), draw_counts(4, 2)[0]
    (array([4, 4, 4]), array([1, 1, 1, 1]))
    """
    owner = np.arange(size) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    total = int(owner.max()) + 1
    generator = np.random.default_rng(seed)
    drawn = [np.bincount(generator.integers(total, size=total), minlength=total) for _ in range(draws)]
    return np.stack([np.ones(total, int), *drawn])[:, owner]


def measure(task: Task, metric: str, truth: Truth, logits: Logits, counts: Counts) -> Resamples:
    """Return a metric for each row of counts, as `draw_counts` returns them; NaN where it is undefined."""
    return METRICS[task][metric](truth, logits, counts)


def interval(values: Resamples) -> Interval:
    """Return a quantity with its percentile bootstrap interval over samples.

    Resamples in which the quantity is undefined are left out; with fewer than half of them defined the interval is
    NaN.

    >>> truth = np.arange(50.0)
    >>> interval(measure("regression", "mae", truth, truth[:, None] + 1.0, draw_counts(50, 20)))
    Interval(value=1.0, low=1.0, high=1.0)
    """
    return Interval(float(values[0]), *percentiles(values[1:]))


def percentiles(drawn: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """Return the central interval of the defined draws; NaN where fewer than half are defined."""
    defined = drawn[np.isfinite(drawn)]
    if 2 * len(defined) < len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def half_width(values: Float[np.ndarray, " seeds"]) -> float:
    """Return half the length of Student's interval of a mean over seeds; one seed has none (NaN)."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def is_trained(values: Float[np.ndarray, " seeds"], trivial: float, *, higher_is_better: bool = True) -> bool:
    """Return whether an arm is better than a predictor that sees no input: all of its interval over seeds is.

    Of an arm that is not, nothing can be concluded: neither that it helps nor that it hurts.

    Args:
        values: the test metric of each seed's run; a single one has no interval, so it is not trained.
        trivial: the metric of the trivial predictor on the same samples.
        higher_is_better: which side of it is the better one.

    >>> is_trained(np.array([0.70, 0.72, 0.71]), 0.5), is_trained(np.array([0.49, 0.62, 0.51]), 0.5)
    (True, False)
    """
    above = values.mean() - trivial if higher_is_better else trivial - values.mean()
    return bool(above > half_width(values))


def joint_interval(values: SeedResamples, seed: Sequence[int]) -> Interval:
    """Return a mean over seeds with an interval over seeds and samples jointly.

    A draw takes a resample of the test samples, *the same one for all runs*, and adds to the mean over seeds a seed's
    share: t_{n-1} times the standard error over seeds. (Resampling three seeds would give intervals that are too short
    by half.) The part of the spread that depends on both seed and sample is counted twice, so the interval is a little
    too long rather than too short.

    Args:
        values: of each seed, on the samples themselves (first row) and on resamples that all seeds share.
        seed: of the draws of the seeds' share.

    Returns:
        The ends are NaN for a single seed, or where most resamples leave the quantity undefined.
    """
    defined = np.isfinite(values[1:].mean(axis=1))
    low = high = float("nan")
    if values.shape[1] > 1 and 2 * defined.sum() >= len(defined):
        drawn = joint_draws(values[np.concatenate([[True], defined])], seed)
        low, high = percentiles(drawn.ravel())
    return Interval(float(values[0].mean()), low, high)


def joint_draws(values: SeedResamples, seed: Sequence[int]) -> Float[np.ndarray, "draws seed_draws"]:
    """Return the draws behind `joint_interval`: a row per resample, since a seed's share costs nothing to draw."""
    n = values.shape[1]
    error = values[0].std(ddof=1) / np.sqrt(n)
    share = np.random.default_rng(seed).standard_t(n - 1, size=(len(values) - 1, SEED_DRAWS))
    return values[1:].mean(axis=1)[:, None] + error * share


def paired_row(values: SeedResamples, seed: Sequence[int], *, higher_is_better: bool = True) -> dict[str, Any]:
    """Return a row of a table paired by seed: seeds, difference, low, high, verdict.

    Args:
        values: the difference of each seed's pair, as in `joint_interval`.
        seed: as in `joint_interval`.
        higher_is_better: which sign of the difference is the better one.

    >>> paired_row(np.zeros((9, 2)), [0])
    {'seeds': 2, 'difference': 0.0, 'low': 0.0, 'high': 0.0, 'verdict': 'no difference'}
    """
    found = joint_interval(values, seed)
    said = verdict(found.low, found.high, higher_is_better=higher_is_better)
    return {"seeds": values.shape[1], "difference": found.value, "low": found.low, "high": found.high, "verdict": said}


def smallest_detectable(values: SeedResamples) -> float:
    """Return the effect on a metric that a comparison with this baseline would detect four times in five.

    It is known before any other arm is trained. Suppose that another arm's runs differ from the baseline's by a
    constant and by what the baseline's runs differ from each other. With s^2 the variance over seeds of the metric,
    and v^2 that of the reaction of a run to a resample of the samples (what is left of its bootstrap variance without
    the part that all runs share, which cancels in a pair), a mean over n paired differences then has

        e = s sqrt(2 / n)  over seeds,    b = v sqrt(2 / n)  over samples,

    and `joint_interval`, the sum of a t_{n-1} times e and a bootstrap of standard deviation b, reaches about
    sqrt((t e)^2 + (z b)^2) to either side, t and z the 97.5 % quantiles of t_{n-1} and of the normal law. It leaves
    out 0 in a share of .8 when the effect is longer than that by the 80 % quantile of the mean's own error:

        sqrt((t_{.975} e)^2 + (z_{.975} b)^2) + t_{.8} e.

    (e holds the mean's whole error, since s^2 is seen on one set of samples and so includes what a run makes of it.)
    A pair that shares a seed may have more in common, and an arm may react to samples in a way of its own, so the true
    number can lie on either side. It is as uncertain as s: with three seeds by a factor of two, and then it is detected
    in two cases of three rather than in four of five.

    Args:
        values: the metric of each seed of the baseline, as in `joint_interval`.

    Returns:
        The effect, in the metric's unit; NaN for a single seed.

    >>> round(smallest_detectable(np.tile([0.70, 0.72, 0.71], (9, 1))), 3)
    0.044
    """
    n = values.shape[1]
    if n < 2:
        return float("nan")
    drawn = values[1:][np.isfinite(values[1:]).all(axis=1)]
    s2 = values[0].var(ddof=1)
    v2 = (drawn - drawn.mean(axis=0)).var(axis=1, ddof=1).mean()
    sides = stats.t.ppf((1 + LEVEL) / 2, n - 1) ** 2 * s2 + stats.norm.ppf((1 + LEVEL) / 2) ** 2 * v2
    return float((np.sqrt(sides) + stats.t.ppf(POWER, n - 1) * np.sqrt(s2)) * np.sqrt(2 / n))


def verdict(low: float, high: float, *, higher_is_better: bool = True) -> Verdict:
    """Return what an interval of aligned - baseline allows us to say.

    "no difference" is an arm that was left out: its runs are the baseline's.

    >>> verdict(0.01, 0.03), verdict(-0.01, 0.03), verdict(0.01, 0.03, higher_is_better=False), verdict(0.0, 0.0)
    ('helps', 'cannot tell', 'hurts', 'no difference')
    """
    if low == high == 0:
        return "no difference"
    if not (low > 0 or high < 0):
        return "cannot tell"
    return "helps" if (low > 0) == higher_is_better else "hurts"
