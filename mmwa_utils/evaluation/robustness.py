"""Robustness: a metric of every point of a grid, its summaries over levels, and tables of these with intervals.

All points of a run and all runs of a dataset are measured on the same resamples of the test split, so every summary
(mean over levels, area, drop, paired difference) is the same arithmetic on each resample, and its interval follows.
Nothing is divided by another method's value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mmwa_utils.evaluation import statistics
from mmwa_utils.evaluation.grids import CLEAN, PAPER_LEVELS, Grid
from mmwa_utils.evaluation.metrics import LOWER_IS_BETTER
from mmwa_utils.evaluation.statistics import Interval, SeedResamples
from mmwa_utils.training.comparison import BASELINE, FUSIONS
from mmwa_utils.training.store import Predictions
from mmwa_utils.types import Task

Summary = Literal["mean", "area", "drop", "clean"]
Arm = tuple[str, str]
"""Fusion and alignment."""


def _paper_mean(levels: Float[np.ndarray, " levels"], curve: Any) -> Any:
    return curve[..., np.isin(levels, PAPER_LEVELS), :].mean(axis=-2)


_COLUMNS = ("dataset", "fusion", "alignment", "modality", "metric")

SUMMARIES: Mapping[Summary, Callable[[Any, Any], Any]] = {
    "clean": lambda levels, curve: curve[..., 0, :],
    "mean": _paper_mean,
    "drop": lambda levels, curve: curve[..., 0, :] - _paper_mean(levels, curve),
    "area": lambda levels, curve: np.trapezoid(curve, levels, axis=-2) / (levels[-1] - levels[0]),
}
"""Of curves (..., levels, resamples): the value at 0; the mean over the paper's levels; what is lost against 0; the
area under the whole curve, 0 included, divided by its length, so that it is in the metric's units like the others."""


@dataclass(frozen=True)
class Scores:
    """A metric of every run at every point of a grid, on the test split (first resample) and on resamples of it."""

    grid: Grid
    metric: str
    seed: int
    values: Float[np.ndarray, "runs modalities levels seeds resamples"]
    trivial: float
    """The metric of the predictor that sees no input, on the test split."""

    @property
    def dataset(self) -> str:
        """Return the dataset's name."""
        return self.grid.spec.name

    @property
    def higher_is_better(self) -> bool:
        """Return whether a higher value of the metric is a better one."""
        return self.metric not in LOWER_IS_BETTER

    @property
    def curves(self) -> Float[np.ndarray, "runs modalities levels resamples"]:
        """Return the means over corruption seeds."""
        return self.values.mean(axis=3)

    def summary(self, of: Summary = "mean") -> Float[np.ndarray, "runs modalities resamples"]:
        """Return a summary over levels: see `SUMMARIES`; "drop" is positive where the metric got worse.

        Raises:
            ValueError: the grid lacks one of the paper's levels, whose mean is asked for.
        """
        if of in ("mean", "drop") and set(PAPER_LEVELS) - set(self.grid.levels):
            raise ValueError(f"levels are {self.grid.levels}; the mean is over the paper's {PAPER_LEVELS}: add them")
        found = SUMMARIES[of](np.array(self.grid.levels), self.curves)
        return -found if of == "drop" and not self.higher_is_better else found

    @property
    def arms(self) -> dict[Arm, dict[int, int]]:
        """Return for each arm the position of the run of each training seed, by seed."""
        found: dict[Arm, dict[int, int]] = {}
        for position, run in sorted(enumerate(self.grid.runs), key=lambda pair: pair[1].config.seed):
            config = run.config
            found.setdefault((config.fusion, config.arm), {})[config.seed] = position
        return found

    @cached_property
    def untrained(self) -> frozenset[Arm]:
        """Return the arms that are not better than the trivial predictor on clean data: they enter no verdict."""
        clean = self.summary("clean")[:, 0, 0]
        options: dict[str, Any] = {"higher_is_better": self.higher_is_better}
        return frozenset(
            arm for arm, runs in self.arms.items()
            if not statistics.is_trained(clean[list(runs.values())], self.trivial, **options)
        )  # fmt: skip


def score(grid: Grid, metric: str, *, draws: int = 1000, seed: int = 0) -> Scores:
    """Measure every run at every point, on the test split and on `draws` resamples that all of them share.

    Args:
        grid: the predictions.
        metric: one of the task's metrics.
        draws: number of resamples; whole clusters are drawn.
        seed: of the draws alone.
    """
    counts = statistics.draw_counts(len(grid.clusters), draws, seed=seed, clusters=grid.clusters)
    known: dict[bytes, Any] = {}  # level 0 is the same in all curves, and so is share 1 for all seeds
    points = itertools.product([run.key for run in grid.runs], grid.modalities, grid.levels, grid.seeds)
    values = []
    for point in points:
        p = grid.predictions[point]
        logits = p.logits.tobytes()
        if logits not in known:
            known[logits] = statistics.measure(grid.spec.task, metric, p.truth, p.logits, counts)
        values.append(known[logits])
    shape = (len(grid.runs), len(grid.modalities), len(grid.levels), len(grid.seeds), draws + 1)
    nothing = statistics.measure(grid.spec.task, metric, grid.trivial.truth, grid.trivial.logits, counts[:1])
    return Scores(grid, metric, seed, np.reshape(values, shape), float(nothing[0]))


def table(scores: Scores) -> pd.DataFrame:
    """Return one row per run and point: run, dataset, fusion, alignment, seed, modality, mode, level, corruption_seed,
    metric, value, low, high.

    Level 0 is the clean split and has a row per modality and corruption seed, so that each curve is whole. The interval
    is the percentile bootstrap's, over samples.
    """
    grid, rows = scores.grid, []
    for run, of_run in zip(grid.runs, scores.values, strict=True):
        config = run.config
        arm = (run.key, scores.dataset, config.fusion, config.arm, config.seed)
        for i, j, k in sorted(np.ndindex(of_run.shape[:3]), key=lambda at: at[1] > 0):
            where = (grid.modalities[i], grid.mode, grid.levels[j], grid.seeds[k], scores.metric)
            rows.append((*arm, *where, *vars(statistics.interval(of_run[i, j, k])).values()))
    columns = ["run", "dataset", "fusion", "alignment", "seed", "modality", "mode", "level", "corruption_seed"]
    return pd.DataFrame(rows, columns=[*columns, "metric", "value", "low", "high"])


def curves(scores: Scores) -> pd.DataFrame:
    """Return one row per arm, modality and level: the mean over training and corruption seeds with a joint interval.

    Columns: dataset, fusion, alignment, modality, mode, metric, level, value, low, high.
    """
    grid, rows = scores.grid, []
    for arm, runs in scores.arms.items():
        together = scores.curves[list(runs.values())]
        for (i, modality), (j, level) in itertools.product(enumerate(grid.modalities), enumerate(grid.levels)):
            mean = _joint(scores, arm, together[:, i, j].T)
            rows.append((scores.dataset, *arm, modality, grid.mode, scores.metric, level, *vars(mean).values()))
    columns = ["dataset", "fusion", "alignment", "modality", "mode", "metric", "level", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def means(scores: Scores) -> pd.DataFrame:
    """Return one row per arm and modality, the paper's form: clean, and the mean over the paper's three levels.

    Columns: dataset, fusion, alignment, modality, metric, clean, mean, drop, area, low, high; the interval is the
    mean's, over seeds and samples jointly.
    """
    found: dict[Summary, Any] = {of: scores.summary(of) for of in ("clean", "mean", "drop", "area")}
    rows = []
    for arm, runs in scores.arms.items():
        own = list(runs.values())
        for i, modality in enumerate(scores.grid.modalities):
            here = (values[own, i, 0].mean() for values in found.values())
            mean = _joint(scores, arm, found["mean"][own, i].T)
            rows.append((scores.dataset, *arm, modality, scores.metric, *here, mean.low, mean.high))
    columns = ["dataset", "fusion", "alignment", "modality", "metric", *found, "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def differences(scores: Scores, *, of: Summary = "mean", against: str = BASELINE) -> pd.DataFrame:
    """Return arm - baseline of a summary, with a joint interval over seeds and samples, and the verdict.

    Same seed, same samples, same noise on both sides. One row per arm and modality, and one with the modality `CLEAN`.

    Args:
        scores: of one dataset.
        of: the summary; a difference of drops is *better* where it is negative.
        against: the arm that is subtracted, if it is not the baseline; a fusion without such runs has no rows.

    Returns:
        Columns: dataset, fusion, alignment, modality, metric, seeds, detectable (the smallest effect that the
        comparison would detect four times in five, from the runs alone that are subtracted), difference, low, high,
        verdict ("not trained" where one of the two arms is not).
    """
    names = (*scores.grid.modalities, CLEAN)
    found = {modality: _paired(scores, modality=modality, of=of, against=against) for modality in names}
    rows = [
        _row(scores, arm, modality, found[modality][arm], of, against) for arm in found[CLEAN] for modality in found
    ]
    power = {
        (fusion, modality): statistics.smallest_detectable(_by_run(scores, modality, of)[list(runs.values())].T)
        for (fusion, alignment), runs in scores.arms.items() if alignment == against for modality in found
    }  # fmt: skip
    columns = [*_COLUMNS, "seeds", "detectable", "difference", "low", "high", "verdict"]
    powered = [row | {"detectable": power[row["fusion"], row["modality"]]} for row in rows]
    return pd.DataFrame(powered, columns=columns)


def between(first: Scores, second: Scores, *, of: Summary = "mean") -> pd.DataFrame:
    """Return second - first of a summary, such as of another mode, another representation or another way of training.

    The grids hold runs of the same seeds on the same test split, and the scores the same resamples; runs are paired by
    fusion, alignment and seed.

    Args:
        first: what is subtracted.
        second: what it is subtracted from.
        of: the summary that is compared.

    Returns:
        Columns as of `differences`; one row per fusion, alignment and modality that both have.

    Raises:
        ValueError: the scores are of different metrics or test samples.
    """
    if first.metric != second.metric or first.seed != second.seed:
        raise ValueError(
            f"scores of {first.metric} and {second.metric}: score both with the same metric, draws and seed"
        )
    if not np.array_equal(first.grid.clusters, second.grid.clusters):
        raise ValueError(f"{first.dataset} and {second.dataset}: not the same test samples, so nothing can be paired")
    rows = []
    for arm, own in first.arms.items():
        partners = second.arms.get(arm, {})
        both = [seed for seed in own if seed in partners]
        for modality in (m for m in first.grid.modalities if both and m in second.grid.modalities):
            before, after = _by_run(first, modality, of), _by_run(second, modality, of)
            pairs = after[[partners[seed] for seed in both]] - before[[own[seed] for seed in both]]
            rows.append(_row(first, arm, modality, pairs.T, of))
    return pd.DataFrame(rows)


def _paired(
    scores: Scores, *, modality: str, of: Summary = "mean", against: str = BASELINE
) -> dict[Arm, SeedResamples]:
    """Return arm - baseline of a summary for each arm and seed, on the test split (first row) and on its resamples.

    Raises:
        ValueError: a run has no baseline of its fusion and seed.
    """
    values, arms, found = _by_run(scores, modality, of), scores.arms, {}
    for (fusion, alignment), own in arms.items():
        baseline = arms.get((fusion, against), {})
        if not baseline and against != BASELINE:
            continue
        if lacking := set(own) - set(baseline):
            name = "baseline" if against == BASELINE else against
            raise ValueError(f"runs: {fusion} fusion, {alignment}, seeds {sorted(lacking)} have no {name}; train it")
        if alignment != against:
            found[fusion, alignment] = (values[list(own.values())] - values[[baseline[seed] for seed in own]]).T
    return found


def _by_run(scores: Scores, modality: str, of: Summary) -> Float[np.ndarray, "runs resamples"]:
    if modality == CLEAN:
        return scores.summary("clean")[:, 0]
    return scores.summary(of)[:, scores.grid.modalities.index(modality)]


def _row(
    scores: Scores, arm: Arm, modality: str, pairs: SeedResamples, of: Summary, against: str = BASELINE
) -> dict[str, Any]:
    better = scores.higher_is_better if of != "drop" or modality == CLEAN else False
    named = dict(zip(_COLUMNS, (scores.dataset, *arm, modality, scores.metric), strict=True))
    row = named | statistics.paired_row(pairs, _seed(scores, arm, pairs), higher_is_better=better)
    return row | ({"verdict": "not trained"} if {arm, (arm[0], against)} & scores.untrained else {})


def _joint(scores: Scores, arm: Arm, values: SeedResamples) -> Interval:
    return statistics.joint_interval(values, _seed(scores, arm, values)).of(scores.metric)


def _seed(scores: Scores, arm: Arm, values: SeedResamples) -> list[int]:
    """Return the seed of an arm's draws.

    Raises:
        ValueError: fewer than two training seeds, whose spread can't be known.
    """
    if values.shape[1] < 2:
        raise ValueError(f"runs: {' fusion, '.join(arm)} has {values.shape[1]} seed; an interval needs two or more")
    return [scores.seed, *f"{scores.dataset} {arm}".encode()]


def average_gain(scores: Sequence[Scores], *, modality: str, fusions: Sequence[str] = FUSIONS) -> Interval:
    """Return the average over datasets and fusions of what the Wasserstein alignment gains, in points (x 100).

    An arm that is not trained, or whose baseline is not, has no part in it; NaN if none is left.

    The gain is aligned - baseline of the mean over the paper's levels (for `CLEAN`, of the clean split's metric). All
    datasets have the same weight. The fusions of a dataset share its resamples; datasets are independent, so their
    draws are joined in random order.

    Args:
        scores: one per dataset, of its `headline` metric.
        modality: `ALL`, `DRAWN` or `CLEAN`.
        fusions: over which fusions; a dataset that has none of them has no part in it.

    Raises:
        ValueError: a metric that is lower where better, which can't be averaged with the others.
    """
    here, drawn, wanted = [], [], [(fusion, "wasserstein") for fusion in fusions]
    for one in scores:
        if not one.higher_is_better:
            raise ValueError(f"{one.dataset}: {one.metric} is lower where better; use headline(spec)")
        pairs = {arm: p for arm, p in _paired(one, modality=modality).items()
                 if arm in wanted and not {arm, (arm[0], BASELINE)} & one.untrained}  # fmt: skip
        if not pairs:
            continue
        here.append(np.mean([p[0].mean() for p in pairs.values()]))
        joined = np.mean([statistics.joint_draws(p, _seed(one, arm, p)) for arm, p in pairs.items()], axis=0).ravel()
        drawn.append(np.random.default_rng([one.seed, *one.dataset.encode()]).permutation(joined))
    if not here:
        return Interval(*[float("nan")] * 3)
    low, high = statistics.percentiles(np.mean(drawn, axis=0))
    return Interval(100 * float(np.mean(here)), 100 * low, 100 * high)


def right(task: Task, predictions: Predictions) -> Bool[np.ndarray, "samples decisions"]:
    """Return which decisions are right: each label's side of 0.5, the class, or the sign of a rating (0 counts as +).

    >>> right("binary", Predictions(np.array(["a", "b"]), np.array([[0.3], [0.2]]), np.array([1, 0]))).tolist()
    [[True], [False]]
    """
    truth, logits = predictions.truth, predictions.logits
    if task == "multiclass":
        return (logits.argmax(axis=1) == truth)[:, None]
    truth = truth.reshape(logits.shape)
    return (logits >= 0) == (truth >= 0) if task == "regression" else (logits > 0) == truth.astype(bool)
