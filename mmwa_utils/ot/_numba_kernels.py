"""What the CPU back end compiles, all in one file: passes over entries, the iteration, a problem, a stretch of a batch.

Numba caches a compiled function beside its file and looks for changes in that file alone: a function that calls one of
another file would go on running that one's old code. Exponential and logarithm are polynomials, since LLVM vectorises
those and no call into the C library. A division by zero gives infinity, as in NumPy: Numba's default, an exception, is
a branch in every inner loop. `K.itemsize` tells float32 from float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit

from ._backend import KERNEL_RANGE

RANGE_32 = KERNEL_RANGE[torch.float32]
RANGE_64 = KERNEL_RANGE[torch.float64]
FLOOR_32 = 5e-7
"""The smallest marginal error that float32 sums reach reliably; below, the kernel is kept in float64."""
STAGE_SWEEPS, DRIFT = 100, 200.0
"""Sweeps after which a stage of epsilon scaling ends. The last stage ends when it is done, but looks that often whether
the logarithm of a scaling is beyond `DRIFT` (float64 ends at 709) and the potentials had better absorb it."""
SETTLE, WINDOW = 3, 2
"""Sweeps that the error takes to follow a change of the relaxation, then sweeps to measure its rate; at the least."""
FAR, STEADY = 0.3, 0.9
"""A larger error than this, or a rate below this share of the sweep's before, says that the rate is not yet final."""
PACE = 0.3
"""The share of the way to 1 that a relaxation goes at most at once."""
WORTHWHILE = 6
"""Plain sweeps that must still be ahead for over-relaxation to start: it costs a settling and a last plain sweep."""

# NaN and infinity keep their meaning (they flag a problem); only the order of sums and fused products are free.
FAST = {"contract", "reassoc", "nsz"}
EXACT = {"contract", "nsz"}
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(inline="always")
def _power_of_two(k, r):  # type: ignore[no-untyped-def]
    """2^(k + r) in float32 for whole k and |r| <= 1/2: a polynomial, and k added to the exponent's bits."""
    p = np.float32(1.5403530e-4)
    p = p * r + np.float32(1.3333558e-3)
    p = p * r + np.float32(9.6181291e-3)
    p = p * r + np.float32(5.5504109e-2)
    p = p * r + np.float32(2.4022651e-1)
    p = p * r + np.float32(6.9314718e-1)
    p = p * r + np.float32(1.0)
    return p * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always")
def _exp32(x):  # type: ignore[no-untyped-def]
    """exp(x) for float64 x in float32."""
    t = max(x * 1.4426950408889634, -126.0)
    k = np.floor(t + 0.5)
    return _power_of_two(k, np.float32(t - k))


@njit(inline="always")
def _log(x):  # type: ignore[no-untyped-def]
    """log(x) to float64's last bits, for x > 0: x = 2^k y with y near 1, and log y = 2 artanh((y - 1) / (y + 1))."""
    bits = np.float64(x).view(np.int64)
    k = (bits - 0x3FE6A09E667F3BCD) >> 52
    y = np.int64(bits - (k << 52)).view(np.float64)
    s = (y - 1.0) / (y + 1.0)
    z = s * s
    p = 1 / 21
    for odd in (19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0):
        p = p * z + 1 / odd
    return np.float64(k) * 0.6931471805599453 + (2 * s + 2 * s * (z * p))


@njit(fastmath=FAST, **OPTIONS)
def bounds(C, low, high, odd):  # type: ignore[no-untyped-def]
    """Smallest and largest entry, the latter NaN if an entry is not finite, for 0 c is 0 for finite c alone.

    First of each column, which are vectors, then of those: LLVM leaves a minimum over everything a loop of scalars.
    """
    n, m = C.shape
    zero = C.dtype.type(0)
    for j in range(m):
        low[j] = high[j] = C[0, j]
        odd[j] = 0
    for i in range(n):
        for j in range(m):
            c = C[i, j]
            low[j] = c if c < low[j] else low[j]
            high[j] = c if c > high[j] else high[j]
            odd[j] += zero * c
    least, most, oddity = low[0], high[0], zero
    for j in range(m):
        least, most = min(least, low[j]), max(most, high[j])
        oddity += odd[j]
    return np.float64(least), np.float64(most) + oddity


@njit(fastmath=FAST, **OPTIONS)
def fill_kernel(C, f, g, epsilon, K):  # type: ignore[no-untyped-def]
    """K_ij = exp((f_i + g_j - C_ij) / epsilon), the exponent in float64."""
    n, m = C.shape
    scale = 1.0 / epsilon
    for i in range(n):
        for j in range(m):
            x = (f[i] + g[j] - C[i, j]) * scale
            K[i, j] = _exp32(x) if K.itemsize == 4 else np.exp(x)


@njit(fastmath=EXACT, **OPTIONS)
def fill_kernel32(C, middle, epsilon, K):  # type: ignore[no-untyped-def]
    """K_ij = exp((middle - C_ij) / epsilon) to float32's last bits, without float64: almost twice as fast.

    The rounding of the difference is kept (Knuth's sum of two), and multiples of `step`, the cost that halves the
    kernel, are taken off in two parts, of which the first is exact (Cody and Waite).
    """
    n, m = C.shape
    middle, step = np.float32(middle), epsilon * 0.6931471805599453
    grain = 2.0 ** np.floor(np.log2(step) - 17.0)
    coarse = np.float32(np.floor(step / grain) * grain)
    fine, inverse = np.float32(step - coarse), np.float32(1.0 / step)
    for i in range(n):
        for j in range(m):
            d = middle - C[i, j]
            c = middle - d
            lost = (c - C[i, j]) + (middle - (d + c))
            k = np.floor(d * inverse + np.float32(0.5))
            K[i, j] = _power_of_two(k, (d - k * coarse - k * fine + lost) * inverse)


@njit(fastmath=FAST, **OPTIONS)
def absorb(f, u, a, epsilon):  # type: ignore[no-untyped-def]
    """Move the scaling into the potential: f_i += epsilon log(u_i / a_i)."""
    for i in range(len(f)):
        f[i] += epsilon * _log(np.float64(u[i]) / np.float64(a[i]))


@njit(fastmath=FAST, **OPTIONS)
def scaled_kernel(u, K, v, P):  # type: ignore[no-untyped-def]
    """P_ij = u_i K_ij v_j: the plan, from a kernel that is still in the cache."""
    n, m = P.shape
    for i in range(n):
        for j in range(m):
            P[i, j] = u[i] * K[i, j] * v[j]


@njit(fastmath=FAST, **OPTIONS)
def _sweep(K, a, b, u, v, w, omega):  # type: ignore[no-untyped-def]
    """Update u from v, accumulate w = K^T u, and return the L1 marginal error of (u, v)."""
    n, m = K.shape
    plus, minus = K.dtype.type(1 + omega), K.dtype.type(1 - omega)
    tiny = K.dtype.type(1e-37 if K.itemsize == 4 else 1e-300)
    err = K.dtype.type(0)
    w[:] = 0
    for i in range(0, n, 4):
        s0 = s1 = s2 = s3 = K.dtype.type(0)
        for j in range(m):
            s0 += K[i, j] * v[j]
            s1 += K[i + 1, j] * v[j]
            s2 += K[i + 2, j] * v[j]
            s3 += K[i + 3, j] * v[j]
        for r, s in enumerate((s0, s1, s2, s3)):
            ai = a[i + r]
            t = u[i + r] * s
            new = ai / (s + tiny) * ((plus * ai + minus * t) / (minus * ai + plus * t + tiny))
            err += abs(new * s - ai)
            u[i + r] = new
        u0, u1, u2, u3 = u[i], u[i + 1], u[i + 2], u[i + 3]
        for j in range(m):
            w[j] += u0 * K[i, j] + u1 * K[i + 1, j] + u2 * K[i + 2, j] + u3 * K[i + 3, j]
    for j in range(m):
        err += abs(v[j] * w[j] - b[j])
    return err


@njit(**OPTIONS)
def _next_omega(omega, rate, log_left):  # type: ignore[no-untyped-def]
    """The over-relaxation for the measured rate of decay of the error, a number below 1.

    Let rho be the rate of plain Sinkhorn. Relaxed by theta = 1 + omega, the error decays at the rate lambda with
    (lambda + omega)^2 = lambda theta^2 rho (Young 1971, for successive over-relaxation; Thibault et al. 2021 and
    Lehmann et al. 2022 for Sinkhorn) as long as theta is below its best value 2 / (1 + sqrt(1 - rho)); at the best
    value and above, lambda = omega. So a rate above omega tells rho, and rho the best omega. `log_left`: the logarithm
    of the factor by which the error must yet fall.
    """
    if rate <= omega or (omega == 0.0 and log_left > WORTHWHILE * np.log(rate)):
        return omega
    root = np.sqrt(1.0 - min((rate + omega) ** 2 / (rate * (1.0 + omega) ** 2), 1.0 - 1e-6))
    return min((1.0 - root) / (1.0 + root), omega + PACE * (1.0 - omega))


@njit(fastmath=FAST, **OPTIONS)
def _relax(b, w, v, omega):  # type: ignore[no-untyped-def]
    """Set v = b / w, over-relaxed: the power (b / v w)^omega by its Pade approximant, without a transcendental."""
    plus, minus = v.dtype.type(1 + omega), v.dtype.type(1 - omega)
    tiny = v.dtype.type(1e-37 if v.itemsize == 4 else 1e-300)
    for j in range(len(v)):
        t = v[j] * w[j]
        v[j] = b[j] / (w[j] + tiny) * ((plus * b[j] + minus * t) / (minus * b[j] + plus * t + tiny))


@njit(**OPTIONS)
def scale(K, a, b, u, v, w, tol, max_iter):  # type: ignore[no-untyped-def]
    """Iterate on one kernel until the L1 marginal error of (u, v) is at most `tol`; (iterations, error).

    Relaxed by omega, a slowly falling error looks (1 + omega) / (1 - omega) times as large as a plain sweep leaves it:
    so the plain sweep is tried that much earlier, and a growth by no more than that is no divergence.
    """
    omega, swell, finishing, retry, err, rate = 0.0, 1.0, False, 0, np.inf, 1.0
    start, mark, unswollen, settle, window = 2, np.inf, np.inf, SETTLE, WINDOW
    for k in range(1, max_iter + 1):
        # The last sweep is plain: its rows are exact, so the plan's mass is 1 and the dual value <a, f> + <b, g>.
        plain = finishing or omega == 0.0 or k == max_iter
        last, err = err, np.float64(_sweep(K, a, b, u, v, w, 0.0 if plain else omega))
        if not np.isfinite(err):
            return k, np.nan
        if k == max_iter or (err <= tol and plain):
            break
        retry = k + settle if finishing else retry
        finishing = err <= (tol * swell if k >= retry else tol)
        last_rate, rate = rate, err / last
        if omega == 0.0 and k > 2 and (err > FAR or rate < STEADY * last_rate):
            start = k
        elif k == start + window:
            new, mean = omega, (err / mark) ** (1.0 / window)
            if mean < 1.0:
                new = _next_omega(omega, mean, np.log(tol / err))
            elif err > swell * unswollen:
                new = omega / 2
            unswollen = err / swell
            # The error remembers about 1 / (1 - omega) sweeps, and above the best omega it swings as it falls.
            memory = int(0.75 / (1 - new))
            settle, window = SETTLE + memory, WINDOW + memory
            start = k if new == omega else k + settle
            omega, swell = new, (1 + new) / (1 - new)
        if k == start:
            mark = err
        _relax(b, w, v, 0.0 if finishing else omega)
        if k % STAGE_SWEEPS == 0 and np.nanmax(np.abs(np.log(np.concatenate((u / a, v / b))))) > DRIFT:
            break
    return k, err


@njit(**OPTIONS)
def _workspace(n, m, like):  # type: ignore[no-untyped-def]
    """Memory for the kernel, both weights, both scalings and `w` of any problem of this size, the longer axis last.

    Rows come in blocks of four and columns in blocks of sixteen: zeros fill up, so the sweep has no remainder loop.
    """
    rows, cols, dtype = _blocks(min(n, m), 4), _blocks(max(n, m), 16), like.dtype
    return (
        np.empty(rows * cols, dtype),
        (np.empty(rows, dtype), np.empty(cols, dtype), np.empty(rows, dtype), np.empty(cols, dtype)),
        np.empty(cols, dtype),
    )


@njit(inline="always")
def _blocks(size, block):  # type: ignore[no-untyped-def]
    """The size, rounded up to whole blocks."""
    return -(-size // block) * block


@njit(**OPTIONS)
def _carriers(weights, where):  # type: ignore[no-untyped-def]
    """Where the weight is not 0, as the beginning of `where`."""
    count = 0
    for i in range(len(weights)):
        where[count] = i
        count += weights[i] != 0
    return where[:count]


@njit(**OPTIONS)
def _gather(cost, rows, cols, transposed):  # type: ignore[no-untyped-def]
    """The rows and columns that carry weight, the longer axis last."""
    C = np.empty((len(cols), len(rows)) if transposed else (len(rows), len(cols)), cost.dtype)
    for i in range(len(rows)):
        for j in range(len(cols)):
            C[(j, i) if transposed else (i, j)] = cost[rows[i], cols[j]]
    return C


@njit(**OPTIONS)
def _scatter(P, rows, cols, transposed, plan):  # type: ignore[no-untyped-def]
    """The inverse of `_gather`; padding keeps its zeros."""
    for i in range(len(rows)):
        for j in range(len(cols)):
            plan[rows[i], cols[j]] = P[j, i] if transposed else P[i, j]


@njit(fastmath=FAST, **OPTIONS)
def _unit(weights, where, out):  # type: ignore[no-untyped-def]
    """Those weights that are not 0 in the number type of `out`, which is filled up with zeros.

    float32 weights sum to 1 only nearly, and a difference of two sums would be a floor of the marginal error.
    """
    count, total = len(where), 0.0
    for k in range(count):
        out[k] = weights[where[k]]
        total += out[k]
    for k in range(count):
        out[k] = out[k] / total
    out[count:] = 0


@njit(**OPTIONS)
def _one(work, C, low, high, weights, epsilon, tol, max_iter, f, g, P):  # type: ignore[no-untyped-def]
    """Solve one gathered problem in the number type of the workspace into `f`, `g` and `P`; (iterations, error)."""
    n, m = C.shape
    N, M = _blocks(n, 4), _blocks(m, 16)
    K, (a, b, u, v), w = work[0][: N * M].reshape(N, M), work[1], work[2][:M]
    a, b, u, v = a[:N], b[:M], u[:N], v[:M]
    _unit(*weights[0], a)
    _unit(*weights[1], b)
    K[n:] = 0
    K[:n, m:] = 0
    # The constant cost in the middle of the range spreads the kernel evenly around 1.
    f[:], g[:] = 0, K.dtype.type(0.5 * (low + high))
    # Epsilon scaling: halve epsilon from a value at which the kernel is safe. Mostly there is only the last stage.
    halvings = 0
    while high - low > RANGE_64 * epsilon * (1 << halvings) and halvings < 60:
        halvings += 1
    spent, stage = 0, halvings
    while True:
        stage_epsilon = epsilon * (1 << stage)
        if K.itemsize == 4:
            fill_kernel32(C, g[0], stage_epsilon, K)
        else:
            fill_kernel(C, f, g, stage_epsilon, K)
        u[:], v[:] = a, b
        sweeps = max_iter - spent if stage == 0 else min(STAGE_SWEEPS, max_iter - spent)
        used, error = scale(K, a, b, u, v, w, tol if stage == 0 else max(tol, 1e-3), sweeps)
        spent += used
        if np.isnan(error):
            return spent, error
        absorb(f, u, a, stage_epsilon)
        absorb(g, v, b, stage_epsilon)
        if stage == 0 and (error <= tol or spent >= max_iter):
            scaled_kernel(u, K, v, P)
            return spent, error
        if spent >= max_iter:
            # Out of iterations before the last stage: the error of another epsilon says nothing of this one.
            fill_kernel(C, f, g, epsilon, K)
            scaled_kernel(a, K, b, P)
            return spent, np.inf
        # A stage before the last needs only to come near: its potentials are the next one's start.
        stage = max(stage - 1, 0)


@njit(**OPTIONS)
def solve_range(start, stop, cost, a, b, epsilon, tol, max_iter, f, g, n_iter, error, plan):  # type: ignore[no-untyped-def]
    """Solve the problems `start` to `stop` of a batch into `f`, `g`, `n_iter`, `error` and `plan`."""
    n, m = cost.shape[1:]
    single, double = _workspace(n, m, np.empty(0, np.float32)), _workspace(n, m, np.empty(0, np.float64))
    rows, cols = np.empty(n, np.int64), np.empty(m, np.int64)
    size = max(n, m)
    low, high, odd = np.empty(size, cost.dtype), np.empty(size, cost.dtype), np.empty(size, cost.dtype)
    for p in range(start, stop):
        x, y = (a[p], _carriers(a[p], rows)), (b[p], _carriers(b[p], cols))
        padded, transposed = len(x[1]) < n or len(y[1]) < m, len(x[1]) > len(y[1])
        gathered = padded or transposed
        if gathered:
            plan[p], f[p], g[p] = 0, 0, 0
        n_iter[p], error[p] = 0, 0
        if len(x[1]) == 0 or len(y[1]) == 0:
            continue
        C = _gather(cost[p], x[1], y[1], transposed) if gathered else cost[p]
        P, fp, gp = (
            (np.empty_like(C), np.empty(C.shape[0]), np.empty(C.shape[1])) if gathered else (plan[p], f[p], g[p])
        )
        least, most = bounds(C, low, high, odd)
        if np.isnan(most):
            error[p] = np.nan
        else:
            weights = (y, x) if transposed else (x, y)
            options = least, most, weights, epsilon, tol
            if cost.itemsize == 4 and most - least <= RANGE_32 * epsilon and tol >= FLOOR_32:
                n_iter[p], error[p] = _one(single, C, *options, max_iter, fp, gp, P)
            else:
                n_iter[p], error[p] = _one(double, C, *options, max_iter, fp, gp, P)
        if np.isnan(error[p]):
            plan[p], f[p], g[p] = 0, 0, 0
        elif gathered:
            _scatter(P, x[1], y[1], transposed, plan[p])
            f[p][x[1]], g[p][y[1]] = (gp, fp) if transposed else (fp, gp)


@njit(fastmath=FAST, **OPTIONS)
def plan_range(start, stop, cost, f, g, a, b, epsilon, plan):  # type: ignore[no-untyped-def]
    """P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon) for the problems `start` to `stop`."""
    n, m = cost.shape[1:]
    for p in range(start, stop):
        P = plan[p]
        fill_kernel(cost[p], f[p], g[p], epsilon, P)
        for i in range(n):
            for j in range(m):
                P[i, j] = a[p, i] * b[p, j] * P[i, j] if a[p, i] != 0 and b[p, j] != 0 else 0
