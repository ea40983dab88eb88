"""What is compiled for the CPU: passes over entries, the iteration, a problem, a stretch of a batch.

Numba caches a compiled function beside its file and looks for changes in that file alone: a function that calls one of
another file would go on running that one's old code. Exponential and logarithm are polynomials, since LLVM vectorises
those and no call into the C library. A division by zero gives infinity, as in NumPy: Numba's default, an exception, is
a branch in every inner loop. `K.itemsize` tells float32 from float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit

from ._problem import KERNEL_RANGE

RANGE_32 = KERNEL_RANGE[torch.float32]
RANGE_64 = KERNEL_RANGE[torch.float64]
# The range over epsilon below which a problem is flat, and what stands for the iterations of one that was left over.
FLAT, LEFT = 0.1, -1
# The smallest marginal error that float32 sums reach reliably; below, the kernel is kept in float64.
FLOOR_32 = 5e-7
# Sweeps after which a stage of epsilon scaling ends. The last stage ends when it is done, but looks that often whether
# the logarithm of a scaling is beyond `DRIFT` (float64 ends at 709) and the potentials had better absorb it.
STAGE_SWEEPS, DRIFT = 100, 200.0
# Sweeps that the error takes to follow a change of the relaxation, then sweeps to measure its rate; at the least.
SETTLE, WINDOW = 3, 2
# A larger error than this, or a rate below this share of the sweep's before, says that the rate is not yet final.
FAR, STEADY = 0.3, 0.9
# The share of the way to 1 that a relaxation goes at most at once.
PACE = 0.3
# Plain sweeps that must still be ahead for over-relaxation to start: it costs a settling and a last plain sweep.
WORTHWHILE = 6

# NaN and infinity keep their meaning (they flag a problem); only the order of sums and fused products are free.
FAST = {"contract", "reassoc", "nsz"}
EXACT = {"contract", "nsz"}
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(inline="always")
def _power_of_two(k, r):  # type: ignore[no-untyped-def]
    """2^(k + r) in float32 for whole k and |r| <= 1/2: a polynomial, and k added to the exponent's bits."""
    p = np.float32(1.5403530e-4)
    for c in (1.3333558e-3, 9.6181291e-3, 5.5504109e-2, 2.4022651e-1, 6.9314718e-1, 1.0):
        p = p * r + np.float32(c)
    return p * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)


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
def bounds(C):  # type: ignore[no-untyped-def]
    """Smallest and largest entry, the latter NaN if an entry is not finite, for 0 c is 0 for finite c alone.

    First of each column, which are vectors, then of those: LLVM leaves a minimum over everything a loop of scalars.
    """
    n, m = C.shape
    zero = C.dtype.type(0)
    low, high, odd = C[0].copy(), C[0].copy(), np.zeros(m, C.dtype)
    for i in range(n):
        for j in range(m):
            c = C[i, j]
            low[j] = c if c < low[j] else low[j]
            high[j] = c if c > high[j] else high[j]
            odd[j] += zero * c
    return np.float64(low.min()), np.float64(high.max()) + odd.sum()


@njit(**OPTIONS)
def finite_bounds(C):  # type: ignore[no-untyped-def]
    """Smallest and largest finite entry, where some are infinite; the latter NaN for a NaN or a cost of -infinity."""
    least, most = np.inf, -np.inf
    for c in C.flat:
        if np.isnan(c) or c == -np.inf:
            return np.nan, np.nan
        if c < np.inf:
            least, most = min(least, np.float64(c)), max(most, np.float64(c))
    return (least, most) if least <= most else (0.0, 0.0)


@njit(fastmath=FAST, **OPTIONS)
def fill_kernel(C, f, g, epsilon, K):  # type: ignore[no-untyped-def]
    """K_ij = exp((f_i + g_j - C_ij) / epsilon), the exponent in float64."""
    n, m = C.shape
    scale = 1.0 / epsilon
    for i in range(n):
        for j in range(m):
            K[i, j] = np.exp((f[i] + g[j] - C[i, j]) * scale)


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


@njit(fastmath=FAST, inline="always", **OPTIONS)
def sweep_rows(K, a, u, v, w, omega):  # type: ignore[no-untyped-def]
    """Update u from v, add K^T u to w, and return what was left of the rows' marginal error."""
    n, m = K.shape
    plus, minus = v.dtype.type(1 + omega), v.dtype.type(1 - omega)
    tiny = v.dtype.type(1e-37 if v.itemsize == 4 else 1e-300)
    err = v.dtype.type(0)
    for i in range(0, n, 4):
        s0 = s1 = s2 = s3 = v.dtype.type(0)
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
    return err


@njit(fastmath=FAST, **OPTIONS)
def _sweep(K, a, b, u, v, w, omega):  # type: ignore[no-untyped-def]
    """Update u from v, accumulate w = K^T u, and return the L1 marginal error of (u, v)."""
    w[:] = 0
    err = sweep_rows(K, a, u, v, w, omega)
    for j in range(len(v)):
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
def relax(b, w, v, omega):  # type: ignore[no-untyped-def]
    """Set v = b / w, over-relaxed: the power (b / v w)^omega by its Pade approximant, without a transcendental."""
    plus, minus = v.dtype.type(1 + omega), v.dtype.type(1 - omega)
    tiny = v.dtype.type(1e-37 if v.itemsize == 4 else 1e-300)
    for j in range(len(v)):
        t = v[j] * w[j]
        v[j] = b[j] / (w[j] + tiny) * ((plus * b[j] + minus * t) / (minus * b[j] + plus * t + tiny))


class Relaxation(NamedTuple):
    """Over-relaxation, as it is steered from sweep to sweep by what each leaves of the marginal error."""

    # 0 is a plain sweep.
    omega: float
    # The next sweep is plain, and the last if it reaches the goal.
    finishing: bool
    # What the last sweep left, and `rate`, that over what the sweep before had left.
    error: float
    rate: float
    # The sweep from which the rate for the next omega is measured, over `window` sweeps from the error `mark`.
    start: int
    window: int
    mark: float
    # Sweeps that the error takes to follow a change.
    settle: int
    # The sweep from which a last one may be tried early again.
    retry: int
    # The error at the last measurement, as a plain sweep would have left it.
    unswollen: float


# The state before the first sweep.
UNRELAXED = Relaxation(0.0, False, np.inf, 1.0, 2, WINDOW, np.inf, SETTLE, 0, np.inf)


@njit(inline="always")
def _swell(omega):  # type: ignore[no-untyped-def]
    """How many times larger than after a plain sweep a slowly falling error looks when relaxed by omega."""
    return (1 + omega) / (1 - omega)


@njit(**OPTIONS)
def steer(before, sweep, error, goal):  # type: ignore[no-untyped-def]
    """The relaxation after this sweep, the first being 1, has left this error; `_triton_kernels` has it once more.

    Since a relaxed error is swollen, the plain sweep is tried that much earlier, and a growth by no more than that is
    no divergence; a larger one halves omega.
    """
    omega, start, settle, window = before.omega, before.start, before.settle, before.window
    mark, unswollen, rate = before.mark, before.unswollen, error / before.error
    retry = sweep + settle if before.finishing else before.retry
    finishing = error <= (goal * _swell(omega) if sweep >= retry else goal)
    if omega == 0.0 and sweep > 2 and (error > FAR or rate < STEADY * before.rate):
        start = sweep
    elif sweep == start + window:
        mean = (error / mark) ** (1.0 / window)
        if mean < 1.0:
            omega = _next_omega(omega, mean, np.log(goal / error))
        elif error > _swell(omega) * unswollen:
            omega = omega / 2
        unswollen = error / _swell(before.omega)
        # The error remembers about 1 / (1 - omega) sweeps, and above the best omega it swings as it falls.
        memory = int(0.75 / (1 - omega))
        settle, window = SETTLE + memory, WINDOW + memory
        start = sweep if omega == before.omega else sweep + settle
    if sweep == start:
        mark = error
    return Relaxation(omega, finishing, error, rate, start, window, mark, settle, retry, unswollen)


@njit(**OPTIONS)
def scale(K, a, b, u, v, w, tol, max_iter):  # type: ignore[no-untyped-def]
    """Iterate on one kernel until the L1 marginal error of (u, v) is at most `tol`; (iterations, error)."""
    state = UNRELAXED
    for k in range(1, max_iter + 1):
        # The last sweep is plain: its rows are exact, so the plan's mass is 1 and the dual value <a, f> + <b, g>.
        plain = state.finishing or state.omega == 0.0 or k == max_iter
        error = np.float64(_sweep(K, a, b, u, v, w, 0.0 if plain else state.omega))
        if not np.isfinite(error):
            return k, np.nan
        if k == max_iter or (error <= tol and plain):
            break
        state = steer(state, k, error, tol)
        relax(b, w, v, 0.0 if state.finishing else state.omega)
        if k % STAGE_SWEEPS == 0 and np.nanmax(np.abs(np.log(np.concatenate((u / a, v / b))))) > DRIFT:
            break
    return k, error


@njit(fastmath=FAST, **OPTIONS)
def _unit(weights, where, size, number):  # type: ignore[no-untyped-def]
    """Those weights that are not 0, as an array of this number type, filled up with zeros to this size.

    float32 weights sum to 1 only nearly, and a difference of two sums would be a floor of the marginal error.
    """
    out, count, total = np.zeros(size, number), len(where), 0.0
    for k in range(count):
        out[k] = weights[where[k]]
        total += out[k]
    for k in range(count):
        out[k] = out[k] / total
    return out


@njit(**OPTIONS)
def count_halvings(spread, epsilon):  # type: ignore[no-untyped-def]
    """How often epsilon is halved, from where the kernel of costs of this spread is safe."""
    return int(min(max(np.ceil(np.log2(spread / RANGE_64 / epsilon)), 0.0), 1100.0))


@njit(**OPTIONS)
def centre(f, g, a, b):  # type: ignore[no-untyped-def]
    """Move the constant that makes <a, f> = <b, g>: nothing else would keep either small as epsilon falls."""
    shift = 0.5 * (np.sum(b[: len(g)] * g) - np.sum(a[: len(f)] * f))
    f += shift
    g -= shift


@njit(**OPTIONS)
def _one(number, C, low, high, weights, epsilon, tol, max_iter, f, g, P):  # type: ignore[no-untyped-def]
    """Solve one gathered problem in this number type into `f`, `g` and `P`; (iterations, error).

    Rows come in blocks of four and columns in blocks of sixteen: zeros fill up, so the sweep has no remainder loop.
    """
    n, m = C.shape
    a, b = _unit(*weights[0], -(-n // 4) * 4, number), _unit(*weights[1], -(-m // 16) * 16, number)
    K, u, v, w = np.zeros((len(a), len(b)), number), np.empty_like(a), np.empty_like(b), np.empty_like(b)
    # Epsilon scaling: halve epsilon from a value at which the kernel is safe. Mostly there is only the last stage.
    halvings = count_halvings(high - low, epsilon)
    # The constant cost in the middle of the range spreads the kernel evenly around 1. In a range that is wider than
    # that, it would be of the size of the largest entry, and cancel what the small ones say.
    f[:], g[:] = 0, low if halvings else np.float64(number(0.5 * (low + high)))
    spent, stage = 0, halvings
    while True:
        stage_epsilon = epsilon * 2.0**stage
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
        if stage > 0:
            centre(f, g, a, b)
            stage -= 1


@njit(**OPTIONS)
def solve_range(start, stop, cost, a, b, epsilon, tol, max_iter, f, g, plan, n_iter, error):  # type: ignore[no-untyped-def]
    """Solve some problems of a batch into `f`, `g`, `plan`, `n_iter` and `error`, but for flat ones."""
    n, m = cost.shape[1:]
    for p in range(start, stop):
        x, y = (a[p], np.flatnonzero(a[p])), (b[p], np.flatnonzero(b[p]))
        transposed = len(x[1]) > len(y[1])
        gathered = transposed or len(x[1]) < n or len(y[1]) < m
        n_iter[p], error[p] = 0, 0
        if gathered:
            plan[p], f[p], g[p] = 0, 0, 0
        if len(x[1]) == 0 or len(y[1]) == 0:
            continue
        C, P, fp, gp = cost[p], plan[p], f[p], g[p]
        if gathered:
            C = cost[p][x[1]][:, y[1]]
            C = np.ascontiguousarray(C.T) if transposed else C
            P, fp, gp = np.empty_like(C), np.empty(C.shape[0]), np.empty(C.shape[1])
        low, high = bounds(C)
        forbidden = np.isnan(high)
        if forbidden:
            low, high = finite_bounds(C)
        if np.isnan(high):
            plan[p], f[p], g[p], error[p] = 0, 0, 0, np.nan
            continue
        if high - low < FLAT * epsilon and not forbidden:
            n_iter[p] = LEFT
            continue
        options = low, high, (y, x) if transposed else (x, y), epsilon, tol
        if not forbidden and cost.itemsize == 4 and high - low <= RANGE_32 * epsilon and tol >= FLOOR_32:
            n_iter[p], error[p] = _one(np.float32, C, *options, max_iter, fp, gp, P)
        else:
            n_iter[p], error[p] = _one(np.float64, C, *options, max_iter, fp, gp, P)
        if np.isnan(error[p]):
            plan[p], f[p], g[p], n_iter[p] = 0, 0, 0, 0
        elif gathered:
            for i in range(len(x[1])):
                for j in range(len(y[1])):
                    plan[p, x[1][i], y[1][j]] = P[j, i] if transposed else P[i, j]
            f[p][x[1]], g[p][y[1]] = (gp, fp) if transposed else (fp, gp)
