"""Early fusion: one transformer reads the tokens of all modalities, a text's words first."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertModel, ViltConfig, ViltModel
from transformers.models.vilt.modeling_vilt import ViltEncoder

from mmwa_utils.fusion.base import FusionModel
from mmwa_utils.fusion.config import ModelConfig
from mmwa_utils.fusion.embeddings import StreamEmbedding, embed_patches, read_words
from mmwa_utils.fusion.output import CLASS_BLOCK, Block
from mmwa_utils.types import DatasetSpec, ModalityBatch, ModalitySpec


class OneTower(FusionModel):
    """What transformers that were pretrained on words share, ViLT (`EarlyFusion`) and BERT (`TowerFusion`).

    A type embedding tells a token's modality: row 0 text, row 1 the image, the next free row every other modality;
    rows beyond those that the weights have are copies of row 1.

    The head reads the text's [CLS]. In a sample without text that slot holds a bare [CLS], which belongs to no
    modality, so that the absent text is masked for the transport all the same.
    """

    streams: nn.ModuleDict
    """The embedding of each stream."""

    def __init__(self, spec: DatasetSpec, config: ModelConfig, tower: ViltModel | BertModel) -> None:
        if config.cls_token_id >= tower.config.vocab_size:
            raise ValueError(
                f"cls_token_id {config.cls_token_id} is outside the vocabulary of the pretrained weights "
                f"({tower.config.vocab_size} tokens): set it to their tokenizer's [CLS]"
            )
        super().__init__(spec, dim=tower.config.hidden_size, dropout=config.dropout)
        self.config, self.settings = config, tower.config
        self.type_rows = modality_type_rows(spec)
        grow_modality_types(tower, 1 + max(self.type_rows.values()))

    def stream_embeddings(self, streams: Iterable[ModalitySpec]) -> nn.ModuleDict:
        """The embeddings of streams by name."""
        std = self.settings.initializer_range
        return nn.ModuleDict({s.name: StreamEmbedding(s, dim=self.dim, std=std) for s in streams})

    @abstractmethod
    def embed_words(self, words: Block) -> Block:
        """Token ids as tokens, without their type."""

    @abstractmethod
    def embed_image(self, name: str, image: ModalityBatch) -> Block:
        """A picture as tokens, without their type."""

    @abstractmethod
    def add_type(self, block: Block, row: int) -> Block:
        """Tokens with their type, as the transformer reads them."""

    def embed(self, modalities: Mapping[str, ModalityBatch], batch_size: int) -> dict[str, Block]:
        """Text first (or a bare [CLS]), then the other modalities in the spec's order."""
        kinds = {modality.name: modality.kind for modality in self.spec.modalities}
        first = next((name for name, kind in kinds.items() if kind == "text"), CLASS_BLOCK)
        blocks = {first: self.add_type(self._embed_first(modalities.get(first), batch_size), 0)}
        for name, kind in kinds.items():
            if name == first or name not in modalities:
                continue
            if kind == "stream":
                block = self.streams[name](modalities[name])
            elif kind == "image":
                block = self.embed_image(name, modalities[name])
            else:
                block = self.embed_words(read_words(modalities[name], self.settings))
            blocks[name] = self.add_type(block, self.type_rows[name])
        return blocks

    def _embed_first(self, text: ModalityBatch | None, batch_size: int) -> Block:
        """Words with a class token in slot 0 of every sample, masked where the sample has no text."""
        if text is None or not bool(text.mask.any()):
            nothing = torch.zeros(batch_size, 1, dtype=torch.long, device=next(self.parameters()).device)
            words = Block(nothing, nothing.bool(), nothing.bool(), nothing - 1)
        else:
            words = read_words(text, self.settings)
        bare = torch.where(words.mask[:, :1], words.values[:, :1], self.config.cls_token_id)
        return self.embed_words(replace(words, values=torch.cat([bare, words.values[:, 1:]], dim=1)))


class EarlyFusion(OneTower):
    """transformers' ViLT (Kim et al. 2021) over text, image and feature streams.

    Text and image are embedded exactly as `transformers.ViltModel` embeds them, except that patches are selected
    without chance (`embed_patches`). A stream has its own projection and positions. The head reads [CLS] through
    ViLT's pooler. A copy of type row 1 is ViLT's own way to read a second image.

    Args:
        spec: modalities and task.
        config: sizes; only `max_patches`, `cls_token_id` and `dropout` matter beside `pretrained`.
        pretrained: local folder or hub name of ViLT weights; None builds random weights.
    """

    def __init__(self, spec: DatasetSpec, config: ModelConfig, *, pretrained: str | Path | None = None) -> None:
        vilt = _random_vilt(config) if pretrained is None else _load_vilt(pretrained, config)
        super().__init__(spec, config, vilt)
        self.vilt = vilt
        self.streams = self.stream_embeddings(m for m in spec.modalities if m.kind == "stream")

    @property
    def encoder(self) -> ViltEncoder:
        """ViLT's layers."""
        return self.vilt.encoder

    def finish(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """ViLT's final normalisation and its pooler: tanh of a linear map of the class token."""
        last = self.vilt.layernorm(hidden)
        return last, self.vilt.pooler(last)  # type: ignore[misc]  # ours always has one

    def embed_words(self, words: Block) -> Block:
        """ViLT's text embedding of token ids."""
        embeddings = self.vilt.embeddings.text_embeddings
        position = embeddings.position_embeddings.weight[: words.values.shape[1]]
        values = embeddings.word_embeddings(words.values) + embeddings.token_type_embeddings.weight[0] + position
        return replace(words, values=embeddings.dropout(embeddings.LayerNorm(values)))

    def embed_image(self, name: str, image: ModalityBatch) -> Block:
        """ViLT's patches."""
        return embed_patches(self.vilt.embeddings, image, maximum=self.config.max_patches)

    def add_type(self, block: Block, row: int) -> Block:
        """ViLT's modality type, after all normalisation."""
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


def grow_modality_types(model: ViltModel | BertModel, n_types: int) -> None:
    """Give ViLT's modality types or BERT's segments `n_types` rows, new ones copies of row 1; never shrink them."""
    old = model.embeddings.token_type_embeddings
    if n_types <= old.num_embeddings:
        return
    weight = torch.cat([old.weight, old.weight[1:2].expand(n_types - old.num_embeddings, -1)]).detach().clone()
    model.embeddings.token_type_embeddings = nn.Embedding.from_pretrained(weight, freeze=False)
    setattr(model.config, "type_vocab_size" if isinstance(model, BertModel) else "modality_type_vocab_size", n_types)


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
    return ViltModel.from_pretrained(
        str(pretrained), hidden_dropout_prob=config.dropout, attention_probs_dropout_prob=config.dropout
    )
