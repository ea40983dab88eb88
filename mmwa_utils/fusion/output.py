"""What a fusion model returns, and the block of tokens from which it is put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mmwa_utils.types import Tokens

CLASS_BLOCK = "[CLS]"
"""Name of the first block where slot 0 belongs to no modality."""


@dataclass(frozen=True)
class Block:
    """One modality's stretch of a fusion transformer's input, or the token ids and steps of which it is made."""

    values: Shaped[Tensor, "batch length ..."]
    mask: Bool[Tensor, "batch length"]
    special: Bool[Tensor, "batch length"]
    """Tokens without content: [CLS] and [SEP] of a text, the class token of an image."""
    positions: Int[Tensor, "batch length"]
    """Where the token stood in its own sample: see `FusionOutput.positions`."""


@dataclass(frozen=True)
class FusionOutput:
    """Result of a fusion model on a batch."""

    logits: Float[Tensor, "batch outputs"]
    """One column for binary tasks (log-odds) and regression (the value), one per label otherwise."""

    tokens: Mapping[str, Mapping[str, Tokens]]
    """Layer name -> modality -> tokens with the very mask that the transformer used.

    "input" is what enters the transformer, "last" its last hidden states after the final normalisation. On
    request (`output_hidden_states`) "layer_1" to "layer_{n-1}" stand between them. A modality that no sample of
    the batch was given is left out.
    """

    positions: Mapping[str, Int[Tensor, "batch length"]]
    """Modality -> where each token stood in its sample: index of the word or step among those present, or of the
    patch in raster order over the sample's own grid; -1 for a token that the model added, and at padding."""

    segments: Mapping[str, slice]
    """Modality -> its stretch of the sequence, as `attentions` index it. Slot 0 is what the head reads."""

    mask: Bool[Tensor, "batch sequence"]
    """Mask over the whole sequence as the transformer used it."""

    attentions: tuple[Float[Tensor, "batch heads sequence sequence"], ...] | None = None
    """Attention weights of each layer (rows: queries, sums 1), on request."""


def additive_mask(mask: Bool[Tensor, "batch keys"], dtype: torch.dtype) -> Float[Tensor, "batch 1 1 keys"]:
    """0 at keys to attend to, the dtype's lowest number elsewhere: what attention adds to its scores.

    Example:
        >>> additive_mask(torch.tensor([[True, False]]), torch.float32).flatten().tolist()
        [0.0, -3.4028234663852886e+38]
    """
    lowest = torch.finfo(dtype).min
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, lowest)[:, None, None, :]
