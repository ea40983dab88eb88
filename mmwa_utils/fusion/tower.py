"""Early fusion that starts from a text encoder: BERT's layers read words and everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils.output_capturing import capture_outputs

from mmwa_utils.fusion.config import ModelConfig
from mmwa_utils.fusion.early import OneTower
from mmwa_utils.fusion.embeddings import choose_tokens, patch_grid, take
from mmwa_utils.fusion.encoders import Bert, ModalityEncoder, encode_present, encoder_or_reader
from mmwa_utils.fusion.installed import locate, quietly
from mmwa_utils.fusion.output import Block
from mmwa_utils.types import DatasetSpec, ModalityBatch, ModalitySpec

PATCH = 32
"""Side, in pixels, of a patch of an image without an encoder: that of an EfficientNet's cell."""


class Tower(Bert):
    """BERT whose layers are given embedded tokens."""

    @capture_outputs
    def forward(self, hidden: Tensor, attention_mask: Tensor, **_: Any) -> Any:  # type: ignore[override]
        """The last hidden states; attentions and hidden states on request."""
        return self.encoder(hidden, attention_mask=attention_mask)


class TowerFusion(OneTower):
    """One BERT reads words, pictures and streams, as VisualBERT (Li et al. 2019) and UNITER (Chen et al. 2020) begin.

    token = LayerNorm(embedding + segment): words have BERT's own embedding and segment 0, a picture's cells
    LayerNorm(W x + b + position) and segment 1, streams the same and segments of their own.

    This is the nearest to the paper's ViLT-B that can be had without a download: ViLT too is one tower of BERT's shape
    over words and pieces of pictures, and like ViLT this one starts from pretrained weights and is tuned; all but its
    table of words, of whose 30,522 rows a small dataset touches a few hundred, and weight decay would pull at all.
    What it lacks is pretraining on pairs of pictures and texts; its picture tokens come from an encoder that knows
    ImageNet instead, or from linear patches like ViLT's. ViLT stays for those who have its weights (`EarlyFusion`).

    The head reads the last hidden state of [CLS] as it is: BERT's normalisation comes after each layer, and MiniLM was
    tuned on means of tokens, so that its pooler is no more trained than a new one.

    Args:
        spec: modalities and task.
        config: of its fields `tower_layers`, `dropout`, `max_patches`, `cls_token_id` and `freeze_encoders` matter.
        tower: BERT's weights.
        pretrained: image modality -> weights of its encoder; others are read as linear patches.

    Raises:
        KeyError: `pretrained` names a modality that the spec does not have.
        ValueError: `pretrained` names a modality that is no image.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        config: ModelConfig,
        *,
        tower: str | Path,
        pretrained: Mapping[str, str | Path] | None = None,
    ) -> None:
        pretrained = pretrained or {}
        for name in pretrained:
            if spec.modality(name).kind != "image":
                raise ValueError(f"pretrained[{name!r}]: the tower reads {spec.modality(name).kind} itself")
        own: dict[str, Any] = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
        if config.tower_layers is not None:
            own["num_hidden_layers"] = config.tower_layers
        with quietly():  # "eager" attention gives its weights on request, as ViLT's does
            bert = Tower.from_pretrained(locate(tower), add_pooling_layer=False, attn_implementation="eager", **own)
        super().__init__(spec, config, bert)
        self.bert = bert
        bert.embeddings.word_embeddings.requires_grad_(False)
        images = {m.name: m for m in spec.modalities if m.kind == "image"}
        encoders = {name: PixelPatches() for name in images} | {
            name: encoder_or_reader(images[name], config, place) for name, place in pretrained.items()
        }
        self.encoders = nn.ModuleDict(encoders)
        cells = {n: ModalitySpec(n, "stream", encoder.dim, config.max_patches) for n, encoder in encoders.items()}
        self.streams = self.stream_embeddings(cells.get(m.name, m) for m in spec.modalities if m.kind != "text")

    @property
    def encoder(self) -> Tower:
        """BERT's layers."""
        return self.bert

    def finish(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden states as they are, and that of [CLS]."""
        return hidden, hidden[:, 0]

    def embed_words(self, words: Block) -> Block:
        """BERT's words and positions."""
        embeddings = self.bert.embeddings
        position = embeddings.position_embeddings.weight[: words.values.shape[1]]
        return replace(words, values=embeddings.word_embeddings(words.values) + position)

    def embed_image(self, name: str, image: ModalityBatch) -> Block:
        """The encoder's cells or the patches, as a stream of them."""
        cells = encode_present(cast(ModalityEncoder, self.encoders[name]), image)
        return self.streams[name](ModalityBatch(cells.values, cells.mask, cells.special, cells.positions))

    def add_type(self, block: Block, row: int) -> Block:
        """BERT's segment, then its normalisation."""
        embeddings = self.bert.embeddings
        values = embeddings.LayerNorm(block.values + embeddings.token_type_embeddings.weight[row])
        return replace(block, values=embeddings.dropout(values))


class PixelPatches(ModalityEncoder):
    """The pixels of each whole patch of 32 x 32, in raster order."""

    dim = 3 * PATCH**2

    def forward(self, modality: ModalityBatch) -> Block:
        """Patches as rows of pixels."""
        grid = patch_grid(modality.mask, PATCH)
        pixels = functional.unfold(modality.values, PATCH, stride=PATCH).transpose(1, 2)
        index, kept = choose_tokens(grid.flatten(1))
        stood = take(grid.flatten(1).cumsum(dim=1) - 1, index).masked_fill(~kept, -1)
        return Block(take(pixels, index), kept, torch.zeros_like(kept), stood)
