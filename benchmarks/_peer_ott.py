"""OTT-JAX as a peer: every family of options that its documentation offers is tried, and the fastest is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import acceleration, sinkhorn

from benchmarks._accuracy import TARGET, marginal_error
from benchmarks._contender import CannotReachTargetError, Entry, Problem, loosest_tolerance

VARIANTS: dict[str, dict[str, Any]] = {
    "kernel": {"lse_mode": False},
    "kernel, adaptive momentum": {"lse_mode": False, "momentum": acceleration.Momentum(start=20)},
    "kernel, momentum 1.5": {"lse_mode": False, "momentum": acceleration.Momentum(value=1.5)},
    "log": {"lse_mode": True},
    "log, Anderson": {"lse_mode": True, "anderson": acceleration.AndersonAcceleration(memory=5)},
}


def _run(cost: jax.Array, epsilon: jax.Array, threshold: jax.Array, options: dict[str, Any]) -> Any:
    problem = linear_problem.LinearProblem(geometry.Geometry(cost_matrix=cost, epsilon=epsilon))
    return sinkhorn.Sinkhorn(threshold=threshold, max_iterations=20_000, **options)(problem)


def _cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    x, y = (tokens / jnp.linalg.norm(tokens, axis=-1, keepdims=True) for tokens in (x, y))
    return 1 - jnp.einsum("bid,bjd->bij", x, y)


# Compiled once a shape and variant; epsilon and the threshold are ordinary arguments.
@partial(jax.jit, static_argnames="variant")
def _plans(cost: jax.Array, epsilon: jax.Array, threshold: jax.Array, variant: str) -> jax.Array:
    return jax.vmap(lambda c: _run(c, epsilon, threshold, VARIANTS[variant]).matrix)(cost)


@partial(jax.jit, static_argnames="variant")
def _gradients(x: jax.Array, y: jax.Array, epsilon: jax.Array, threshold: jax.Array, variant: str) -> Any:
    def total(x: jax.Array, y: jax.Array) -> jax.Array:
        values = jax.vmap(lambda c: _run(c, epsilon, threshold, VARIANTS[variant]).reg_ot_cost)(_cosine(x, y))
        return values.sum()

    return jax.grad(total, argnums=(0, 1))(x, y)


def ott_jax(problem: Problem) -> Entry:
    """OTT-JAX, compiled, one `vmap` over the batch, with the loosest threshold that is accurate enough."""
    cost, x, y = (jnp.asarray(tensor.cpu().numpy()) for tensor in (problem.cost, problem.x, problem.y))
    epsilon = jnp.float32(problem.epsilon)
    best: tuple[float, str, float] | None = None
    for variant in VARIANTS:

        def error_at(tolerance: float, variant: str = variant) -> float:
            return marginal_error(torch.from_numpy(np.array(_plans(cost, epsilon, jnp.float32(tolerance), variant))))

        try:
            tolerance = loosest_tolerance(error_at)
        except CannotReachTargetError:
            continue
        seconds = _quickest(partial(_plans, cost, epsilon, jnp.float32(tolerance), variant))
        if best is None or seconds < best[0]:
            best = (seconds, variant, tolerance)
    if best is None:
        raise CannotReachTargetError(f"CANNOT REACH {TARGET:.0e}: no variant of OTT-JAX is accurate enough")
    _, variant, tolerance = best
    threshold = jnp.float32(tolerance)
    plans = _plans(cost, epsilon, threshold, variant)

    def gradient() -> tuple[torch.Tensor, torch.Tensor]:
        both = jax.block_until_ready(_gradients(x, y, epsilon, threshold, variant))
        return torch.from_dlpack(both[0]), torch.from_dlpack(both[1])

    return Entry(
        name="OTT-JAX",
        setting=f"{variant}, threshold={tolerance:.1e}, jit(vmap)",
        error=marginal_error(torch.from_numpy(np.array(plans))),
        solve=lambda: _plans(cost, epsilon, threshold, variant).block_until_ready(),
        gradient=gradient,
    )


def _quickest(run: Callable[[], jax.Array], repeats: int = 3) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        run().block_until_ready()
        return time.perf_counter() - start

    return min(seconds() for _ in range(repeats))


ENTRIES = (ott_jax,)
