"""The CPU back end's iteration: one sweep over the kernel matrix, and the over-relaxation.

Compiled by Numba at their first use and cached beside this file. Each takes one problem, padded with zeros to whole
vectors; `K.itemsize` tells float32 from float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ._entries import FAST, OPTIONS

SETTLE = 4
"""Sweeps after a change of the relaxation during which the error is not yet that of the new rate, at the least."""
WINDOW = 2
"""Sweeps over which the rate is measured then, at the least."""
TRUST = 0.25
"""The largest first relaxation: the rate of the first sweeps is often slower than the final one."""
WORTHWHILE = 6
"""Plain sweeps that must still be ahead for over-relaxation to start: it costs a settling and a last plain sweep."""


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
def _next_omega(omega, trust, rate, log_left):  # type: ignore[no-untyped-def]
    """The over-relaxation for the measured rate of decay of the error, and how far to trust such a measurement.

    Let rho be the rate of plain Sinkhorn. Relaxed by theta = 1 + omega, the error decays at the rate lambda with
    (lambda + omega)^2 = lambda theta^2 rho (Young 1971, for successive over-relaxation; Thibault et al. 2021 and
    Lehmann et al. 2022 for Sinkhorn) as long as theta is below its best value 2 / (1 + sqrt(1 - rho)); at the best
    value and above, lambda = omega. So a rate above omega tells rho, and rho the best omega.

    Far from the solution the rate is not yet the final one, so omega starts at no more than `TRUST`; each window in
    which the error falls halves the distance of that bound to 1. If the error rises, both fall back by half.
    `log_left`, the logarithm of the factor by which the error has yet to fall, lets plain sweeps that are nearly done
    go on.
    """
    if rate >= 1.0 and omega > 0.0:
        return omega / 2, omega / 2
    best = omega
    if rate > omega:
        rho = min((rate + omega) ** 2 / (rate * (1.0 + omega) ** 2), 1.0 - 1e-6)
        root = np.sqrt(1.0 - rho)
        best = max(omega, (1.0 - root) / (1.0 + root))
    if omega == 0.0 and rate < 1.0 and log_left > WORTHWHILE * np.log(rate):
        best = 0.0
    return min(best, trust), (1.0 + trust) / 2


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
    """Iterate on one kernel until the L1 marginal error of (u, v) is at most `tol`; (iterations, error)."""
    omega, trust, err, finishing = 0.0, TRUST, np.inf, False
    changed, mark, settle, window = 2 - SETTLE, np.inf, SETTLE, WINDOW
    for k in range(1, max_iter + 1):
        # The last sweep is plain: its rows are exact, so the plan's mass is 1 and the dual value <a, f> + <b, g>.
        finishing = finishing or k == max_iter
        step = 0.0 if finishing else omega
        err = np.float64(_sweep(K, a, b, u, v, w, step))
        if not np.isfinite(err):
            return k, np.nan
        if k == max_iter or (err <= tol and step == 0.0):
            break
        finishing = err <= tol
        if k == changed + settle:
            mark = err
        elif k == changed + settle + window:
            rate = (err / mark) ** (1.0 / window)
            new, trust = _next_omega(omega, trust, rate, np.log(tol / err))
            # An error relaxed by omega remembers 1 / (1 - omega) sweeps, and above the best omega it swings as it
            # falls: judged sooner, a swing looks like divergence.
            memory = int(1 / (1 - new))
            settle, window = SETTLE + memory, WINDOW + memory
            if abs(new - omega) > 0.02:
                omega, changed = new, k
            else:
                changed, mark = k - settle, err
        _relax(b, w, v, 0.0 if finishing else omega)
    return k, err
