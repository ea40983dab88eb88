"""The paper's alignment: the entropic transport cost between the tokens of two modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mmwa_utils.alignment.base import Alignment, Layers, PairValues
from mmwa_utils.ot import cosine_cost, sinkhorn, sinkhorn_divergence, sinkhorn_unbalanced, sqeuclidean_cost
from mmwa_utils.types import Tokens

CostName = Literal["cosine", "euclidean", "sqeuclidean"]
ValueName = Literal["regularised", "transport", "divergence"]


def token_cost(x: Tokens, y: Tokens, cost: CostName) -> Tensor:
    """Cost matrices (batch, n, m) between the tokens of two modalities, in float32.

    "cosine" is 1 - cos, between 0 and 2; "sqeuclidean" is `|x - y|^2 / dim`, so that epsilon does not depend on the
    width of the tokens; "euclidean" is plain `|x - y|`, whose scale is that of the tokens: about sqrt(2 dim) between
    two that left a LayerNorm, so that an epsilon of 5 is still a small one.

    Example:
        >>> there = torch.ones(1, 1, dtype=torch.bool)
        >>> x, y = (Tokens(torch.tensor([[values]]), there) for values in ([0.0, 3.0], [4.0, 0.0]))
        >>> [token_cost(x, y, cost).item() for cost in ("cosine", "euclidean", "sqeuclidean")]
        [1.0, 5.0, 12.5]
    """
    if cost == "cosine":
        return cosine_cost(x.values, y.values, mask_x=x.mask, mask_y=y.mask)
    squared = sqeuclidean_cost(x.values, y.values, mask_x=x.mask, mask_y=y.mask)
    return squared / x.values.shape[-1] if cost == "sqeuclidean" else _root(squared)


def _root(squared: Float[Tensor, "batch n m"]) -> Float[Tensor, "batch n m"]:
    """Square roots of each sample's squared distances; those that rounding can't tell from 0 are 0, with gradient 0.

    The root has no derivative at 0, and divided by a distance that is nothing but rounding a gradient is noise of
    any size.
    """
    coincide = squared <= 8 * torch.finfo(squared.dtype).eps * squared.detach().mean(dim=(1, 2), keepdim=True)
    return squared.masked_fill(coincide, 1.0).sqrt().masked_fill(coincide, 0.0)


def check_cost(cost: str) -> None:
    """Refuse an unknown cost by name."""
    if cost not in get_args(CostName):
        raise ValueError(f"cost={cost!r} is unknown: use {', '.join(get_args(CostName))}")


class WassersteinAlignment(Alignment):
    """Wasserstein modality alignment (Zhi et al. 2025): no parameter, any number of modalities, any transformer.

    For each sample and pair of modalities, with x_i and y_j the tokens and uniform weights a, b on those that
    are real (padding and, by default, special tokens have no mass),

        C_ij = cost(x_i, y_j),    value = min over P of <P, C> + epsilon KL(P | a b^T),  P 1 = a,  P^T 1 = b.

    Args:
        epsilon: strength of the entropic regularisation, in the unit of the cost.
        cost: "cosine" (1 - cos), "euclidean" (`|x - y|`) or "sqeuclidean" (`|x - y|^2 / dim`): see `token_cost`.
        value: "regularised", the value above, whose gradient with respect to C is the plan; "transport", <P, C>
            alone; "divergence", the debiased Sinkhorn divergence, zero between equal sets.
        negatives: take from each sample's value that of a mismatched pair, its x with the y of the next sample of the
            batch that has one (the last is followed by the first), as UNITER and ViLT trained. The loss is then the
            mean over matched minus the mean over mismatched pairs, which collapsed tokens do not lower, and may be
            negative. Where no other sample has a y the two pairs are the same one, and the sample adds exactly 0.
        reach: how far mass goes, in the unit of the cost, before it is rather left behind: the `rho` of
            `sinkhorn_unbalanced`, for tokens that have no counterpart. None moves all mass. Not with "divergence".
        layers: see `Alignment`.
        special_tokens: see `Alignment`.
        tol: L1 marginal error at which a sample's problem counts as solved.
        max_iter: most iterations of a problem.

    Raises:
        ValueError: an unknown name, or a number out of range (on the first call for those of the solver).

    Example: on any transformer that gives hidden states and masks.
        >>> import torch
        >>> from mmwa_utils.alignment import WassersteinAlignment
        >>> from mmwa_utils.types import Tokens
        >>> hidden = torch.randn(4, 30, 64, requires_grad=True)      # batch of 4: 12 words, then 18 patches
        >>> mask = torch.ones(4, 30, dtype=torch.bool)               # True where there is a token
        >>> mask[0, 8:12] = False                                    # the first text has only 8 words
        >>> alignment = WassersteinAlignment(epsilon=0.1)
        >>> words, patches = Tokens(hidden[:, :12], mask[:, :12]), Tokens(hidden[:, 12:], mask[:, 12:])
        >>> result = alignment({"text": words, "image": patches})
        >>> (0.0 + 0.5 * result.loss).backward()                     # task loss + weight * alignment
        >>> hidden.grad[0, 8:12].abs().max().item(), result.pairs["text-image"].n_samples.item()
        (0.0, 4)
    """

    def __init__(
        self,
        epsilon: float = 0.1,
        *,
        cost: CostName = "cosine",
        value: ValueName = "regularised",
        negatives: bool = False,
        reach: float | None = None,
        layers: Layers = "last",
        special_tokens: bool = False,
        tol: float = 1e-4,
        max_iter: int = 1000,
    ) -> None:
        super().__init__(layers=layers, special_tokens=special_tokens)
        check_cost(cost)
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive, got {epsilon}")
        if value not in get_args(ValueName):
            raise ValueError(f"value={value!r} is unknown: use {', '.join(get_args(ValueName))}")
        self.epsilon, self.cost, self.value, self.tol, self.max_iter = epsilon, cost, value, tol, max_iter
        if reach is not None and (not reach > 0 or value == "divergence"):
            raise ValueError(
                f"reach must be positive, and goes with 'regularised' or 'transport': got {reach}, {value!r}"
            )
        self.negatives, self.reach = negatives, reach

    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """The chosen value of each sample, with `negatives` less that of its mismatched pair."""
        return self.compare_pairs([(x, y)])[0]

    def compare_pairs(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[PairValues]:
        """`compare` each pair, all in one batch of independent problems where their shapes agree."""
        if not self.negatives:
            return self._solve_together(pairs)
        solved = self._solve_together([*pairs, *((x, _of_next_sample(y)) for x, y in pairs)])
        return [
            PairValues(matched.values - other.values, cast(Tensor, matched.converged) & cast(Tensor, other.converged))
            for matched, other in zip(solved[: len(pairs)], solved[len(pairs) :], strict=True)
        ]

    def _solve(self, x: Tokens, y: Tokens) -> PairValues:
        """The chosen value of each sample's transport problem."""
        options: dict[str, Any] = {"epsilon": self.epsilon, "tol": self.tol, "max_iter": self.max_iter}
        options |= {"mask_x": x.mask, "mask_y": y.mask}
        C = token_cost(x, y, self.cost)
        if self.value == "divergence":
            divergence = sinkhorn_divergence(C, token_cost(x, x, self.cost), token_cost(y, y, self.cost), **options)
            return PairValues(divergence.value, divergence.converged)
        solved = sinkhorn_unbalanced(C, rho=self.reach, **options) if self.reach else sinkhorn(C, **options)
        return PairValues(solved.value if self.value == "regularised" else solved.transport_cost, solved.converged)

    def _solve_together(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[PairValues]:
        """Pairs of equal shapes are one batch of independent problems: with three streams one call, not three."""
        if len(pairs) < 2 or len({(x.mask.shape, y.mask.shape) for x, y in pairs}) > 1:
            return [self._solve(x, y) for x, y in pairs]
        x, y = (
            Tokens(torch.cat([side.values for side in sides]), torch.cat([side.mask for side in sides]))
            for sides in zip(*pairs, strict=True)
        )
        together = self._solve(x, y)
        parts = together.values.chunk(len(pairs)), cast(Tensor, together.converged).chunk(len(pairs))
        return [PairValues(values, converged) for values, converged in zip(*parts, strict=True)]

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        settings = ("epsilon", "cost", "value", "negatives", "reach", "layers")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in settings)


def _of_next_sample(tokens: Tokens) -> Tokens:
    """Each sample gets the tokens of the next one that has any, the last ones those of the first."""
    n, device = len(tokens.mask), tokens.mask.device
    present = tokens.mask.any(dim=1).repeat(2)
    # The smallest index from each place on at which there are tokens, without waiting for the GPU.
    index = torch.arange(2 * n, device=device).masked_fill(~present, 2 * n)
    following = index.flip(0).cummin(dim=0).values.flip(0)[1 : n + 1] % n
    return Tokens(tokens.values[following], tokens.mask[following])
