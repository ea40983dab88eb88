"""The solver as an operator of PyTorch's, and what autograd must know of it.

The operator has a fake kernel, so a function that calls it compiles with `torch.compile(fullgraph=True)`; which back
end runs is decided inside (`choose`), when there is data. The iterations are never differentiated. Three functions
carry all gradients, each written in differentiable operations, so that second derivatives work too:

- `Potentials`: `f`, `g` as functions of the cost and the weights, by the implicit function theorem;
- `Plan`: `P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)`;
- `Value`: the regularised value, whose gradient is the plan by the envelope theorem: `f` and `g` are optimal, so no
  linear system has to be solved.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor

from ._host import empty
from ._problem import Problem, Solution, choose, infeasible, unsolved

# Added to the implicit system, whose smallest eigenvalue is 1 - rho: plans of separate blocks make it singular.
RIDGE = 1e-13


Solved = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class ConvergenceWarning(UserWarning):
    """Some problems of a batch did not reach the tolerance; their diagnostics say which."""


def is_plain(*tensors: Tensor) -> bool:
    """Whether these hold numbers and nothing traces them: then an operator's dispatch would only cost time."""
    return not torch.compiler.is_compiling() and all(
        type(tensor) is Tensor
        and not (tensor.is_meta or is_functorch_wrapped_tensor(tensor) or is_legacy_batchedtensor(tensor))
        for tensor in tensors
    )


def solve(problem: Problem) -> Solution:
    """The solution by the fastest back end, in eager mode without a detour through the dispatcher."""
    call = _solve if is_plain(problem.cost) else solve_operator
    return Solution(*call(problem.cost.detach(), problem.a.detach(), problem.b.detach(), *problem[3:]))


def _solve(cost: Tensor, a: Tensor, b: Tensor, epsilon: float, tol: float, max_iter: int) -> Solved:
    if cost.numel() == 0:
        return Solution(*(found.zero_() for found in unsolved(cost, plan=torch.empty_like(cost))))
    found = choose(cost).solve(Problem(cost, a, b, epsilon, tol, max_iter))
    if cost.is_cpu:  # elsewhere a look at the errors would make the host wait: read `converged`
        _warn(Problem(cost, a, b, epsilon, tol, max_iter), found)
    return found


solve_operator = torch.library.custom_op("mmwa_ot::solve", _solve, mutates_args=())
solve_operator.register_fake(lambda cost, *_: tuple(unsolved(cost, plan=torch.empty_like(cost))))


@solve_operator.register_vmap
def _over_batches(info: Any, in_dims: Any, *arguments: Any) -> tuple[Solved, tuple[int, ...]]:
    """The rule of `torch.vmap`: its axis and that of the batch become one."""
    tensors = (
        tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(arguments[:3], in_dims[:3], strict=True)
    )
    found = solve_operator(*(tensor.flatten(0, 1).contiguous() for tensor in tensors), *arguments[3:])
    return tuple(tensor.unflatten(0, (info.batch_size, -1)) for tensor in found), (0,) * len(found)


def _warn(problem: Problem, found: Solution) -> None:
    error, tol = found.marginal_error, problem.tol
    if not error.numpy().max() <= tol:  # a NaN is the largest, and below nothing
        missed, cost, failed = ~(error <= tol), problem.cost, error.isnan()
        tokens = (problem.a != 0)[:, :, None] & (problem.b != 0)[:, None, :]
        broken = (tokens & ~(cost > -torch.inf)).flatten(1).any(1)
        stuck = missed & ~failed & infeasible(cost, problem.a, problem.b, found.f, tol)
        reasons = (
            (broken, "their cost is NaN or -inf at a pair of tokens"),
            (failed & ~broken, f"float64 cannot tell epsilon={problem.epsilon:g} from 0 beside their cost"),
            (stuck, "no plan avoids the pairs of infinite cost"),
        )
        told = "".join(f" ({int(which.sum())} of them because {why})" for which, why in reasons if which.any())
        warnings.warn(
            f"{int(missed.sum())} of {len(error)} transport problems did not reach tol={tol:g}"
            f" within max_iter={problem.max_iter}{told}:"
            " see `converged` and `marginal_error`. Raise max_iter, tol or epsilon.",
            ConvergenceWarning,
            stacklevel=2,
        )


def is_recorded(*tensors: Tensor) -> bool:
    """Whether autograd follows what is done with these."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def differentiable(
    cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, plan: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The solved potentials and plan, as functions of the cost and the weights where these are recorded."""
    if not is_recorded(cost, a, b):
        return f, g, plan
    f, g = Potentials.apply(cost, a, b, f, g, plan, epsilon)
    return f, g, Plan.apply(cost, a, b, f, g, plan, epsilon)


class _Function(torch.autograd.Function):
    """A function of the cost, the weights and the solution, whose derivatives need no more than these."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what came in: potentials and plan may serve several functions."""
        *tensors, ctx.epsilon = inputs
        ctx.save_for_backward(*tensors)


class Value(_Function):
    """The regularised value <a, f> + <b, g>, whose gradient with respect to the cost is the plan."""

    @staticmethod
    def forward(
        cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, plan: Tensor, epsilon: float
    ) -> Float[Tensor, " batch"]:
        """The dual value at potentials whose plan has mass 1."""
        return ((a * f).sum(dim=1) + (b * g).sum(dim=1)).to(cost.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The plan, scaled by what comes in."""
        cost, a, b, f, g, plan = ctx.saved_tensors
        f, g, plan = differentiable(cost, a, b, f, g, plan, ctx.epsilon)
        scale = grad[:, None]
        grad_cost = _scaled(plan, scale[:, :, None]) if ctx.needs_input_grad[0] else None
        grad_a = (scale * f).to(plan.dtype) if ctx.needs_input_grad[1] else None
        grad_b = (scale * g).to(plan.dtype) if ctx.needs_input_grad[2] else None
        return grad_cost, grad_a, grad_b, None, None, None, None


def _scaled(plan: Float[Tensor, "batch n m"], scale: Float[Tensor, "batch 1 1"]) -> Float[Tensor, "batch n m"]:
    if plan.is_cpu and is_plain(plan, scale) and not torch.is_grad_enabled():
        return torch.mul(plan, scale, out=empty(tuple(plan.shape), plan))
    return plan * scale


class Plan(_Function):
    """The plan of given potentials, differentiable in all of them."""

    @staticmethod
    def forward(
        cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, solved: Tensor, epsilon: float
    ) -> Float[Tensor, "batch n m"]:
        """P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon), which the back end has made."""
        return solved.view_as(solved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """The plan that goes out has the derivatives."""
        _, a, b, f, *_, ctx.epsilon = inputs
        ctx.save_for_backward(output, a, b)
        ctx.dtype = f.dtype

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Every input stands in the exponent or in front of it, so all gradients are sums of P * G."""
        plan, a, b = ctx.saved_tensors
        # Where the plan is 0 the gradient of a user's function may be NaN (log 0); it has no influence there.
        PG = (plan * G).masked_fill(plan == 0, 0)
        r, c = PG.sum(dim=2, dtype=ctx.dtype), PG.sum(dim=1, dtype=ctx.dtype)
        grad_a = _divide(r, a).to(a.dtype) if ctx.needs_input_grad[1] else None
        grad_b = _divide(c, b).to(b.dtype) if ctx.needs_input_grad[2] else None
        return PG / -ctx.epsilon, grad_a, grad_b, r / ctx.epsilon, c / ctx.epsilon, None, None


class Potentials(_Function):
    """The solved potentials, with their dependence on cost and weights."""

    @staticmethod
    def forward(
        cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, plan: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        """The potentials themselves; the work is in `backward`."""
        return f.clone(), g.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """The potentials that go out have the derivatives."""
        cost, a, b, _, _, plan, ctx.epsilon = inputs
        ctx.save_for_backward(cost, a, b, *output, plan)

    @staticmethod
    def backward(ctx: Any, grad_f: Tensor, grad_g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Differentiate `P 1 = a`, `P^T 1 = b`: the adjoint of that linear system, solved once."""
        cost, a, b, f, g, solved = ctx.saved_tensors
        plan = Plan.apply(cost, a, b, f, g, solved, ctx.epsilon)
        alpha, beta = solve_marginal_system(plan.to(f.dtype), a.to(f.dtype), b.to(f.dtype), grad_f, grad_g)
        grad_cost = plan * (alpha[:, :, None] + beta[:, None, :]).to(plan.dtype)
        grad_a = (ctx.epsilon * (alpha - _divide(grad_f, a))).to(a.dtype) if ctx.needs_input_grad[1] else None
        grad_b = (ctx.epsilon * (beta - _divide(grad_g, b))).to(b.dtype) if ctx.needs_input_grad[2] else None
        return grad_cost, grad_a, grad_b, None, None, None, None


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


def _divide(x: Tensor, weight: Tensor) -> Tensor:
    """Quotient x / weight, and 0 (with gradient 0) where the weight is 0."""
    zero = weight == 0
    return (x / weight.masked_fill(zero, 1)).masked_fill(zero, 0)
