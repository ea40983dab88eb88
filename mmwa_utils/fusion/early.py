"""Early fusion: one transformer reads the raw tokens of all modalities (ViLT, Kim et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import ViltConfig, ViltModel
from transformers.models.vilt.modeling_vilt import ViltEncoder

from mmwa_utils.fusion.base import FusionModel
from mmwa_utils.fusion.config import ModelConfig
from mmwa_utils.fusion.embeddings import StreamEmbedding, embed_patches, read_words
from mmwa_utils.fusion.output import CLASS_BLOCK, Block
from mmwa_utils.types import DatasetSpec, ModalityBatch


class EarlyFusion(FusionModel):
    """transformers' ViLT encoder over text, image and feature streams.

    Text and image are embedded exactly as `transformers.ViltModel` embeds them, except that patches are selected
    without chance (`embed_patches`). A stream has its own projection and positions. A modality-type embedding is
    added to each token: row 0 for text, row 1 for the image, the next free row for every other modality; rows
    beyond those that ViLT has are copies of row 1, ViLT's own way to read a second image.

    The head reads the text's [CLS] through ViLT's pooler. In a sample without text that slot holds a bare [CLS],
    which belongs to no modality, so that the absent text is masked for the transport all the same.

    Args:
        spec: modalities and task.
        config: sizes; only `max_patches`, `cls_token_id` and `dropout` matter beside `pretrained`.
        pretrained: local folder or hub name of ViLT weights; None builds random weights.
    """

    def __init__(self, spec: DatasetSpec, config: ModelConfig, *, pretrained: str | Path | None = None) -> None:
        vilt = _random_vilt(config) if pretrained is None else _load_vilt(pretrained, config)
        super().__init__(spec, dim=vilt.config.hidden_size, dropout=config.dropout)
        self.config = config
        self.vilt = vilt
        self.type_rows = modality_type_rows(spec)
        grow_modality_types(vilt, 1 + max(self.type_rows.values()))
        streams = [modality for modality in spec.modalities if modality.kind == "stream"]
        std = vilt.config.initializer_range
        self.streams = nn.ModuleDict({s.name: StreamEmbedding(s, dim=self.dim, std=std) for s in streams})

    @property
    def encoder(self) -> ViltEncoder:
        """ViLT's layers."""
        return self.vilt.encoder

    def finish(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """ViLT's final normalisation and its pooler: tanh of a linear map of the class token."""
        last = self.vilt.layernorm(hidden)
        return last, self.vilt.pooler(last)  # type: ignore[misc]  # ours always has one

    def embed(self, modalities: Mapping[str, ModalityBatch], batch_size: int) -> dict[str, Block]:
        """Text first (or a bare [CLS]), then the other modalities in the spec's order."""
        kinds = {modality.name: modality.kind for modality in self.spec.modalities}
        first = next((name for name, kind in kinds.items() if kind == "text"), CLASS_BLOCK)
        blocks = {first: self._add_type(self._embed_first(modalities.get(first), batch_size), 0)}
        for name, kind in kinds.items():
            if name == first or name not in modalities:
                continue
            if kind == "stream":
                block = self.streams[name](modalities[name])
            elif kind == "image":
                block = embed_patches(self.vilt.embeddings, modalities[name], maximum=self.config.max_patches)
            else:
                block = self._embed_words(read_words(modalities[name], self.vilt.config))
            blocks[name] = self._add_type(block, self.type_rows[name])
        return blocks

    def _embed_first(self, text: ModalityBatch | None, batch_size: int) -> Block:
        """Words with a class token in slot 0 of every sample, masked where the sample has no text."""
        if text is None or not bool(text.mask.any()):
            nothing = torch.zeros(batch_size, 1, dtype=torch.long, device=self.vilt.embeddings.cls_token.device)
            words = Block(nothing, nothing.bool(), nothing.bool(), nothing - 1)
        else:
            words = read_words(text, self.vilt.config)
        bare = torch.where(words.mask[:, :1], words.values[:, :1], self.config.cls_token_id)
        words = replace(words, values=torch.cat([bare, words.values[:, 1:]], dim=1))
        return self._embed_words(words)

    def _embed_words(self, words: Block) -> Block:
        """ViLT's text embedding of token ids."""
        embeddings = self.vilt.embeddings.text_embeddings
        position = embeddings.position_embeddings.weight[: words.values.shape[1]]
        values = embeddings.word_embeddings(words.values) + embeddings.token_type_embeddings.weight[0] + position
        return replace(words, values=embeddings.dropout(embeddings.LayerNorm(values)))

    def _add_type(self, block: Block, row: int) -> Block:
        return replace(block, values=block.values + self.vilt.embeddings.token_type_embeddings.weight[row])


def modality_type_rows(spec: DatasetSpec) -> dict[str, int]:
    """Row of the modality-type embedding for each modality: the first text 0, the first image 1, then the free ones.

    A further image never takes the text's row: ViLT gives a second image row 2.

    Example:
        >>> from mmwa_utils.types import ModalitySpec
        >>> streams = (ModalitySpec("video", "stream", 35), ModalitySpec("audio", "stream", 74))
        >>> three = (ModalitySpec("text", "text"), *streams)
        >>> modality_type_rows(DatasetSpec("clips", three, "binary", 1, ("funny",), "accuracy"))
        {'text': 0, 'video': 1, 'audio': 2}
    """
    kinds = {modality.name: modality.kind for modality in spec.modalities}
    firsts = {modality.kind: modality.name for modality in reversed(spec.modalities)}
    rows = {firsts[kind]: row for kind, row in (("text", 0), ("image", 1)) if kind in firsts}
    for name, kind in kinds.items():
        if name not in rows:
            lowest = 0 if kind == "stream" else 1
            rows[name] = next(row for row in range(lowest, lowest + len(kinds) + 1) if row not in rows.values())
    return {name: rows[name] for name in kinds}


def grow_modality_types(vilt: ViltModel, n_types: int) -> None:
    """Give ViLT's modality-type embedding `n_types` rows, new ones being copies of row 1; never shrink it."""
    old = vilt.embeddings.token_type_embeddings
    if n_types <= old.num_embeddings:
        return
    weight = torch.cat([old.weight, old.weight[1:2].expand(n_types - old.num_embeddings, -1)]).detach().clone()
    vilt.embeddings.token_type_embeddings = nn.Embedding.from_pretrained(weight, freeze=False)
    vilt.config.modality_type_vocab_size = n_types


def _random_vilt(config: ModelConfig) -> ViltModel:
    image = {"image_size": config.image_size, "patch_size": config.patch_size}
    text = {"vocab_size": config.vocab_size, "pad_token_id": config.pad_token_id}
    settings = config.settings(config.early, **image, **text, max_position_embeddings=config.max_text_length)
    vilt = ViltModel(ViltConfig(**settings))
    # transformers leaves these at zero for a checkpoint to fill.
    nn.init.normal_(vilt.embeddings.position_embeddings, std=config.initializer_range)
    nn.init.normal_(vilt.embeddings.cls_token, std=config.initializer_range)
    return vilt


def _load_vilt(pretrained: str | Path, config: ModelConfig) -> ViltModel:
    vilt = ViltModel.from_pretrained(
        str(pretrained), hidden_dropout_prob=config.dropout, attention_probs_dropout_prob=config.dropout
    )
    if config.cls_token_id >= vilt.config.vocab_size:
        raise ValueError(
            f"cls_token_id {config.cls_token_id} is outside the vocabulary of {pretrained} "
            f"({vilt.config.vocab_size} tokens): set it to the checkpoint's tokenizer's [CLS]"
        )
    return vilt
