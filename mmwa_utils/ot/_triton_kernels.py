"""The GPU kernels: one program holds a whole problem on chip, from the first iteration to the last.

The kernel matrix of 50 x 240 tokens is 64 KiB when padded to powers of two: it fits the registers of one
multiprocessor. So a program reads its cost once, iterates without touching memory or the host, stops when *its* problem
is done, and writes the plan while the kernel is still in registers. A small problem is one warp, without a single
barrier, and the multiprocessor packs up to thirty-two of them side by side: no problem waits for another.

The iteration is the CPU's (`_numba`), with the same over-relaxation; `Backend` says what it must compute.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton has its own types: what an argument is, it infers from the launch.

from __future__ import annotations

import triton
import triton.language as tl

from . import _numba_kernels as rule

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)
TINY: tl.constexpr = tl.constexpr(1e-37)
HUGE: tl.constexpr = tl.constexpr(3e38)
# The cost of an entry without weight, and of every entry of a problem that is not solved.
ABSENT: tl.constexpr = tl.constexpr(1e30)
SETTLE, WINDOW, WORTHWHILE = (tl.constexpr(number) for number in (rule.SETTLE, rule.WINDOW, rule.WORTHWHILE))
FAR, STEADY, PACE = (tl.constexpr(number) for number in (rule.FAR, rule.STEADY, rule.PACE))
# Sweeps after which scalings are absorbed into the potentials, where the kernel alone could overflow.
ABSORB_EVERY: tl.constexpr = tl.constexpr(16)
STAGE_SWEEPS: tl.constexpr = tl.constexpr(32)
STAGE_ERROR: tl.constexpr = tl.constexpr(0.05)
# Epsilon scaling: a stage ends after so many sweeps or at this error, and epsilon is multiplied by the ratio.
STAGE_RATIO: tl.constexpr = tl.constexpr(0.25)


@triton.jit
def _two_sum(x, y):
    """X + y and the rounding error of that sum, both float32, exactly (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


@triton.jit
def _halves(x):
    """A float64 as the float32 next to it and what is left."""
    high = x.to(tl.float32)
    return high, (x - high.to(tl.float64)).to(tl.float32)


@triton.jit
def _density(C, f, g, epsilon):
    """exp((f_i + g_j - C_ij) / epsilon), 0 where C is `ABSENT`.

    Rounding the exponent to float32 would cost a relative error of 6e-8 times its size. So it is kept in two float32
    halves, and 2^(high + low) = 2^high (1 + low ln 2); float64 would take twice the registers, and overflow them.
    """
    f_high, f_low = _halves(f)
    g_high, g_low = _halves(g)
    s_high, s_low = _halves(1.0 / epsilon * LOG2_E)
    x, low = _two_sum(f_high[:, None], g_high[None, :])
    x, more = _two_sum(x, -C)
    low = low + more + (f_low[:, None] + g_low[None, :])
    y = x * s_high
    low = tl.fma(x, s_high, -y) + (x * s_low + low * s_high)
    return tl.where(C < ABSENT, tl.exp2(y) * (1.0 + low * LN_2), 0.0)


@triton.jit
def _relaxed(mass, product, scaling, omega):
    """Divide mass / product, over-relaxed: the power (mass / (scaling product))^omega by its Pade approximant."""
    t = scaling * product
    plus = 1.0 + omega
    minus = 1.0 - omega
    return mass / (product + TINY) * ((plus * mass + minus * t) / (minus * mass + plus * t + TINY))


@triton.jit
def _swell(omega):
    """How many times larger than after a plain sweep a slowly falling error looks when relaxed by omega."""
    return (1.0 + omega) / (1.0 - omega)


@triton.jit
def _next_omega(omega, rate, log_left):
    """As `_numba_kernels._next_omega`."""
    ratio = (rate + omega) / (1.0 + omega)
    root = tl.sqrt(1.0 - tl.minimum(ratio * ratio / tl.maximum(rate, TINY), 1.0 - 1e-6))
    keep = (rate <= omega) | ((omega == 0.0) & (log_left > tl.log(rate) * WORTHWHILE))
    return tl.where(keep, omega, tl.minimum((1.0 - root) / (1.0 + root), omega + (1.0 - omega) * PACE))


@triton.jit
def unrelaxed():
    """The state before the first sweep, as `_numba_kernels.UNRELAXED`, but for whether the next one is the last."""
    far = 0.0 + HUGE
    return 0.0, far, 1.0, 2, 0 + WINDOW, far, 0 + SETTLE, 0, far


@triton.jit
def steer(
    omega, finishing, last_error, last_rate, start, window, mark, settle, retry, unswollen, sweep, error, goal
):  # fmt: skip
    """The next state of a `_numba_kernels.Relaxation`, by the same rule, step by step: a test compares the two."""
    before = omega
    retry = tl.where(finishing, sweep + settle, retry)
    finishing = error <= tl.where(sweep >= retry, goal * _swell(omega), goal)
    rate = error / last_error
    if (omega == 0.0) & (sweep > 2) & ((error > FAR) | (rate < last_rate * STEADY)):
        start = sweep
    elif sweep == start + window:
        mean = tl.exp(tl.log(error / mark) / window)
        grown = tl.where(error > unswollen * _swell(omega), omega / 2, omega)
        omega = tl.where(mean < 1.0, _next_omega(omega, mean, tl.log(goal / error)), grown)
        unswollen = error / _swell(before)
        memory = (0.75 / (1.0 - omega)).to(tl.int32)
        settle = memory + SETTLE
        window = memory + WINDOW
        start = tl.where(omega == before, sweep, sweep + settle)
    mark = tl.where(sweep == start, error, mark)
    return omega, finishing, error, rate, start, window, mark, settle, retry, unswollen


@triton.jit
def _log_ratio(scaling, mass):
    """log(scaling / mass) in float64, 0 where there is no mass."""
    ratio = tl.where(mass > 0, scaling / tl.where(mass > 0, mass, 1.0), 1.0)
    return tl.log(ratio.to(tl.float64))


# Left unspecialised: as a constant 1, `max_iter` would turn the loop's flags into constants.
@triton.jit(do_not_specialize=["max_iter"])
def solve_kernel(
    cost_ptr, a_ptr, b_ptr, f_ptr, g_ptr, plan_ptr, count_ptr, error_ptr, n, m, epsilon: tl.float64, tol: tl.float64,
    max_iter, REACH: tl.constexpr, N: tl.constexpr, M: tl.constexpr
):  # fmt: skip
    """Solve one problem; the scalings `u`, `v` carry the weights, so that a weight of 0 is a scaling of 0."""
    problem = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, N)
    j = tl.arange(0, M)
    a = tl.load(a_ptr + problem * n + i, mask=i < n, other=0.0)
    b = tl.load(b_ptr + problem * m + j, mask=j < m, other=0.0)

    # Padding is never read; a NaN or a cost of -infinity between weights fails this problem alone, and one of
    # +infinity, or beyond `ABSENT`, allows no mass.
    valid = (a > 0)[:, None] & (b > 0)[None, :]
    C = tl.load(cost_ptr + problem * n * m + i[:, None] * m + j[None, :], mask=valid, other=ABSENT)
    unusable = tl.where(valid & ((C > -ABSENT) == 0), 1, 0)
    failed = tl.max(tl.max(unusable, 1), 0)
    empty = (tl.sum(a, 0) == 0) | (tl.sum(b, 0) == 0)
    running = tl.where(empty, 0, 1 - failed)
    C = tl.where(running > 0, tl.minimum(C, ABSENT), ABSENT)
    lowest = tl.min(tl.min(C, 1), 0)
    highest = tl.max(tl.max(tl.where(C < ABSENT, C, -ABSENT), 1), 0)
    spread = tl.where(running > 0, highest.to(tl.float64) - lowest.to(tl.float64), 0.0)

    # Potentials absorbed so far. They start at 0 but for the shift that makes the largest kernel entry 1.
    f = tl.zeros([N], tl.float64) + tl.where(running > 0, lowest, 0.0).to(tl.float64)
    g = tl.zeros([M], tl.float64)
    annealed = spread > REACH * epsilon
    now = tl.maximum(spread / REACH, epsilon)
    K = _density(C, f, g, now)
    u = a
    v = b
    # The sums below carry roundings of 1e-7: the loop aims a little lower than what is measured at the end.
    target = (tol - tl.minimum(0.3 * tol, 3e-7)).to(tl.float32)
    omega, error, rate, start, window, mark, settle, retry, unswollen = unrelaxed()
    count = 0
    sweeps = 0
    finishing = max_iter == 1
    while running > 0:
        last = now <= epsilon
        goal = tl.where(last, target, STAGE_ERROR)
        iterating = 1
        while iterating > 0:
            # One iteration: u from K v, then v from K^T u. The last one is plain, which makes the rows exact.
            step = tl.where(finishing, 0.0, omega)
            product = tl.sum(K * v[None, :], 1)
            u = _relaxed(a, product, u, step)
            rows = tl.sum(tl.abs(u * product - a), 0)
            product = tl.sum(K * u[:, None], 0)
            left = rows + tl.sum(tl.abs(v * product - b), 0)
            count += 1
            sweeps += 1
            good = left <= goal
            over = (last & good & (step == 0.0)) | (count >= max_iter) | ((left < HUGE) == 0)
            if over:
                error = left
                running = 0
                iterating = 0
            else:
                omega, finishing, error, rate, start, window, mark, settle, retry, unswollen = steer(
                    omega, finishing, error, rate, start, window, mark, settle, retry, unswollen, sweeps, left, goal
                )
                finishing = (last & finishing) | (count + 1 >= max_iter)
                v = _relaxed(b, product, v, tl.where(finishing, 0.0, omega))
                # Scalings become potentials when epsilon falls, and before they could overflow.
                falls = (last == 0) & (good | (sweeps >= STAGE_SWEEPS))
                if falls | (annealed & (sweeps % ABSORB_EVERY == 0)):
                    iterating = 0

        f += now * _log_ratio(u, a)
        g += now * _log_ratio(v, b)
        u = a
        v = b
        if running == 0:
            now = epsilon
        elif (last == 0) & ((error <= goal) | (sweeps >= STAGE_SWEEPS)):
            now = tl.maximum(now * STAGE_RATIO, epsilon)
            omega, error, rate, start, window, mark, settle, retry, unswollen = unrelaxed()
            sweeps = 0
        K = _density(C, f, g, now)

    # K is now the density of the plan at the potentials that are returned: the error is measured, not remembered.
    failed = tl.where((count > 0) & ((error < HUGE) == 0), 1, failed)
    solved = (count > 0) & (failed == 0)
    rows = a * tl.sum(K * b[None, :], 1)
    columns = b * tl.sum(K * a[:, None], 0)
    error = tl.sum(tl.abs(rows - a), 0) + tl.sum(tl.abs(columns - b), 0)
    error = tl.where(solved, error, tl.where(failed > 0, float("nan"), 0.0))
    tl.store(f_ptr + problem * n + i, tl.where(solved & (a > 0), f, 0.0), mask=i < n)
    tl.store(g_ptr + problem * m + j, tl.where(solved & (b > 0), g, 0.0), mask=j < m)
    inside = (i < n)[:, None] & (j < m)[None, :]
    P = tl.where(solved & valid, a[:, None] * b[None, :] * K, 0.0)
    tl.store(plan_ptr + problem * n * m + i[:, None] * m + j[None, :], P, mask=inside)
    tl.store(error_ptr + problem, error.to(tl.float64))
    tl.store(count_ptr + problem, tl.where(solved, count, 0))
