"""Grids: predictions of trained runs at every noise level, and with every share of the samples lacking a modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from mmwa_utils.corruption import NoiseMode, Representation, choose_missing
from mmwa_utils.evaluation.conditions import Clean, Noise, Without
from mmwa_utils.evaluation.prediction import evaluate
from mmwa_utils.parameters import Profile
from mmwa_utils.training import study
from mmwa_utils.training.comparison import BASELINE, vary
from mmwa_utils.training.config import DatasetName, RunConfig
from mmwa_utils.training.data import open_data
from mmwa_utils.training.store import Predictions, Run
from mmwa_utils.types import DatasetSpec, Sample, Split

PAPER_LEVELS = (0.25, 0.5, 0.75)
"""Noise levels and missing shares of the paper; its numbers are means over the three."""
ALL, DRAWN, CLEAN = "all", "drawn", "clean"
"""In a table's column `modality`: noise on all modalities at once; the lost modality drawn by sample; no change."""


@dataclass(frozen=True)
class Point:
    """One point of a curve: which modality, at what level of noise (or share missing), with which corruption seed."""

    modality: str
    level: float
    seed: int


@dataclass(frozen=True)
class Grid:
    """Predictions of a dataset's runs on the clean test split and at every point."""

    spec: DatasetSpec
    mode: str
    """The noise's mode, or what stands for a lost modality."""
    runs: tuple[Run, ...]
    clean: Mapping[str, Predictions]
    """By run key."""
    changed: Mapping[tuple[str, Point], Predictions]
    clusters: Shaped[np.ndarray, " samples"]
    """What is drawn as one in a resample, such as the film of several plots."""

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """Return the points, each once."""
        return tuple(dict.fromkeys(point for _, point in self.changed))

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Return what the curves are about: `ALL` or `DRAWN`, then single modalities."""
        return tuple(dict.fromkeys(point.modality for point in self.points))

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """Return the levels, ascending, with 0 in front."""
        return 0.0, *sorted({point.level for point in self.points})


def study_configs(
    dataset: DatasetName,
    profile: Profile,
    *,
    saved: Mapping[str, Any] | None = None,
    fusions: Sequence[str] = ("early", "late"),
    rivals: bool = False,
) -> tuple[RunConfig, ...]:
    """Return the runs whose robustness is measured: baseline and aligned ones of a dataset's chapter.

    Args:
        dataset: the dataset.
        profile: the profile in force.
        saved: as in `study.chapter_configs`.
        fusions: which of the chapter's fusions.
        rivals: the alternatives of `study.RIVALS` too, each with the aligned run's settings and its own loss.
    """
    configs = [c for c in study.chapter_configs(dataset, profile, saved=saved) if c.fusion in fusions]
    plain = [c for c in configs if c.alignment.name == BASELINE]
    aligned = [c for c in configs if c.alignment.name == "wasserstein"]
    others = [
        vary(config, alignment={**config.alignment.model_dump(), "name": name})
        for name in (study.RIVALS if rivals else ())
        for config in aligned
    ]
    return (*plain, *aligned, *others)


def noise_grid(
    runs: Sequence[Run],
    *,
    levels: Sequence[float] = PAPER_LEVELS,
    seeds: Sequence[int] = (0,),
    modalities: Sequence[str] | None = None,
    mode: NoiseMode = "corrected",
    folder: Path | None = None,
    progress: bool | None = None,
) -> Grid:
    """Predict the test split under noise on all modalities together and on each alone.

    Args:
        runs: of one dataset.
        levels: of the noise, in [0, 1]; 0 is the clean split, which is always there.
        seeds: of the noise.
        modalities: `ALL` and names of modalities; None is all of these.
        mode: "corrected" or "multibench".
        folder: where predictions are kept, as in `evaluation.evaluate`.
        progress: as in `evaluation.evaluate`.

    Raises:
        ValueError: no runs, or runs of several datasets.
    """
    split = _test_split(runs)
    chosen = (ALL, *split.spec.modality_names) if modalities is None else tuple(modalities)
    conditions = {
        Point(name, level, seed): Noise(level, seed, None if name == ALL else (name,), mode)
        for name in chosen
        for level in levels
        if level > 0
        for seed in seeds
    }
    found = evaluate(runs, [Clean(), *conditions.values()], folder=folder, progress=progress)
    changed = {(run.key, point): found[run.key, what] for run in runs for point, what in conditions.items()}
    clean = {run.key: found[run.key, Clean()] for run in runs}
    return Grid(split.spec, mode, tuple(runs), clean, changed, _clusters(roll(split)))


def missing_grid(
    runs: Sequence[Run],
    *,
    shares: Sequence[float] = PAPER_LEVELS,
    seeds: Sequence[int] = (0,),
    modalities: Sequence[str] | None = None,
    representation: Representation = "masked",
    folder: Path | None = None,
    progress: bool | None = None,
) -> Grid:
    """Predict the test split with an exact share of the samples having lost one modality.

    A model's output for a sample does not depend on who else lost what. So each run reads the split once whole and
    once without each modality, and the predictions of every share and seed are put together from these.

    Args:
        runs: of one dataset.
        shares: of the samples that can lose the modality, in [0, 1]; 0 is the clean split, which is always there.
        seeds: of the choice of samples.
        modalities: `DRAWN` and names of modalities; None is all of these.
        representation: what stands for what was lost, as in `corruption.lose`.
        folder: where predictions are kept, as in `evaluation.evaluate`.
        progress: as in `evaluation.evaluate`.

    Raises:
        ValueError: no runs, or runs of several datasets.
    """
    split = _test_split(runs)
    spec, names = split.spec, split.spec.modality_names
    chosen = (DRAWN, *names) if modalities is None else tuple(modalities)
    without = {name: Without((name,), representation) for name in names}
    found = evaluate(runs, [Clean(), *without.values()], folder=folder, progress=progress)
    clean = {run.key: found[run.key, Clean()] for run in runs}
    present = roll(split)
    changed = {}
    for point in (Point(n, share, seed) for n in chosen for share in shares if share > 0 for seed in seeds):
        only = None if point.modality == DRAWN else point.modality
        lost = choose_missing(present, spec, rate=point.level, seed=point.seed, modality=only)
        for run in runs:
            by_loss = {name: found[run.key, without[name]] for name in names}
            changed[run.key, point] = _compose(clean[run.key], by_loss, lost)
    return Grid(spec, representation, tuple(runs), clean, changed, _clusters(present))


def _test_split(runs: Sequence[Run]) -> Split:
    if not runs:
        raise ValueError("runs: there are none; train or find some first")
    return open_data(runs[0].config).splits["test"]


def _compose(clean: Predictions, by_loss: Mapping[str, Predictions], lost: Mapping[str, str]) -> Predictions:
    """Take each sample's logits from the evaluation in which all samples lost what this one loses."""
    logits = clean.logits.copy()
    for row, identifier in enumerate(clean.ids.astype(str)):
        if identifier in lost:
            logits[row] = by_loss[lost[identifier]].logits[row]
    return replace(clean, logits=logits)


def roll(split: Split) -> tuple[Sample, ...]:
    """Return the samples without their raw data: id, label, group, and which modalities there are. Reads all once."""
    return tuple(replace(sample, modalities=dict.fromkeys(sample.modalities)) for sample in split)


def _clusters(present: Iterable[Sample]) -> Shaped[np.ndarray, " samples"]:
    return np.array([sample.group or sample.id for sample in present])


def natural_missingness(present: Sequence[Sample], spec: DatasetSpec) -> pd.DataFrame:
    """Return what the release itself lacks: a row each modality, apart from everything that is taken away here.

    Columns: modality; samples; absent, how many lack it; share, of all samples; can_lose, how many have it and
    something besides.

    >>> from mmwa_utils.types import ModalitySpec
    >>> spec = DatasetSpec("demo", (ModalitySpec("a", "text"), ModalitySpec("b", "text")), "binary", 1, ("y",), "auroc")
    >>> both, one = Sample("1", 0, {"a": None, "b": None}), Sample("2", 0, {"a": None})
    >>> natural_missingness([both, one], spec)[["modality", "absent", "can_lose"]].values.tolist()
    [['a', 0, 1], ['b', 1, 1]]
    """
    rows = []
    for name in spec.modality_names:
        having = [sample for sample in present if name in sample.modalities]
        absent = len(present) - len(having)
        can_lose = sum(len(sample.modalities) > 1 for sample in having)
        rows.append((name, len(present), absent, absent / len(present), can_lose))
    return pd.DataFrame(rows, columns=["modality", "samples", "absent", "share", "can_lose"])
