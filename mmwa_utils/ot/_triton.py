"""The GPU back end: whole problems on chip, one launch a solve, nothing read back by the host.

`_triton_kernels` holds the kernels; this module sizes and launches them. It serves float32 problems whose padded
kernel matrix fits one multiprocessor's registers, which covers every shape of the book; float64 and larger problems
go to `_torch`. Triton's interpreter runs the same kernels on CPU tensors when `TRITON_INTERPRET=1` is set before the
first import: that is how they are tested where there is no GPU.
"""

from __future__ import annotations

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from ._problem import KERNEL_RANGE, Problem, Solution, unsolved
from ._triton_kernels import solve_kernel

# Entries of the largest padded problem: its kernel and its cost take half of a multiprocessor's registers.
LARGEST = 1 << 14
SMALLEST_SIDE = 16


def supports(cost: Float[Tensor, "batch n m"]) -> bool:
    """Whether these problems fit on chip: float32, and at most `LARGEST` entries when padded to powers of two."""
    rows, columns = tile(cost.shape[1], cost.shape[2])
    return cost.dtype == torch.float32 and rows * columns <= LARGEST


def tile(n: int, m: int) -> tuple[int, int]:
    """The padded problem, rows and columns: a function of the shape alone, never of the batch.

    So a problem is summed in the same order, to the bit, whatever else is in its batch.

    >>> tile(40, 145), tile(7, 20)
    ((64, 256), (16, 32))
    """
    rows, columns = (max(SMALLEST_SIDE, triton.next_power_of_2(size)) for size in (n, m))
    return rows, columns


def warps(entries: int) -> int:
    """Warps of a program: one for 1024 entries (32 a thread), 16 at most.

    A problem of one warp needs no barrier, and up to 32 such programs share a multiprocessor.

    >>> warps(512), warps(2048), warps(32768)
    (1, 2, 16)
    """
    return min(16, max(1, entries // 1024))


def solve(problem: Problem) -> Solution:
    """Every problem in one launch; see `Backend.solve`."""
    cost, a, b, *options = problem
    batch, n, m = cost.shape
    found, (rows, columns) = unsolved(cost, plan=torch.empty_like(cost)), tile(n, m)
    with torch.cuda.device_of(cost):  # Triton launches on the current device, which need not be the cost's
        launch, fixed = solve_kernel[(batch,)], {"REACH": KERNEL_RANGE[torch.float32], "N": rows, "M": columns}
        launch(cost, a, b, *found, n, m, *options, **fixed, num_warps=warps(rows * columns))
    return found
