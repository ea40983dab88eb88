"""The contract between the front end (`sinkhorn`) and the back ends that iterate, and the choice of a back end.

A back end is a module of this folder with three functions, whose signatures are the protocol `Backend` below:

- `supports(cost)`: whether it takes a batch of this size and number type on this device;
- `solve(cost, a, b, epsilon, tol, max_iter)`: the scaling iterations, nothing else;
- `plan(cost, f, g, a, b, epsilon)`: the plan that belongs to given potentials.

**The problem.** For each problem of the batch, with `n` source and `m` target tokens,

    min over P >= 0 of  <P, C> + epsilon KL(P | a b^T)   subject to   P 1 = a,  P^T 1 = b.

    KL(P | Q) = sum_ij P_ij log(P_ij / Q_ij) - P_ij + Q_ij.

Its solution is `P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)`: the weights `a`, `b` stand *outside* the
exponential, so `f` and `g` stay finite where a weight is zero.

**What a back end may take for granted** (the front end has checked or made it so)

- `cost` is (batch, n, m), contiguous, float32 or float64, detached, with batch >= 1, n >= 1, m >= 1 and any sign;
- `a` is (batch, n), `b` is (batch, m): contiguous, of the cost's number type and device, finite, >= 0; each row sums
  to 1, or is all zeros in *both* `a` and `b` (an empty problem);
- padding is nothing but a weight of exactly 0, at any position, not only at the end;
- `epsilon > 0`, `tol > 0` finite, `max_iter >= 1`; autocast is off.

**What it must not take for granted**: an entry of `cost` whose row or column has weight 0 may hold anything, NaN and
infinity included, and must not influence a result. An entry whose row and column both have weight may be NaN or
infinite as well; such a problem is *failed* and reported as said below.

**What `solve` returns** (a `Solution`; every number belongs to exactly the returned potentials)

- `f`, `g`: float64 (see `potential_dtype`), because `f + g - C` cancels: rounding `f` to float32 would cost a relative
  error `6e-8 * |f| / epsilon` in the plan. Exactly 0 where the weight is 0, and throughout an empty or failed
  problem. The additive constant between `f` and `g` is the back end's: the front end fixes it;
- `marginal_error`: `sum_i |(P 1)_i - a_i| + sum_j |(P^T 1)_j - b_j|`, measured, float64; NaN for a failed problem;
  0 for an empty one;
- `n_iter`: int32, how often both scalings were updated; 0 for empty and failed problems. A problem stops by itself
  as soon as its own error is <= tol, or after `max_iter`; its numbers do not depend, by a single bit, on the other
  problems of the batch. `converged` is `marginal_error <= tol` and is derived by the front end.

- `plan`: the plan of these potentials where the kernel matrix is at hand anyway and the plan is but a write, as on the
  CPU; None where it would be memory traffic that perhaps nobody asked for. Padding, empty and failed problems: 0.

Any start, relaxation or scaling of epsilon is the back end's affair, provided it needs no more iterations than plain
Sinkhorn (`u = a / K v`, `v = b / K^T u`) from `f = g = 0`. Where `R = (max C - min C) / epsilon` over the valid entries
is at most `KERNEL_RANGE[dtype]`, the kernel `exp(-(C - min C) / epsilon)` neither underflows nor overflows and the
iterations may run on it; above they must run in the log domain (or on a kernel with the potentials absorbed).

  **The last half-step is not relaxed** (`u = a / K v`, or `v = b / K^T u`), so one marginal is exact up to rounding and
  the plan's mass is 1: the front end takes `<a, f> + <b, g>` as the value.

**What `plan` returns**: (batch, n, m) of the cost's number type, exactly 0 where a weight is 0 (the front end passes
weights of 0 for failed problems), with the exponent formed in float64. Here `a` may have any sign and any sum, for
the gradient of the value is the plan of weights scaled by the incoming gradient.

Both run on the current stream of the cost's device without a host synchronisation where the device is not the host.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

KERNEL_RANGE = MappingProxyType({torch.float32: 40.0, torch.float64: 300.0})
"""Largest (max C - min C) / epsilon at which the kernel exp(-C / epsilon) is safe, for each number type."""

PREFERRED = MappingProxyType({"cpu": "_numba", "cuda": "_triton"})
"""The module of this folder that is tried first on a device; `_torch` serves every other case."""


@dataclass(frozen=True)
class Solution:
    """What a back end found, for each problem of the batch; the module's text says what each number must mean."""

    f: Float[Tensor, "batch n"]
    g: Float[Tensor, "batch m"]
    n_iter: Int[Tensor, " batch"]
    marginal_error: Float[Tensor, " batch"]
    plan: Float[Tensor, "batch n m"] | None = None


@runtime_checkable
class Backend(Protocol):
    """A module that solves batches; the module's text is the contract."""

    def supports(self, cost: Float[Tensor, "batch n m"]) -> bool:
        """Whether this back end takes a cost of this shape, number type and device."""
        ...

    def solve(
        self,
        cost: Float[Tensor, "batch n m"],
        a: Float[Tensor, "batch n"],
        b: Float[Tensor, "batch m"],
        epsilon: float,
        tol: float,
        max_iter: int,
    ) -> Solution:
        """Potentials with a marginal error of at most `tol`, or those after `max_iter` iterations."""
        ...

    def plan(
        self,
        cost: Float[Tensor, "batch n m"],
        f: Float[Tensor, "batch n"],
        g: Float[Tensor, "batch m"],
        a: Float[Tensor, "batch n"],
        b: Float[Tensor, "batch m"],
        epsilon: float,
    ) -> Float[Tensor, "batch n m"]:
        """`a_i b_j exp((f_i + g_j - C_ij) / epsilon)`, exactly 0 where a weight is 0."""
        ...


def potential_dtype(device: torch.device) -> torch.dtype:
    """float64, except on devices that do not have it (Apple's)."""
    return torch.float32 if device.type == "mps" else torch.float64


@functools.cache
def load(name: str) -> Backend:
    """The back end in the module `name` of this folder (`_numba`, `_triton`, `_torch`), imported at its first use."""
    return cast(Backend, importlib.import_module(f"{__package__}.{name}"))


def choose(cost: Float[Tensor, "batch n m"]) -> Backend:
    """The fastest back end that takes this cost: chosen by device, number type and size, never by the caller."""
    preferred = PREFERRED.get(cost.device.type)
    if preferred is not None:
        try:
            backend = load(preferred)
        except ModuleNotFoundError as missing:
            # Triton is a dependency of PyTorch's CUDA builds only; without it the plain path serves the device.
            if missing.name is None or missing.name.split(".")[0] not in ("triton", "numba"):
                raise
        else:
            if backend.supports(cost):
                return backend
    return load("_torch")
