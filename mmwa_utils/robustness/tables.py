"""Tables of a grid's scores: tidy, curves, means in the paper's form, paired differences, the average gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mmwa_utils.evaluation.statistics import (
    Interval,
    SeedResamples,
    interval,
    joint_draws,
    joint_interval,
    paired_row,
    percentiles,
)
from mmwa_utils.robustness.grids import CLEAN, Point
from mmwa_utils.robustness.scores import SUMMARIES, Scores, Summary
from mmwa_utils.training.comparison import BASELINE
from mmwa_utils.training.store import Run

_DIFFERENCE = ["dataset", "fusion", "alignment", "modality", "metric", "seeds", "difference", "low", "high", "verdict"]


def table(scores: Scores) -> pd.DataFrame:
    """Return one row a run and point: run, dataset, fusion, alignment, seed, modality, mode, level, corruption_seed,
    metric, value, low, high.

    Level 0 is the clean split and has a row a modality and corruption seed, so that each curve is whole. The interval
    is the percentile bootstrap's, over samples.
    """
    rows = []
    for run in scores.grid.runs:
        config = run.config
        for point in _with_clean(scores.grid.points):
            values = scores.values[run.key, point if point.level > 0 else None]
            arm = (run.key, scores.dataset, config.fusion, config.alignment.name, config.seed)
            where = (point.modality, scores.grid.mode, point.level, point.seed)
            rows.append((*arm, *where, scores.metric, *vars(interval(values)).values()))
    columns = ["run", "dataset", "fusion", "alignment", "seed", "modality", "mode", "level", "corruption_seed"]
    return pd.DataFrame(rows, columns=[*columns, "metric", "value", "low", "high"])


def _with_clean(points: Sequence[Point]) -> Iterator[Point]:
    yield from dict.fromkeys(replace(point, level=0.0) for point in points)
    yield from points


def _arms(scores: Scores) -> dict[tuple[str, str], list[Run]]:
    """Return the runs of each fusion and alignment, by seed."""
    arms: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(scores.grid.runs, key=lambda run: run.config.seed):
        arms.setdefault((run.config.fusion, run.config.alignment.name), []).append(run)
    return arms


def curves(scores: Scores) -> pd.DataFrame:
    """Return one row an arm, modality and level: the mean over training and corruption seeds with a joint interval.

    Columns: dataset, fusion, alignment, modality, mode, metric, level, value, low, high.
    """
    rows = []
    for (fusion, alignment), runs in _arms(scores).items():
        for modality in scores.grid.modalities:
            together = np.stack([scores.curve(run.key, modality) for run in runs], axis=-1)
            for level, values in zip(scores.grid.levels, together, strict=True):
                mean = _joint(scores, (fusion, alignment), values)
                arm = (scores.dataset, fusion, alignment, modality, scores.grid.mode, scores.metric)
                rows.append((*arm, level, *vars(mean).values()))
    columns = ["dataset", "fusion", "alignment", "modality", "mode", "metric", "level", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def means(scores: Scores) -> pd.DataFrame:
    """Return one row an arm and modality, the paper's form: clean, and the mean over the paper's three levels.

    Columns: dataset, fusion, alignment, modality, metric, clean, mean, drop, area, low, high; the interval is the
    mean's, over seeds and samples jointly.
    """
    rows = []
    for (fusion, alignment), runs in _arms(scores).items():
        for modality in scores.grid.modalities:
            found = {of: np.stack([scores.summary(r.key, modality, of) for r in runs], axis=1) for of in SUMMARIES}
            here = {of: values[0].mean() for of, values in found.items()}
            mean = _joint(scores, (fusion, alignment), found["mean"])
            arm = (scores.dataset, fusion, alignment, modality, scores.metric)
            rows.append((*arm, here["clean"], here["mean"], here["drop"], here["area"], mean.low, mean.high))
    columns = ["dataset", "fusion", "alignment", "modality", "metric", "clean", "mean", "drop", "area", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def differences(scores: Scores, *, of: Summary = "mean") -> pd.DataFrame:
    """Return aligned - baseline of a summary, with a joint interval over seeds and samples, and the verdict.

    Same seed, same samples, same noise on both sides; `comparison.paired_differences` says how the two sources of
    spread are joined. A row each arm and modality, and one with the modality `CLEAN`.

    Args:
        scores: of one dataset.
        of: the summary; a difference of drops is *better* where it is negative.

    Returns:
        Columns: dataset, fusion, alignment, modality, metric, seeds, difference, low, high, verdict.
    """
    better = scores.higher_is_better if of != "drop" else False
    rows = []
    for fusion, alignment in _arms(scores):
        if alignment == BASELINE:
            continue
        for modality in (*scores.grid.modalities, CLEAN):
            pairs = paired(scores, fusion, alignment, modality=modality, of=of)
            arm = (scores.dataset, fusion, alignment, modality, scores.metric)
            found = paired_row(pairs, _seed(scores, (fusion, alignment), pairs), higher_is_better=better)
            rows.append((*arm, *found.values()))
    return pd.DataFrame(rows, columns=_DIFFERENCE)


def between(first: Scores, second: Scores, *, of: Summary = "mean") -> pd.DataFrame:
    """Return second - first of a summary, such as of another mode, another representation or another way of training.

    The grids hold runs of the same seeds on the same test split, and the scores the same resamples; runs are paired by
    fusion, alignment and seed.

    Args:
        first: what is subtracted.
        second: what it is subtracted from.
        of: the summary that is compared.

    Returns:
        Columns as of `differences`; a row each fusion, alignment and modality that both have.

    Raises:
        ValueError: the scores are of different metrics or test samples.
    """
    if first.metric != second.metric or first.seed != second.seed:
        raise ValueError(
            f"scores of {first.metric} and {second.metric}: score both with the same metric, draws and seed"
        )
    if not np.array_equal(first.grid.clusters, second.grid.clusters):
        raise ValueError(f"{first.dataset} and {second.dataset}: not the same test samples, so nothing can be paired")
    better = first.higher_is_better if of != "drop" else False
    rows = []
    other_arms = _arms(second)
    for arm, runs in _arms(first).items():
        partners = {run.config.seed: run.key for run in other_arms.get(arm, [])}
        both = [run for run in runs if run.config.seed in partners]
        for modality in (m for m in first.grid.modalities if both and m in second.grid.modalities):
            columns = [
                second.summary(partners[run.config.seed], modality, of) - first.summary(run.key, modality, of)
                for run in both
            ]
            pairs = np.stack(columns, axis=1)
            found = paired_row(pairs, _seed(first, arm, pairs), higher_is_better=better)
            rows.append((first.dataset, *arm, modality, first.metric, *found.values()))
    return pd.DataFrame(rows, columns=_DIFFERENCE)


def paired(scores: Scores, fusion: str, alignment: str, *, modality: str, of: Summary = "mean") -> SeedResamples:
    """Return aligned - baseline of a summary for each seed, on the test split (first row) and on its resamples.

    Raises:
        ValueError: a run has no baseline of its fusion and seed.
    """
    arms = _arms(scores)
    baseline = {run.config.seed: run for run in arms.get((fusion, BASELINE), [])}
    if lacking := {run.config.seed for run in arms[fusion, alignment]} - set(baseline):
        raise ValueError(f"runs: {fusion} fusion, {alignment}, seeds {sorted(lacking)} have no baseline; train it too")
    where, what = (scores.grid.modalities[0], "clean") if modality == CLEAN else (modality, of)
    columns = [
        scores.summary(run.key, where, what) - scores.summary(baseline[run.config.seed].key, where, what)  # type: ignore[arg-type]
        for run in arms[fusion, alignment]
    ]
    return np.stack(columns, axis=1)


def _joint(scores: Scores, arm: tuple[str, str], values: SeedResamples) -> Interval:
    """Return an arm's mean over seeds with its joint interval."""
    return joint_interval(values, _seed(scores, arm, values))


def _seed(scores: Scores, arm: tuple[str, str], values: SeedResamples) -> list[int]:
    """Return the seed of an arm's draws.

    Raises:
        ValueError: fewer than two seeds, of which no spread can be known.
    """
    if values.shape[1] < 2:
        raise ValueError(f"runs: {' fusion, '.join(arm)} has {values.shape[1]} seed; an interval needs two or more")
    return [scores.seed, *f"{scores.dataset} {arm}".encode()]


@dataclass(frozen=True)
class Gain:
    """An average over datasets and fusions of aligned - baseline, with its interval."""

    gain: float
    low: float
    high: float
    datasets: int


def average_gain(
    scores: Sequence[Scores], *, modality: str, of: Summary = "mean", alignment: str = "wasserstein"
) -> Gain:
    """Return the average over datasets of the average over fusions of aligned - baseline, in points (x 100).

    The fusions of a dataset share its resamples; datasets are independent, so their draws are joined in random order.

    Args:
        scores: one a dataset, of its `headline` metric.
        modality: `ALL`, `DRAWN` or `CLEAN`.
        of: the summary that is compared.
        alignment: what is compared with the baseline.

    Raises:
        ValueError: a metric that is lower where better, which can't be averaged with the others.
    """
    here, drawn = [], []
    for one in scores:
        if not one.higher_is_better:
            raise ValueError(f"{one.dataset}: {one.metric} is lower where better; use headline(spec)")
        arms = [arm for arm in _arms(one) if arm[1] == alignment]
        pairs = [paired(one, *arm, modality=modality, of=of) for arm in arms]
        here.append(np.mean([pair[0].mean() for pair in pairs]))
        joined = np.mean(
            [joint_draws(pair, _seed(one, arm, pair)) for arm, pair in zip(arms, pairs, strict=True)], axis=0
        ).ravel()
        drawn.append(np.random.default_rng([one.seed, *one.dataset.encode()]).permutation(joined))
    low, high = percentiles(np.mean(drawn, axis=0))
    return Gain(100 * float(np.mean(here)), 100 * low, 100 * high, len(scores))
