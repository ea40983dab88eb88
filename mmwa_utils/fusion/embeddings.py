"""From a modality's padded batch to the tokens that a transformer reads: words, patches, steps of a stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.vilt.modeling_vilt import ViltEmbeddings
from transformers.models.vit.modeling_vit import ViTEmbeddings

from mmwa_utils.fusion.output import Block
from mmwa_utils.types import ModalityBatch, ModalitySpec

DEFAULT_STREAM_STEPS = 512
"""Learned positions of a stream whose spec does not say how long it can be."""


def choose_tokens(
    mask: Bool[Tensor, "batch length"], *, maximum: int | None = None
) -> tuple[Int[Tensor, "batch kept"], Bool[Tensor, "batch kept"]]:
    """Keep every real token of each sequence, or `maximum` of them, evenly spread, where there are more.

    Of n real tokens and a maximum M < n, those of rank floor(k n / M), k = 0 .. M-1, are kept. The result is as long
    as the batch's longest kept sequence, so padding costs nothing, wherever it was.

    transformers' ViLT draws a permutation of the patches from the global generator on every forward pass, in
    evaluation too, and fills up with padding drawn with replacement. Here the order is the input's order, padding
    comes last, and chance has no part.

    Args:
        mask: True at real tokens; padding may stand anywhere.
        maximum: most tokens kept per sequence; None keeps all.

    Returns:
        the position in the input of each kept token, ascending, and a mask: where it is False stands padding.

    Example:
        >>> mask = torch.tensor([[False, True, True, True, True], [True, False, False, False, False]])
        >>> index, kept = choose_tokens(mask, maximum=2)
        >>> index[0].tolist()
        [1, 3]
        >>> kept.tolist()
        [[True, True], [True, False]]
    """
    count = mask.sum(dim=1)
    longest = int(count.max()) if len(count) else 0
    kept = longest if maximum is None else min(longest, maximum)

    # A stable sort of "is padding" puts the real tokens first, in their order.
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    rank = torch.arange(kept, device=mask.device).expand(len(mask), kept)
    if kept:
        rank = torch.where((count > kept)[:, None], rank * count[:, None] // kept, rank)
    return order.gather(1, rank), rank < count[:, None]


def take(values: Tensor, index: Int[Tensor, "batch kept"]) -> Tensor:
    """Pick tokens: `values` (batch, length, ...) at `index` (batch, kept), giving (batch, kept, ...).

    Example:
        >>> take(torch.tensor([[10, 11, 12]]), torch.tensor([[2, 0]])).tolist()
        [[12, 10]]
    """
    return values.take_along_dim(index.reshape(*index.shape, *(1 for _ in values.shape[2:])), dim=1)


def bring_forward(modality: ModalityBatch, *, maximum: int | None = None) -> Block:
    """Real tokens first, zeros at padding; of more than `maximum` tokens as many are kept, evenly spread.

    Example:
        >>> values, mask = torch.tensor([[[9.0], [1.0], [2.0]]]), torch.tensor([[False, True, True]])
        >>> bring_forward(ModalityBatch(values, mask)).values.flatten().tolist()
        [1.0, 2.0]
    """
    index, mask = choose_tokens(modality.mask, maximum=maximum)
    values = take(modality.values, index)
    padding = ~mask.reshape(*mask.shape, *(1 for _ in values.shape[2:]))
    special = torch.zeros_like(mask) if modality.special is None else take(modality.special, index)
    stood = modality.mask.cumsum(dim=1) - 1 if modality.positions is None else modality.positions
    return Block(values.masked_fill(padding, 0), mask, special & mask, take(stood, index).masked_fill(~mask, -1))


def read_words(text: ModalityBatch, settings: Any) -> Block:
    """The token ids of a text, real ones first; `settings` are those of the ViLT or BERT that reads them.

    Raises:
        ValueError: a token id outside the vocabulary, or a text with more tokens than the model has positions.
    """
    vocab_size, max_length = settings.vocab_size, settings.max_position_embeddings
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

    index, kept = choose_tokens(grid.flatten(1), maximum=maximum)
    row, column = index // max(grid.shape[2], 1), index % max(grid.shape[2], 1)
    raster = row * grid.any(dim=1).sum(dim=1, keepdim=True) + column

    first = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(len(grid), 1, -1)
    present = image.present[:, None]
    return Block(
        values=embeddings.dropout(torch.cat([first, take(patches, index)], dim=1)),
        mask=torch.cat([present, kept], dim=1),
        special=torch.cat([present, torch.zeros_like(kept)], dim=1),
        positions=torch.cat([raster.new_full((len(grid), 1), -1), raster.masked_fill(~kept, -1)], dim=1),
    )


def _grid_positions(
    embeddings: ViltEmbeddings | ViTEmbeddings, grid: Bool[Tensor, "batch rows columns"]
) -> Float[Tensor, "batch patches dim"]:
    """Positions of the patches of every image, zero at padding; one interpolation per distinct image size."""
    learned = embeddings.position_embeddings[:, 1:]
    side = round(learned.shape[1] ** 0.5)
    learned = learned.transpose(1, 2).reshape(1, -1, side, side)
    is_vilt = isinstance(embeddings, ViltEmbeddings)
    mode = "bilinear" if is_vilt else "bicubic"

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
    """A feature stream as tokens: LayerNorm(W x_t + b + position_t), x_t being `patch` consecutive steps in one row.

    The normalisation brings streams of any unit to the scale of ViLT's text embeddings, which end in one too. The
    last patch of a stream is filled up with zeros; it is a token as long as it holds a real step.

    Args:
        stream: its `width` is the features of a step, its `patch` the steps of a token and its `max_length` the steps
            that learned positions reach; of a longer stream as many steps are kept, evenly spread.
        dim: width of a token.
        std: standard deviation of the initial positions.

    Raises:
        ValueError: a stream without a width.
    """

    def __init__(self, stream: ModalitySpec, *, dim: int, std: float) -> None:
        super().__init__()
        self.dim, self.patch = dim, stream.patch
        self.projection = nn.Linear(stream_width(stream) * self.patch, dim)
        n_positions = -(-(stream.max_length or DEFAULT_STREAM_STEPS) // self.patch)
        self.positions = nn.Parameter(torch.randn(n_positions, dim) * std)
        self.norm = nn.LayerNorm(dim)

    def forward(self, stream: ModalityBatch) -> Block:
        """Tokens of the stream's real steps, moved to the front, so that padding may stand anywhere."""
        steps = self._join(bring_forward(stream, maximum=len(self.positions) * self.patch))
        values = self.projection(steps.values) + self.positions[: steps.values.shape[1]]
        return replace(steps, values=self.norm(values))

    def _join(self, steps: Block) -> Block:
        """One row of each `patch` steps; it stood where the first of them stood, counted in patches."""
        count = -(-steps.mask.shape[1] // self.patch)
        fill = count * self.patch - steps.mask.shape[1]
        values = functional.pad(steps.values, (0, 0, 0, fill)).unflatten(1, (count, self.patch)).flatten(2)
        mask = functional.pad(steps.mask, (0, fill)).unflatten(1, (count, self.patch)).any(dim=2)
        special = functional.pad(steps.special, (0, fill)).unflatten(1, (count, self.patch)).any(dim=2)
        return Block(values, mask, special, steps.positions[:, :: self.patch].div(self.patch, rounding_mode="floor"))


def stream_width(stream: ModalitySpec) -> int:
    """Features of a step; ValueError if the spec does not say."""
    if stream.width is None:
        raise ValueError(
            f"modality {stream.name!r} is a stream without a width: set ModalitySpec.width to its features per step"
        )
    return stream.width
