"""The effective rank: how many directions a set of tokens uses, whatever their length, their order and the padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmwa_utils.evaluation.collapse import effective_rank, run_effective_rank
from mmwa_utils.training import open_data
from tests.training.tiny import tiny_run


def test_it_counts_directions() -> None:
    near = {"atol": 1e-3, "rtol": 0.0}  # rounding leaves singular values of 1e-7, each with an entropy of 2e-6
    torch.testing.assert_close(effective_rank(torch.eye(7)[:5]), torch.tensor(5.0), **near)
    torch.testing.assert_close(effective_rank(torch.ones(5, 3)), torch.tensor(1.0), **near)
    torch.testing.assert_close(effective_rank(torch.eye(3).repeat(4, 1)), torch.tensor(3.0), **near)


def test_length_order_rotation_and_padding_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(4, 6, 5, generator=generator)
    mask = torch.arange(6) < torch.tensor([6, 4, 1, 0])[:, None]
    found = effective_rank(tokens, mask)
    alone = [effective_rank(each[kept]) for each, kept in zip(tokens[:3], mask[:3], strict=True)]
    torch.testing.assert_close(found[:3], torch.stack(alone))
    assert found[3].isnan(), "no token, no rank"
    torch.testing.assert_close(found[2], torch.tensor(1.0))
    scaled = tokens * torch.rand(4, 6, 1, generator=generator).add(0.1)
    turned = scaled @ torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    order = torch.randperm(6, generator=generator)
    torch.testing.assert_close(effective_rank(turned[:, order], mask[:, order])[:3], found[:3])


def test_a_run_has_a_rank_for_each_modality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(tmp_path, epochs=1)
    found = run_effective_rank(run, open_data(run.config), samples=8)
    assert set(found) == {"left", "right"}
    assert all(1 < rank < 8.001 for rank in found.values()), "eight rows a view"
    assert found == run_effective_rank(run, open_data(run.config), samples=8)
