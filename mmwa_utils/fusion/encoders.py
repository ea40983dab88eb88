"""Unimodal encoders: from one modality's padded batch to its tokens.

Each takes only samples that have the modality, returns real tokens first and padding last, and lets neither
padding nor the other samples of the batch change a sample's tokens (batch normalisation in training apart).
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

from mmwa_utils.fusion.config import EncoderName, ModelConfig
from mmwa_utils.fusion.embeddings import StreamEmbedding, bring_forward, embed_patches, read_words, stream_width
from mmwa_utils.fusion.installed import INSTALLED, locate, quietly
from mmwa_utils.fusion.output import Block, additive_mask
from mmwa_utils.types import ModalityBatch, ModalityKind, ModalitySpec

ENCODERS: dict[ModalityKind, tuple[EncoderName, ...]] = {
    "text": ("bert",),
    "image": ("vit", "resnet", "efficientnet"),
    "stream": ("linear", "lstm"),
}
"""The encoders that read a kind of modality, the default one first."""


class ModalityEncoder(nn.Module, ABC):
    """Reads one modality."""

    dim: int
    """Width of its tokens."""

    @abstractmethod
    def forward(self, modality: ModalityBatch) -> Block:
        """Tokens of samples that all have the modality."""


class Bert(BertModel):
    """BERT whose checkpoint may hold more than is read of it: a pooler, a pretraining head, further layers."""

    _keys_to_ignore_on_load_unexpected = [r"pooler\.", r"cls\.", r"encoder\.layer\."]  # noqa: RUF012


class TextEncoder(ModalityEncoder):
    """BERT: last hidden states of a text."""

    def __init__(self, config: ModelConfig, pretrained: str | Path | None) -> None:
        super().__init__()
        if pretrained is None:
            own = {"vocab_size": config.vocab_size, "pad_token_id": config.pad_token_id}
            self.bert = Bert(BertConfig(**config.settings(config.encoder, **own)), add_pooling_layer=False)
        else:
            self.bert = Bert.from_pretrained(str(pretrained), add_pooling_layer=False)
        self.dim = self.bert.config.hidden_size

    def forward(self, modality: ModalityBatch) -> Block:
        """Contextual tokens of a text's words."""
        words = read_words(modality, self.bert.config)
        hidden = self.bert(input_ids=words.values, attention_mask=words.mask.long()).last_hidden_state
        return replace(words, values=hidden)


class PatchEncoder(ModalityEncoder):
    """ViT: last hidden states of an image's class token and patches."""

    def __init__(self, config: ModelConfig, pretrained: str | Path | None) -> None:
        super().__init__()
        self.max_patches = config.max_patches
        if pretrained is None:
            own = {"image_size": config.image_size, "patch_size": config.encoder_patch_size}
            self.vit = ViTModel(ViTConfig(**config.settings(config.encoder, **own)), add_pooling_layer=False)
        else:
            self.vit = ViTModel.from_pretrained(str(pretrained), add_pooling_layer=False)
        self.dim = self.vit.config.hidden_size

    def forward(self, modality: ModalityBatch) -> Block:
        """Contextual tokens of an image's patches."""
        block = embed_patches(self.vit.embeddings, modality, maximum=self.max_patches)
        hidden, mask = block.values, additive_mask(block.mask, block.values.dtype)
        for layer in self.vit.layers:
            hidden = layer(hidden, mask)
        return replace(block, values=self.vit.layernorm(hidden))


class GridEncoder(ModalityEncoder):
    """A convolutional network: each cell of its last feature map is a token, in raster order.

    A convolution sees the padding beside an image, so images of different sizes are cut out and run apart.
    """

    @abstractmethod
    def feature_map(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """The last feature map of images of one size."""

    def forward(self, modality: ModalityBatch) -> Block:
        """Feature maps, flattened in raster order."""
        mask = modality.mask
        sizes = torch.stack([mask.any(dim=2).sum(dim=1), mask.any(dim=1).sum(dim=1)], dim=1)
        distinct, which = sizes.unique(dim=0, return_inverse=True)
        cells: dict[int, Tensor] = {}
        for group, (height, width) in enumerate(distinct.tolist()):
            chosen = (which == group).nonzero().flatten()
            maps = self.feature_map(modality.values[chosen, :, :height, :width])
            cells |= dict(zip(chosen.tolist(), maps.flatten(2).transpose(1, 2), strict=True))
        ordered = [cells[row] for row in range(len(mask))]
        values = pad_sequence(ordered, batch_first=True)
        steps = torch.arange(values.shape[1], device=values.device)
        kept = steps < steps.new_tensor([len(tokens) for tokens in ordered])[:, None]
        return Block(values, kept, torch.zeros_like(kept), steps.expand_as(kept).masked_fill(~kept, -1))


class ConvolutionEncoder(GridEncoder):
    """ResNet."""

    def __init__(self, config: ModelConfig, pretrained: str | Path | None) -> None:
        super().__init__()
        if pretrained is None:
            widths, depths = list(config.resnet_widths), list(config.resnet_depths)
            own = ResNetConfig(embedding_size=widths[0], hidden_sizes=widths, depths=depths, layer_type="basic")
            self.resnet = ResNetModel(own)
        else:
            self.resnet = ResNetModel.from_pretrained(str(pretrained))
        self.dim = list(self.resnet.config.hidden_sizes or ())[-1]

    def feature_map(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """What the last stage makes of images."""
        return self.resnet(pixels).last_hidden_state


class EfficientNetEncoder(GridEncoder):
    """EfficientNet-Lite0 without its classifier: a cell per 32 x 32 pixels; sides are multiples of 32.

    `pretrained` is a file of weights. Its residual branches are dropped at random in training as often as
    `config.dropout` says.
    """

    def __init__(self, config: ModelConfig, pretrained: str | Path | None) -> None:
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        name, own = "efficientnet-lite0", {"drop_connect_rate": config.dropout}
        if pretrained is None:
            self.efficientnet = EfficientNet.from_name(name, **own)
        else:
            self.efficientnet = EfficientNet.from_pretrained(name, weights_path=str(pretrained), **own)
        self.efficientnet._fc = nn.Identity()
        self.dim = self.efficientnet._conv_head.out_channels

    def feature_map(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """What goes into the pooling before the classifier."""
        return self.efficientnet.extract_features(pixels)


class RecurrentEncoder(ModalityEncoder):
    """Two-layer LSTM over a stream: the hidden state after each step, which no later padding can reach."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, config.lstm_dim, num_layers=2, batch_first=True, dropout=config.dropout)
        self.dim = config.lstm_dim

    def forward(self, modality: ModalityBatch) -> Block:
        """Hidden states of the last layer."""
        steps = bring_forward(modality)
        return replace(steps, values=self.lstm(steps.values)[0])


class LinearEncoder(StreamEmbedding, ModalityEncoder):
    """A linear projection of each step with learned positions."""


_PRETRAINED: dict[str, Callable[[ModelConfig, str | None], ModalityEncoder]] = {
    "bert": TextEncoder,
    "vit": PatchEncoder,
    "resnet": ConvolutionEncoder,
    "efficientnet": EfficientNetEncoder,
}


def build_encoder(
    modality: ModalitySpec, config: ModelConfig, *, pretrained: str | Path | None = None
) -> ModalityEncoder:
    """The encoder of one modality, as `config.encoders`, its installed weights or its kind says.

    Raises:
        ImportError: weights of a package that is not installed.
        ValueError: an encoder that cannot read this kind of modality, a stream without a width, weights for an
            encoder that has no pretrained form, or installed weights of another encoder.
    """
    fitting = ENCODERS[modality.kind]
    known = INSTALLED.get(str(pretrained))
    name = config.encoders.get(modality.name, known.reader if known else fitting[0])
    if name not in fitting:
        wrong = f"encoders[{modality.name!r}]={name!r} does not read {modality.kind}, the kind of {modality.name!r}"
        raise ValueError(f"{wrong}: use {' or '.join(fitting)}")
    if known and name != known.reader:
        raise ValueError(f"pretrained[{modality.name!r}]: {pretrained} is {known.reader}, but encoders says {name}")
    if name in _PRETRAINED:
        with quietly():
            return _PRETRAINED[name](config, None if pretrained is None else locate(pretrained))
    if pretrained is not None:
        raise ValueError(f"pretrained[{modality.name!r}]: the {name} encoder has no pretrained weights")
    if name == "lstm":
        return RecurrentEncoder(config, stream_width(modality))
    return LinearEncoder(modality, dim=config.late.dim, std=config.initializer_range)


class FeatureReader(ModalityEncoder):
    """Passes on the tokens of a frozen encoder of this width.

    What a frozen encoder says of an input never changes, so it is computed once, outside the model, in the collate
    step (`mmwa_utils.training.features`), and the model holds this reader in the encoder's place. A *tuned* encoder
    (`freeze_encoders=False`) is an ordinary module of the model.
    """

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


def encode_present(encoder: ModalityEncoder, modality: ModalityBatch) -> Block:
    """Run an encoder on the samples that have the modality; the others get masked zeros.

    Besides the saved work this keeps absent images out of the statistics of batch normalisation.
    """
    rows = modality.present.nonzero().flatten()
    size = len(modality.mask)
    if len(rows) == 0:
        values = modality.mask.new_zeros(size, 1, encoder.dim, dtype=torch.float32)
        # Every parameter stays in the graph, so that a replica whose share of a batch lacks the modality agrees
        # with the others on what is to be reduced.
        values = values + sum(0.0 * parameter.sum() for parameter in encoder.parameters() if parameter.requires_grad)
        nothing = torch.zeros(size, 1, dtype=torch.bool, device=values.device)
        return Block(values, nothing, nothing, nothing.long() - 1)
    if len(rows) == size:
        return encoder(modality)
    found: Block = encoder(modality.each(lambda tensor: tensor[rows]))

    def spread(part: Tensor, fill: float | int) -> Tensor:
        return part.new_full((size, *part.shape[1:]), fill).index_copy(0, rows, part)

    return Block(
        spread(found.values, 0.0), spread(found.mask, False), spread(found.special, False), spread(found.positions, -1)
    )
