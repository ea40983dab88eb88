"""Gromov-Wasserstein: compare how the tokens of each modality lie among themselves, by POT's solver."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mmwa_utils.alignment.base import Alignment, Layers, PairValues
from mmwa_utils.alignment.wasserstein import CostName, check_cost, token_cost
from mmwa_utils.types import Tokens


class GromovWasserstein(Alignment):
    """Gromov-Wasserstein discrepancy of two sets of tokens (Memoli 2011), solved by POT's conditional gradient.

        min over P of sum (D_ik - E_jl)^2 P_ij P_kl,   D and E the costs within either modality

    The solver finds a stationary plan of this non-convex problem; holding that plan fixed gives the gradient with
    respect to D and E. Runs on the CPU, a problem at a time: a contrast for small batches, not a fast loss.

    Args:
        cost: "cosine", "euclidean" or "sqeuclidean", within each modality.
        layers: see `Alignment`.
        special_tokens: see `Alignment`.
    """

    def __init__(self, *, cost: CostName = "cosine", layers: Layers = "last", special_tokens: bool = False) -> None:
        super().__init__(layers=layers, special_tokens=special_tokens)
        check_cost(cost)
        self.cost = cost

    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """The discrepancy of each sample."""
        from ot.gromov import gromov_wasserstein  # here, since POT loads backends that few need

        within_x, within_y = token_cost(x, x, self.cost), token_cost(y, y, self.cost)
        plan = torch.zeros(len(x.mask), x.mask.shape[1], y.mask.shape[1])
        for sample in (x.mask.any(dim=1) & y.mask.any(dim=1)).nonzero().flatten().tolist():
            i, j = x.mask[sample].nonzero().flatten().cpu(), y.mask[sample].nonzero().flatten().cpu()
            d = within_x[sample].detach().cpu()[i][:, i]
            e = within_y[sample].detach().cpu()[j][:, j]
            solved = gromov_wasserstein(d.double().numpy(), e.double().numpy(), symmetric=True)
            plan[sample, i[:, None], j[None, :]] = torch.as_tensor(solved, dtype=torch.float32)
        return PairValues(discrepancy(within_x, within_y, plan.to(within_x)))


def discrepancy(
    d: Float[Tensor, "batch n n"], e: Float[Tensor, "batch m m"], plan: Float[Tensor, "batch n m"]
) -> Float[Tensor, " batch"]:
    """The sum of (D_ik - E_jl)^2 P_ij P_kl for symmetric D and E, expanded so that no four-way array arises.

    Example:
        >>> d = torch.tensor([[[0.0, 2.0], [2.0, 0.0]]])
        >>> discrepancy(d, d, torch.eye(2)[None] / 2)
        tensor([0.])
    """
    a, b = plan.sum(dim=2), plan.sum(dim=1)
    own = (a[:, None] @ d.square() @ a[..., None]).flatten() + (b[:, None] @ e.square() @ b[..., None]).flatten()
    return own - 2 * ((d @ plan @ e) * plan).sum(dim=(1, 2))
