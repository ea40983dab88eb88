"""POT as a peer: `ot.batch.solve_batch`, both of its Sinkhorn methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ot.batch
import torch
from torch import Tensor

from benchmarks._contender import Entry, Problem, cosine, counted


def pot(method: str) -> Callable[[Problem], Entry]:
    """POT's `ot.batch.solve_batch` with `method` "sinkhorn" (kernel) or "log_sinkhorn".

    The count is exact and the tolerance zero, since POT's own test is an L2 norm that it looks at every ten
    iterations; it looks at any tolerance, so nothing is added. The gradient is POT's cheapest, the envelope.
    """

    def enter(problem: Problem) -> Entry:
        def solve(cost: Tensor, count: int) -> Any:
            # POT makes its first vectors on the default device, not on the cost's.
            with torch.device(cost.device):
                return ot.batch.solve_batch(
                    cost, problem.epsilon, method=method, max_iter=count, tol=0.0, reg_type="kl", grad="envelope"
                )

        return counted(
            problem,
            f"POT {method}",
            lambda count: f"solve_batch(method={method!r}, max_iter={count}, tol=0, grad='envelope')",
            plan=lambda cost, count: solve(cost, count).plan,
            value=lambda x, y, count: solve(cosine(x, y), count).value,
        )

    return enter


ENTRIES = (pot("sinkhorn"), pot("log_sinkhorn"))
