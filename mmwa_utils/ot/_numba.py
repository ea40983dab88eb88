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

Work is shared between Python threads, not by Numba's own: the kernels release the interpreter's lock, each worker takes
the next few problems when it is done, and neither forks nor several calling threads are a hazard. The number of threads
is PyTorch's (`torch.set_num_threads`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float
from torch import Tensor

from ._backend import Solution
from ._numba_kernels import plan_range, solve_range

LARGEST = 1 << 20
"""Entries of the largest problem taken here: a larger kernel leaves the cache, and matrix products win."""
CHUNK = 32
"""Most problems a worker takes at a time; fewer of few, for a hard one takes as long as a hundred easy ones."""
ALONE = 1 << 17
"""Entries of a batch below which the calling thread works alone: it is done before another one has woken up."""


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
        plan=torch.empty_like(cost),
    )
    inputs = cost.numpy(), a.numpy(), b.numpy(), epsilon, tol, max_iter
    outputs = tuple(out.numpy() for out in vars(found).values())
    share(batch, cost.numel(), lambda start, stop: solve_range(start, stop, *inputs, *outputs))
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
    out = torch.empty_like(cost)
    inputs = (*(tensor.detach().numpy() for tensor in (cost, f, g, a, b)), epsilon, out.numpy())
    share(len(cost), cost.numel(), lambda start, stop: plan_range(start, stop, *inputs))
    return out


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Worker threads, made once per process: a forked child does not inherit its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="sinkhorn")


def share(batch: int, entries: int, work: Callable[[int, int], None]) -> None:
    """Run `work(start, stop)` over the batch: each thread, the calling one too, takes the next problems when free."""
    threads = 1 if entries < ALONE else torch.get_num_threads()
    size = max(1, batch if threads == 1 else min(CHUNK, batch // (4 * threads)))
    chunks = iter(range(0, batch, size))

    def worker(chunks: Iterator[int]) -> None:
        for start in chunks:
            work(start, min(start + size, batch))

    helpers = min(threads, -(-batch // size)) - 1
    waiting = [_pool(helpers, os.getpid()).submit(worker, chunks) for _ in range(helpers)]
    worker(chunks)
    for helper in waiting:
        helper.result()
