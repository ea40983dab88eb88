"""Runs beside each other: fusion x alignment x seed, trained or found, summarised with intervals, compared in pairs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import expit, softmax
from tqdm import tqdm

import standins
from mmwa_utils import project
from mmwa_utils.evaluation.metrics import LOWER_IS_BETTER, compute_metrics, trivial_logits
from mmwa_utils.evaluation.statistics import (
    Interval,
    draw_counts,
    half_width,
    is_trained,
    measure,
    paired_row,
    smallest_detectable,
)
from mmwa_utils.training.config import RunConfig, vary
from mmwa_utils.training.data import RunData, open_data
from mmwa_utils.training.protocol import BASELINE
from mmwa_utils.training.run import train
from mmwa_utils.training.store import Predictions, Run, RunStore, run_key
from mmwa_utils.types import Task

ARMS = (BASELINE, "wasserstein")
FUSIONS = ("early", "late")
_ARM = ["dataset", "fusion", "alignment"]
_BAYES_NAMES = {"acc2": "accuracy_2", "acc7": "accuracy_7"}
_DATA_FIELDS = {"dataset", "data_root", "options", "samples", "data_seed"}


def grid(
    base: RunConfig, *, seeds: Sequence[int], fusions: Sequence[str] = FUSIONS, alignments: Sequence[str] = ARMS
) -> tuple[RunConfig, ...]:
    """Return the runs of a comparison: `base` for each fusion, alignment and seed.

    The alignment's numbers are those of `base.alignment`; the baseline has none, so that it is the same run
    whatever alpha and beta are.

    >>> base = RunConfig(dataset="digits", alignment={"name": "wasserstein", "beta": 0.4})
    >>> [(c.fusion, c.arm, c.seed) for c in grid(base, seeds=[7], fusions=["late"])]
    [('late', 'none', 7), ('late', 'wasserstein', 7)]
    """
    own = base.alignment.model_dump()
    settings = [{"name": name} if name == BASELINE else {**own, "name": name} for name in alignments]
    arms = itertools.product(fusions, settings, seeds)
    return tuple(vary(base, fusion=fusion, alignment=setting, seed=seed) for fusion, setting, seed in arms)


@dataclass(frozen=True)
class Forecast:
    """What a grid will cost before it is trained."""

    runs: int
    found: int
    """Runs that are in the store already."""
    seconds: float | None
    """Predicted wall time of the others on this machine; None where no run of their kind was ever timed here."""


def forecast(configs: Sequence[RunConfig]) -> Forecast:
    """Predict the time of training a grid from the times of the stored runs of the same dataset, fusion and profile.

    A run's time is taken to be proportional to samples x epochs. The first run of a kind has no precedent: train
    one and ask again.
    """
    store, missing = RunStore(), []
    fingerprints: dict[str, str] = {}  # data that several runs share are opened once
    for config in configs:
        shared = config.model_dump_json(include=_DATA_FIELDS)
        if shared not in fingerprints:
            fingerprints[shared] = open_data(config).fingerprint
        if store.find(run_key(config, fingerprints[shared])) is None:
            missing.append(config)
    paces: dict[tuple[str, ...], list[float]] = {}
    for run in store if missing else ():
        done = run.provenance
        paces.setdefault(_kind(run.config), []).append(done["seconds"] / (done["epochs_trained"] * run.config.samples))
    known = all(_kind(config) in paces for config in missing)
    times = (np.median(paces[_kind(config)]) * config.epochs * config.samples for config in missing)
    return Forecast(len(configs), len(configs) - len(missing), float(sum(times)) if known else None)


def _kind(config: RunConfig) -> tuple[str, ...]:
    return config.dataset, config.fusion, config.profile, str(config.data_root)


def train_all(configs: Sequence[RunConfig], *, progress: bool | None = None) -> tuple[Run, ...]:
    """Train each run or find it in the store, in order, behind one progress bar with the time that is left.

    Args:
        configs: what to train, such as `grid(...)`.
        progress: show progress bars; None shows them unless the graph runs the notebook.
    """
    shown = project.BUILD_VARIABLE not in os.environ if progress is None else progress
    bar = tqdm(configs, desc="runs", unit="run", disable=not shown)
    runs = []
    for config in bar:
        bar.set_postfix_str(f"{config.fusion}, {config.arm}, seed {config.seed}")
        # A run of the paper's size lasts for hours and has a bar of its own; many short ones would only flicker.
        runs.append(train(config, progress=shown and config.profile == "paper"))
    return tuple(runs)


def select(candidates: Sequence[RunConfig]) -> RunConfig:
    """Train candidates and return the one with the best validation metric; the test split is not looked at.

    Of equal ones the first wins: order them from the one you would rather have. A single one is not trained: there is
    nothing to select.
    """
    if len(candidates) == 1:
        return candidates[0]
    runs, spec = train_all(candidates), candidates[0].spec
    scores = np.array([run.metrics["val"][spec.metric]["value"] for run in runs])
    return candidates[int(np.nanargmax(scores if spec.higher_is_better else -scores))]


def run_table(runs: Iterable[Run], *, split: str = "test") -> pd.DataFrame:
    """Return one row per run and metric: dataset, fusion, alignment, seed, metric, value, and the run's key."""
    rows = []
    for run in runs:
        config = run.config
        arm = {"dataset": config.dataset, "fusion": config.fusion, "alignment": config.arm}
        for metric, interval in run.metrics[split].items():
            rows.append({**arm, "seed": config.seed, "metric": metric, "value": interval["value"], "key": run.key})
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and 95 % interval over seeds for each dataset, fusion, alignment and metric.

    The interval is Student's: mean +- t_{n-1} s / sqrt(n), for the mean over *all* seeds, at these very data. With
    three seeds t is 4.3 and not 1.96; a normal interval would be less than half as wide, and wrong. It ends where the
    metric does. It says nothing of other test samples. One seed has no interval (NaN).

    >>> table = pd.DataFrame({"dataset": "d", "fusion": "late", "alignment": "none", "metric": "auroc",
    ...                       "seed": [0, 1, 2], "value": [0.7, 0.8, 0.9]})
    >>> summarise(table)[["mean", "low", "high"]].round(3).values.tolist()
    [[0.8, 0.552, 1.0]]
    """
    rows = []
    for arm, values in table.groupby([*_ARM, "metric"], sort=False)["value"]:
        mean, half = values.mean(), half_width(values.to_numpy())
        rows.append((*arm, len(values), *vars(Interval(mean, mean - half, mean + half).of(arm[-1])).values()))
    return pd.DataFrame(rows, columns=[*_ARM, "metric", "seeds", "mean", "low", "high"])


def paired_differences(
    runs: Sequence[Run],
    *,
    metrics: Sequence[str],
    against: str = BASELINE,
    untrained: Container[tuple[str, str]] = (),
    cluster: Callable[[str], str] = str,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return arm - baseline for each fusion, arm and metric, with a 95 % interval over seeds and samples.

    Each seed has a difference of two test metrics: same seed, same samples; no interval is corrected for looking at
    several. `statistics.joint_interval` says how the
    spread over seeds and over samples is joined.

    Args:
        runs: of one dataset; each aligned run needs the baseline of its fusion and seed.
        metrics: names of the task's metrics.
        against: the arm that is subtracted, if it is not the baseline.
        untrained: (fusion, arm) that did not learn, as `gate` finds them: no verdict is given on them.
        cluster: from a sample's id to what is drawn as one, such as the film of several plots.
        draws: number of draws.
        seed: of the draws alone.

    Returns:
        One row each: dataset, fusion, alignment, metric, seeds, detectable (the smallest effect that the comparison
        would detect four times in five, from the baseline's runs alone), difference, low, high, verdict.

    Raises:
        ValueError: fewer than two seeds, or a run without its baseline.
    """
    by_arm = {(c.fusion, c.arm, c.seed): run for run in runs for c in [run.config]}
    pairs: dict[tuple[Any, str], list[tuple[Predictions, Predictions]]] = {}
    for (fusion, alignment, run_seed), run in by_arm.items():
        if alignment != against:
            if (fusion, against, run_seed) not in by_arm:
                name = "baseline" if against == BASELINE else against
                raise ValueError(f"runs: {fusion} fusion, {alignment}, seed {run_seed} has no {name}; train it too")
            baseline = by_arm[fusion, against, run_seed]
            pairs.setdefault((fusion, alignment), []).append((baseline.predictions("test"), run.predictions("test")))
    task, rows = runs[0].config.spec.task, []
    for (fusion, alignment), found in pairs.items():
        if len(found) < 2:
            raise ValueError(f"runs: {fusion} fusion, {alignment} has {len(found)} seed; an interval needs two or more")
        clusters = np.array([cluster(str(identifier)) for identifier in found[0][0].ids])
        counts = draw_counts(len(clusters), draws, seed=seed, clusters=clusters)
        for metric in metrics:
            plain, aligned = (
                np.stack([measure(task, metric, p.truth, p.logits, counts) for p in side], axis=1)
                for side in zip(*found, strict=True)
            )
            arm = dict(zip((*_ARM, "metric"), (runs[0].config.dataset, fusion, alignment, metric), strict=True))
            better = metric not in LOWER_IS_BETTER
            row = arm | {"detectable": smallest_detectable(plain)}
            row |= paired_row(aligned - plain, [seed, 1], higher_is_better=better)
            lost = any((fusion, name) in untrained for name in (alignment, against))
            rows.append(row | ({"verdict": "not trained"} if lost else {}))
    columns = [*_ARM, "metric", "seeds", "detectable", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def gate(runs: Sequence[Run], data: RunData) -> pd.DataFrame:
    """Return whether each arm learned: one row per fusion and arm, in the dataset's metric.

    An arm is trained if its whole interval over seeds is on the better side of the predictor that sees no input.

    Args:
        runs: of one dataset.
        data: of these runs.

    Returns:
        Columns: fusion, alignment, metric, seeds, mean, low, high, trivial, trained.
    """
    spec, table = data.spec, run_table(runs)
    trivial = references(data).loc["trivial", spec.metric]
    table = table[table["metric"] == spec.metric]
    rows = summarise(table).drop(columns="dataset").assign(trivial=trivial)
    by_arm = table.groupby(["fusion", "alignment"])["value"]
    learned = [
        is_trained(by_arm.get_group(arm).to_numpy(), trivial, higher_is_better=spec.higher_is_better)
        for arm in zip(rows["fusion"], rows["alignment"], strict=True)
    ]
    return rows.assign(trained=learned)


def references(data: RunData) -> pd.DataFrame:
    """Return what to hold a model's metrics on the test split against: predictors x metrics.

    "trivial" sees no input (`trivial_logits`). For a stand-in, "best possible" is the exact expected score of the
    Bayes-optimal prediction of its story, and "best from X alone" that of each single modality; a model may exceed
    them by chance on a finite split, and a multi-label F1 at the threshold 0.5 is not the largest possible one.
    """
    truth = np.asarray(data.splits["test"].labels())
    constant = trivial_logits(data.spec, np.asarray(data.splits["train"].labels()), len(truth))
    table = pd.DataFrame({"trivial": compute_metrics(data.spec, truth, constant)})
    if data.standin:
        story = standins.story(data.spec.name)
        best = {"best possible": story.scores()}
        best |= {f"best from {name} alone": story.scores((name,)) for name in story.modalities}
        table = table.join(pd.DataFrame(best).rename(index=_BAYES_NAMES), how="outer")
    return table.sort_index().T.rename_axis(index="predictor", columns="metric")


def error_cases(runs: Sequence[Run], *, fusion: str) -> pd.DataFrame:
    """Return one row per test sample: how wrong the baseline and the aligned model are, over seeds.

    `baseline` and `aligned` are the mean error over seeds: |label - probability|, averaged over labels (multi-class:
    1 - probability of the true class; regression: |label - prediction|). `baseline_right` and `aligned_right` are
    the shares of seeds that get the sample right: every label on its side of 0.5, or a rating within 0.5.
    """
    task = runs[0].config.spec.task
    columns: dict[str, Any] = {}
    for name, wanted in zip(("baseline", "aligned"), ARMS, strict=True):
        chosen = [r for r in runs if r.config.fusion == fusion and r.config.arm == wanted]
        if not chosen:
            raise ValueError(f"runs: none with {fusion} fusion and alignment {wanted!r}")
        predictions = [run.predictions("test") for run in chosen]
        errors = np.array([_errors(task, p.truth, p.logits) for p in predictions])
        columns |= {"id": predictions[0].ids, name: errors.mean(axis=0).mean(axis=1)}
        columns[f"{name}_right"] = (errors < 0.5).all(axis=2).mean(axis=0)
    return pd.DataFrame(columns, columns=["id", "baseline", "aligned", "baseline_right", "aligned_right"])


def _errors(task: Task, truth: np.ndarray, logits: np.ndarray) -> Float[np.ndarray, "samples outputs"]:
    if task == "multiclass":
        return 1 - np.take_along_axis(softmax(logits, axis=1), truth[:, None].astype(int), axis=1)
    values = logits if task == "regression" else expit(logits)
    return np.abs(truth.reshape(len(values), -1) - values)
