"""The plain back end: batched log-domain Sinkhorn in PyTorch, for every device and size that no kernel serves.

It is written for generality, not for speed: float64 throughout (where the device has it), so it needs no rule about the
range of the cost. A problem that has converged is put aside, so its numbers do not depend on its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._problem import Problem, Solution, potential_dtype


def solve(problem: Problem, rates: tuple[float, float] = (0.0, 0.0)) -> Solution:
    """See `Backend.solve`; with rates, the reciprocals of rho, see `sinkhorn_unbalanced`."""
    rate_x, rate_y = (problem.epsilon * rate for rate in rates)
    epsilon, dtype = problem.epsilon, potential_dtype(problem.cost.device)
    a, b = problem.a.to(dtype), problem.b.to(dtype)
    valid = (a > 0)[:, :, None] & (b > 0)[:, None, :]
    # Padding gets the weight exp(-inf) = 0 through the weights alone; its cost must only be finite.
    scaled = torch.where(valid, problem.cost, 0).to(dtype) / epsilon
    failed = ~(scaled > -torch.inf).flatten(1).all(dim=1)
    unsolvable = failed | ~valid.flatten(1).any(dim=1)
    log_a, log_b = a.log(), b.log()
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    error = torch.zeros_like(a[:, 0]).masked_fill(failed, torch.nan)
    n_iter = torch.zeros_like(failed, dtype=torch.int32)
    active = (~unsolvable).nonzero().squeeze(1)
    for k in range(1, problem.max_iter + 1):
        if len(active) == 0:
            break
        C, la, lb, ga = scaled[active], log_a[active], log_b[active], g[active]
        fa = _smoothed((ga + lb)[:, None, :] - C, 2) / (1 + rate_x)
        smoothed = _smoothed((fa + la)[:, :, None] - C, 1)
        # Rows are exact after the update of f; column j of the plan sums to b_j exp(g_j - smoothed_j).
        mass = (lb + ga - smoothed).exp()
        off = (mass - b[active] * (-rate_y * ga).exp()).abs().sum(dim=1)
        f[active], error[active], n_iter[active] = fa, off, k
        more = off > problem.tol
        active = active[more]
        if k < problem.max_iter:
            ga = smoothed / (1 + rate_y)
            if rate_x + rate_y > 0:
                # The best constant to move between f and g, which the updates find only slowly (Sejourne et al. 2022).
                x, y = (la - rate_x * fa).logsumexp(1, True), (lb - rate_y * ga).logsumexp(1, True)
                ga = ga - (x - y) / (rate_x + rate_y)
            g[active] = ga[more]
    f, g = f.masked_fill(a == 0, 0), g.masked_fill(b == 0, 0)
    plan = (f[:, :, None] + g[:, None, :]).sub_(scaled).exp_().mul_(a[:, :, None]).mul_(b[:, None, :])
    plan.masked_fill_(unsolvable[:, None, None] | ~valid, 0)
    return Solution(f * epsilon, g * epsilon, plan.to(problem.cost.dtype), n_iter, error)


def _smoothed(exponents: Tensor, dim: int) -> Tensor:
    """Minus the logarithm of the sum of exponentials, and a large finite number where nothing is allowed."""
    return -torch.logsumexp(exponents, dim=dim).nan_to_num(nan=torch.nan, neginf=-1e4)
