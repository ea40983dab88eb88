"""Entropic optimal transport of batches: `sinkhorn`, the divergence made of it, and their results."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from . import _checks
from ._autograd import Value, differentiable, is_plain, solve
from ._problem import Problem, infeasible, potential_dtype

DEFAULT_TOL = {torch.float32: 1e-6, torch.float64: 1e-9}


@dataclass(frozen=True)
class SinkhornResult:
    """Potentials of a batch of transport problems, what follows from them, and how good they are.

    Values have the cost's number type, potentials float64. Everything but the diagnostics is differentiable with
    respect to the cost and, where given, the marginals.

    An *empty* problem (a sample without a token on one side) has value 0, plan 0 and gradient 0, and counts as
    converged. A *failed* problem has value NaN, plan 0 and gradient 0, and is not converged.
    """

    a: Float[Tensor, "batch n"]
    """Source weights as used: 0 at padding, and throughout a problem that is empty or failed."""
    b: Float[Tensor, "batch m"]
    """Target weights as used."""
    cost: Float[Tensor, "batch n m"]
    epsilon: float
    tol: float
    n_iter: Int[Tensor, " batch"]
    """Iterations spent, each an update of both potentials; 0 for empty and failed problems."""
    marginal_error: Float[Tensor, " batch"]
    """`sum_i |(P 1)_i - a_i| + sum_j |(P^T 1)_j - b_j|`; NaN for failed problems."""
    _solved: tuple[Tensor, Tensor, Tensor] = field(repr=False)
    """Potentials and plan as the back end left them, without their derivatives."""

    @property
    def f(self) -> Float[Tensor, "batch n"]:
        """Potential of the source tokens, 0 at padding; its constant is fixed by `<a, f> = <b, g>`."""
        return self._centred()[0].masked_fill(self.a == 0, 0)

    @property
    def g(self) -> Float[Tensor, "batch m"]:
        """Potential of the target tokens, 0 at padding."""
        return self._centred()[1].masked_fill(self.b == 0, 0)

    def _centred(self) -> tuple[Tensor, Tensor]:
        """The potentials with the constant, on which neither the value nor the plan depends, made definite."""
        f, g, _ = differentiable(*self._problem)
        shift = ((self.b * g).sum(1, keepdim=True) - (self.a * f).sum(1, keepdim=True)) / 2
        return f + shift, g - shift

    @property
    def _problem(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, float]:
        return self.cost, self.a, self.b, *self._solved, self.epsilon

    @property
    def converged(self) -> Bool[Tensor, " batch"]:
        """Whether the marginal error is at most `tol`."""
        return self.marginal_error <= self.tol

    @property
    def empty(self) -> Bool[Tensor, " batch"]:
        """Problems without a token on at least one side."""
        return (self.n_iter == 0) & ~self.failed

    @property
    def failed(self) -> Bool[Tensor, " batch"]:
        """Problems with a NaN or -inf cost at a pair of tokens, or with an epsilon too small for float64."""
        return self.marginal_error.isnan()

    @property
    def plan(self) -> Float[Tensor, "batch n m"]:
        """`P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)`, exactly 0 at padding."""
        return differentiable(*self._problem)[2]

    @property
    def value(self) -> Float[Tensor, " batch"]:
        """The regularised value `<P, C> + epsilon KL(P | a b^T)`; its gradient with respect to the cost is the plan."""
        return Value.apply(*self._problem).masked_fill(self.failed, torch.nan)

    @property
    def transport_cost(self) -> Float[Tensor, " batch"]:
        """`<P, C>`, whose gradient is *not* the plan: the plan moves with the cost."""
        paid = (self.plan * self.cost.masked_fill(~self._tokens, 0)).sum(dim=(1, 2))
        return paid.masked_fill(self.failed, torch.nan)

    @property
    def _tokens(self) -> Bool[Tensor, "batch n m"]:
        """Pairs of tokens that may share mass."""
        return (self.a != 0)[:, :, None] & (self.b != 0)[:, None, :] & (self.cost < torch.inf)

    @property
    def infeasible(self) -> Bool[Tensor, " batch"]:
        """Problems that no plan solves, as pairs of infinite cost leave a set of tokens too few to go to.

        Then the potentials grow for ever, and the value with them. True only if proven for the set in question, so a
        problem that ended after a few iterations may be infeasible all the same.
        """
        with torch.no_grad():
            found = infeasible(self.cost, self.a, self.b, self._solved[0], self.tol)
            return found & ~self.converged & ~self.failed

    @property
    def duality_gap(self) -> Float[Tensor, " batch"]:
        """Width of the interval in which lie a feasible plan's regularised cost, the dual and `value`, float64.

        The first is at least and the second at most the true value, so this bounds the error of all three. The plan is
        first moved onto the marginals (Altschuler, Weed, Rigollet 2017, algorithm 2); where a pair has infinite cost,
        that may be no plan, and the bound is infinite.
        """
        with torch.no_grad():
            dtype = potential_dtype(self.cost.device)
            # float32 weights sum to 1 only nearly, and both sides of a plan must have the same.
            a, b = (w / w.sum(1, keepdim=True).clamp(min=0.5) for w in (self.a.to(dtype), self.b.to(dtype)))
            tokens, (f, g, _) = self._tokens, self._solved
            cost = self.cost.to(dtype).masked_fill(~tokens, 0)
            exponent = ((f[:, :, None] + g[:, None, :] - cost) / self.epsilon).masked_fill(~tokens, -torch.inf)
            independent = a[:, :, None] * b[:, None, :]
            # The mass by its difference from 1: epsilon may be large.
            excess = (independent * torch.where(independent > 0, exponent.expm1(), 0)).sum((1, 2))
            dual = (a * f).sum(1) + (b * g).sum(1) - self.epsilon * excess
            plan = independent * exponent.exp()
            plan = plan * (a / plan.sum(2)).nan_to_num(0).clamp(max=1)[:, :, None]
            plan = plan * (b / plan.sum(1)).nan_to_num(0).clamp(max=1)[:, None, :]
            missing_a, missing_b = a - plan.sum(2), b - plan.sum(1)
            share = (missing_b / missing_b.sum(1, keepdim=True)).nan_to_num(0, 0, 0)
            plan = plan + missing_a[:, :, None] * share[:, None, :]
            relative = torch.where(tokens & (plan > 0), plan / independent, 1)
            primal = (plan * cost).sum((1, 2)) + self.epsilon * (plan * relative.log()).sum((1, 2))
            primal = primal.masked_fill(((independent > 0) & ~tokens).any(2).any(1), torch.inf)
            value = self.value.to(dtype)
            return (torch.maximum(primal, value) - torch.minimum(dual, value)).masked_fill(self.failed, torch.nan)


@dataclass(frozen=True)
class DivergenceResult:
    """The three transport problems of a divergence, and its value."""

    xy: SinkhornResult
    xx: SinkhornResult
    yy: SinkhornResult

    @property
    def value(self) -> Float[Tensor, " batch"]:
        """`V(x, y) - V(x, x) / 2 - V(y, y) / 2`; 0 where a side is empty."""
        value = self.xy.value - (self.xx.value + self.yy.value) / 2
        return value.masked_fill(self.xy.empty, 0)

    @property
    def converged(self) -> Bool[Tensor, " batch"]:
        """Whether all three problems converged."""
        return self.xy.converged & self.xx.converged & self.yy.converged


def posed(
    cost: Tensor,
    epsilon: float,
    a: Tensor | None,
    b: Tensor | None,
    mask_x: Tensor | None,
    mask_y: Tensor | None,
    tol: float | None,
    max_iter: int,
) -> Problem:
    """Check the arguments of a solver, and make a problem of them."""
    _checks.require_batch("cost", cost, "(batch, n, m)")
    _checks.require_positive("epsilon", epsilon)
    if cost.dtype not in DEFAULT_TOL:
        cost = cost.float()
    tol = DEFAULT_TOL[cost.dtype] if tol is None else tol
    _checks.require_positive("tol", tol)
    if not (isinstance(max_iter, int) and max_iter >= 1):
        raise ValueError(f"max_iter must be a whole number of at least 1, found {max_iter}")
    batch, n, m = cost.shape
    a = normalised("a", a, "mask_x", mask_x, (batch, n), cost)
    b = normalised("b", b, "mask_y", mask_y, (batch, m), cost)
    return Problem(cost.contiguous(), a, b, float(epsilon), float(tol), max_iter)


def sinkhorn(
    cost: Float[Tensor, "batch n m"],
    *,
    epsilon: float,
    a: Float[Tensor, "batch n"] | None = None,
    b: Float[Tensor, "batch m"] | None = None,
    mask_x: Bool[Tensor, "batch n"] | None = None,
    mask_y: Bool[Tensor, "batch m"] | None = None,
    tol: float | None = None,
    max_iter: int = 5000,
) -> SinkhornResult:
    """Solve a batch of entropic transport problems.

        min over P >= 0 of  <P, C> + epsilon KL(P | a b^T)   subject to   P 1 = a,  P^T 1 = b

    with `KL(P | Q) = sum P log(P / Q) - P + Q` (Cuturi 2013; the reference measure a b^T as in Feydy et al. 2019), so
    that the value tends to `<a b^T, C>` for large epsilon and to the unregularised value for small.

    Args:
        cost: cost of moving source token i to target token j, any sign and unit. Half precision is computed in float32.
            At padding it may hold anything, NaN included. An infinite cost forbids the pair; see `infeasible`.
        epsilon: strength of the regularisation, in the unit of the cost.
        a: weights of the source tokens, >= 0, each row summing to 1; None weighs the tokens of a problem alike.
            Rows are normalised, so gradients with respect to `a` are those along changes that keep the sum.
        b: weights of the target tokens.
        mask_x: True where there is a source token; None means everywhere. Weights at padding are ignored.
        mask_y: True where there is a target token.
        tol: a problem stops once its L1 marginal error is at most this. None is 1e-6 (float64: 1e-9).
        max_iter: or after this many iterations, with a `ConvergenceWarning` (on the CPU; elsewhere read `converged`,
            as a warning would stall the device's queue).

    Accuracy: costs are taken as exact. A float32 cost is off by up to 6e-8 of its largest entry, which moves the plan
    by a relative `6e-8 max|C| / epsilon`: above a ratio of about 1e4 pass float64 or normalise the cost.

    Raises:
        ValueError: naming the argument, if a shape, number type, device, sum or range is wrong.

    Example:
        >>> import torch
        >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        >>> result = sinkhorn(cost, epsilon=0.1)
        >>> result.plan.round(decimals=3)
        tensor([[[0.5000, 0.0000], [0.0000, 0.5000]]])
        >>> bool(result.converged)
        True
    """
    problem = posed(cost, epsilon, a, b, mask_x, mask_y, tol, max_iter)
    a, b, solved = problem.a, problem.b, solve(problem)
    # Problems that are empty on one side or failed go on without weights: nothing of their cost reaches a gradient.
    unsolved = solved.n_iter == 0
    if not (unsolved.is_cpu and is_plain(unsolved)) or unsolved.any():  # elsewhere, to look is to wait
        a, b = a.masked_fill(unsolved[:, None], 0), b.masked_fill(unsolved[:, None], 0)
    return SinkhornResult(
        a=a,
        b=b,
        cost=problem.cost,
        epsilon=problem.epsilon,
        tol=problem.tol,
        n_iter=solved.n_iter,
        marginal_error=solved.marginal_error,
        _solved=(solved.f, solved.g, solved.plan),
    )


def sinkhorn_divergence(
    cost_xy: Float[Tensor, "batch n m"],
    cost_xx: Float[Tensor, "batch n n"],
    cost_yy: Float[Tensor, "batch m m"],
    *,
    epsilon: float,
    a: Float[Tensor, "batch n"] | None = None,
    b: Float[Tensor, "batch m"] | None = None,
    mask_x: Bool[Tensor, "batch n"] | None = None,
    mask_y: Bool[Tensor, "batch m"] | None = None,
    tol: float | None = None,
    max_iter: int = 5000,
) -> DivergenceResult:
    """Sinkhorn divergence (Feydy et al. 2019): the regularised value less the values of each set against itself.

        S(x, y) = V(x, y) - V(x, x) / 2 - V(y, y) / 2

    Args:
        cost_xy: cost between source and target tokens.
        cost_xx: cost among the source tokens, by the same function.
        cost_yy: cost among the target tokens.
        epsilon: strength of the regularisation; this and the others as in `sinkhorn`.
        a: weights of the source tokens.
        b: weights of the target tokens.
        mask_x: True where there is a source token.
        mask_y: True where there is a target token.
        tol: L1 marginal error at which a problem stops.
        max_iter: most iterations of a problem.

    It is at least 0 and 0 only between equal sets where `exp(-C / epsilon)` is a positive kernel, as for the squared
    Euclidean cost.

    Raises:
        ValueError: naming the argument, if a shape, number type, device, sum or range is wrong.

    Example:
        >>> import torch
        >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        >>> sinkhorn_divergence(cost, cost, cost, epsilon=0.1).value
        tensor([0.])
    """
    for name, cost in (("cost_xy", cost_xy), ("cost_xx", cost_xx), ("cost_yy", cost_yy)):
        _checks.require_batch(name, cost, "(batch, tokens, tokens)")
    batch, n, m = cost_xy.shape
    _checks.require_like("cost_xx", cost_xx, (batch, n, n), "cost_xy", cost_xy.device)
    _checks.require_like("cost_yy", cost_yy, (batch, m, m), "cost_xy", cost_xy.device)

    def solve(cost: Tensor, a: Tensor | None, b: Tensor | None, x: Tensor | None, y: Tensor | None) -> SinkhornResult:
        return sinkhorn(cost, epsilon=epsilon, a=a, b=b, mask_x=x, mask_y=y, tol=tol, max_iter=max_iter)

    return DivergenceResult(
        xy=solve(cost_xy, a, b, mask_x, mask_y),
        xx=solve(cost_xx, a, a, mask_x, mask_x),
        yy=solve(cost_yy, b, b, mask_y, mask_y),
    )


def normalised(
    name: str, weights: Tensor | None, mask_name: str, mask: Tensor | None, shape: tuple[int, int], cost: Tensor
) -> Tensor:
    """Checked weights, 0 at padding, each row summing to 1 or, without tokens, to 0."""
    _checks.require_mask(mask_name, mask, shape, "cost", cost.device)
    if weights is None:
        if mask is None:
            return cost.new_full(shape, 1 / max(shape[1], 1))
        return mask / mask.sum(dim=1, keepdim=True, dtype=cost.dtype).clamp(min=1)
    _checks.require_float(name, weights)
    _checks.require_like(name, weights, shape, "cost", cost.device)
    if is_plain(weights):
        _checks.require_weights(name, weights, mask)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    # Normalised in the widest type: a difference between the two sums would be a floor of the marginal error.
    wide = weights.to(potential_dtype(cost.device))
    total = wide.sum(dim=1, keepdim=True)
    return (wide / total.masked_fill(total == 0, 1)).to(cost.dtype)
