"""Modality dropout: robustness by training on incomplete samples, instead of by a loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mmwa_utils.alignment.rivals import NoAlignment
from mmwa_utils.types import ModalityBatch


class ModalityDropout(NoAlignment):
    """In training, take one of a sample's modalities away with some probability (Neverova et al. 2015).

    Acts on the batch (`prepare`) and has a loss of zero. A sample that has a single modality keeps it. The draw
    depends on the seed and on how often it was drawn before, which is kept as a buffer: a run that is resumed
    from its state goes on as if it had never stopped, and no global generator is touched.

    Args:
        rate: probability that a sample with at least two modalities loses one of them, chosen uniformly.
        seed: of the draws.

    Example:
        >>> there = ModalityBatch(torch.ones(4, 2, 1), torch.ones(4, 2, dtype=torch.bool))
        >>> kept = ModalityDropout(rate=1.0).prepare({"left": there, "right": there})
        >>> (kept["left"].present ^ kept["right"].present).all()  # each sample lost exactly one
        tensor(True)
    """

    draws: Tensor

    def __init__(self, rate: float = 0.3, *, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must be between 0 and 1, got {rate}")
        self.rate, self.seed = rate, seed
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def prepare(self, modalities: Mapping[str, ModalityBatch]) -> Mapping[str, ModalityBatch]:
        """The batch with some modalities masked out; in evaluation mode the batch itself."""
        if not self.training:
            return modalities
        present = torch.stack([modality.present for modality in modalities.values()])
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.draws))
        self.draws += 1
        chance = torch.rand(present.shape[1], generator=generator).to(present.device)
        order = torch.rand(present.shape, generator=generator).to(present.device).masked_fill(~present, -1.0)
        loses = (chance < self.rate) & (present.sum(dim=0) > 1)
        lost = torch.zeros_like(present).scatter_(0, order.argmax(dim=0, keepdim=True), loses[None])
        return {
            name: replace(
                modality,
                mask=modality.mask & ~gone.reshape(-1, *(1 for _ in modality.mask.shape[1:])),
                special=None if modality.special is None else modality.special & ~gone[:, None],
            )
            for (name, modality), gone in zip(modalities.items(), lost, strict=True)
        }
