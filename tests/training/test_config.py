"""A run's configuration: faults are named, and the address changes with whatever changes the result."""

from __future__ import annotations

from typing import Any

import pytest

from mmwa_utils.training import ConfigError, RunConfig
from mmwa_utils.training.store import run_key


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ({"lr": -1}, "lr"),
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"fusion": "middle"}, "fusion"),
        ({"alignment": {"name": "wasserstein", "alpha": 0}}, "alignment.alpha"),
        ({"alignment": {"name": "glue"}}, "alignment.name"),
        ({"epochs": 1.5}, "epochs"),
    ],
)
def test_a_fault_names_its_field(overrides: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=rf"run configuration: {names}: "):
        RunConfig.for_profile("smoke", dataset="digits", **overrides)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunConfig(dataset="digits").lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"lr": 2e-3},
        {"fusion": "late"},
        {"alignment": {"name": "wasserstein"}},
        {"alignment": {"name": "wasserstein", "beta": 2.0}},
        {"options": {"views": 3}},
        {"batch_size": 32},
        {"precision": "bf16"},
        {"profile": "smoke"},
        {"data_seed": 1},
    ],
)
def test_the_address_changes_with_what_changes_the_result(change: dict[str, Any]) -> None:
    assert run_key(RunConfig(dataset="digits", **change), "data") != run_key(RunConfig(dataset="digits"), "data")


@pytest.mark.parametrize("change", [{"workers": 2}, {"device": "cpu"}, {"data_root": "/elsewhere"}])
def test_where_and_how_fast_it_runs_does_not_change_the_address(change: dict[str, Any]) -> None:
    assert run_key(RunConfig(dataset="digits", **change), "data") == run_key(RunConfig(dataset="digits"), "data")


def test_other_data_are_another_run() -> None:
    assert run_key(RunConfig(dataset="digits"), "one") != run_key(RunConfig(dataset="digits"), "other")


@pytest.mark.parametrize(
    ("dataset", "batch"),
    [("hateful_memes", 128), ("mm_imdb", 64), ("ur_funny", 256), ("cmu_mosei", 256), ("medfuse", 128)],
)
def test_the_paper_profile_has_the_stated_batch_size_and_patience(dataset: Any, batch: int) -> None:
    config = RunConfig.for_profile("paper", dataset=dataset)
    assert (config.batch_size, config.patience) == (batch, 5)
