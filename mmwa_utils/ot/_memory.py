"""Memory on the host that has been written to before.

The system hands out memory page by page, at the first write to each, and takes longer for it than the write. PyTorch
keeps what is freed on a GPU; on a CPU it gives it back, so every training step pays for its pages anew: for the
gradients of 256 problems of 50 x 50 tokens in 64 dimensions as much as for their arithmetic. Therefore the engine's
larger results return here once nothing uses them any more, and the next of about that size goes to the same pages.
"""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

SMALLEST, LARGEST = 1 << 20, 1 << 27
"""Bytes of what is kept: smaller is not worth the bookkeeping, and larger would be missed elsewhere."""
KEPT = 8
"""Most buffers that wait for their next use, a gigabyte in all: one more, and the longest unused is given up."""
ALIGNED = 64
"""Bytes of a cache line: no vector of the compiled passes then lies across two."""

_waiting: deque[np.ndarray] = deque(maxlen=KEPT)


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An uninitialised, contiguous tensor on the host, of the number type of `like`.

    >>> empty((2, 3), torch.zeros(1, dtype=torch.float64)).dtype
    torch.float64
    """
    dtype = np.dtype(str(like.dtype).removeprefix("torch."))
    size = math.prod(shape) * dtype.itemsize
    if not SMALLEST <= size <= LARGEST:
        return torch.from_numpy(np.empty(shape, dtype))
    buffer = _take(size + ALIGNED)
    array = np.ndarray(shape, dtype, buffer, offset=-buffer.__array_interface__["data"][0] % ALIGNED)
    # Whatever reads the buffer keeps the tensor, and the tensor the array.
    weakref.finalize(array, _waiting.append, buffer).atexit = False
    return torch.from_numpy(array)


def _take(size: int) -> np.ndarray:
    """A buffer that waits and fits and is not much too large, or a new one.

    The latest first: more of it may still be in the cache; those that do not fit become the first to go. Without a
    lock, since a buffer may return in the middle of this: each step takes or adds one, or fails.
    """
    for _ in range(KEPT):
        try:
            buffer = _waiting.pop()
        except IndexError:
            break
        if size <= len(buffer) <= 2 * size:
            return buffer
        _waiting.appendleft(buffer)
    # NumPy asks for large pages (from 4 MiB on): 500 times fewer to hand out.
    return np.empty(size, np.uint8)
