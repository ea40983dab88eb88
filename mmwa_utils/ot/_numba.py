"""The CPU back end: one problem per thread, its kernel matrix in cache, one sweep over it per iteration.

Four ideas make it fast; `_backend` says what it must compute, `_numba_kernels` holds the loops.

1. *A problem at a time.* The valid rows and columns are gathered, so padding costs nothing, and the kernel of 32 x 128
   tokens (16 KiB) stays in the first-level cache for all iterations. A batch-wide loop would fetch it from memory twice
   per iteration, and would run until its hardest problem is done.
2. *One sweep.* Row `i` of the kernel gives `u_i = a_i / <K_i, v>`, and while it is still at hand adds `u_i K_i` to
   `w = K^T u`; then `v = b / w`.
3. *Over-relaxation* at a rate that is measured.
4. *Each exponential once.* The plan `u_i K_ij v_j` is written while the kernel is still in cache.

Up to `KERNEL_RANGE[float32]` the kernel of a float32 cost is float32; above, and for smaller tolerances than float32
sums can show, it is float64; above `KERNEL_RANGE[float64]` epsilon is scaled and the scalings are absorbed into the
potentials, which is the log domain at the price of the kernel domain. Potentials and exponents are always float64.

The threads are PyTorch's, and as many (`torch.set_num_threads`): each takes the next few problems when it is done with
its last (`_threads`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ._backend import Solution
from ._memory import empty
from ._numba_kernels import plan_range, solve_range
from ._threads import share

LARGEST = 1 << 20
"""Entries of the largest problem taken here: a larger kernel leaves the cache, and matrix products win."""
CHUNK = 32
"""Most problems a thread takes at a time: a hard one takes as long as a hundred easy ones."""
ALONE = 1 << 17
"""Entries of a batch below which the calling thread works alone."""


def supports(cost: Float[Tensor, "batch n m"]) -> bool:
    """Whether the cost is on the CPU and its kernel fits in the cache."""
    return cost.device.type == "cpu" and cost.shape[1] * cost.shape[2] <= LARGEST


def solve(
    cost: Float[Tensor, "batch n m"],
    a: Float[Tensor, "batch n"],
    b: Float[Tensor, "batch m"],
    epsilon: float,
    tol: float,
    max_iter: int,
) -> Solution:
    """Potentials and diagnostics; see `_backend`."""
    batch, n, m = cost.shape
    found = Solution(
        f=torch.empty(batch, n, dtype=torch.float64),
        g=torch.empty(batch, m, dtype=torch.float64),
        n_iter=torch.empty(batch, dtype=torch.int32),
        marginal_error=torch.empty(batch, dtype=torch.float64),
        plan=empty(tuple(cost.shape), cost),
    )
    inputs = cost.numpy(), a.numpy(), b.numpy(), epsilon, tol, max_iter
    outputs = tuple(out.numpy() for out in vars(found).values())
    _share(cost, lambda start, stop: solve_range(start, stop, *inputs, *outputs))
    return found


def plan(
    cost: Float[Tensor, "batch n m"],
    f: Float[Tensor, "batch n"],
    g: Float[Tensor, "batch m"],
    a: Float[Tensor, "batch n"],
    b: Float[Tensor, "batch m"],
    epsilon: float,
) -> Float[Tensor, "batch n m"]:
    """The plan of given potentials; see `_backend`."""
    out = empty(tuple(cost.shape), cost)
    inputs = (*(tensor.detach().numpy() for tensor in (cost, f, g, a, b)), epsilon, out.numpy())
    _share(cost, lambda start, stop: plan_range(start, stop, *inputs))
    return out


def _share(cost: Float[Tensor, "batch n m"], work: Callable[[int, int], None]) -> None:
    share(len(cost), work, most=CHUNK, alone=cost.numel() < ALONE)
