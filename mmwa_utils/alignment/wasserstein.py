"""The paper's alignment: the entropic transport cost between the tokens of two modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from mmwa_utils.alignment.base import Alignment, Layers, PairValues
from mmwa_utils.ot import cosine_cost, sinkhorn, sinkhorn_divergence, sqeuclidean_cost
from mmwa_utils.types import Tokens

CostName = Literal["cosine", "sqeuclidean"]
ValueName = Literal["regularised", "transport", "divergence"]


def token_cost(x: Tokens, y: Tokens, cost: CostName) -> Tensor:
    """Cost matrices (batch, n, m) between the tokens of two modalities, in float32.

    "cosine" is 1 - cos, between 0 and 2; "sqeuclidean" is `|x - y|^2 / dim`, so that epsilon does not depend on the
    width of the tokens.
    """
    if cost == "cosine":
        return cosine_cost(x.values, y.values, mask_x=x.mask, mask_y=y.mask)
    return sqeuclidean_cost(x.values, y.values, mask_x=x.mask, mask_y=y.mask) / x.values.shape[-1]


def check_cost(cost: str) -> None:
    """Refuse an unknown cost by name."""
    if cost not in ("cosine", "sqeuclidean"):
        raise ValueError(f"cost={cost!r} is unknown: use 'cosine' or 'sqeuclidean'")


class WassersteinAlignment(Alignment):
    """Wasserstein modality alignment (Zhi et al. 2025): no parameter, any number of modalities, any transformer.

    For each sample and pair of modalities, with x_i and y_j the tokens and uniform weights a, b on those that
    are real (padding and, by default, special tokens have no mass),

        C_ij = cost(x_i, y_j),    value = min over P of <P, C> + epsilon KL(P | a b^T),  P 1 = a,  P^T 1 = b.

    Args:
        epsilon: strength of the entropic regularisation, in the unit of the cost.
        cost: "cosine" (1 - cos) or "sqeuclidean" (`|x - y|^2 / dim`).
        value: "regularised", the value above, whose gradient with respect to C is the plan; "transport", <P, C>
            alone; "divergence", the debiased Sinkhorn divergence, zero between equal sets.
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

    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """The chosen value of each sample's transport problem."""
        options: dict[str, Any] = {"epsilon": self.epsilon, "tol": self.tol, "max_iter": self.max_iter}
        options |= {"mask_x": x.mask, "mask_y": y.mask}
        C = token_cost(x, y, self.cost)
        if self.value == "divergence":
            divergence = sinkhorn_divergence(C, token_cost(x, x, self.cost), token_cost(y, y, self.cost), **options)
            return PairValues(divergence.value, divergence.converged)
        solved = sinkhorn(C, **options)
        return PairValues(solved.value if self.value == "regularised" else solved.transport_cost, solved.converged)

    def compare_pairs(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[PairValues]:
        """Pairs of equal shapes are one batch of independent problems: with three streams one call, not three."""
        if len(pairs) < 2 or len({(x.mask.shape, y.mask.shape) for x, y in pairs}) > 1:
            return super().compare_pairs(pairs)
        x, y = (
            Tokens(torch.cat([side.values for side in sides]), torch.cat([side.mask for side in sides]))
            for sides in zip(*pairs, strict=True)
        )
        together = self.compare(x, y)
        parts = together.values.chunk(len(pairs)), cast(Tensor, together.converged).chunk(len(pairs))
        return [PairValues(values, converged) for values, converged in zip(*parts, strict=True)]

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        return f"epsilon={self.epsilon}, cost={self.cost!r}, value={self.value!r}, layers={self.layers!r}"
