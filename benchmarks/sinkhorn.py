"""The transport engine against the libraries: `python -m benchmarks.sinkhorn --out _build/bench`.

See `benchmarks/README.md` for what is measured and why it is fair.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pandas as pd
import torch

from benchmarks import _memory, _report
from benchmarks._clouds import cases
from benchmarks._contender import Problem
from benchmarks._measure import CLOCKS, contenders, count_iterations, summarise, time_entries, tune

ROUNDS = {"full": 9, "quick": 5, "smoke": 2}


def run(*, size: str, rounds: int, seed: int, clock: str, out: Path, device: torch.device) -> None:
    """Measure all cases and write the tables, the figure and the facts into `out`."""
    facts = _report.provenance(device) | {"clock": clock}
    taking_part, absent = contenders()
    for name, reason in absent.items():
        print(f"!! {name}: {reason}", flush=True)
    if clock == "wall" and facts["load average at start"] > 0.5 * (os.cpu_count() or 1):
        print(
            f"!! THE MACHINE IS BUSY (load {facts['load average at start']}): times are not to be trusted", flush=True
        )
    times, samples, counts = [], [], []
    for case in cases(size):
        problem = Problem.draw(case, seed=seed, device=device)
        label = {"case": f"{case.shape} ε={case.epsilon:g}", **vars(case.shape), "epsilon": case.epsilon}
        entries, unable = tune(problem, taking_part)
        drawn = pd.DataFrame(time_entries(entries, rounds=rounds, seed=seed, clock=clock))
        summary = summarise(drawn)
        how = {entry.name: entry for entry in entries}
        summary["error"] = [how[name].error for name in summary.contender]
        summary["setting"] = [how[name].setting for name in summary.contender]
        missing = [{"contender": name, "setting": reason} for name, reason in {**absent, **unable}.items()]
        times.append(pd.concat([summary, pd.DataFrame(missing)]).assign(**label))
        samples.append(drawn.assign(**label))
        counts.append(count_iterations(problem) | label)
        print(label["case"], summary[["task", "contender", "median_ms", "ratio", "error"]].to_string(index=False),
              *(f"{name}: {reason}" for name, reason in unable.items()), sep="\n", flush=True)  # fmt: skip
        table, drawn_so_far = pd.concat(times, ignore_index=True), pd.concat(samples)
        _report.write_tables(out, facts, table, samples=drawn_so_far, iterations=pd.DataFrame(counts))
    _report.write_figure(out, facts, table)
    memory = pd.DataFrame(_memory.measure()) if size == "full" else pd.DataFrame(columns=["method", "n_iter"])
    memory.to_csv(out / "memory.csv", index=False)
    for shown in (_report.compare(table), pd.DataFrame(counts), memory, pd.Series(facts)):
        print("\n" + shown.to_string())


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("_build/bench"), help="folder for tables and figure")
    parser.add_argument("--size", choices=list(ROUNDS), default="full", help="full: minutes; quick: under a minute")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="the same as --size quick")
    parser.add_argument("--rounds", type=int, help="repetitions of every measurement")
    parser.add_argument("--threads", type=int, help="threads of PyTorch and of our engine; default: all cores")
    parser.add_argument("--seed", type=int, default=0, help="seed of the token clouds")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: for a busy machine, --threads 1")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run(
        size=options.size,
        rounds=options.rounds or ROUNDS[options.size],
        seed=options.seed,
        clock=options.clock,
        out=options.out,
        device=device,
    )


if __name__ == "__main__":
    main()
