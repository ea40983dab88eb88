"""What is solved, what a solution is, and who solves it: the words that all modules of the engine share.

For each problem of a batch, with `n` source and `m` target tokens,

    min over P >= 0 of  <P, C> + epsilon KL(P | a b^T)   subject to   P 1 = a,  P^T 1 = b,

    KL(P | Q) = sum_ij P_ij log(P_ij / Q_ij) - P_ij + Q_ij.

The solution is `P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)`: the weights stand *outside* the exponential, so the
potentials `f` and `g` stay finite where a weight is zero.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Largest (max C - min C) / epsilon at which the kernel exp(-C / epsilon) neither underflows nor overflows.
KERNEL_RANGE = {torch.float32: 40.0, torch.float64: 300.0}


class Problem(NamedTuple):
    """A batch of transport problems, checked by the front end, and when to stop iterating.

    Padding is nothing but a weight of exactly 0, at any position, not only at the end. A cost whose row or column has
    weight 0 may be anything, NaN and infinity included, and influences nothing. Where both have weight, an infinite
    cost *forbids* the pair, and a NaN or minus infinity makes the problem *failed*. So does an epsilon that float64
    cannot tell from 0 beside the cost. A problem without weight on one side is *empty*.
    """

    # Contiguous, float32 or float64, of any sign.
    cost: Float[Tensor, "batch n m"]
    # Contiguous, of the cost's number type and device, >= 0; each row sums to 1, or to 0 if there is no token.
    a: Float[Tensor, "batch n"]
    b: Float[Tensor, "batch m"]
    epsilon: float
    # L1 marginal error at which a problem is solved.
    tol: float
    max_iter: int


class Solution(NamedTuple):
    """What a back end finds. Every number belongs to exactly the returned potentials."""

    # float64 (see `potential_dtype`), as `f + g - C` cancels: rounding `f` to float32 would cost the plan a relative
    # error of `6e-8 |f| / epsilon`. 0 where the weight is 0, and in empty and failed problems. The constant that may
    # move from `f` to `g` is the back end's choice.
    f: Float[Tensor, "batch n"]
    g: Float[Tensor, "batch m"]
    # In the cost's number type; exactly 0 at padding, and in empty and failed problems.
    plan: Float[Tensor, "batch n m"]
    # int32: how often both potentials were updated; 0 for empty and failed problems.
    n_iter: Int[Tensor, " batch"]
    # `sum_i |(P 1)_i - a_i| + sum_j |(P^T 1)_j - b_j|`, in the type of `f`; 0 for empty, NaN for failed problems.
    marginal_error: Float[Tensor, " batch"]


def unsolved(cost: Tensor, plan: Tensor) -> Solution:
    """Memory for the solution of such a batch, with this for its plan."""
    (batch, n, m), wide = cost.shape, partial(cost.new_empty, dtype=potential_dtype(cost.device))
    return Solution(wide(batch, n), wide(batch, m), plan, cost.new_empty(batch, dtype=torch.int32), wide(batch))


class Backend(Protocol):
    """A module that solves batches. Start, relaxation and scaling of epsilon are its own affair.

    It needs no more iterations than plain Sinkhorn from `f = g = 0`. Its last half-step is plain (`u = a / K v`), so
    one marginal is exact and the plan's mass is 1: therefore `<a, f> + <b, g>` is the value. Not a single bit of a
    problem's result depends on its neighbours in the batch. The host never waits for another device.
    """

    def solve(self, problem: Problem) -> Solution:
        """Iterate each problem, none of them of size 0, until its error is at most `tol`, or `max_iter` times."""
        ...


def choose(cost: Float[Tensor, "batch n m"]) -> Backend:
    """The fastest back end for the cost's device, number type and size; imported when first wanted."""
    if cost.is_cpu:
        from . import _numba

        return _numba
    from . import _torch

    # Triton comes with PyTorch's CUDA builds only.
    if cost.is_cuda and importlib.util.find_spec("triton"):
        from . import _triton

        return _triton if _triton.supports(cost) else _torch
    return _torch


def infeasible(cost: Tensor, a: Tensor, b: Tensor, f: Tensor, tol: float) -> Bool[Tensor, " batch"]:
    """Problems of which a set of source tokens has more weight than all target tokens that it may go to.

    By Hall's theorem there is then no plan, and otherwise there is one. As the iterations go on, the potentials of such
    a set leave all others behind, so it is looked for among the tokens of the highest potentials.
    """
    order = f.masked_fill(a == 0, -torch.inf).argsort(dim=1, descending=True)
    allowed = ((cost < torch.inf) & (a != 0)[:, :, None]).take_along_dim(order[:, :, None], 1).int()
    reached = (allowed.cummax(dim=1).values * b[:, None, :]).sum(2, dtype=f.dtype)
    excess = a.to(f.dtype).take_along_dim(order, 1).cumsum(1) - reached
    return (excess > max(tol / 2, 1e-6 if cost.itemsize == 4 else 1e-12)).any(1)


def potential_dtype(device: torch.device) -> torch.dtype:
    """float64, except on devices that do not have it (Apple's)."""
    return torch.float32 if device.type == "mps" else torch.float64
