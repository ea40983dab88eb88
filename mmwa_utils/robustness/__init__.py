"""Robustness: trained runs over noise levels and missing shares, as tidy tables and summaries with intervals.

`noise_grid` and `missing_grid` predict, `score` measures, and everything else reads a `Scores`: the metric of each run
and point of the grid, on the test split and on resamples of it. All points of a run and all runs of a dataset share
those resamples, so every summary (mean over levels, area, drop, paired difference) is the same arithmetic on each
resample, and its interval follows. Nothing is divided by another method's value.
"""

from mmwa_utils.robustness.grids import (
    ALL,
    CLEAN,
    DRAWN,
    PAPER_LEVELS,
    Grid,
    Point,
    missing_grid,
    natural_missingness,
    noise_grid,
    roll,
    study_configs,
)
from mmwa_utils.robustness.scores import SUMMARIES, Scores, Summary, headline, right, score
from mmwa_utils.robustness.tables import Gain, average_gain, between, curves, differences, means, paired, table

__all__ = [
    "ALL",
    "CLEAN",
    "DRAWN",
    "PAPER_LEVELS",
    "SUMMARIES",
    "Gain",
    "Grid",
    "Point",
    "Scores",
    "Summary",
    "average_gain",
    "between",
    "curves",
    "differences",
    "headline",
    "means",
    "missing_grid",
    "natural_missingness",
    "noise_grid",
    "paired",
    "right",
    "roll",
    "score",
    "study_configs",
    "table",
]
