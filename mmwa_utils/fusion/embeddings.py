"""From a modality's padded batch to the tokens that a transformer reads: words, patches, steps of a stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.vilt.modeling_vilt import TextEmbeddings, ViltEmbeddings
from transformers.models.vit.modeling_vit import ViTEmbeddings

from mmwa_utils.fusion.output import Block
from mmwa_utils.fusion.selection import choose_tokens, take
from mmwa_utils.types import ModalityBatch, ModalitySpec

DEFAULT_STREAM_STEPS = 512
"""Learned positions of a stream whose spec does not say how long it can be."""


def bring_forward(modality: ModalityBatch, *, maximum: int | None = None) -> Block:
    """Real tokens first, zeros at padding; of more than `maximum` tokens as many are kept, evenly spread.

    Example:
        >>> values, mask = torch.tensor([[[9.0], [1.0], [2.0]]]), torch.tensor([[False, True, True]])
        >>> bring_forward(ModalityBatch(values, mask)).values.flatten().tolist()
        [1.0, 2.0]
    """
    kept = choose_tokens(modality.mask, maximum=maximum)
    values = take(modality.values, kept.index)
    padding = ~kept.mask.reshape(*kept.mask.shape, *(1 for _ in values.shape[2:]))
    special = kept.mask.new_zeros(kept.mask.shape) if modality.special is None else take(modality.special, kept.index)
    rank = (modality.mask.cumsum(dim=1) - 1).gather(1, kept.index)
    return Block(values.masked_fill(padding, 0), kept.mask, special & kept.mask, rank.masked_fill(~kept.mask, -1))


def read_words(text: ModalityBatch, *, vocab_size: int, max_length: int) -> Block:
    """The token ids of a text, real ones first.

    Raises:
        ValueError: a token id outside the vocabulary, or a text with more tokens than the model has positions.
    """
    real_ids = text.values[text.mask]
    if real_ids.numel() and (int(real_ids.max()) >= vocab_size or int(real_ids.min()) < 0):
        raise ValueError(
            f"token ids run from {int(real_ids.min())} to {int(real_ids.max())}, but the model knows 0 to "
            f"{vocab_size - 1}: use the tokenizer that belongs to the model, or set ModelConfig.vocab_size to its size"
        )
    words = bring_forward(text)
    if words.mask.shape[1] > max_length:
        raise ValueError(
            f"a text of the batch has {words.mask.shape[1]} tokens, but the model has {max_length} positions: load the "
            f"processor with max_text_length={max_length}, or raise ModelConfig.max_text_length"
        )
    return words


def embed_words(embeddings: TextEmbeddings, words: Block) -> Block:
    """ViLT's text embedding of token ids."""
    position = embeddings.position_embeddings.weight[: words.values.shape[1]]
    values = embeddings.word_embeddings(words.values) + embeddings.token_type_embeddings.weight[0] + position
    return replace(words, values=embeddings.dropout(embeddings.LayerNorm(values)))


def patch_grid(mask: Bool[Tensor, "batch height width"], patch_size: int) -> Bool[Tensor, "batch rows columns"]:
    """Which patches of a padded image are real: those whose pixels all are.

    Raises:
        ValueError: an image that is present but has no whole patch.

    Example:
        >>> patch_grid(torch.ones(1, 17, 8, dtype=torch.bool), 8).tolist()
        [[[True], [True]]]
    """
    rows, columns = mask.shape[1] // patch_size, mask.shape[2] // patch_size
    whole = mask[:, : rows * patch_size, : columns * patch_size]
    grid = whole.reshape(len(mask), rows, patch_size, columns, patch_size).all(dim=4).all(dim=2)
    if bool((mask.flatten(1).any(dim=1) & ~grid.flatten(1).any(dim=1)).any()):
        raise ValueError(f"an image of the batch is smaller than one patch of {patch_size} pixels: enlarge the images")
    return grid


def embed_patches(embeddings: ViltEmbeddings | ViTEmbeddings, image: ModalityBatch, *, maximum: int) -> Block:
    """A class token and the patches of an image, each with its position, for ViLT's and ViT's weights alike.

    The learned grid of positions is interpolated to each image's own size, as either model does it: ViLT
    bilinearly with aligned corners, ViT bicubically. Neither padding nor the other images of a batch change
    an image's tokens.

    Args:
        embeddings: the embedding module whose weights are used.
        image: pixels (batch, 3, height, width); real pixels fill the upper left corner.
        maximum: most patches per image; those of a larger image are kept evenly spread.
    """
    projection = embeddings.patch_embeddings.projection
    grid = patch_grid(image.mask, projection.kernel_size[0])
    if grid.shape[1] * grid.shape[2]:
        patches = projection(image.values.to(projection.weight.dtype)).flatten(2).transpose(1, 2)
    else:  # nothing but absent images, smaller than a patch
        patches = image.values.new_zeros(len(grid), 0, projection.out_channels)
    patches = patches + _grid_positions(embeddings, grid)

    kept = choose_tokens(grid.flatten(1), maximum=maximum)
    row, column = kept.index // max(grid.shape[2], 1), kept.index % max(grid.shape[2], 1)
    raster = row * grid.any(dim=1).sum(dim=1, keepdim=True) + column

    first = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(len(grid), 1, -1)
    present = image.present[:, None]
    return Block(
        values=embeddings.dropout(torch.cat([first, take(patches, kept.index)], dim=1)),
        mask=torch.cat([present, kept.mask], dim=1),
        special=torch.cat([present, torch.zeros_like(kept.mask)], dim=1),
        positions=torch.cat([raster.new_full((len(grid), 1), -1), raster.masked_fill(~kept.mask, -1)], dim=1),
    )


def _grid_positions(
    embeddings: ViltEmbeddings | ViTEmbeddings, grid: Bool[Tensor, "batch rows columns"]
) -> Float[Tensor, "batch patches dim"]:
    """Positions of the patches of every image, zero at padding; one interpolation per distinct image size."""
    learned = embeddings.position_embeddings[:, 1:]
    side = round(learned.shape[1] ** 0.5)
    learned = learned.transpose(1, 2).reshape(1, -1, side, side)
    is_vilt = isinstance(embeddings, ViltEmbeddings)
    mode: Literal["bilinear", "bicubic"] = "bilinear" if is_vilt else "bicubic"

    sizes = torch.stack([grid.any(dim=2).sum(dim=1), grid.any(dim=1).sum(dim=1)], dim=1)
    distinct, which = sizes.unique(dim=0, return_inverse=True)
    padded = []
    for rows, columns in distinct.tolist():
        if rows == 0 or columns == 0:  # absent from these samples
            resized = learned[..., :0, :0]
        elif (rows, columns) == (side, side):
            resized = learned
        else:
            resized = functional.interpolate(learned, size=(rows, columns), mode=mode, align_corners=is_vilt)
        padded.append(functional.pad(resized, (0, grid.shape[2] - columns, 0, grid.shape[1] - rows)))
    return torch.cat(padded).flatten(2).transpose(1, 2)[which]


class StreamEmbedding(nn.Module):
    """A feature stream as tokens: LayerNorm(W x_t + b + position_t).

    The normalisation brings streams of any unit to the scale of ViLT's text embeddings, which end in one too.

    Args:
        stream: its `width` is the features of a step, its `max_length` the number of learned positions; of a longer
            stream as many steps are kept, evenly spread.
        dim: width of a token.
        std: standard deviation of the initial positions.

    Raises:
        ValueError: a stream without a width.
    """

    def __init__(self, stream: ModalitySpec, *, dim: int, std: float) -> None:
        super().__init__()
        self.dim = dim
        self.projection = nn.Linear(stream_width(stream), dim)
        self.positions = nn.Parameter(torch.randn(stream.max_length or DEFAULT_STREAM_STEPS, dim) * std)
        self.norm = nn.LayerNorm(dim)

    def forward(self, stream: ModalityBatch) -> Block:
        """Tokens of the stream's real steps, moved to the front, so that padding may stand anywhere."""
        steps = bring_forward(stream, maximum=len(self.positions))
        values = self.projection(steps.values) + self.positions[: steps.values.shape[1]]
        return replace(steps, values=self.norm(values))


def stream_width(stream: ModalitySpec) -> int:
    """Features of a step; ValueError if the spec does not say."""
    if stream.width is None:
        raise ValueError(
            f"modality {stream.name!r} is a stream without a width: set ModalitySpec.width to its features per step"
        )
    return stream.width
