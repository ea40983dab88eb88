"""A metric of every point of a grid, on the test split and on resamples of it, and its summaries over levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from mmwa_utils.evaluation.metrics import LOWER_IS_BETTER
from mmwa_utils.evaluation.statistics import Resamples, draw_counts, measure
from mmwa_utils.robustness.grids import PAPER_LEVELS, Grid, Point
from mmwa_utils.training.store import Predictions
from mmwa_utils.types import DatasetSpec, Task

Summary = Literal["mean", "area", "drop", "clean"]


@dataclass(frozen=True)
class Scores:
    """A metric of every run at every point, on the test split (first entry) and on resamples of it (the others)."""

    grid: Grid
    metric: str
    values: Mapping[tuple[str, Point | None], Resamples]
    """By run key and point, None being the clean split."""
    seed: int

    @property
    def dataset(self) -> str:
        """Return the dataset's name."""
        return self.grid.spec.name

    @property
    def higher_is_better(self) -> bool:
        """Return whether a higher value of the metric is a better one."""
        return self.metric not in LOWER_IS_BETTER

    def curve(self, key: str, modality: str) -> Float[np.ndarray, "levels resamples"]:
        """Return a run's metric by level, from 0 upwards, each the mean over corruption seeds."""
        by_level: dict[float, list[Resamples]] = {0.0: [self.values[key, None]]}
        for point in self.grid.points:
            if point.modality == modality:
                by_level.setdefault(point.level, []).append(self.values[key, point])
        return np.stack([np.mean(by_level[level], axis=0) for level in sorted(by_level)])

    def summary(self, key: str, modality: str, of: Summary = "mean") -> Resamples:
        """Return a run's summary over levels: see `SUMMARIES`; "drop" is positive where the metric got worse.

        Raises:
            ValueError: the grid lacks one of the paper's levels, whose mean is asked for.
        """
        if of in ("mean", "drop") and set(PAPER_LEVELS) - set(self.grid.levels):
            raise ValueError(f"levels are {self.grid.levels}; the mean is over the paper's {PAPER_LEVELS}: add them")
        found = SUMMARIES[of](np.array(self.grid.levels), self.curve(key, modality))
        return -found if of == "drop" and not self.higher_is_better else found


def score(grid: Grid, metric: str, *, draws: int = 1000, seed: int = 0) -> Scores:
    """Measure every run at every point, on the test split and on `draws` resamples that all of them share.

    Args:
        grid: the predictions.
        metric: one of the task's metrics.
        draws: number of resamples; whole clusters are drawn.
        seed: of the draws alone.
    """
    counts = draw_counts(len(grid.clusters), draws, seed=seed, clusters=grid.clusters)
    at: dict[tuple[str, Point | None], Predictions] = {(key, None): found for key, found in grid.clean.items()}
    at |= {(key, point): found for (key, point), found in grid.changed.items()}
    known: dict[bytes, Resamples] = {}  # at share 1 every seed gives the same predictions
    for p in at.values():
        if p.logits.tobytes() not in known:
            known[p.logits.tobytes()] = measure(grid.spec.task, metric, p.truth, p.logits, counts)
    return Scores(grid, metric, {where: known[p.logits.tobytes()] for where, p in at.items()}, seed)


def _paper_mean(levels: Float[np.ndarray, " levels"], curve: Float[np.ndarray, "levels resamples"]) -> Resamples:
    return curve[np.isin(levels, PAPER_LEVELS)].mean(axis=0)


SUMMARIES: Mapping[Summary, Callable[[Any, Any], Resamples]] = {
    "clean": lambda levels, curve: curve[0],
    "mean": _paper_mean,
    "drop": lambda levels, curve: curve[0] - _paper_mean(levels, curve),
    "area": lambda levels, curve: np.trapezoid(curve, levels, axis=0) / (levels[-1] - levels[0]),
}
"""Of a curve over levels: its value at 0; the mean over the paper's levels; what is lost against 0; the area under the
whole curve, 0 included, divided by its length, so that it is in the metric's units like the others."""


def headline(spec: DatasetSpec) -> str:
    """Return the metric that enters averages over datasets: one that is higher where better, and 1 at best.

    It is the dataset's own metric; where that is an error (CMU-MOSEI), the accuracy of negative against non-negative.
    """
    return spec.metric if spec.higher_is_better else "accuracy_2"


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
