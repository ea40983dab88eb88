"""No library at all: what one would write in PyTorch after reading the textbook, and what nobody can do without."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks._contender import Entry, Problem, cosine, counted, finished, textbook_plan


def torch_loop(problem: Problem) -> Entry:
    """The textbook's kernel-domain loop as batched matrix products, with the plan as gradient."""

    def plan(cost: Tensor, count: int) -> Tensor:
        return textbook_plan(cost, problem.epsilon, count)

    def value(x: Tensor, y: Tensor, count: int) -> Tensor:
        # <P, C> with P held fixed has the gradient of the regularised value.
        cost = cosine(x, y)
        with torch.no_grad():
            fixed = plan(cost, count)
        return (fixed * cost).sum((1, 2))

    return counted(problem, "torch loop", lambda count: f"{count} iterations", plan, value)


def floor(problem: Problem) -> Entry:
    """No solver: what every solver has to do, once, as PyTorch does it for the whole batch at a time.

    For the plan an exponential of each entry; for the gradient also the matrix products of the cost and of its gradient
    with respect to both token sets. The gradients' memory is there already: an engine may get it faster than by a page
    fault every 4 KiB.
    """
    x, y = problem.x, problem.y
    grad_x, grad_y = torch.zeros_like(x), torch.zeros_like(y)

    def kernel(cost: Tensor) -> Tensor:
        return torch.exp(cost * (-1 / problem.epsilon))

    def products() -> tuple[Tensor, Tensor]:
        pull = kernel(x @ y.mT)
        return finished((torch.bmm(pull, y, out=grad_x), torch.bmm(pull.mT, x, out=grad_y)))

    return Entry(
        name="floor",
        setting="exponentials, matrix products",
        error=float("nan"),
        solve=lambda: finished(kernel(problem.cost)),
        gradient=products,
    )


ENTRIES = (torch_loop, floor)
