"""The host's memory and threads, for the compiled passes.

Both are worth their lines. In the benchmark (geometric mean of its 24 cases, two threads), solve and gradient take 1.16
times as long in memory fresh from the system, up to 1.7 for large gradients; and 1.33 times with a pool of Python's
threads in place of PyTorch's.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

# Bytes of what is kept: smaller is not worth the bookkeeping, and larger would be missed elsewhere.
SMALLEST, LARGEST = 1 << 20, 1 << 27
# Most buffers that wait for their next use, a gigabyte in all: one more, and the longest unused is given up.
KEPT = 8
# Bytes of a cache line: no vector of the compiled passes then lies across two.
ALIGNED = 64
_HOME = os.getpid()
_TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_waiting: deque[np.ndarray] = deque(maxlen=KEPT)


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An uninitialised, contiguous tensor of the number type of `like`, where one of about that size has been before.

    The system hands out memory page by page, at the first write to each, and takes longer for it than the write.
    PyTorch keeps what is freed on a GPU; on a CPU it gives it back, so every training step would pay anew.
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
    # The latest first: more of it may still be in the cache. No lock, as a buffer may return in the middle of this:
    # each step takes or adds one, or fails.
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


def share(batch: int, work: Callable[[int, int], None], *, most: int, alone: bool) -> None:
    """Run `work(start, stop)` over the batch: each thread, the calling one too, takes the next problems when free.

    After a parallel operator, PyTorch's idle threads spin for milliseconds, and threads of our own would compete with
    these for the cores. So the work goes to the same threads, through the OpenMP runtime that PyTorch is linked with.
    Where it cannot be called (macOS), and in a forked child, which has not inherited PyTorch's threads, Python's work.

    Args:
        batch: number of problems.
        work: what is done for some of them, mostly in functions that release the interpreter's lock.
        most: problems taken at a time; fewer if each thread would get less than four turns, so that they end together.
        alone: there is so little to do that the calling thread is done before the others have begun.
    """
    threads = 1 if alone else torch.get_num_threads()
    size = batch if threads == 1 else min(most, -(-batch // (4 * threads)))
    if size >= batch:
        work(0, batch)
        return
    chunks, failures = iter(range(0, batch, size)), []
    inference = torch.is_inference_mode_enabled()  # a thread's own setting, which the others must be told

    def worker(_: object = None) -> None:
        try:
            with torch.inference_mode(inference):
                for start in chunks:
                    work(start, min(start + size, batch))
        except BaseException as failure:  # raised below: here there is nobody to hear it
            failures.append(failure)

    team = _openmp()
    if team is not None and os.getpid() == _HOME:
        # All threads, even for few chunks: the runtime would end those that are left out.
        team(_TASK(worker), None, threads, 0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            pool.map(worker, range(threads))
    if failures:
        raise failures[0]


@functools.cache
def _openmp() -> Callable[..., None] | None:
    """`GOMP_parallel(task, data, threads, flags)` of the runtime that PyTorch is linked with, if it has one.

    It is how GNU's compiler enters a parallel region, so LLVM's and Intel's runtimes have it too: it returns once every
    thread of the team has run the task.
    """
    function = getattr(ctypes.CDLL(torch._C.__file__), "GOMP_parallel", None)
    if function is not None:
        function.argtypes, function.restype = (_TASK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return function
