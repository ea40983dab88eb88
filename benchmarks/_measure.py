"""Side by side in one process: tuning, interleaved timing, iteration counts."""

from __future__ import annotations

import ctypes
import gc
import importlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from benchmarks._accuracy import TARGET, plain_sinkhorn
from benchmarks._contender import CannotReachTargetError, Entry, Problem
from benchmarks._ours import NAME, iterations, ours

TASKS = ("solve", "solve and gradient")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""Elapsed time; or the processor time of all threads, which other work on a busy machine hardly touches."""
BLOCK = 0.02
"""Seconds that a measurement lasts at least."""
MODULES = {
    "_peer_pot": ("POT sinkhorn", "POT log_sinkhorn"),
    "_peer_geomloss": ("GeomLoss",),
    "_peer_ott": ("OTT-JAX",),
    "_peer_torch": ("torch loop", "floor"),
}
"""Whose entries each module holds."""
Enter = Callable[[Problem], Entry]


def contenders() -> tuple[dict[str, Enter], dict[str, str]]:
    """Who can take part, by name, and who cannot, with the reason: nobody is left out without a word."""
    taking_part: dict[str, Enter] = {NAME: ours}
    absent: dict[str, str] = {}
    for module, names in MODULES.items():
        try:
            taking_part |= dict(zip(names, importlib.import_module(f"benchmarks.{module}").ENTRIES, strict=True))
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.split(".")[0] in ("benchmarks", "mmwa_utils"):
                raise
            absent |= dict.fromkeys(names, f"NOT MEASURED: the package {missing.name} is not installed")
    return taking_part, absent


def tune(problem: Problem, enter: dict[str, Enter]) -> tuple[list[Entry], dict[str, str]]:
    """Everybody's best setting for this problem, and the reasons of those who have none."""
    entries, unable = [], {}
    for name, entry in enter.items():
        try:
            entries.append(entry(problem))
        except CannotReachTargetError as reason:
            unable[name] = str(reason)
    return entries, unable


def time_entries(entries: list[Entry], *, rounds: int, seed: int, clock: str) -> Iterator[dict[str, Any]]:
    """Seconds of every entry at every task in every round, in an order that is drawn anew each round.

    Interleaving lets a drift of the machine's speed fall on all alike. One measurement is a block of runs that lasts
    `BLOCK` or more, as in `timeit`: after a single run in a fraction of a millisecond, what had been measured would be
    how much of the cache the contender before had left. `clock` is one of `CLOCKS`.
    """
    order = [(entry, task) for entry in entries for task in TASKS]
    shuffled = random.Random(seed)
    for entry, task in order:
        _seconds(entry, task, clock)
    gc.freeze()  # what exists by now will not become garbage: no collection needs to look at it again
    for round_ in range(rounds):
        shuffled.shuffle(order)
        for entry, task in order:
            yield {"contender": entry.name, "task": task, "round": round_, "seconds": _seconds(entry, task, clock)}
    gc.unfreeze()


def _seconds(entry: Entry, task: str, clock: str) -> float:
    """Mean seconds of a block of runs."""
    run = entry.solve if task == "solve" else entry.gradient
    _clear()
    run()
    collecting = gc.isenabled()
    gc.disable()
    runs, start = 0, CLOCKS[clock]()
    while (elapsed := CLOCKS[clock]() - start) < BLOCK or runs == 0:
        run()
        runs += 1
    if collecting:
        gc.enable()
    return elapsed / runs


def _clear() -> None:
    """Give back what the contender before has left: else the next to free anything is charged for it.

    A loop that autograd unrolled leaves gigabytes in reference cycles, and giving those back takes 130 ms.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # GNU's C library alone puts it off
    if trim is not None:
        trim(0)


def summarise(samples: pd.DataFrame) -> pd.DataFrame:
    """One row for each contender and task: median and quartiles in ms, and how many times slower than ours.

    The ratio is taken within a round and then its median over the rounds, so that both saw the same machine.
    """
    ours_by_round = samples[samples.contender == NAME].set_index(["task", "round"]).seconds
    samples = samples.assign(
        ratio=samples.seconds / ours_by_round.loc[pd.MultiIndex.from_frame(samples[["task", "round"]])].to_numpy()
    )
    grouped = samples.groupby(["task", "contender"])
    table = pd.DataFrame(
        {
            "median_ms": grouped.seconds.median() * 1e3,
            "q1_ms": grouped.seconds.quantile(0.25) * 1e3,
            "q3_ms": grouped.seconds.quantile(0.75) * 1e3,
            "best_ms": grouped.seconds.min() * 1e3,
            "ratio": grouped.ratio.median(),
            "ratio_q1": grouped.ratio.quantile(0.25),
            "ratio_q3": grouped.ratio.quantile(0.75),
        }
    )
    return table.reset_index()


def count_iterations(problem: Problem) -> dict[str, Any]:
    """Our iterations against plain Sinkhorn's, problem by problem, at the same error."""
    plain = plain_sinkhorn(problem.cost, epsilon=problem.epsilon)
    mine = iterations(problem, tol=TARGET)
    slow = plain.rate >= 0.95
    share = mine / plain.n_iter
    return {
        "plain_median": int(plain.n_iter.median()),
        "plain_max": int(plain.n_iter.max()),
        "ours_median": int(mine.median()),
        "ours_max": int(mine.max()),
        "problems": len(mine),
        "problems_above_plain": int((mine > plain.n_iter).sum()),
        "largest_excess": int((mine - plain.n_iter).max()),
        "problems_with_rate_above_0.95": int(slow.sum()),
        "largest_share_there": float(share[slow].max()) if bool(slow.any()) else float("nan"),
    }
