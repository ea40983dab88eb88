"""What is compiled for the CPU where all costs are small beside epsilon.

A rounding of a scaling or of the kernel is, in the potentials and in the value, epsilon times as large. Where the range
of the cost is a millionth of epsilon, that is all a float32 kernel would say. So here the kernel is exp(x) - 1 and
what is added to a potential log(1 + x), whose roundings are relative to x.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ._numba_kernels import LEFT, OPTIONS


@njit(**OPTIONS)
def flat_range(start, stop, cost, a, b, epsilon, tol, max_iter, f, g, plan, n_iter, error):  # type: ignore[no-untyped-def]
    """Solve those problems that `solve_range` has left, by plain Sinkhorn: two or three iterations."""
    for p in range(start, stop):
        if n_iter[p] != LEFT:
            continue
        plan[p], f[p], g[p] = 0, 0, 0
        x, y = np.flatnonzero(a[p]), np.flatnonzero(b[p])
        ap, bp = a[p].astype(np.float64), b[p].astype(np.float64)
        ap, bp, off = ap / ap.sum(), bp / bp.sum(), np.empty(b.shape[1])
        f[p][x] = np.float64(cost[p, x[0], y[0]])
        for k in range(1, max_iter + 1):
            off[:] = 0
            for i in x:
                left = 0.0
                for j in y:
                    left += bp[j] * np.expm1((f[p, i] + g[p, j] - cost[p, i, j]) / epsilon)
                f[p, i] -= epsilon * np.log1p(left)
                for j in y:
                    excess = np.expm1((f[p, i] + g[p, j] - cost[p, i, j]) / epsilon)
                    off[j] += ap[i] * excess
                    plan[p, i, j] = ap[i] * bp[j] * (1 + excess)
            n_iter[p], error[p] = k, 0
            for j in y:
                error[p] += bp[j] * np.abs(off[j])
            if error[p] <= tol or k == max_iter:
                break
            for j in y:
                g[p, j] -= epsilon * np.log1p(off[j])
