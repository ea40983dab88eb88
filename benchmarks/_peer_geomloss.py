"""GeomLoss as a peer."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from geomloss import ot as geomloss_ot
from geomloss.ot._abstract_solvers import annealing_parameters, sinkhorn_loop
from geomloss.ot._implementations.matrix import softmin_dense
from jaxtyping import Float
from torch import Tensor

from benchmarks._contender import CannotReachTargetError, Entry, Problem, cosine, counted

Potentials = tuple[Float[Tensor, "batch n"], Float[Tensor, "batch m"]]


def geomloss(problem: Problem) -> Entry:
    """GeomLoss: its public `solve_batch`, or its own loop at a constant temperature where that needs fewer iterations.

    The public function always anneals from the range of the cost down to epsilon over all its iterations, which leaves
    a marginal error of order 1/iterations. The loop beneath, with the schedule that the library calls `scaling=1`,
    converges linearly, so it is what a user who needs 1e-5 would call.
    """
    try:
        return _geomloss_entry(problem, "solve_batch", _annealed, limit=4 * problem.plain_count)
    except CannotReachTargetError:
        return _geomloss_entry(problem, "sinkhorn_loop, scaling=1", _constant, hint=4 * problem.plain_count)


def _geomloss_entry(problem: Problem, label: str, potentials: Callable[..., Potentials], **search: int) -> Entry:
    epsilon = problem.epsilon

    def plan(cost: Tensor, count: int) -> Tensor:
        f, g = potentials(cost, epsilon, count)
        density = torch.exp((f[:, :, None] + g[:, None, :] - cost) / epsilon)
        return density / (cost.shape[1] * cost.shape[2])

    def value(x: Tensor, y: Tensor, count: int) -> Tensor:
        # Both potentials carry the plan as their gradient; differentiating one of them is enough, and cheaper.
        f, g = potentials(cosine(x, y), epsilon, count)
        return f.mean(1) + g.detach().mean(1)

    return counted(problem, "GeomLoss", lambda count: f"{label}, {count} iterations", plan, value, **search)


def _annealed(cost: Tensor, epsilon: float, count: int) -> Potentials:
    with warnings.catch_warnings():
        # It reads the range of a cost that asks for gradients as a Python number, which torch warns of.
        warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad", category=UserWarning)
        solution = geomloss_ot.solve_batch(cost, reg=epsilon, max_iter=count)
    return solution.potential_a, solution.potential_b


def _constant(cost: Tensor, epsilon: float, count: int) -> Potentials:
    batch, n, m = cost.shape
    uniform = (torch.full((batch, size), 1 / size, device=cost.device).log() for size in (n, m))
    log_a, log_b = uniform
    solution = sinkhorn_loop(
        softmin=softmin_dense,
        log_a_list=[log_a],
        log_b_list=[log_b],
        C_list=[_Costs(cost)],
        descent=annealing_parameters(maxmin_cost=1.0, eps=epsilon, n_iter=count, scaling=1),
        debias=False,
    )
    return solution.f_ba, solution.g_ab


class _Costs:
    """GeomLoss reads the cost and its transpose, each contiguous, by these names."""

    def __init__(self, cost: Tensor) -> None:
        self.xy, self.yx = cost, cost.mT.detach().contiguous()


ENTRIES = (geomloss,)
