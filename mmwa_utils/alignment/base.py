"""What every alignment shares: which tokens of which pairs it compares, and what it reports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmwa_utils.types import ModalityBatch, Tokens

Layers = Literal["input", "last", "all"]
LayerTokens = Mapping[str, Mapping[str, Tokens]]


@dataclass(frozen=True)
class PairValues:
    """What an alignment says of one pair of modalities, sample by sample; anything where a sample lacks one."""

    values: Float[Tensor, " batch"]
    converged: Bool[Tensor, " batch"] | None = None
    """Whether the sample's iterations converged; None when nothing is iterated."""


@dataclass(frozen=True)
class PairResult:
    """One pair of modalities over a batch, without gradient."""

    value: Float[Tensor, ""]
    """Mean over the samples that have both modalities; 0 when none has."""
    n_samples: Int[Tensor, ""]
    """Samples that have both (times the number of layers)."""
    n_skipped: Int[Tensor, ""]
    """Samples that lack at least one, and contribute nothing."""
    converged_share: Float[Tensor, ""]
    """Share of those samples whose iterations converged; NaN when nothing was iterated."""


@dataclass(frozen=True)
class AlignmentResult:
    """The alignment loss of a batch and how it came about."""

    loss: Float[Tensor, ""]
    """Mean over the pairs that some sample has, and over the layers; the only entry with a gradient."""
    pairs: Mapping[str, PairResult]
    """Keyed by the two modality names, as in "text-image"."""

    @property
    def converged_share(self) -> Float[Tensor, ""]:
        """Share of all compared samples whose iterations converged; NaN when nothing was iterated."""
        if not self.pairs:
            return self.loss.detach() * torch.nan
        count = torch.stack([pair.n_samples for pair in self.pairs.values()])
        share = torch.stack([pair.converged_share for pair in self.pairs.values()])
        return (share.where(count > 0, 0.0) * count).sum() / count.sum()


class Alignment(nn.Module, ABC):
    """An auxiliary loss on the tokens of any number of modalities: `alignment(tokens) -> AlignmentResult`.

    It stands outside the model: the trainer adds `weight * loss` to the task's loss, and inference never sees it.
    It draws nothing from the global random generators. With three or more modalities the loss is the mean over
    the pairs.

    Args:
        layers: which layers are compared when tokens of several are given: those named "input" or "last", or
            "all" there are (mean).
        special_tokens: whether tokens without content ([CLS], [SEP]) take part too.
    """

    def __init__(self, *, layers: Layers = "last", special_tokens: bool = False) -> None:
        super().__init__()
        if layers not in ("input", "last", "all"):
            raise ValueError(f"layers={layers!r} is unknown: use 'input', 'last' or 'all'")
        self.layers = layers
        self.special_tokens = special_tokens

    def prepare(self, modalities: Mapping[str, ModalityBatch]) -> Mapping[str, ModalityBatch]:
        """What the model is to read in training instead of this batch; nearly always the batch itself."""
        return modalities

    @abstractmethod
    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """A value per sample for two modalities, whose masks are True at the tokens that take part."""

    def compare_pairs(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[PairValues]:
        """`compare` each pair; a subclass that treats samples independently may stack several pairs into one batch."""
        return [self.compare(x, y) for x, y in pairs]

    def forward(self, tokens: Mapping[str, Tokens] | LayerTokens) -> AlignmentResult:
        """Compare every pair of modalities.

        Args:
            tokens: modality name -> tokens, or layer name -> modality name -> tokens (a `FusionOutput`'s).

        Raises:
            ValueError: no modality, a layer that is not there, or modalities of different batch sizes or widths.
        """
        found: dict[str, list[tuple[PairValues, Tensor]]] = {}
        for layer in self._chosen_layers(tokens):
            content = {name: self._content(modality) for name, modality in layer.items()}
            _check_shapes(content)
            names = list(combinations(content, 2))
            compared = self.compare_pairs([(content[x], content[y]) for x, y in names])
            present = {name: modality.mask.any(dim=1) for name, modality in content.items()}
            for (x, y), pair in zip(names, compared, strict=True):
                found.setdefault(f"{x}-{y}", []).append((pair, present[x] & present[y]))
        if not found:  # one modality: nothing to align, but still a loss that can be added
            return AlignmentResult(next(iter(layer.values())).values.new_zeros((), dtype=torch.float32), {})

        means, counts, pairs = [], [], {}
        for name, results in found.items():
            values = torch.stack([result.values.masked_fill(~both, 0.0) for result, both in results])
            both = torch.stack([mask for _, mask in results])
            count = both.sum()
            mean = values.sum() / count.clamp(min=1)
            means.append(mean)
            counts.append(count)
            pairs[name] = PairResult(mean.detach(), count, both.numel() - count, _share(results, count))
        active = torch.stack(counts) > 0
        return AlignmentResult(torch.stack(means).sum() / active.sum().clamp(min=1), pairs)

    def _chosen_layers(self, tokens: Mapping[str, Tokens] | LayerTokens) -> list[Mapping[str, Tokens]]:
        if not tokens:
            raise ValueError("tokens: no modality was given")
        if all(isinstance(value, Tokens) for value in tokens.values()):
            return [cast(Mapping[str, Tokens], tokens)]
        by_layer = cast(LayerTokens, tokens)
        if self.layers == "all":
            return list(by_layer.values())
        if self.layers not in by_layer:
            raise ValueError(f"layers={self.layers!r}, but tokens are given for {', '.join(by_layer)} only")
        return [by_layer[self.layers]]

    def _content(self, tokens: Tokens) -> Tokens:
        if self.special_tokens or tokens.special is None:
            return tokens
        return Tokens(tokens.values, tokens.mask & ~tokens.special, tokens.special)


def _check_shapes(tokens: Mapping[str, Tokens]) -> None:
    shapes = {name: (modality.values.shape[0], modality.values.shape[2]) for name, modality in tokens.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"modalities must agree in (batch, dim) to be aligned, got {listed}")


def _share(results: list[tuple[PairValues, Tensor]], count: Tensor) -> Tensor:
    flags = [result.converged & both for result, both in results if result.converged is not None]
    if not flags:
        return count * torch.nan
    return torch.stack(flags).sum() / count


def masked_mean(values: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "batch length"]) -> Tensor:
    """Mean over a sample's tokens in float32, (batch, dim); zero for a sample without tokens."""
    total = values.float().masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)
