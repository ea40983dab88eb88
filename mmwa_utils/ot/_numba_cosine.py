"""What is compiled for the CPU of the cosine cost: norms, distances from products, and what its gradient is made of."""

from __future__ import annotations

import numpy as np
from numba import njit

from ._numba_kernels import FAST, OPTIONS


@njit(fastmath=FAST, **OPTIONS)
def norm_range(start, stop, x, inverse):  # type: ignore[no-untyped-def]
    """1 / |x_i|, and 0 for a zero vector, as in `costs._inverse_norm`; a float32's squares are summed in float64."""
    n, dim = x.shape[1:]
    smallest = 1.1754943508222875e-38 if x.itemsize == 4 else 2.2250738585072014e-308
    for p in range(start, stop):
        for i in range(n):
            square = 0.0
            for k in range(dim):
                square += np.float64(x[p, i, k]) * np.float64(x[p, i, k])
            inverse[p, i] = 0.0 if square <= smallest else 1.0 / np.sqrt(square)


@njit(fastmath=FAST, **OPTIONS)
def distance_range(start, stop, products, inverse_x, inverse_y):  # type: ignore[no-untyped-def]
    """<x, y> becomes 1 - <x, y> / (|x| |y|)."""
    n, m = products.shape[1:]
    one = products.dtype.type(1)
    for p in range(start, stop):
        for i in range(n):
            s = inverse_x[p, i]
            for j in range(m):
                products[p, i, j] = one - products[p, i, j] * (s * inverse_y[p, j])


@njit(fastmath=FAST, **OPTIONS)
def turn_range(start, stop, grad, cost, inverse_x, inverse_y, weights, turn_x, turn_y):  # type: ignore[no-untyped-def]
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
