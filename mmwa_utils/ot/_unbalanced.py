"""Transport that may leave mass behind: the marginals are no constraints but cost what they are missed by."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from . import _torch
from ._autograd import ConvergenceWarning, is_recorded
from ._problem import Problem
from ._solver import SinkhornResult, posed


@dataclass(frozen=True)
class UnbalancedResult(SinkhornResult):
    """The solution of a batch of unbalanced problems, and how good it is; see `sinkhorn_unbalanced`.

    Potentials and plan can be differentiated once, the value twice. `marginal_error` is the L1 distance of the plan's
    marginals from those that the potentials call for, `a exp(-f / rho)`.
    """

    rates: tuple[float, float] = (0.0, 0.0)
    """`1 / rho` of either side, 0 for a marginal that must be met."""

    @property
    def f(self) -> Float[Tensor, "batch n"]:
        """Potential of the source tokens, 0 at padding."""
        return self._moved[0]

    @property
    def g(self) -> Float[Tensor, "batch m"]:
        """Potential of the target tokens, 0 at padding."""
        return self._moved[1]

    @property
    def _moved(self) -> tuple[Tensor, Tensor]:
        """A step of Newton's method from the solution: it moves only with the cost and the weights."""
        f, g, _ = self._solved
        if not is_recorded(self.cost, self.a, self.b):
            return f, g
        plan, inverse, (rate_x, rate_y) = self._plan(f, g), 1 / self.epsilon, self.rates
        rows, columns = plan.sum(2), plan.sum(1)
        left = torch.cat([self.a * (-rate_x * f).exp() - rows, self.b * (-rate_y * g).exp() - columns], 1)
        diagonal = torch.cat([(inverse + rate_x) * rows, (inverse + rate_y) * columns], 1)
        across = torch.nn.functional.pad(plan * inverse, (f.shape[1], 0, 0, g.shape[1]))
        system = across + across.mT + torch.diag_embed(diagonal + (diagonal == 0))
        step = torch.linalg.solve(system, left)
        return f + step[:, : f.shape[1]], g + step[:, f.shape[1] :]

    def _plan(self, f: Tensor, g: Tensor) -> Float[Tensor, "batch n m"]:
        tokens = self._tokens
        exponent = (f[:, :, None] + g[:, None, :] - self.cost.masked_fill(~tokens, 0)) / self.epsilon
        return self.a[:, :, None] * self.b[:, None, :] * exponent.masked_fill(~tokens, -torch.inf).exp()

    @property
    def plan(self) -> Float[Tensor, "batch n m"]:
        """`P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)`; its mass is that which is moved."""
        return self._plan(*self._moved).to(self.cost.dtype)

    @property
    def value(self) -> Float[Tensor, " batch"]:
        """The regularised value, whose gradient with respect to the cost is the plan."""
        return self._dual(*self._moved).to(self.cost.dtype).masked_fill(self.failed, torch.nan)

    def _dual(self, f: Tensor, g: Tensor) -> Float[Tensor, " batch"]:
        excess = self._plan(f, g).sum((1, 2)) - self.a.sum(1, dtype=f.dtype) * self.b.sum(1, dtype=f.dtype)
        sides = zip((self.a, self.b), (f, g), self.rates, strict=True)
        return sum((w * (-torch.expm1(-r * h) / r if r else h)).sum(1) for w, h, r in sides) - self.epsilon * excess

    @property
    def duality_gap(self) -> Float[Tensor, " batch"]:
        """Width of the interval of the primal, the dual and `value`, float64: a bound on the error of all three."""
        with torch.no_grad():
            f, g, _ = self._solved
            plan, a, b = self._plan(f, g), self.a.to(f.dtype), self.b.to(f.dtype)
            if not self.rates[0]:
                plan = plan * (a / plan.sum(2)).nan_to_num(0, 0, 0)[:, :, None]
            if not self.rates[1]:
                plan = plan * (b / plan.sum(1)).nan_to_num(0, 0, 0)[:, None, :]
            independent = a[:, :, None] * b[:, None, :]
            paid = (plan * self.cost.masked_fill(plan == 0, 0)).sum((1, 2)) + self.epsilon * _kl(plan, independent)
            for w, found, rate in ((a, plan.sum(2), self.rates[0]), (b, plan.sum(1), self.rates[1])):
                paid = paid + (_kl(found, w) / rate if rate else 0)
            dual, value = self._dual(f, g), self.value.to(f.dtype)
            return torch.maximum(paid, value) - torch.minimum(dual, value)


def _kl(p: Tensor, q: Tensor) -> Float[Tensor, " batch"]:
    """`sum p log(p / q) - p + q` over all but the first axis."""
    return (torch.xlogy(p, p / q.masked_fill(q == 0, 1)) - p + q).flatten(1).sum(1)


def sinkhorn_unbalanced(
    cost: Float[Tensor, "batch n m"],
    *,
    epsilon: float,
    rho: float | tuple[float, float],
    a: Float[Tensor, "batch n"] | None = None,
    b: Float[Tensor, "batch m"] | None = None,
    mask_x: Bool[Tensor, "batch n"] | None = None,
    mask_y: Bool[Tensor, "batch m"] | None = None,
    tol: float | None = None,
    max_iter: int = 5000,
) -> UnbalancedResult:
    """Solve a batch of entropic transport problems whose marginals may be missed, at a price.

        min over P >= 0 of  <P, C> + epsilon KL(P | a b^T) + rho_x KL(P 1 | a) + rho_y KL(P^T 1 | b)

    (Chizat et al. 2018). A token whose counterpart is missing keeps its mass instead of forcing it on others: moving
    it never pays at a cost above `rho_x + rho_y` or so. In the log domain, float64, on every device.

    Args:
        cost: cost of moving source token i to target token j; see `sinkhorn`.
        epsilon: strength of the regularisation, in the unit of the cost.
        rho: price of missing a marginal, in the unit of the cost; a pair prices source and target apart. Infinity keeps
            to the marginal, on one side at the most: `sinkhorn` keeps to both.
        a: weights of the source tokens; see `sinkhorn`.
        b: weights of the target tokens.
        mask_x: True where there is a source token.
        mask_y: True where there is a target token.
        tol: a problem stops once its `marginal_error` is at most this. None is 1e-6 (float64: 1e-9).
        max_iter: or after this many iterations, with a `ConvergenceWarning` on the CPU.

    Raises:
        ValueError: naming the argument, if a shape, number type, device, sum or range is wrong.

    Example: the second source token is far from everything.
        >>> cost = torch.tensor([[[0.0, 0.1], [9.0, 9.0]]])
        >>> sinkhorn_unbalanced(cost, epsilon=0.1, rho=1.0).plan.sum(2).round(decimals=2)
        tensor([[0.6800, 0.0000]])
    """
    pair = rho if isinstance(rho, tuple) else (rho, rho)
    if len(pair) != 2 or not all(number > 0 for number in pair) or min(pair) == math.inf:
        raise ValueError(f"rho must be one or two numbers above 0, at most one of them infinite, found {rho}")
    problem = posed(cost, epsilon, a, b, mask_x, mask_y, tol, max_iter)
    cost, a, b, epsilon, tol, max_iter = problem
    rates = 1 / pair[0], 1 / pair[1]
    found = _torch.solve(Problem(cost.detach(), a.detach(), b.detach(), epsilon, tol, max_iter), rates)
    missed = ~(found.marginal_error <= tol)
    if cost.is_cpu and missed.any():
        warnings.warn(
            f"{int(missed.sum())} of {len(missed)} unbalanced problems did not reach tol={tol:g} within"
            f" max_iter={max_iter}: see `failed` and `marginal_error`. Raise max_iter, tol or epsilon, or lower rho.",
            ConvergenceWarning,
            stacklevel=2,
        )
    a, b = (w.masked_fill((found.n_iter == 0)[:, None], 0) for w in (a, b))
    solved = found.f, found.g, found.plan
    return UnbalancedResult(a, b, cost, epsilon, tol, found.n_iter, found.marginal_error, solved, rates)
