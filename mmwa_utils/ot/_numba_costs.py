"""What the cosine cost does between its matrix products on the CPU: each matrix is passed over once.

The same in PyTorch's operators is five passes and three matrices of the batch's size; where tokens are short, these
cost more than the products. Nothing here calls a compiled function of another file: Numba would not notice its changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from ._numba import share

# Written out and not imported: Numba's cache would not notice a change of another file's options either.
OPTIONS: dict[str, Any] = {"fastmath": {"contract", "reassoc", "nsz"}, "cache": True, "nogil": True}


@njit(**OPTIONS)
def _distance_range(start, stop, products, inverse_x, inverse_y):  # type: ignore[no-untyped-def]
    """<x, y> becomes 1 - <x, y> / (|x| |y|), for the problems `start` to `stop`."""
    n, m = products.shape[1:]
    one = products.dtype.type(1)
    for p in range(start, stop):
        C, y = products[p], inverse_y[p]
        for i in range(n):
            x = inverse_x[p, i]
            for j in range(m):
                C[i, j] = one - C[i, j] * (x * y[j])


@njit(**OPTIONS)
def _turn_range(start, stop, grad, cost, inverse_x, inverse_y, weights, turn_x, turn_y):  # type: ignore[no-untyped-def]
    """`turn` for the problems `start` to `stop`, into its three results."""
    n, m = cost.shape[1:]
    one = cost.dtype.type(1)
    for p in range(start, stop):
        G, C, W, y, columns = grad[p], cost[p], weights[p], inverse_y[p], turn_y[p]
        columns[:] = 0
        for i in range(n):
            x, row = inverse_x[p, i], one - one
            for j in range(m):
                W[i, j] = G[i, j] * (-x * y[j])
                turned = G[i, j] * (one - C[i, j])
                row += turned
                columns[j] += turned
            turn_x[p, i] = row * x * x
        for j in range(m):
            columns[j] *= y[j] * y[j]


def distance_(
    products: Float[Tensor, "batch n m"], inverse_x: Float[Tensor, "batch n"], inverse_y: Float[Tensor, "batch m"]
) -> Float[Tensor, "batch n m"]:
    """`1 - products / (|x| |y|)`, in place."""
    arrays = products.numpy(), inverse_x.numpy(), inverse_y.numpy()
    share(len(products), products.numel(), lambda start, stop: _distance_range(start, stop, *arrays))
    return products


def turn(
    grad: Float[Tensor, "batch n m"],
    cost: Float[Tensor, "batch n m"],
    inverse_x: Float[Tensor, "batch n"],
    inverse_y: Float[Tensor, "batch m"],
) -> tuple[Float[Tensor, "batch n m"], Float[Tensor, "batch n"], Float[Tensor, "batch m"]]:
    """`-G / (|x| |y|)`, and row and column sums of `G cos` over `|x|^2` and `|y|^2`: see `costs._Cosine.backward`."""
    weights, turn_x, turn_y = torch.empty_like(cost), torch.empty_like(inverse_x), torch.empty_like(inverse_y)
    tensors = grad.contiguous(), cost, inverse_x, inverse_y, weights, turn_x, turn_y
    arrays = tuple(tensor.numpy() for tensor in tensors)
    share(len(cost), cost.numel(), lambda start, stop: _turn_range(start, stop, *arrays))
    return weights, turn_x, turn_y


def large(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An uninitialised tensor whose memory the system can give in large pages.

    NumPy asks for them (`madvise`, from 4 MiB on), PyTorch does not: the first write to the gradient of 64 x 240 tokens
    in 768 dimensions then costs 11 000 page faults, as long as the matrix product that writes it.
    """
    return torch.from_numpy(np.empty(shape, dtype=str(like.dtype).removeprefix("torch.")))
