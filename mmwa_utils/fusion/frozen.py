"""Frozen encoders stand outside the model: what they say of an input never changes, so it is computed once.

The model holds a `FeatureReader` in the encoder's place, which takes the encoder's tokens; the collate step makes
them (`mmwa_utils.training.features`). A *tuned* encoder (`freeze_encoders=False`) is an ordinary module of the model.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from mmwa_utils.fusion.config import ModelConfig
from mmwa_utils.fusion.embeddings import bring_forward
from mmwa_utils.fusion.encoders import ModalityEncoder, build_encoder
from mmwa_utils.fusion.output import Block
from mmwa_utils.types import ModalityBatch, ModalitySpec


class FeatureReader(ModalityEncoder):
    """Passes on the tokens of a frozen encoder of this width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, modality: ModalityBatch) -> Block:
        """The tokens, real ones first."""
        if modality.values.ndim != 3 or modality.values.shape[2] != self.dim:
            raise ValueError(
                f"expected a frozen encoder's tokens (batch, length, {self.dim}), got {tuple(modality.values.shape)}; "
                "make the batch with open_data(config).collate, config being that of the model's run"
            )
        return bring_forward(modality)


def frozen_encoder(modality: ModalitySpec, config: ModelConfig, pretrained: str | Path) -> ModalityEncoder:
    """The pretrained encoder of a modality, loaded once per process, in evaluation mode and without gradients."""
    return _load(modality, config.model_dump_json(), str(pretrained))


@functools.lru_cache(maxsize=4)
def _load(modality: ModalitySpec, config: str, pretrained: str) -> ModalityEncoder:
    # What follows in the global generator must not depend on whether an encoder was loaded before.
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(modality, ModelConfig.model_validate_json(config), pretrained=pretrained)
    return encoder.eval().requires_grad_(False)


def encoder_or_reader(modality: ModalitySpec, config: ModelConfig, pretrained: str | Path | None) -> ModalityEncoder:
    """What a model holds of a modality's encoder: the encoder, or a reader of its tokens where it is frozen."""
    if config.freeze_encoders and pretrained is not None:
        return FeatureReader(frozen_encoder(modality, config, pretrained).dim)
    return build_encoder(modality, config, pretrained=pretrained)
