"""Sensitivity: how much the gain of alignment changes when one of our assumptions does.

The *gain* is aligned - baseline of a metric, on the clean test split or averaged over the paper's three levels of noise
or shares of missing modalities. A `Variant` changes one setting; its *effect* is its gain less the gain at the default
setting, same seeds, same test samples. A switch of the alignment leaves the baseline as it is, which then cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mmwa_utils.corruption import NoiseMode, Representation
from mmwa_utils.evaluation.statistics import Resamples, SeedResamples, joint_interval
from mmwa_utils.robustness import ALL, DRAWN, headline, missing_grid, noise_grid, score
from mmwa_utils.training.comparison import BASELINE, vary
from mmwa_utils.training.config import RunConfig
from mmwa_utils.training.store import Run

What = Literal["clean", "noise", "missing"]
WHATS: tuple[What, ...] = ("clean", "noise", "missing")
COLUMNS = ("assumption", "switch", "value", "what", "metric", "difference", "low", "high", "n_seeds")

Outcomes = Mapping[tuple[str, What], Resamples]
"""(run key, what) -> the metric, on the test split (first entry) and on resamples that all runs share."""


@dataclass(frozen=True)
class Variant:
    """One setting changed."""

    assumption: str
    """Id of a row of the ledger, or of a setting of the paper's."""
    switch: str
    value: str
    """What the switch is set to, as text."""
    alignment: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields of the alignment's configuration; the baseline has none of them."""
    run: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields of the run's configuration, changed in the baseline too."""

    @property
    def name(self) -> str:
        """Return what figures and tables call it."""
        return f"{self.switch.removeprefix('alignment.')} = {self.value}"

    def apply(self, config: RunConfig) -> RunConfig:
        """Return a run's configuration with the setting changed."""
        own = config.alignment.model_dump()
        changed = {**own, **self.alignment} if config.alignment.name != BASELINE else own
        return vary(config, **{**self.run, "alignment": changed})


DEFAULT = Variant("", "", "default")
"""Nothing changed."""


def variants(
    base: RunConfig, *, alphas: Sequence[float], betas: Sequence[float], rates: Sequence[float]
) -> tuple[Variant, ...]:
    """Return one variant for each other value of each setting, one at a time.

    Args:
        base: the default setting; its own values are no variants.
        alphas: the paper's alpha.
        betas: the paper's beta.
        rates: learning rates.

    >>> from mmwa_utils.training.study import digits_base
    >>> [v.name for v in variants(digits_base("smoke"), alphas=[0.1, 5.0], betas=[], rates=[])][:3]
    ['alpha = 5', 'swapped = true', 'layers = input']
    """
    own = base.alignment
    numbers = [Variant("alpha", "alignment.alpha", f"{a:g}", {"alpha": a}) for a in alphas if a != own.alpha]
    numbers += [Variant("beta", "alignment.beta", f"{b:g}", {"beta": b}) for b in betas if b != own.beta]
    choices: list[tuple[str, str, Sequence[Any]]] = [
        ("swapped-reading", "swapped", (False, True)),
        ("tokens-aligned", "layers", ("last", "input", "all")),
        ("cost", "cost", ("cosine", "sqeuclidean")),
        ("value", "value", ("regularised", "transport", "divergence")),
    ]
    switched = [
        Variant(assumption, f"alignment.{name}", str(value).lower(), {name: value})
        for assumption, name, values in choices
        for value in values
        if value != getattr(own, name)
    ]
    trained = [Variant("learning-rate", "lr", f"{rate:g}", run={"lr": rate}) for rate in rates if rate != base.lr]
    return (*numbers, *switched, *trained)


SPECIAL_TOKENS = Variant("marginals", "alignment.special_tokens", "true", {"special_tokens": True})
"""Mass for [CLS] and [SEP]; where no modality has such tokens it changes nothing."""


def configs(base: RunConfig, variant: Variant, seeds: Sequence[int]) -> tuple[tuple[RunConfig, RunConfig], ...]:
    """Return the pair (baseline, aligned) of each seed at a variant."""
    plain = vary(base, alignment={"name": BASELINE})
    return tuple((variant.apply(vary(plain, seed=s)), variant.apply(vary(base, seed=s))) for s in seeds)


def outcomes(
    runs: Sequence[Run],
    *,
    mode: NoiseMode = "corrected",
    representation: Representation = "masked",
    whats: Sequence[What] = WHATS,
    draws: int = 1000,
    seed: int = 0,
    folder: Path | None = None,
) -> dict[tuple[str, What], Resamples]:
    """Measure runs of one dataset on the clean test split, under noise on all modalities, and with one missing.

    Args:
        runs: of one dataset.
        mode: of the noise.
        representation: what stands for a missing modality.
        whats: which of the three.
        draws: resamples of the test split, shared by all runs and calls with the same seed.
        seed: of noise, of who misses what, and of the draws.
        folder: where predictions are kept, as in `evaluation.evaluate`.
    """
    grids: dict[What, tuple[Any, str]] = {}
    if "noise" in whats:
        grids["noise"] = (noise_grid(runs, seeds=[seed], modalities=[ALL], mode=mode, folder=folder), ALL)
    if {"missing", "clean"} & set(whats):
        kept = missing_grid(runs, seeds=[seed], modalities=[DRAWN], representation=representation, folder=folder)
        grids |= {what: (kept, DRAWN) for what in ("missing", "clean") if what in whats}
    found: dict[tuple[str, What], Resamples] = {}
    for what, (grid, modality) in grids.items():
        scores = score(grid, headline(grid.spec), draws=draws, seed=seed)
        of: Literal["clean", "mean"] = "clean" if what == "clean" else "mean"
        found |= {(run.key, what): scores.summary(run.key, modality, of) for run in runs}
    return found


def gains(pairs: Sequence[tuple[Run, Run]], measured: Outcomes, what: What) -> SeedResamples:
    """Return aligned - baseline of each seed, on the test split (first row) and on its resamples."""
    return np.stack([measured[ours.key, what] - measured[plain.key, what] for plain, ours in pairs], axis=1)


def effect(
    variant: Variant,
    changed: SeedResamples,
    default: SeedResamples,
    *,
    what: What,
    metric: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Return a row of `COLUMNS`: the mean over seeds of the change of the gain, with a joint interval.

    The interval is over seeds and samples, as in `comparison.paired_differences`; one seed has none (NaN).

    >>> nothing = effect(DEFAULT, np.ones((9, 2)), np.ones((9, 2)), what="clean", metric="accuracy")
    >>> nothing["difference"], nothing["low"], nothing["high"]
    (0.0, 0.0, 0.0)
    """
    found = joint_interval(changed - default, [seed, 1])
    setting = (variant.assumption, variant.switch, variant.value)
    values = (*setting, what, metric, *vars(found).values(), changed.shape[1])
    return dict(zip(COLUMNS, values, strict=True))


def rank(effects: pd.DataFrame) -> pd.DataFrame:
    """Return one row a variant, the largest effect on clean data, noise or absence first.

    Columns: assumption, switch, value; what, the condition of its largest effect; difference, low, high there; size,
    its absolute value; bound, the largest absolute value that the intervals leave possible in any condition; excludes,
    the conditions whose interval excludes zero, "" where none does.
    """
    rows = []
    for name, group in effects.groupby(["assumption", "switch", "value"], sort=False):
        largest = group.loc[group["difference"].abs().idxmax()]
        excluded = group[(group["low"] > 0) | (group["high"] < 0)]
        rows.append(
            dict(zip(("assumption", "switch", "value"), name, strict=True))
            | largest[["what", "difference", "low", "high"]].to_dict()
            | {"size": abs(largest["difference"]), "bound": group[["low", "high"]].abs().max().max()}
            | {"excludes": ", ".join(excluded["what"])}
        )
    return pd.DataFrame(rows).sort_values("size", ascending=False, kind="stable", ignore_index=True)
