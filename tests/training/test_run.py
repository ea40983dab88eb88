"""Training end to end: what is equal must be equal to the bit, and selection never sees the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers.training_args import OptimizerNames

from mmwa_utils.alignment import alignment_parameters, from_paper
from mmwa_utils.training import ConfigError, RunConfig, RunStore, load_model, open_data
from mmwa_utils.training import run as run_module
from mmwa_utils.training import trainer as trainer_module
from tests.training.tiny import same_weights, tiny_run

WASSERSTEIN = {"name": "wasserstein", "alpha": 0.1, "beta": 0.4}


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_run(tmp_path_factory.mktemp("baseline"))


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_run(tmp_path_factory.mktemp("aligned"), alignment=WASSERSTEIN)


def test_it_learns(baseline: Any) -> None:
    accuracy = baseline.metrics["test"]["accuracy"]
    assert accuracy["low"] > 0.2, "ten balanced classes: chance is 0.1"
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(baseline: Any, tmp_path: Path) -> None:
    again = tiny_run(tmp_path)
    assert again.key == baseline.key
    assert same_weights(baseline, again)
    assert again.metrics == baseline.metrics
    assert not same_weights(baseline, tiny_run(tmp_path, seed=1))


def test_weight_zero_is_the_baseline_bit_for_bit(baseline: Any, tmp_path: Path) -> None:
    assert same_weights(baseline, tiny_run(tmp_path, alignment={**WASSERSTEIN, "beta": 0.0}))


def test_every_setting_reaches_the_alignments_that_know_it() -> None:
    own = {"cost": "euclidean", "value": "transport", "negatives": True, "layers": "all", "special_tokens": True}
    for name in ("wasserstein", "mean_distance", "modality_dropout"):
        config = RunConfig(dataset="digits", seed=5, alignment={"name": name, "rate": 0.7, **own})
        made = run_module.make_alignment(config, from_paper(alpha=0.2, beta=0.4), dim=8)
        wanted = {**own, "epsilon": 0.2, "rate": 0.7, "seed": 5}
        for parameter in alignment_parameters(name):
            assert getattr(made, parameter) == wanted.get(parameter, getattr(made, parameter)), parameter
    assert {"negatives", "cost"} <= set(alignment_parameters("wasserstein"))


def test_alignment_adds_no_parameter_and_changes_the_result(baseline: Any, aligned: Any) -> None:
    assert aligned.provenance["parameters"] == baseline.provenance["parameters"]
    assert not same_weights(baseline, aligned)


def test_the_parts_of_the_loss_are_logged_apart(baseline: Any, aligned: Any) -> None:
    history = aligned.history
    total = history["task_loss"] + WASSERSTEIN["beta"] * history["alignment_loss"]
    # 17 batches, the last of them smaller: means of batch means agree to rounding.
    assert np.allclose(history["loss"], total, rtol=1e-4)
    assert history["converged_share"].between(0.99, 1).all()
    assert "alignment_loss" not in baseline.history


def test_a_complete_run_is_found_and_not_trained_again(baseline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_train", lambda *_, **__: pytest.fail("trained again"))
    assert tiny_run(baseline.folder.parent).folder == baseline.folder
    assert [run.key for run in RunStore(baseline.folder.parent)] == [baseline.key]
    assert not list(baseline.folder.parent.glob("*.partial"))


def test_the_stored_weights_give_the_stored_predictions(baseline: Any) -> None:
    data = open_data(baseline.config)
    model, split = load_model(baseline, data), data.splits["test"]
    with torch.no_grad():
        logits = model(data.collate([split[i] for i in range(len(split))]).modalities).logits
    stored = baseline.predictions("test")
    assert list(stored.ids) == split.ids()
    assert np.allclose(stored.logits, logits, atol=1e-5)  # other batch shapes, other order of float32 sums


def test_gradient_accumulation_takes_the_step_of_the_whole_batch(tmp_path: Path, monkeypatch: Any) -> None:
    arguments = run_module._arguments

    def one_step_of_plain_descent(*given: Any, **options: Any) -> Any:
        # AdamW and clipping would hide a gradient that is summed over the halves and not averaged.
        chosen = arguments(*given, **options)
        chosen.optim, chosen.max_grad_norm, chosen.max_steps = OptimizerNames.SGD, 0.0, 1
        return chosen

    monkeypatch.setattr(run_module, "_arguments", one_step_of_plain_descent)
    weights = {}
    for name, options in {"start": {"lr": 1e-12}, "whole": {"lr": 0.5}, "halves": {"lr": 0.5, "half": 32}}.items():
        run = tiny_run(tmp_path, warmup=0.0, device_batch_size=options.pop("half", None), **options)
        weights[name] = torch.cat([tensor.flatten() for tensor in load_file(run.weights).values()])
    step = (weights["whole"] - weights["start"]).norm()
    assert step > 0
    assert (weights["halves"] - weights["whole"]).norm() < 1e-3 * step


def test_a_batch_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size 64 is no multiple of 48"):
        tiny_run(tmp_path, device_batch_size=48)


def test_selection_cannot_reach_the_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    real_open, real_train = run_module.open_data, trainer_module.AlignmentTrainer.train

    def guarded(config: Any) -> Any:
        data = real_open(config)
        test = data.splits["test"]
        honest = type(test).__getitem__

        class Guarded(type(test)):  # type: ignore[misc]
            def __getitem__(self, index: int) -> Any:
                assert trained, "the test split was read before training had ended"
                return honest(self, index)

        test.__class__ = Guarded
        return data

    def noted(self: Any, *arguments: Any, **options: Any) -> Any:
        assert {self.train_dataset.name, self.eval_dataset.name} == {"train", "val"}
        result = real_train(self, *arguments, **options)
        trained.append(True)
        return result

    monkeypatch.setattr(run_module, "open_data", guarded)
    monkeypatch.setattr(trainer_module.AlignmentTrainer, "train", noted)
    tiny_run(tmp_path, epochs=1)
    assert trained
