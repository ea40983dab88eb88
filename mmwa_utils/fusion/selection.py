"""Which tokens of a padded sequence a transformer reads: real ones first, at most so many, the same every time.

transformers' ViLT draws a permutation of the patches from the global generator on every forward pass, in evaluation
too, and fills up with padding drawn with replacement. Here the order is the input's order, padding comes last, and
chance has no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class ChosenTokens:
    """Positions kept from each sequence of a batch, in ascending order, padding last."""

    index: Int[Tensor, "batch kept"]
    """Position in the input of each kept token; meaningless where `mask` is False."""
    mask: Bool[Tensor, "batch kept"]
    """True where a real token was kept."""


def choose_tokens(mask: Bool[Tensor, "batch length"], *, maximum: int | None = None) -> ChosenTokens:
    """Keep every real token of each sequence, or `maximum` of them, evenly spread, where there are more.

    Of n real tokens and a maximum M < n, those of rank floor(k n / M), k = 0 .. M-1, are kept. The result is as long
    as the batch's longest kept sequence, so padding costs nothing, wherever it was.

    Args:
        mask: True at real tokens; padding may stand anywhere.
        maximum: most tokens kept per sequence; None keeps all.

    Raises:
        ValueError: `maximum` is not positive.

    Example:
        >>> mask = torch.tensor([[False, True, True, True, True], [True, False, False, False, False]])
        >>> choose_tokens(mask, maximum=2).index[0].tolist()
        [1, 3]
        >>> choose_tokens(mask, maximum=2).mask.tolist()
        [[True, True], [True, False]]
    """
    if maximum is not None and maximum < 1:
        raise ValueError(f"maximum must be at least 1, got {maximum}")
    count = mask.sum(dim=1)
    longest = int(count.max()) if len(count) else 0
    kept = longest if maximum is None else min(longest, maximum)

    # A stable sort of "is padding" puts the real tokens first, in their order.
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    rank = torch.arange(kept, device=mask.device).expand(len(mask), kept)
    if kept:
        rank = torch.where((count > kept)[:, None], rank * count[:, None] // kept, rank)
    return ChosenTokens(index=order.gather(1, rank), mask=rank < count[:, None])


def take(values: Tensor, index: Int[Tensor, "batch kept"]) -> Tensor:
    """Pick tokens: `values` (batch, length, ...) at `index` (batch, kept), giving (batch, kept, ...).

    Example:
        >>> take(torch.tensor([[10, 11, 12]]), torch.tensor([[2, 0]])).tolist()
        [[12, 10]]
    """
    trailing = values.shape[2:]
    return values.gather(1, index.reshape(*index.shape, *(1 for _ in trailing)).expand(*index.shape, *trailing))
