"""Grids: predictions of trained runs at every noise level, and with every share of the samples lacking a modality."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped

from mmwa_utils.corruption import NoiseMode, Representation, choose_missing
from mmwa_utils.evaluation.conditions import Clean, Condition, Noise, Without
from mmwa_utils.evaluation.metrics import trivial_logits
from mmwa_utils.evaluation.prediction import evaluate
from mmwa_utils.training.data import open_data
from mmwa_utils.training.store import Predictions, Run
from mmwa_utils.types import DatasetSpec, Sample, Split

PAPER_LEVELS = (0.25, 0.5, 0.75)
"""Noise levels and missing shares of the paper; its numbers are means over the three."""
ALL, DRAWN, CLEAN = "all", "drawn", "clean"
"""In a table's column `modality`: noise on all modalities at once; the lost modality drawn per sample; no change."""

ByPoint = Mapping[tuple[str, str, float, int], Predictions]
"""By run key, modality, level and corruption seed."""


@dataclass(frozen=True)
class Grid:
    """Predictions of a dataset's runs at every modality, level and corruption seed; level 0 is the clean test split."""

    spec: DatasetSpec
    mode: str
    """The noise's mode, or what stands for a lost modality."""
    runs: tuple[Run, ...]
    modalities: tuple[str, ...]
    """What the curves are about: `ALL` or `DRAWN`, and single modalities."""
    levels: tuple[float, ...]
    """Ascending, with 0 in front."""
    seeds: tuple[int, ...]
    """Of the corruption."""
    predictions: ByPoint
    trivial: Predictions
    """Those of the predictor that sees no input."""
    clusters: Shaped[np.ndarray, " samples"]
    """What is drawn as one in a resample, such as the film of several plots."""

    def clean(self, key: str) -> Predictions:
        """Return a run's predictions on the clean test split."""
        return self.predictions[key, self.modalities[0], 0.0, self.seeds[0]]


def noise_grid(
    runs: Sequence[Run],
    *,
    levels: Sequence[float] = PAPER_LEVELS,
    seeds: Sequence[int] = (0,),
    modalities: Sequence[str] | None = None,
    mode: NoiseMode = "corrected",
) -> Grid:
    """Predict the test split under noise on all modalities together and on each alone.

    Args:
        runs: of one dataset.
        levels: of the noise, in [0, 1]; 0 is the clean split, which is always there.
        seeds: of the noise.
        modalities: `ALL` and names of modalities; None is all of these.
        mode: "corrected" or "multibench".

    Raises:
        ValueError: no runs, or runs of several datasets.
    """
    split, of_training = _opened(runs)
    chosen = (ALL, *split.spec.modality_names) if modalities is None else tuple(modalities)
    conditions: dict[tuple[str, float, int], Condition] = {
        (name, level, seed): Noise(level, seed, None if name == ALL else (name,), mode) if level else Clean()
        for name, level, seed in itertools.product(chosen, sorted({0.0, *levels}), seeds)
    }
    found = evaluate(runs, conditions.values())
    predictions = {(run.key, *at): found[run.key, what] for run in runs for at, what in conditions.items()}
    return _grid(split, of_training, roll(split), mode, runs, predictions)


def missing_grid(
    runs: Sequence[Run],
    *,
    shares: Sequence[float] = PAPER_LEVELS,
    seeds: Sequence[int] = (0,),
    modalities: Sequence[str] | None = None,
    representation: Representation = "masked",
) -> Grid:
    """Predict the test split with an exact share of the samples having lost one modality.

    A model's output for a sample does not depend on what other samples have lost. So each run reads the split once
    whole and once without each modality, and the predictions of every share and seed are put together from these.

    Args:
        runs: of one dataset.
        shares: of the samples that can lose the modality, in [0, 1]; 0 is the clean split, which is always there.
        seeds: of the choice of samples.
        modalities: `DRAWN` and names of modalities; None is all of these.
        representation: what stands for what was lost, as in `corruption.lose`.

    Raises:
        ValueError: no runs, or runs of several datasets.
    """
    split, of_training = _opened(runs)
    names, present = split.spec.modality_names, roll(split)
    without = {name: Without((name,), representation) for name in names}
    found = evaluate(runs, [Clean(), *without.values()])
    chosen = (DRAWN, *names) if modalities is None else tuple(modalities)
    predictions = {}
    for name, share, seed in itertools.product(chosen, sorted({0.0, *shares}), seeds):
        only = None if name == DRAWN else name
        lost = choose_missing(present, split.spec, rate=share, seed=seed, modality=only) if share else {}
        for run in runs:
            clean = found[run.key, Clean()]
            logits = clean.logits.copy()
            for row, identifier in enumerate(clean.ids.astype(str)):
                if identifier in lost:
                    logits[row] = found[run.key, without[lost[identifier]]].logits[row]
            predictions[run.key, name, share, seed] = replace(clean, logits=logits)
    return _grid(split, of_training, present, representation, runs, predictions)


def _opened(runs: Sequence[Run]) -> tuple[Split, np.ndarray]:
    """Return the test split, and the labels of the training split."""
    if not runs:
        raise ValueError("runs: there are none; train or find some first")
    data = open_data(runs[0].config)
    return data.splits["test"], np.asarray(data.splits["train"].labels())


def roll(split: Split) -> tuple[Sample, ...]:
    """Return the samples without their raw data: id, label, group, and which modalities there are. Reads all once."""
    return tuple(replace(sample, modalities=dict.fromkeys(sample.modalities)) for sample in split)


def _grid(
    split: Split,
    of_training: np.ndarray,
    present: Sequence[Sample],
    mode: str,
    runs: Sequence[Run],
    predictions: ByPoint,
) -> Grid:
    _, modalities, levels, seeds = (tuple(dict.fromkeys(axis)) for axis in zip(*predictions, strict=True))
    clusters = np.array([sample.group or sample.id for sample in present])
    clean = next(iter(predictions.values()))
    trivial = replace(clean, logits=trivial_logits(split.spec, of_training, len(clean.ids)))
    return Grid(split.spec, mode, tuple(runs), modalities, levels, seeds, predictions, trivial, clusters)
