"""The cosine cost and its gradient on the CPU: a few problems at a time, from the first product to the last sum.

The same in PyTorch's operators is a dozen passes over the batch: norms, scalings, sums. Their traffic costs as much as
the products where tokens are long, and their calls more where tokens are short. Here a thread takes a few problems
through all of it while their tokens are in its cache; PyTorch multiplies (on that thread, see `_threads`), the passes
are compiled. Nothing here calls a compiled function of another file: Numba would not notice its changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from ._memory import empty
from ._numba import LARGEST
from ._threads import share

# Written out and not imported: Numba's cache would not notice a change of another file's options either.
OPTIONS: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz"},
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
}
CACHED, MOST = 1 << 19, 32
"""Entries of the tokens and costs that a thread takes through all passes at a time, and most problems."""
ALONE = 1 << 21
"""Entries of a batch's tokens and costs below which the calling thread works alone, but for PyTorch's products."""


@njit(**OPTIONS)
def _inverse_norms(x, inverse):  # type: ignore[no-untyped-def]
    """1 / |x_i|, and 0 for a zero vector, as in `costs._inverse_norm`; a float32's squares are summed in float64."""
    n, dim = x.shape
    smallest = 1.1754943508222875e-38 if x.itemsize == 4 else 2.2250738585072014e-308
    for i in range(n):
        square = 0.0
        for k in range(dim):
            square += np.float64(x[i, k]) * np.float64(x[i, k])
        inverse[i] = 0.0 if square <= smallest else 1.0 / np.sqrt(square)


@njit(**OPTIONS)
def _norm_range(start, stop, x, y, inverse_x, inverse_y):  # type: ignore[no-untyped-def]
    """The inverse norms of both token sets, for the problems `start` to `stop`."""
    for p in range(start, stop):
        _inverse_norms(x[p], inverse_x[p])
        _inverse_norms(y[p], inverse_y[p])


@njit(**OPTIONS)
def _distance_range(start, stop, products, inverse_x, inverse_y):  # type: ignore[no-untyped-def]
    """<x, y> becomes 1 - <x, y> / (|x| |y|)."""
    n, m = products.shape[1:]
    one = products.dtype.type(1)
    for p in range(start, stop):
        C, scale = products[p], inverse_y[p]
        for i in range(n):
            s = inverse_x[p, i]
            for j in range(m):
                C[i, j] = one - C[i, j] * (s * scale[j])


@njit(**OPTIONS)
def _turn_range(start, stop, grad, cost, inverse_x, inverse_y, weights, turn_x, turn_y):  # type: ignore[no-untyped-def]
    """`W = -G / (|x| |y|)` and the row and column sums of `G cos` over `|x|^2` and `|y|^2`."""
    n, m = cost.shape[1:]
    one = cost.dtype.type(1)
    for p in range(start, stop):
        G, C, W, scale, columns = grad[p], cost[p], weights[p - start], inverse_y[p], turn_y[p]
        columns[:] = 0
        for i in range(n):
            s, row = inverse_x[p, i], one - one
            for j in range(m):
                W[i, j] = G[i, j] * (-s * scale[j])
                turned = G[i, j] * (one - C[i, j])
                row += turned
                columns[j] += turned
            turn_x[p, i] = row * s * s
        for j in range(m):
            columns[j] *= scale[j] * scale[j]


@njit(**OPTIONS)
def _scale_range(start, stop, scale, x, out):  # type: ignore[no-untyped-def]
    """`out_i = scale_i x_i`."""
    n, dim = x.shape[1:]
    for p in range(start, stop):
        for i in range(n):
            s = scale[p, i]
            for k in range(dim):
                out[p, i, k] = s * x[p, i, k]


def takes(x: Float[Tensor, "batch n dim"], y: Float[Tensor, "batch m dim"]) -> bool:
    """Whether there are tokens, and their cost fits in the cache; else all threads together multiply faster."""
    return x.numel() > 0 and y.numel() > 0 and x.shape[1] * y.shape[1] <= LARGEST


def cosine(
    x: Float[Tensor, "batch n dim"], y: Float[Tensor, "batch m dim"]
) -> tuple[Float[Tensor, "batch n m"], Float[Tensor, "batch n"], Float[Tensor, "batch m"]]:
    """`1 - <x, y> / (|x| |y|)`, and `1 / |x|` and `1 / |y|`."""
    x, y = x.detach().contiguous(), y.detach().contiguous()
    cost = empty((*x.shape[:2], y.shape[1]), x)
    inverse_x, inverse_y = x.new_empty(x.shape[:2]), y.new_empty(y.shape[:2])
    tokens, norms, costs = (x.numpy(), y.numpy()), (inverse_x.numpy(), inverse_y.numpy()), cost.numpy()

    def work(start: int, stop: int) -> None:
        _norm_range(start, stop, *tokens, *norms)  # first, since it fetches the tokens faster than a product does
        torch.bmm(x[start:stop], y[start:stop].mT, out=cost[start:stop])
        _distance_range(start, stop, costs, *norms)

    _share(x, y, work)
    return cost, inverse_x, inverse_y


def cosine_gradient(
    grad: Float[Tensor, "batch n m"],
    x: Float[Tensor, "batch n dim"],
    y: Float[Tensor, "batch m dim"],
    cost: Float[Tensor, "batch n m"],
    inverse_x: Float[Tensor, "batch n"],
    inverse_y: Float[Tensor, "batch m"],
    wanted: tuple[bool, bool],
) -> tuple[Float[Tensor, "batch n dim"] | None, Float[Tensor, "batch m dim"] | None]:
    """The gradients with respect to `x` and `y`, of those that are `wanted`: see `costs._Cosine.backward`."""
    x, y = x.detach().contiguous(), y.detach().contiguous()
    turn_x, turn_y = torch.empty_like(inverse_x), torch.empty_like(inverse_y)
    grad_x, grad_y = (empty(tuple(t.shape), t) if want else None for t, want in zip((x, y), wanted, strict=True))
    inputs = tuple(tensor.numpy() for tensor in (grad.contiguous(), cost, inverse_x, inverse_y))
    turns = turn_x.numpy(), turn_y.numpy()
    sides = [
        (turn, tokens.numpy(), out.numpy())
        for turn, tokens, out in zip(turns, (x, y), (grad_x, grad_y), strict=True)
        if out is not None
    ]

    def work(start: int, stop: int) -> None:
        weights = empty((stop - start, *cost.shape[1:]), cost)
        _turn_range(start, stop, *inputs, weights.numpy(), *turns)
        for side in sides:
            _scale_range(start, stop, *side)
        if grad_x is not None:
            grad_x[start:stop].baddbmm_(weights, y[start:stop])
        if grad_y is not None:
            grad_y[start:stop].baddbmm_(weights.mT, x[start:stop])

    _share(x, y, work)
    return grad_x, grad_y


def _share(x: Float[Tensor, "batch n dim"], y: Float[Tensor, "batch m dim"], work: Callable[[int, int], None]) -> None:
    entries = (x.shape[1] + y.shape[1]) * x.shape[2] + x.shape[1] * y.shape[1]
    share(len(x), work, most=min(MOST, -(-CACHED // entries)), alone=len(x) * entries < ALONE)
