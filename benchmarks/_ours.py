"""Our own entry, through the public interface alone."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks._accuracy import marginal_error
from benchmarks._contender import Entry, Problem, finished, loosest_tolerance, token_gradient
from mmwa_utils.ot import SinkhornResult, cosine_cost, sinkhorn

NAME = "mmwa_utils"


def ours(problem: Problem) -> Entry:
    """`mmwa_utils.ot.sinkhorn`, with the loosest tolerance that is accurate enough, as for the others."""

    def solve(cost: Tensor, tol: float) -> SinkhornResult:
        return sinkhorn(cost, epsilon=problem.epsilon, tol=tol)

    def error_at(tol: float) -> float:
        return marginal_error(solve(problem.cost, tol).plan)

    tol = loosest_tolerance(error_at)
    return Entry(
        name=NAME,
        setting=f"sinkhorn(tol={tol:.1e})",
        error=error_at(tol),
        solve=lambda: finished(solve(problem.cost, tol).plan),
        gradient=token_gradient(problem, lambda x, y: solve(cosine_cost(x, y), tol).value),
    )


def iterations(problem: Problem, *, tol: float) -> torch.Tensor:
    """How many iterations each problem takes: in float64, as plain Sinkhorn's are counted.

    In float32 the rounding of an error of 1e-5 by a thousandth decides now and then on an iteration more or less.
    """
    return sinkhorn(problem.cost.double(), epsilon=problem.epsilon, tol=tol).n_iter.cpu()
