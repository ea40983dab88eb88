"""How much a trained model leans on each modality: what is lost without it, its fair share, and what its inside shows.

A model's *value* v(S) is its metric when it is given the modalities of S alone, with the sign that makes more of it
better; v of no modality is that of a constant (see `shapley.coalition_values`). Everything here is a difference of such
values, and all values of a split are resampled with the same draws of samples, so that what subsets have in common
cancels.

An *estimate* is an array: its first entry is the quantity on the split as it is, the others on resamples of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor
from torch.utils.data import DataLoader

from mmwa_utils import project
from mmwa_utils.corruption import NoiseMode, Representation
from mmwa_utils.evaluation import BATCH_SIZE, Clean, Condition, Noise, Shuffled, Without, evaluate
from mmwa_utils.fusion import FusionModel
from mmwa_utils.shapley import Counts, coalition_values, imbalance, shapley, shares, subsets, values_of
from mmwa_utils.training.comparison import BASELINE, joint_interval, verdict
from mmwa_utils.training.config import RunConfig
from mmwa_utils.training.data import RunData, open_data
from mmwa_utils.training.resampling import Interval, draw_counts, percentiles
from mmwa_utils.training.run import load_model
from mmwa_utils.training.store import Run
from mmwa_utils.training.trainer import task_loss
from mmwa_utils.types import Batch, DatasetSpec

Estimate = Float[np.ndarray, " draws"]
MEASURES = ("drop", "permute", "shapley", "attention", "gradient")


@dataclass(frozen=True)
class Reliance:
    """What one run leans on."""

    config: RunConfig
    metric: str
    measures: Mapping[str, Mapping[str, Estimate]]
    """Measure -> modality -> estimate. `drop` and `permute`: value lost when the modality is taken away or swapped
    with another sample's; `shapley`: its part of `gain`; all three in the metric's units, positive where the modality
    helps. `attention` and `gradient`: shares in [0, 1] of what the head's slot looks at and reacts to."""
    gain: Estimate
    """v(all) - v(none): what the model has above a constant."""

    @property
    def arm(self) -> tuple[str, str, str, int]:
        """Return dataset, fusion, alignment and seed."""
        return self.config.dataset, self.config.fusion, self.config.alignment.name, self.config.seed

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities in the dataset's order."""
        return tuple(self.measures["shapley"])

    @property
    def shares(self) -> dict[str, Estimate]:
        """Return the shares of the Shapley values: see `shares`."""
        return shares(self.measures["shapley"])

    @property
    def index(self) -> Estimate:
        """Return the imbalance index: see `imbalance`."""
        return imbalance(self.measures["shapley"])

    @property
    def dominant(self) -> str:
        """Return the modality with the largest Shapley value."""
        found = self.measures["shapley"]
        return max(found, key=lambda name: found[name][0])


def conditions(
    modalities: Sequence[str], *, seeds: Sequence[int] = (0, 1), representation: Representation = "masked"
) -> dict[Any, Condition]:
    """Return what `measure` evaluates: a condition a subset of the modalities, and one a modality and shuffle seed.

    The empty subset is always `masked`: whatever stands for a lost modality, of no modality the prior is predicted.
    """
    wanted: dict[Any, Condition] = {}
    for some in subsets(modalities):
        lost = tuple(name for name in modalities if name not in some)
        wanted[some] = Without(lost, representation if some else "masked") if lost else Clean()
    return wanted | {(name, seed): Shuffled(name, seed) for name in modalities for seed in seeds}


def measure(
    runs: Sequence[Run],
    *,
    metric: str | None = None,
    seeds: Sequence[int] = (0, 1),
    representation: Representation = "masked",
    cluster: Callable[[str], str] = str,
    draws: int = 1000,
    seed: int = 0,
    split: str = "test",
    folder: Path | None = None,
    progress: bool | None = None,
) -> tuple[Reliance, ...]:
    """Return the reliance of runs of one dataset, in their order; predictions are computed or found.

    Args:
        runs: of one dataset.
        metric: one of the task's metrics; None is the dataset's own.
        seeds: of the shuffles, over which `permute` is a mean.
        representation: what stands for a modality outside of a subset; see `corruption.lose`.
        cluster: from a sample's id to what is drawn as one, such as the film of several plots.
        draws: resamples of the split.
        seed: of the resamples alone.
        split: "val" or "test".
        folder: where predictions are kept; by default `_build/evaluations`.
        progress: show a bar; None shows it unless the graph runs the notebook.
    """
    data = open_data(runs[0].config)
    metric, names = metric or data.spec.metric, data.spec.modality_names
    wanted = conditions(names, seeds=seeds, representation=representation)
    predictions = evaluate(runs, wanted.values(), split=split, folder=folder, progress=progress)
    clusters = np.array([cluster(str(identifier)) for identifier in data.splits[split].ids()])
    drawn = draw_counts(len(clusters), draws, seed=seed, clusters=clusters)
    counts = np.concatenate([np.ones_like(drawn[:1]), drawn])  # first the split itself
    results = []
    for run in runs:
        chosen = {key: predictions[run.key, condition] for key, condition in wanted.items()}
        v = coalition_values(data.spec.task, metric, {some: chosen[some] for some in subsets(names)}, counts)
        swapped = values_of(data.spec.task, metric, {k: p for k, p in chosen.items() if k not in v}, counts)
        everything, phi = v[frozenset(names)], shapley(v)
        inside = {name: _averages(per_sample, counts) for name, per_sample in look_inside(run, data, split).items()}
        measures = {
            "drop": {m: everything - v[frozenset(names) - {m}] for m in names},
            "permute": {m: everything - np.mean([swapped[m, s] for s in seeds], axis=0) for m in names},
            "shapley": {m: phi[m] for m in names},
            **inside,
        }
        results.append(Reliance(run.config, metric, measures, everything - v[frozenset()]))
    return tuple(results)


def look_inside(run: Run, data: RunData, split: str) -> dict[str, dict[str, Float[np.ndarray, " samples"]]]:
    """Return measure -> modality -> share in each sample, of attention and of the gradient's norm: see `inner_shares`.

    One forward and one backward pass over the split, in single precision.
    """
    device = project.default_device()
    model = load_model(run, data).to(device).requires_grad_(False)
    size = min(BATCH_SIZE, run.config.device_batch_size or BATCH_SIZE)
    samples: Any = data.splits[split]
    batches: DataLoader[Any] = DataLoader(
        samples, batch_size=size, collate_fn=data.collate, num_workers=run.config.workers
    )
    parts = [inner_shares(model, batch.to(device), data.spec) for batch in batches]
    names = data.spec.modality_names
    return {
        measure: {m: np.concatenate([part[measure][m].cpu().numpy() for part in parts]) for m in names}
        for measure in ("attention", "gradient")
    }


def inner_shares(model: FusionModel, batch: Batch, spec: DatasetSpec) -> dict[str, dict[str, Float[Tensor, " batch"]]]:
    """Return measure -> modality -> share in each sample; the shares of a sample sum to 1, or are NaN.

    - `attention`: what slot 0, which the head reads, attends to; mean over layers and heads, summed over the
      modality's tokens.
    - `gradient`: |dL/dX_m|, the Frobenius norm of the task loss's gradient over all of the modality's tokens that enter
      the fusion transformer. It is the *total* over tokens, as the attention is: the question is how the prediction
      moves when the modality does, not when one of its tokens does. With one output a sample's share is the same for
      any loss and for the output itself, since dL/dX_m = L' dz/dX_m and L' cancels; with several the loss says which
      direction matters.

    Slot 0 belongs to no modality here: in early fusion it is the text's [CLS], in late fusion a token of its own.
    """
    with _leaf_tokens(model) as entered, torch.enable_grad():
        output = model(batch, output_attentions=True)
        loss = task_loss(spec, output.logits, batch.labels)
    (gradient,) = torch.autograd.grad(loss, entered)
    assert output.attentions is not None  # asked for above
    looked = torch.stack([layer[:, :, 0].mean(dim=1) for layer in output.attentions]).mean(dim=0).detach()
    looked[:, 0], gradient[:, 0] = 0, 0
    masses = {
        "attention": {name: looked[:, cut].sum(dim=1) for name, cut in output.segments.items()},
        "gradient": {name: gradient[:, cut].flatten(1).norm(dim=1) for name, cut in output.segments.items()},
    }
    nothing = torch.zeros_like(looked[:, 0])
    shared = {}
    for measure, mass in masses.items():
        total = sum(mass.values(), nothing)
        # A sample fitted so well that its gradient is 0 has no share: 0 / 0 is NaN, and it is left out.
        shared[measure] = {name: mass.get(name, nothing) / total for name in spec.modality_names}
    return shared


@contextmanager
def _leaf_tokens(model: FusionModel) -> Iterator[list[Tensor]]:
    """Give the transformer its tokens as leaves, so that gradients stop there; they are put into the list."""
    entered: list[Tensor] = []

    def cut(_: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        entered.append(arguments[0].detach().requires_grad_())
        return (entered[0], *arguments[1:])

    handle = model.encoder.register_forward_pre_hook(cut)
    try:
        yield entered
    finally:
        handle.remove()


def _averages(per_sample: Mapping[str, Float[np.ndarray, " samples"]], counts: Counts) -> dict[str, Estimate]:
    """Return the means over the samples that have a share."""
    means = {}
    for name, values in per_sample.items():
        defined = np.isfinite(values)
        with np.errstate(invalid="ignore"):  # a resample without any such sample has no mean
            means[name] = (counts @ np.where(defined, values, 0.0)) / (counts @ defined)
    return means


def table(found: Iterable[Reliance], *, level: float = 0.95) -> pd.DataFrame:
    """Return dataset, fusion, alignment, seed, modality, measure, value, low and high, a row a measured number."""
    rows = [
        (*one.arm, modality, measure, estimate[0], *percentiles(estimate[1:], level))
        for one in found
        for measure, by_modality in one.measures.items()
        for modality, estimate in by_modality.items()
    ]
    columns = ["dataset", "fusion", "alignment", "seed", "modality", "measure", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def index_table(found: Iterable[Reliance], *, level: float = 0.95) -> pd.DataFrame:
    """Return a row a run: dataset, fusion, alignment, seed, index, low, high, gain, dominant; NaN where undefined.

    The index of a split of finite size is too high on average, since the largest of several shares is chosen after
    chance has moved them; the more so the smaller the split and the gain.
    """
    rows = []
    for one in found:
        bounds = percentiles(one.index[1:] if np.isfinite(one.index[0]) else one.index[:1], level)
        rows.append((*one.arm, one.index[0], *bounds, one.gain[0], one.dominant))
    columns = ["dataset", "fusion", "alignment", "seed", "index", "low", "high", "gain", "dominant"]
    return pd.DataFrame(rows, columns=columns)


def mean_estimate(estimates: Sequence[Estimate], *, level: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean over seeds with an interval over seeds and samples jointly: see `comparison.paired_differences`.

    Args:
        estimates: one a seed, on the same resamples; undefined ones are left out, and fewer than two have no interval.
        level: coverage.
        seed: of the draws alone.
    """
    defined = [estimate for estimate in estimates if np.isfinite(estimate[0])]
    if len(defined) < 2:
        return Interval(float(defined[0][0]) if defined else np.nan, np.nan, np.nan)
    stacked = np.stack(defined, axis=1)
    bounds = joint_interval(stacked[1:], stacked[0], level, np.random.default_rng([seed, 1]))
    return Interval(float(stacked[0].mean()), *bounds)


def arm_means(
    found: Iterable[Reliance],
    quantity: Callable[[Reliance], Estimate],
    *,
    by: Sequence[str] = ("dataset", "fusion", "alignment"),
    within: tuple[float, float] = (-np.inf, np.inf),
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return `by`, seeds, mean, low and high of a quantity; what `by` does not tell apart of a seed is averaged first.

    Runs in which the quantity is undefined are left out, and `seeds` counts what is left. `within` is the range of the
    quantity, such as [0, 1] of an index: with few seeds Student's interval leaves it, and is cut.
    """
    arms: dict[tuple[Any, ...], dict[int, list[Estimate]]] = {}
    for one in found:
        named = dict(zip(("dataset", "fusion", "alignment"), one.arm, strict=False))
        seeds = arms.setdefault(tuple(named[name] for name in by), {})
        if np.isfinite((estimate := quantity(one))[0]):
            seeds.setdefault(one.config.seed, []).append(estimate)
    rows = []
    for arm, seeds in arms.items():
        mean = mean_estimate([np.mean(some, axis=0) for some in seeds.values()], level=level, seed=seed)
        rows.append((*arm, len(seeds), mean.value, *np.clip((mean.low, mean.high), *within)))
    return pd.DataFrame(rows, columns=[*by, "seeds", "mean", "low", "high"])


def index_differences(found: Iterable[Reliance], *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Return aligned - baseline of the imbalance index for each dataset, fusion and alignment.

    One row each: dataset, fusion, alignment, seeds, difference, low, high, verdict. Pairs share their seed and their
    samples; a pair of which one index is undefined is left out. Verdict "helps": alignment lowers the index.
    """
    index = {one.arm: one.index for one in found}
    pairs: dict[tuple[str, str, str], list[Estimate]] = {}
    for (dataset, fusion, alignment, run_seed), estimate in index.items():
        base = (dataset, fusion, BASELINE, run_seed)
        if alignment != BASELINE and base in index:
            pairs.setdefault((dataset, fusion, alignment), []).append(estimate - index[base])
    rows = []
    for arm, differences in pairs.items():
        mean, seeds = mean_estimate(differences, level=level, seed=seed), sum(np.isfinite(d[0]) for d in differences)
        low, high = np.clip((mean.low, mean.high), -1, 1)  # two indices are no further apart
        rows.append((*arm, int(seeds), mean.value, low, high, verdict(low, high, higher_is_better=False)))
    columns = ["dataset", "fusion", "alignment", "seeds", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def fragility(
    runs: Sequence[Run],
    *,
    level: float = 0.5,
    seeds: Sequence[int] = (0, 1),
    mode: NoiseMode = "corrected",
    representation: Representation = "masked",
    metric: str | None = None,
    cluster: Callable[[str], str] = str,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Return the imbalance index of each run on one half of the test split, and on the *other* half what the run loses.

    Both are made of the same metric of the same model; on the same samples an unlucky draw would move them together.
    Two rows a run: dataset, fusion, alignment, seed, half (that gave the index), index, dominant, noise, loss. `noise`
    is the value lost when the dominant modality is noisy, mean over noise seeds, `loss` when it is taken away.

    Args besides those of `measure`: `level`, `seeds` and `mode` of the noise; `seed` of the halves alone.
    """
    data = open_data(runs[0].config)
    metric, names = metric or data.spec.metric, data.spec.modality_names
    wanted = conditions(names, seeds=(), representation=representation)
    wanted |= {(m, s): Noise(level, s, (m,), mode) for m in names for s in seeds}
    predictions = evaluate(runs, wanted.values(), folder=folder, progress=progress)
    owner = np.unique([cluster(str(i)) for i in data.splits["test"].ids()], return_inverse=True)[1]
    half = np.random.default_rng(seed).permutation(owner.max() + 1)[owner] % 2
    rows = []
    for run in runs:
        chosen = {key: predictions[run.key, condition] for key, condition in wanted.items()}
        counts = np.stack([half == 0, half == 1]).astype(int)
        v = coalition_values(data.spec.task, metric, {some: chosen[some] for some in subsets(names)}, counts)
        noised = values_of(data.spec.task, metric, {k: p for k, p in chosen.items() if k not in v}, counts)
        phi, whole = shapley(v), frozenset(names)
        index, config = imbalance(phi), run.config
        for here, there in ((0, 1), (1, 0)):
            dominant = max(names, key=lambda m: phi[m][here])
            noisy = np.mean([noised[dominant, s][there] for s in seeds])
            lost = v[whole][there] - np.array([noisy, v[whole - {dominant}][there]])
            arm = (config.dataset, config.fusion, config.alignment.name, config.seed)
            rows.append((*arm, here, index[here], dominant, *lost))
    columns = ["dataset", "fusion", "alignment", "seed", "half", "index", "dominant", "noise", "loss"]
    return pd.DataFrame(rows, columns=columns)


def rank_correlation(
    fragile: pd.DataFrame, column: str, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the rank correlation of index and loss over runs, with a percentile interval over resampled runs.

    Spearman's, but ranks are taken *within* a dataset, fusion and half and pooled: a dataset whose models are all
    imbalanced and all fragile says nothing. Undefined runs are left out.

    Args:
        fragile: what `fragility` returns, of one or more datasets.
        column: "noise" or "loss".
        draws: resamples of the runs, within dataset and fusion; both halves of a run go together.
        level: coverage.
        seed: of the resamples alone.
    """
    generator, sums = np.random.default_rng(seed), np.zeros((3, draws + 1))
    for _, group in fragile.groupby(["dataset", "fusion"], sort=False):
        wide = group.pivot(index=["alignment", "seed"], columns="half", values=["index", column]).dropna()
        n = len(wide)
        if n < 2:
            continue
        picks = np.concatenate([np.arange(n)[None], generator.integers(n, size=(draws, n))])
        for half in (0, 1):
            ranks = (rankdata(wide[name, half].to_numpy()[picks], axis=1) for name in ("index", column))
            x, y = (rank / n - (n + 1) / (2 * n) for rank in ranks)
            sums += np.stack([(x * x).sum(axis=1), (y * y).sum(axis=1), (x * y).sum(axis=1)])
    spread = np.sqrt(sums[0] * sums[1])
    r = np.divide(sums[2], spread, out=np.full(draws + 1, np.nan), where=spread > 0)
    return Interval(float(r[0]), *percentiles(r[1:], level))
