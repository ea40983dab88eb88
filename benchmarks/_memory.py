"""Peak memory of a solve with its gradient, each measured in a process of its own.

`python -m benchmarks._memory implicit 100` prints two numbers: the peak above what the process held before, in bytes,
and the bytes of one cost matrix. On the CPU the peak is the kernel's high-water mark of resident memory (Linux).
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks._contender import textbook_plan
from mmwa_utils.ot import ConvergenceWarning, sinkhorn

BATCH, N, M, EPSILON = 256, 50, 240, 0.1
COUNTS = (10, 100, 1000)
LINUX = Path("/proc/self/clear_refs").exists()


def implicit(cost: Float[Tensor, "batch n m"], n_iter: int) -> None:
    """Our value and its gradient after exactly `n_iter` iterations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the tolerance is out of reach on purpose
        sinkhorn(cost, epsilon=EPSILON, tol=1e-30, max_iter=n_iter).value.sum().backward()


def unrolled(cost: Float[Tensor, "batch n m"], n_iter: int) -> None:
    """The textbook's loop with autograd recording every step of it."""
    (textbook_plan(cost, EPSILON, n_iter) * cost).sum().backward()


METHODS: dict[str, Callable[[Tensor, int], None]] = {"implicit": implicit, "unrolled": unrolled}


def peak_bytes(method: str, n_iter: int) -> tuple[int, int]:
    """Peak above the start and size of the cost, in bytes; one small run beforehand loads all code."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    METHODS[method](torch.rand(2, N, M, generator=generator).to(device).requires_grad_(), 2)
    cost = torch.rand(BATCH, N, M, generator=generator).to(device).requires_grad_()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        METHODS[method](cost, n_iter)
        return torch.cuda.max_memory_allocated() - before, cost.nbytes
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    METHODS[method](cost, n_iter)
    return resident("VmHWM") - before, cost.nbytes


def measure() -> list[dict[str, Any]]:
    """All methods at all counts; nothing where the operating system does not tell."""
    if not (LINUX or torch.cuda.is_available()):
        return []
    rows = []
    for method in METHODS:
        for n_iter in COUNTS:
            command = [sys.executable, "-m", "benchmarks._memory", method, str(n_iter)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            peak, cost = int(said[0]), int(said[1])
            rows.append({"method": method, "n_iter": n_iter, "peak_bytes": peak, "in_costs": peak / cost})
    return rows


def resident(field: str) -> int:
    """A field of this process's status, such as VmRSS, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


if __name__ == "__main__":
    print(*peak_bytes(sys.argv[1], int(sys.argv[2])))
