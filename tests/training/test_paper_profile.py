"""The paper's profile at full size: a whole run of one step, so that a GPU user's first step is not our first."""

from __future__ import annotations

import gc
import resource
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import standins
from mmwa_utils.alignment import from_paper
from mmwa_utils.training import RunConfig, RunStore, open_data, train
from mmwa_utils.training import run as run_module
from mmwa_utils.training.run import make_alignment, make_model
from mmwa_utils.training.trainer import AlignedModel, task_loss
from standins.processor import write_processor

VOCABULARY, DIM, LAYERS, FEEDFORWARD = 30522, 768, 12, 3072
TEXT_POSITIONS, PIXELS, MOST_PATCHES = 40, 384, 200
ALIGNMENT = {"name": "wasserstein", "alpha": 0.1, "beta": 1.0}


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def image_embedding(patch: int) -> int:
    """Projection of a patch, [CLS], positions of all patches and of [CLS]."""
    return linear(3 * patch**2, DIM) + (1 + (PIXELS // patch) ** 2 + 1) * DIM


NORM = 2 * DIM
LAYER = 4 * linear(DIM, DIM) + linear(DIM, FEEDFORWARD) + linear(FEEDFORWARD, DIM) + 2 * NORM
"""Parameters of a transformer layer of width 768: attention, feed-forward, two normalisations."""
HEAD = linear(DIM, 1)
VILT = (
    (VOCABULARY + TEXT_POSITIONS + 2) * DIM + NORM  # words, positions, BERT's own types
    + image_embedding(32) + 2 * DIM  # two modality types
    + LAYERS * LAYER + NORM + linear(DIM, DIM)  # layers, final normalisation, pooler
)  # fmt: skip
BERT = (VOCABULARY + 512 + 2) * DIM + NORM + LAYERS * LAYER
VIT = image_embedding(16) + LAYERS * LAYER + NORM
LATE = 2 * (linear(DIM, DIM) + DIM) + DIM + 2 * LAYER + NORM  # projections and types, class token, two layers


@pytest.fixture(scope="module")
def memes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in read through a processor of the checkpoint's sizes: 30522 pieces, 384 pixels, patches of 32."""
    root = standins.write("hateful_memes", tmp_path_factory.mktemp("paper") / "memes", samples=40)
    shutil.rmtree(root / "processor")
    words = [f"word{number}" for number in range(VOCABULARY - 5 - 42 - 36)]  # 5 special, 42 signs, 36 continuations
    write_processor(root / "processor", words=words, shortest_edge=384, size_divisor=32)
    return root


@pytest.fixture(autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    yield
    gc.collect()


def paper_config(root: Path, **overrides: Any) -> RunConfig:
    """The paper's profile; only what the machine at hand can't do is smaller."""
    own = {"data_root": str(root), "alignment": ALIGNMENT, "batch_size": 2, "epochs": 1, "workers": 0, "device": "cpu"}
    return RunConfig.for_profile("paper", dataset="hateful_memes", **{**own, **overrides})


class Few:
    """Two samples of a split, one of each class."""

    def __init__(self, split: Any) -> None:
        labels = list(split.labels())
        self.rows = [labels.index(0), labels.index(1)]
        self.split, self.name, self.spec, self.fingerprint = split, split.name, split.spec, split.fingerprint
        self.standin = split.standin

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.split[self.rows[index]]

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def labels(self) -> np.ndarray:
        return self.split.labels()[self.rows]

    def ids(self) -> list[str]:
        return [self.split.ids()[row] for row in self.rows]


def few_samples(config: RunConfig) -> Any:
    data = open_data(config)
    return replace(data, splits={name: Few(split) for name, split in data.splits.items()})


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def aligned_model(config: RunConfig, data: Any) -> AlignedModel:
    fusion = make_model(config, data)
    setting = from_paper(alpha=config.alignment.alpha, beta=config.alignment.beta)
    return AlignedModel(fusion, make_alignment(config, setting, dim=fusion.dim), setting.weight)


def test_a_whole_run_of_early_fusion(memes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "open_data", few_samples)
    run = train(paper_config(memes), store=RunStore(tmp_path), progress=False)
    assert run.config.precision == "bf16"
    assert run.provenance["parameters"] == VILT + HEAD, "what is stored has the alignment nowhere in it"
    (epoch,) = run.history.to_dict("records")
    for name in ("loss", "task_loss", "alignment_loss", "grad_norm", "val_loss"):
        assert np.isfinite(epoch[name]), name
    assert epoch["grad_norm"] > 0
    assert epoch["converged_share"] == 1
    assert np.isfinite(run.predictions("test").logits).all()
    shutil.rmtree(run.folder)  # half a gigabyte


def test_one_step_of_late_fusion(memes: Path) -> None:
    config = paper_config(memes, fusion="late")
    data = few_samples(config)
    model = aligned_model(config, data).train()
    batch = data.collate([data.splits["train"][row] for row in range(2)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr)
    with torch.autocast("cpu", torch.bfloat16):
        output, aligned = model(batch.modalities)
    assert aligned is not None
    assert {name: tokens.values.shape[1] for name, tokens in output.tokens["last"].items()} == {
        "text": batch.modalities["text"].values.shape[1],
        "image": 1 + MOST_PATCHES,  # of 24 x 24
    }
    (task_loss(data.spec, output.logits, batch.labels) + model.weight * aligned.loss).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert aligned.converged_share == 1


@pytest.mark.parametrize(("fusion", "expected"), [("early", VILT), ("late", BERT + VIT + LATE)])
def test_parameters_are_the_architecture_s_with_alignment_or_without(memes: Path, fusion: str, expected: int) -> None:
    counts = set()
    for alignment in ({"name": "none"}, ALIGNMENT):
        config = paper_config(memes, fusion=fusion, alignment=alignment)
        with torch.device("meta"):  # shapes without numbers
            counts.add(count(aligned_model(config, open_data(config))))
    assert counts == {expected + HEAD}


def test_memory_stays_within_a_small_machine(memes: Path) -> None:
    # The limit that a laptop of 16 GB has room for; ru_maxrss is in KB on Linux, in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit < 8e9
