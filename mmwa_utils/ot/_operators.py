"""The solver as PyTorch operators, and what autograd must know of them.

`solve` and `make_plan` are registered operators with fake kernels, so a function that calls them compiles with
`torch.compile(fullgraph=True)`; which back end runs is decided inside (`_backend.choose`), when there is data.

The iterations are never differentiated. Three functions carry all gradients, and each backward is written in
differentiable operations, so second derivatives work too:

- `Potentials`: `f`, `g` as functions of the cost and the weights, by the implicit function theorem;
- `Plan`: `P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)`;
- `Value`: the regularised value, whose gradient is the plan by the envelope theorem: `f` and `g` are optimal, so no
  linear system has to be solved.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ._backend import choose, potential_dtype
from ._memory import empty

RIDGE = 1e-13
"""Added to the implicit system, whose smallest eigenvalue is 1 - rho: plans of separate blocks make it singular."""


class ConvergenceWarning(UserWarning):
    """Some problems of a batch did not reach the tolerance; their diagnostics say which."""


Solved = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def solve(cost: Tensor, a: Tensor, b: Tensor, epsilon: float, tol: float, max_iter: int) -> Solved:
    """Potentials `f`, `g`, iterations, marginal error (NaN: failed) and, on the CPU, plan of each problem.

    Elsewhere the plan holds no problem: it would be memory traffic that perhaps nobody asked for.
    """
    call = _solve if at_once(cost) else solve_operator
    return call(cost, a, b, epsilon, tol, max_iter)


def at_once(*tensors: Tensor) -> bool:
    """Whether nobody is watching: no compiler, no fake tensor, no gradient. Then the dispatcher only costs time."""
    if torch.compiler.is_compiling() or any(type(tensor) is not Tensor or tensor.is_meta for tensor in tensors):
        return False
    return not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def on_host(*tensors: Tensor) -> bool:
    """Whether there are numbers in the CPU's memory, free to be looked at: elsewhere, looking stalls the device."""
    return tensors[0].is_cpu and at_once(*tensors)


def _solve(cost: Tensor, a: Tensor, b: Tensor, epsilon: float, tol: float, max_iter: int) -> Solved:
    if cost.numel() == 0:
        return _outputs(cost)
    with without_autocast(cost.device.type):
        backend = choose(cost)
        found = backend.solve(cost, a, b, epsilon, tol, max_iter)
        plan = found.plan
        if cost.device.type != "cpu":
            plan = cost.new_empty((0, *cost.shape[1:]))
        elif plan is None:
            plan = backend.plan(cost, found.f, found.g, a, b, epsilon)
    if cost.device.type == "cpu":
        _warn(found.marginal_error, tol, max_iter)
    return found.f, found.g, found.n_iter, found.marginal_error, plan


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Autocast off, at no cost where it is off already."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _outputs(cost: Tensor) -> Solved:
    batch, n, m = cost.shape
    dtype = potential_dtype(cost.device)
    return (
        cost.new_zeros((batch, n), dtype=dtype),
        cost.new_zeros((batch, m), dtype=dtype),
        cost.new_zeros(batch, dtype=torch.int32),
        cost.new_zeros(batch, dtype=dtype),
        cost.new_empty((batch if cost.device.type == "cpu" else 0, n, m)),
    )


solve_operator = torch.library.custom_op("mmwa_ot::solve", _solve, mutates_args=())


@solve_operator.register_fake
def _(cost: Tensor, a: Tensor, b: Tensor, epsilon: float, tol: float, max_iter: int) -> Solved:
    return _outputs(cost)


def _warn(error: Float[Tensor, " batch"], tol: float, max_iter: int) -> None:
    """One warning for the batch. Elsewhere than on the host it would cost a synchronisation: read `converged`."""
    if not error.numpy().max() <= tol:  # a NaN is the largest, and below nothing
        failed, reached = int(error.isnan().sum()), int((error <= tol).sum())
        warnings.warn(
            f"{len(error) - reached} of {len(error)} transport problems did not reach tol={tol:g}"
            f" within max_iter={max_iter} ({failed} of them because their cost is not finite):"
            " see `converged` and `marginal_error`. Raise max_iter, tol or epsilon.",
            ConvergenceWarning,
            stacklevel=2,
        )


@torch.library.custom_op("mmwa_ot::plan", mutates_args=())
def make_plan(cost: Tensor, f: Tensor, g: Tensor, a: Tensor, b: Tensor, epsilon: float) -> Tensor:
    """`a_i b_j exp((f_i + g_j - C_ij) / epsilon)`, exactly 0 where a weight is 0."""
    if cost.numel() == 0:
        return torch.empty_like(cost)
    with torch.autocast(cost.device.type, enabled=False):
        return choose(cost).plan(cost, f, g, a, b, epsilon)


@make_plan.register_fake
def _(cost: Tensor, f: Tensor, g: Tensor, a: Tensor, b: Tensor, epsilon: float) -> Tensor:
    return torch.empty_like(cost)


def _divide(x: Tensor, weight: Tensor) -> Tensor:
    """Quotient x / weight, and 0 (with gradient 0) where the weight is 0."""
    zero = weight == 0
    return (x / weight.masked_fill(zero, 1)).masked_fill(zero, 0)


class Plan(torch.autograd.Function):
    """The plan of given potentials, differentiable in all of them."""

    @staticmethod
    def forward(
        ctx: Any, made: Tensor, cost: Tensor, f: Tensor, g: Tensor, a: Tensor, b: Tensor, epsilon: float
    ) -> Float[Tensor, "batch n m"]:
        """P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon), or what `solve` has made of it already."""
        plan = made.view_as(made) if len(made) == len(cost) else make_plan(cost, f, g, a, b, epsilon)
        ctx.save_for_backward(plan, a, b)
        ctx.epsilon, ctx.dtype = epsilon, f.dtype
        return plan

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Every input sits in the exponent or in front of it, so all gradients are sums of P * G."""
        plan, a, b = ctx.saved_tensors
        # Where the plan is 0 the gradient of a user's function may be NaN (log 0); it has no influence there.
        PG = (plan * G).masked_fill(plan == 0, 0)
        r, c = PG.sum(dim=2, dtype=ctx.dtype), PG.sum(dim=1, dtype=ctx.dtype)
        grad_a = _divide(r, a).to(a.dtype) if ctx.needs_input_grad[4] else None
        grad_b = _divide(c, b).to(b.dtype) if ctx.needs_input_grad[5] else None
        return None, PG / -ctx.epsilon, r / ctx.epsilon, c / ctx.epsilon, grad_a, grad_b, None


class Potentials(torch.autograd.Function):
    """Given solved potentials, the same with their dependence on cost and weights."""

    @staticmethod
    def forward(
        ctx: Any, made: Tensor, cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        """The potentials themselves; the work is in `backward`."""
        f, g = f.clone(), g.clone()
        ctx.save_for_backward(made, cost, a, b, f, g)
        ctx.epsilon = epsilon
        ctx.set_materialize_grads(False)
        return f, g

    @staticmethod
    def backward(ctx: Any, grad_f: Tensor | None, grad_g: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore
        """Differentiate `P 1 = a`, `P^T 1 = b`: the adjoint of that linear system, solved once."""
        made, cost, a, b, f, g = ctx.saved_tensors
        if grad_f is None and grad_g is None:
            # Only the value was asked for: no system to solve.
            return None, None, None, None, None, None, None
        grad_f = torch.zeros_like(f) if grad_f is None else grad_f
        grad_g = torch.zeros_like(g) if grad_g is None else grad_g
        plan = Plan.apply(made, cost, f, g, a, b, ctx.epsilon)
        alpha, beta = solve_marginal_system(plan.to(f.dtype), a.to(f.dtype), b.to(f.dtype), grad_f, grad_g)
        grad_cost = plan * (alpha[:, :, None] + beta[:, None, :]).to(plan.dtype)
        grad_a = (ctx.epsilon * (alpha - _divide(grad_f, a))).to(a.dtype) if ctx.needs_input_grad[2] else None
        grad_b = (ctx.epsilon * (beta - _divide(grad_g, b))).to(b.dtype) if ctx.needs_input_grad[3] else None
        return None, grad_cost, grad_a, grad_b, None, None, None


def solve_marginal_system(
    plan: Float[Tensor, "batch n m"],
    a: Float[Tensor, "batch n"],
    b: Float[Tensor, "batch m"],
    r: Float[Tensor, "batch n"],
    c: Float[Tensor, "batch m"],
) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch m"]]:
    """Solve `diag(a) alpha + P beta = r`, `P^T alpha + diag(b) beta = c`, for sum r = sum c.

    Eliminating the longer unknown leaves `I - S S^T` with `S = diag(a)^-1/2 P diag(b)^-1/2`. Its one null vector,
    `sqrt(a)` (a constant may move from alpha to beta), is lifted by adding `sqrt(a) sqrt(a)^T`: alpha is then the
    solution with `<a, alpha> = 0`, and no entry is singled out.
    """
    if plan.shape[1] > plan.shape[2]:
        beta, alpha = solve_marginal_system(plan.mT, b, a, c, r)
        return alpha, beta
    root_a, inverse_a, inverse_b = a.sqrt(), _divide(torch.ones_like(a), a).sqrt(), _divide(torch.ones_like(b), b)
    scaled = plan * inverse_a[:, :, None]
    identity = (1 + RIDGE) * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    system = identity + root_a[:, :, None] * root_a[:, None, :] - (scaled * inverse_b[:, None, :]) @ scaled.mT
    right = inverse_a * r - (scaled @ (inverse_b * c)[:, :, None]).squeeze(2)
    factor, _ = torch.linalg.cholesky_ex(system)
    alpha = inverse_a * torch.cholesky_solve(right[:, :, None], factor).squeeze(2)
    beta = inverse_b * (c - (plan.mT @ alpha[:, :, None]).squeeze(2))
    return alpha, beta


def optimal_potentials(
    made: Tensor, cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The solved potentials, as functions of the cost and the weights where a gradient is recorded."""
    if at_once(cost, a, b):
        return f, g
    return Potentials.apply(made, cost, a, b, f, g, epsilon)


def optimal_plan(
    made: Tensor, cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, epsilon: float
) -> Float[Tensor, "batch n m"]:
    """The solved plan, as a function of the cost and the weights where a gradient is recorded."""
    if at_once(cost, a, b) and len(made) == len(cost):
        return made
    f, g = optimal_potentials(made, cost, a, b, f, g, epsilon)
    return Plan.apply(made, cost, f, g, a, b, epsilon)


def _scaled(plan: Float[Tensor, "batch n m"], scale: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch n m"]:
    """Each plan times the number of its problem."""
    if on_host(plan, scale):
        return torch.mul(plan, scale[:, :, None], out=empty(tuple(plan.shape), plan))
    return plan * scale[:, :, None]


class Value(torch.autograd.Function):
    """The regularised value <a, f> + <b, g>, whose gradient with respect to the cost is the plan."""

    @staticmethod
    def forward(
        ctx: Any, made: Tensor, cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, epsilon: float
    ) -> Float[Tensor, " batch"]:
        """The dual value at potentials whose plan has mass 1."""
        ctx.save_for_backward(made, cost, a, b, f, g)
        ctx.epsilon, ctx.dtype = epsilon, cost.dtype
        return ((a * f).sum(dim=1) + (b * g).sum(dim=1)).to(cost.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The plan, scaled by what comes in."""
        scale, problem = grad[:, None], (*ctx.saved_tensors, ctx.epsilon)
        f, g = optimal_potentials(*problem)
        grad_cost = _scaled(optimal_plan(*problem), scale) if ctx.needs_input_grad[1] else None
        grad_a = (scale * f).to(ctx.dtype) if ctx.needs_input_grad[2] else None
        grad_b = (scale * g).to(ctx.dtype) if ctx.needs_input_grad[3] else None
        return None, grad_cost, grad_a, grad_b, None, None, None
