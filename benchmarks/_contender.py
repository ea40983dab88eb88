"""What it takes to enter the benchmark: a problem in, two timed closures out, tuned to the same accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks._accuracy import TARGET, marginal_error, plain_sinkhorn
from benchmarks._clouds import Case, token_clouds

T = TypeVar("T")

MAX_ITER = 20_000
"""A contender that is not accurate after this many iterations is reported as unable to reach the target."""
PATIENCE = 3.0
"""Seconds: a contender that needs longer for one solve is reported as too slow, and its rounds are spared."""


def cosine(x: Float[Tensor, "batch n dim"], y: Float[Tensor, "batch m dim"]) -> Float[Tensor, "batch n m"]:
    """1 - cos: the cost as every torch contender but ours builds it, with torch's own fused pieces."""
    normalize = torch.nn.functional.normalize
    return 1 - normalize(x, dim=-1) @ normalize(y, dim=-1).mT


def textbook_plan(cost: Float[Tensor, "batch n m"], epsilon: float, count: int) -> Float[Tensor, "batch n m"]:
    """The plan of uniform weights after this many turns of the textbook's loop, as batched matrix products."""
    kernel = torch.exp(-cost / epsilon)
    v = kernel.new_ones(kernel.shape[0], kernel.shape[2], 1)
    for _ in range(count):
        u = (1 / kernel.shape[1]) / (kernel @ v)
        v = (1 / kernel.shape[2]) / (kernel.mT @ u)
    return u * kernel * v.mT


@dataclass(frozen=True)
class Problem:
    """One case with its data: tokens, cost and, as a hint for the search, plain Sinkhorn's iteration count."""

    case: Case
    x: Float[Tensor, "batch n dim"]
    y: Float[Tensor, "batch m dim"]

    @classmethod
    def draw(cls, case: Case, *, seed: int, device: torch.device) -> Problem:
        """The clustered clouds of this case."""
        return cls(case, *token_clouds(case.shape, seed=seed, device=device))

    @property
    def epsilon(self) -> float:
        return self.case.epsilon

    @cached_property
    def cost(self) -> Float[Tensor, "batch n m"]:
        return cosine(self.x, self.y)

    @cached_property
    def plain_count(self) -> int:
        return int(plain_sinkhorn(self.cost, epsilon=self.epsilon).n_iter.max())


@dataclass(frozen=True)
class Entry:
    """A contender tuned to a problem. Both closures return when the result is there, also on an accelerator."""

    name: str
    setting: str
    """The options that reach the target with the least work, in the library's own words."""
    error: float
    """The marginal error that these options achieve."""
    solve: Callable[[], object]
    """From the cost to the plan."""
    gradient: Callable[[], tuple[Tensor, Tensor]]
    """From tokens to the gradient of the summed regularised values with respect to both token sets."""


class CannotReachTargetError(RuntimeError):
    """The contender has no setting under which its plan is as accurate as the others'."""


class TooSlowError(CannotReachTargetError):
    """The contender did not get there within `PATIENCE`."""


def fewest_iterations(error_after: Callable[[int], float], *, hint: int, limit: int = MAX_ITER) -> int:
    """The smallest count with error_after(count) <= TARGET, to 2 %, found by galloping from `hint` and bisecting.

    This is knowledge that a user does not have; every iteration-driven library is given it.
    """

    def accurate(count: int) -> bool:
        start = time.perf_counter()
        error = error_after(count)
        seconds = time.perf_counter() - start
        if seconds > PATIENCE:
            raise TooSlowError(f"TOO SLOW: {count} iterations take {seconds:.0f} s (marginal error {error:.0e})")
        return error <= TARGET

    low, high = 0, max(1, hint)
    while not accurate(high):
        low, high = high, 2 * high
        if low >= limit:
            reached = f"marginal error {error_after(limit):.1e} after {limit} iterations"
            raise CannotReachTargetError(f"CANNOT REACH {TARGET:.0e}: {reached}")
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if accurate(middle) else (middle, high)
    return high


def loosest_tolerance(error_at: Callable[[float], float]) -> float:
    """The largest of a ladder of tolerances under which the achieved error is at most TARGET."""
    for factor in (4.0, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.1, 0.03):
        if error_at(factor * TARGET) <= TARGET:
            return factor * TARGET
    reached = f"marginal error {error_at(0.03 * TARGET):.1e} at tolerance {0.03 * TARGET:.0e}"
    raise CannotReachTargetError(f"CANNOT REACH {TARGET:.0e}: {reached}")


def token_gradient(
    problem: Problem, value: Callable[[Tensor, Tensor], Float[Tensor, " batch"]]
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Forward and backward through torch: d sum(value(x, y)) / d(x, y)."""
    x, y = problem.x.clone().requires_grad_(), problem.y.clone().requires_grad_()

    def gradient() -> tuple[Tensor, Tensor]:
        total = value(x, y).sum()
        grad_x, grad_y = torch.autograd.grad(total, (x, y))
        return finished((grad_x, grad_y))

    return gradient


def counted(
    problem: Problem,
    name: str,
    setting: Callable[[int], str],
    plan: Callable[[Tensor, int], Tensor],
    value: Callable[[Tensor, Tensor, int], Float[Tensor, " batch"]],
    **search: int,
) -> Entry:
    """Who is told a number of iterations: tuned, with the plan of a cost and the value of two token sets after them."""

    def error_after(count: int) -> float:
        return marginal_error(plan(problem.cost, count))

    count = fewest_iterations(error_after, **{"hint": problem.plain_count} | search)
    return Entry(
        name=name,
        setting=setting(count),
        error=error_after(count),
        solve=lambda: finished(plan(problem.cost, count)),
        gradient=token_gradient(problem, lambda x, y: value(x, y, count)),
    )


def finished(result: T) -> T:
    """The result, once the device has computed it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result
