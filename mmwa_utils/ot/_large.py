"""Large problems on the CPU, one at a time: all threads share the rows of its kernel.

A kernel of more than a few megabytes is read from memory at each sweep, whatever the order, so a thread takes a tile of
rows at a time, and what the tiles add to K^T u is summed in an order that does not depend on the threads. The kernel is
float32 where its exponents allow, as it is the one large array, and the scalings and sums are float64, as float32 sums
of ten thousand terms would be off by more than the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType

import numpy as np
import torch
from torch import Tensor

from . import _numba_kernels as compiled
from ._host import empty, share
from ._problem import Problem

# Entries of a tile, and most stretches of tiles whose sums are kept apart.
TILE, GROUPS = 1 << 18, 64
# Range of the exponents, half of it on either side of 0, at which a float32 kernel neither under- nor overflows.
REACH = 150.0


class Kernel:
    """The matrix exp((f_i + g_j - C_ij) / epsilon) in tiles of rows, filled up with zeros to a multiple of four."""

    def __init__(self, cost: np.ndarray) -> None:
        self.cost = cost
        self.rows = max(4, TILE // cost.shape[1] // 4 * 4)
        starts = range(0, len(cost), self.rows)
        stretch = -(-len(starts) // GROUPS)
        self.groups = [starts[k : k + stretch] for k in range(0, len(starts), stretch)]

    def each(self, work: Callable[[int, int, int], object]) -> None:
        """Run `work(group, start, stop)` for each tile: one after the other in a group, and groups in parallel."""

        def some(first: int, last: int) -> None:
            for group in range(first, last):
                for start in self.groups[group]:
                    work(group, start, min(start + self.rows, len(self.cost)))

        share(len(self.groups), some, most=1, alone=False)

    def fill(self, f: np.ndarray, g: np.ndarray, epsilon: float, number: torch.dtype) -> None:
        """Make the matrix of these potentials in this number type."""
        n, m = self.cost.shape
        self.entries = empty((-(-n // 4) * 4, m), torch.empty(0, dtype=number)).numpy()
        self.entries[n:] = 0
        even = number == torch.float32 and not f.any() and (g == g[0]).all()

        def work(_: int, start: int, stop: int) -> None:
            C, K = self.cost[start:stop], self.entries[start:stop]
            if even:
                compiled.fill_kernel32(C, g[0], epsilon, K)
            else:
                compiled.fill_kernel(C, f[start:stop], g, epsilon, K)

        self.each(work)

    def plan(self, u: np.ndarray, v: np.ndarray, P: np.ndarray) -> None:
        """P_ij = u_i K_ij v_j."""
        self.each(lambda _, i, k: compiled.scaled_kernel(u[i:k], self.entries[i:k], v, P[i:k]))

    def sweep(self, a: np.ndarray, b: np.ndarray, u: np.ndarray, v: np.ndarray, w: np.ndarray, omega: float) -> float:
        """As `_numba_kernels._sweep`."""
        sums, left = np.zeros((len(self.groups), len(b))), np.zeros(len(self.groups))

        def work(group: int, start: int, stop: int) -> None:
            some = slice(start, -(-stop // 4) * 4)
            left[group] += compiled.sweep_rows(self.entries[some], a[some], u[some], v, sums[group], omega)

        self.each(work)
        sums.sum(0, out=w)
        return float(left.sum() + np.abs(v * w - b).sum())


# The loop of `_numba_kernels`, run by Python: it has one sweep to call, and here that is shared by the threads.
_scale = FunctionType(compiled.scale.py_func.__code__, {**vars(compiled), "_sweep": Kernel.sweep})


def iterate(
    kernel: Kernel, a: np.ndarray, b: np.ndarray, epsilon: float, tol: float, max_iter: int, number: torch.dtype,
    low: float, high: float, f: np.ndarray, g: np.ndarray, plan: np.ndarray,
) -> tuple[int, float]:  # fmt: skip
    """Solve a problem into `f`, `g` and `plan`, as `_numba_kernels._one` does; (iterations, error)."""
    a, b = np.pad(a / a.sum(), (0, -len(a) % 4)), b / b.sum()
    u, v, w = np.empty_like(a), np.empty_like(b), np.empty_like(b)
    stage = compiled.count_halvings(high - low, epsilon)
    f[:], g[:] = 0, low if stage else np.dtype(str(number).removeprefix("torch.")).type(0.5 * (low + high))
    spent = 0
    while True:
        kernel.fill(f, g, epsilon * 2.0**stage, number)
        u[:], v[:] = a, b
        goal = max(tol, 1e-3) if stage else tol
        sweeps = min(compiled.STAGE_SWEEPS if stage else max_iter, max_iter - spent)
        with np.errstate(all="ignore"):  # 0 / 0 in the rows that fill up
            used, error = _scale(kernel, a, b, u, v, w, goal, sweeps)
        spent += used
        if np.isnan(error):
            return spent, error
        over = spent >= max_iter or (stage == 0 and error <= tol)
        if over and stage == 0:
            kernel.plan(u, v, plan)
        compiled.absorb(f, u, a, epsilon * 2.0**stage)
        compiled.absorb(g, v, b, epsilon * 2.0**stage)
        if over and stage > 0:
            # The error of another epsilon says nothing of this one.
            kernel.fill(f, g, epsilon, number)
            kernel.plan(a, b, plan)
            return spent, np.inf
        if over:
            return spent, error
        if stage > 0:
            compiled.centre(f, g, a, b)
            stage -= 1


def solve(problem: Problem, *found: Tensor) -> tuple[int, float]:
    """Solve one problem, without the axis of the batch, into `f`, `g` and `plan`; (iterations, error)."""
    cost, a, b = (tensor.numpy() for tensor in problem[:3])
    f, g, plan = (tensor.numpy() for tensor in found)
    epsilon, tol, max_iter = problem[3:]
    x, y = np.flatnonzero(a), np.flatnonzero(b)
    f[:], g[:] = 0, 0
    gathered = len(x) < len(a) or len(y) < len(b)
    if gathered:
        plan[:] = 0
    if len(x) == 0 or len(y) == 0:
        return 0, 0.0
    C = cost[np.ix_(x, y)] if gathered else cost
    low, high = compiled.bounds(C)
    forbidden = np.isnan(high)
    if forbidden:
        low, high = compiled.finite_bounds(C)
    if high - low < compiled.FLAT * epsilon and not forbidden:
        return compiled.LEFT, 0.0
    fx, gy, P = (np.empty(len(x)), np.empty(len(y)), np.empty_like(C)) if gathered else (f, g, plan)
    small = C.itemsize == 4 and high - low <= REACH * epsilon and not forbidden
    number = torch.float32 if small else torch.float64
    wide = a[x].astype(np.float64), b[y].astype(np.float64)
    spent, error = (0, np.nan) if np.isnan(high) else iterate(
        Kernel(C), *wide, epsilon, tol, max_iter, number, low, high, fx, gy, P
    )  # fmt: skip
    if np.isnan(error):
        f[:], g[:], plan[:] = 0, 0, 0
        return 0, error
    if gathered:
        f[x], g[y], plan[np.ix_(x, y)] = fx, gy, P
    return spent, error
