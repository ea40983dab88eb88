"""A batch shared out between PyTorch's own threads.

After a parallel operator, PyTorch's idle threads spin for milliseconds, so that the next operator need not wake them.
Threads of our own would compete with these for the cores: on two cores, a solve after an operator then takes as long as
on one. So the work goes to the same threads, through the OpenMP runtime that PyTorch is linked with; and what PyTorch
is asked to do within, as a product of a few matrices, it does on the thread that asks. Where that runtime cannot be
called (macOS) a pool of Python threads does the work; so it does in a forked child, which has not inherited PyTorch's
threads: there a solve works, but a product of PyTorch's own may wait for them forever, as any of its operators may.

Both kinds of thread spend their time in functions that release the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_HOME = os.getpid()
_TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def share(batch: int, work: Callable[[int, int], None], *, most: int, alone: bool) -> None:
    """Run `work(start, stop)` over the batch: each thread, the calling one too, takes the next problems when free.

    At most `most` problems at a time, and each thread in at least four turns, so that they end together. `alone`: there
    is so little to do that the calling thread is done before the others have begun.
    """
    threads = 1 if alone else torch.get_num_threads()
    turns = threads * max(4, -(-batch // (threads * most)))
    size = batch if threads == 1 else -(-batch // turns)
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
        waiting = [_pool(threads - 1, os.getpid()).submit(worker) for _ in range(threads - 1)]
        worker()
        for helper in waiting:
            helper.result()
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


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Worker threads, made once per process: a forked child does not inherit its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="sinkhorn")
