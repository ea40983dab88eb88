"""Late fusion: an encoder for each modality, then a small transformer over the tokens of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import ViltConfig
from transformers.models.vilt.modeling_vilt import ViltEncoder

from mmwa_utils.fusion.base import FusionModel
from mmwa_utils.fusion.config import ModelConfig
from mmwa_utils.fusion.encoders import ModalityEncoder, encode_present, encoder_or_reader
from mmwa_utils.fusion.output import CLASS_BLOCK, Block
from mmwa_utils.types import DatasetSpec, ModalityBatch


class LateFusion(FusionModel):
    """Unimodal encoders, a projection and a type embedding each, a class token, a pre-norm transformer.

    "input" tokens are those that enter the fusion transformer: token = W_m encoder_m(x) + b_m + type_m. A frozen
    encoder is no part of the model, which is then given its tokens (`encoders.FeatureReader`).

    Args:
        spec: modalities and task.
        config: sizes, the choice of encoders, and whether pretrained ones stay frozen.
        pretrained: modality name -> local folder or hub name of its encoder's weights; others start at random.

    Raises:
        KeyError: `pretrained` or `config.encoders` names a modality that the spec does not have.
        ValueError: an encoder that does not fit its modality, or `freeze_encoders` with nothing pretrained.
    """

    def __init__(
        self, spec: DatasetSpec, config: ModelConfig, *, pretrained: Mapping[str, str | Path] | None = None
    ) -> None:
        super().__init__(spec, dim=config.late.dim, dropout=config.dropout)
        pretrained = pretrained or {}
        for name in (*pretrained, *config.encoders):
            spec.modality(name)
        if config.freeze_encoders and not pretrained:
            raise ValueError("freeze_encoders=True would freeze random weights: give pretrained weights, or tune them")
        self.config = config
        encoders = {m.name: encoder_or_reader(m, config, pretrained.get(m.name)) for m in spec.modalities}
        self.encoders = nn.ModuleDict(encoders)
        self.projections = nn.ModuleDict({name: nn.Linear(e.dim, self.dim) for name, e in encoders.items()})
        std = config.initializer_range
        self.types = nn.ParameterDict({name: nn.Parameter(torch.randn(self.dim) * std) for name in spec.modality_names})
        self.class_token = nn.Parameter(torch.randn(self.dim) * std)
        self.transformer = ViltEncoder(ViltConfig(**config.settings(config.late)))
        self.layernorm = nn.LayerNorm(self.dim)

    @property
    def encoder(self) -> ViltEncoder:
        """The fusion transformer's layers."""
        return self.transformer

    def finish(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The final normalisation of a pre-norm transformer, and the class token as it is."""
        last = self.layernorm(hidden)
        return last, last[:, 0]

    def embed(self, modalities: Mapping[str, ModalityBatch], batch_size: int) -> dict[str, Block]:
        """The class token, then the modalities in the spec's order."""
        there = torch.ones(batch_size, 1, dtype=torch.bool, device=self.class_token.device)
        first = self.class_token.expand(batch_size, 1, self.dim)
        blocks = {CLASS_BLOCK: Block(first, there, there, there.long() - 2)}
        for name in self.spec.modality_names:
            if name not in modalities:
                continue
            encoder = cast(ModalityEncoder, self.encoders[name])
            block = encode_present(encoder, modalities[name])
            values = self.projections[name](block.values) + self.types[name]
            blocks[name] = replace(block, values=values)
        return blocks
