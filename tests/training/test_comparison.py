"""Comparisons: properties of intervals and pairs on stored runs made by hand, and one small grid that is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmwa_utils import datasets
from mmwa_utils.evaluation.metrics import compute_metrics
from mmwa_utils.files import write_json
from mmwa_utils.fusion import ModelConfig
from mmwa_utils.training import Run, RunConfig, open_data
from mmwa_utils.training import comparison as compare
from mmwa_utils.training.estimate import estimate_epoch
from tests.training.tiny import tiny_config

WASSERSTEIN = {"name": "wasserstein", "alpha": 0.1, "beta": 0.4}
SAMPLES = 300


def stored(folder: Path, *, seed: int, alignment: str, logits: np.ndarray, truth: np.ndarray, ids: Any = None) -> Run:
    """A complete run of a binary dataset, with given test predictions and no weights."""
    config = RunConfig.for_profile(
        "smoke", dataset="hateful_memes", seed=seed, alignment={**WASSERSTEIN, "name": alignment}
    )
    path = folder / f"{alignment}-{seed}"
    path.mkdir(parents=True)
    write_json(path / "config.json", config.model_dump(mode="json"))
    ids = np.array([f"{i:05d}" for i in range(len(truth))]) if ids is None else ids
    np.savez(path / "test.npz", ids=ids, logits=logits[:, None], truth=truth)
    return Run(path)


def pair_runs(folder: Path, shift: float, *, seeds: int = 3, ids: Any = None) -> list[Run]:
    """Baselines, and aligned runs whose logits are nearer to the truth by `shift`."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, SAMPLES)
    runs = []
    for seed in range(seeds):
        noise = rng.normal(size=SAMPLES)
        for alignment, gain in (("none", 0.0), ("wasserstein", shift)):
            logits = noise + (1 + gain) * (2 * truth - 1)
            runs.append(stored(folder, seed=seed, alignment=alignment, logits=logits, truth=truth, ids=ids))
    return runs


def difference(runs: list[Run], **options: Any) -> pd.Series:
    return compare.paired_differences(runs, metrics=["auroc"], **options).iloc[0]


def test_a_grid_has_each_combination_once_and_one_baseline_whatever_the_setting() -> None:
    base = tiny_config(alignment=WASSERSTEIN)
    configs = compare.grid(base, seeds=[0, 1])
    assert len({(c.fusion, c.arm, c.seed) for c in configs}) == len(configs) == 8
    other = compare.grid(compare.vary(base, alignment={**WASSERSTEIN, "alpha": 5.0}), seeds=[0, 1])
    assert [c for c in configs if c.arm == "none"] == [c for c in other if c.arm == "none"]


def test_student_intervals_cover_as_often_as_they_say() -> None:
    rng, hits, trials = np.random.default_rng(1), 0, 400
    for _ in range(trials):
        table = pd.DataFrame({"value": rng.normal(size=3), "seed": range(3)})
        row = compare.summarise(table.assign(dataset="d", fusion="f", alignment="a", metric="m")).iloc[0]
        hits += row["low"] <= 0 <= row["high"]
    # Binomial(400, 0.95): four standard deviations. A normal interval would cover 0.81 only.
    assert abs(hits / trials - 0.95) < 4 * np.sqrt(0.95 * 0.05 / trials)


def test_one_seed_has_no_interval() -> None:
    table = pd.DataFrame([{"dataset": "d", "fusion": "f", "alignment": "a", "metric": "m", "value": 1.0, "seed": 0}])
    assert np.isnan(compare.summarise(table).iloc[0]["low"])


def test_no_change_is_no_difference_and_no_verdict(tmp_path: Path) -> None:
    row = difference(pair_runs(tmp_path, 0.0), draws=20)
    assert row["difference"] == row["low"] == row["high"] == 0
    assert row["verdict"] == "no difference"


def test_a_clear_gain_helps_and_its_reverse_hurts(tmp_path: Path) -> None:
    gain, loss = difference(pair_runs(tmp_path / "up", 1.0)), difference(pair_runs(tmp_path / "down", -1.0))
    assert (gain["verdict"], loss["verdict"]) == ("helps", "hurts")
    assert gain["low"] <= gain["difference"] <= gain["high"]


def test_the_difference_is_the_mean_over_seeds_of_metric_differences(tmp_path: Path) -> None:
    runs = pair_runs(tmp_path, 0.5)
    values = {(r.config.arm, r.config.seed): r.predictions("test") for r in runs}
    spec = datasets.spec("hateful_memes")
    auroc = {key: compute_metrics(spec, p.truth, p.logits)["auroc"] for key, p in values.items()}
    expected = np.mean([auroc["wasserstein", s] - auroc["none", s] for s in range(3)])
    assert difference(runs, draws=5)["difference"] == pytest.approx(expected, abs=1e-12)


def test_drawing_clusters_widens_the_interval_of_repeated_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    truth, base = np.repeat(rng.integers(0, 2, 60), 5), np.repeat(rng.normal(size=60), 5)
    ids = np.array([f"{i // 5}/{i % 5}" for i in range(SAMPLES)])
    change = np.repeat(rng.normal(size=60), 5)
    runs = [
        stored(tmp_path, seed=seed, alignment=name, logits=logits + 2 * truth, truth=truth, ids=ids)
        for seed in range(2)
        for name, logits in (("none", base), ("wasserstein", base + change))
    ]
    rows, films = difference(runs), difference(runs, cluster=lambda identifier: identifier.split("/")[0])
    ratio = (films["high"] - films["low"]) / (rows["high"] - rows["low"])
    # Five copies of each film: the true length is sqrt(5) = 2.2 times that of 300 independent samples.
    assert 1.6 < ratio < 2.9


def test_a_missing_baseline_and_a_single_seed_are_refused(tmp_path: Path) -> None:
    runs = pair_runs(tmp_path, 0.5)
    with pytest.raises(ValueError, match="no baseline"):
        difference([r for r in runs if r.config.arm != "none"])
    with pytest.raises(ValueError, match="two or more"):
        difference([r for r in runs if r.config.seed == 0])


def test_error_cases_are_errors_of_probabilities(tmp_path: Path) -> None:
    cases = compare.error_cases(pair_runs(tmp_path, 1.0), fusion="early")
    assert len(cases) == SAMPLES
    assert cases["baseline"].between(0, 1).all()
    assert cases["aligned"].mean() < cases["baseline"].mean()
    assert (cases.loc[cases["aligned_right"] == 1, "aligned"] < 0.5).all()


def test_a_grid_is_trained_once_selected_by_validation_and_forecast(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MMWA_BUILD", str(tmp_path))
    base = tiny_config(alignment=WASSERSTEIN, epochs=1)
    configs = compare.grid(base, seeds=[0], fusions=["late"])
    assert compare.forecast(configs).seconds is None
    runs = compare.train_all(configs, progress=False)
    again = compare.forecast(configs)
    assert (again.found, again.seconds) == (2, 0.0)
    more = compare.forecast(compare.grid(base, seeds=[0, 1], fusions=["late"]))
    assert more.seconds is not None
    assert more.seconds > 0
    for run in runs:  # selection must not need the test split's results
        metrics = {"val": run.metrics["val"]}
        write_json(run.folder / "metrics.json", metrics)
    selected = compare.select(configs)
    best = max(runs, key=lambda run: run.metrics["val"]["accuracy"]["value"])
    assert selected == best.config


def test_a_model_worth_its_name_beats_the_trivial_and_not_the_best(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MMWA_BUILD", str(tmp_path))
    data = open_data(RunConfig.for_profile("smoke", dataset="hateful_memes"))
    scores = compare.references(data)["auroc"]
    assert scores["trivial"] == 0.5
    assert scores["trivial"] < scores["best from image alone"] < scores["best possible"] < 1


def test_an_estimate_is_what_pytorch_counts_in_a_training_step() -> None:
    size, tokens = ModelConfig.for_profile("smoke").early, {"text": 6, "image": 7}
    layer = nn.TransformerEncoderLayer(size.dim, size.heads, 4 * size.dim, batch_first=True)
    entered = torch.randn(1, sum(tokens.values()), size.dim, requires_grad=True)
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        layer(entered).sum().backward()
    config = RunConfig.for_profile("smoke", dataset="hateful_memes")
    estimated = estimate_epoch(config, samples=1, tokens=tokens)["PFLOP an epoch"]
    assert 1e15 * estimated == pytest.approx(size.layers * counted.get_total_flops())


def test_an_estimate_counts_the_encoders_that_are_transformers() -> None:
    def flops(dataset: Any, tokens: dict[str, int]) -> float:
        config = RunConfig.for_profile("paper", dataset=dataset, fusion="late")
        return estimate_epoch(config, samples=100, tokens=tokens)["PFLOP an epoch"]

    streams = flops("cmu_mosei", {"vision": 50, "audio": 50, "text": 50})
    assert flops("hateful_memes", {"text": 75, "image": 75}) > 5 * streams, "twelve layers for each and not none"
    assert flops("medfuse", {"ehr": 75, "xray": 75}) == streams, "an LSTM and a ResNet are left out, as is a projection"
