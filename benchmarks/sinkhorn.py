"""The transport engine against the libraries: `python -m benchmarks.sinkhorn --out _build/bench`.

See `benchmarks/README.md` for what is measured and why it is fair.
"""

from __future__ import annotations

import argparse

import pandas as pd

from benchmarks import _memory, _report
from benchmarks._clouds import cases
from benchmarks._contender import Problem
from benchmarks._measure import contenders, count_iterations, summarise, time_entries, tune

ROUNDS = {"full": 9, "quick": 5, "smoke": 2}


def run(options: argparse.Namespace) -> None:
    """Measure all cases and write the tables, the figure and the facts."""
    device, facts = _report.begin(options)
    size, out, seed = options.size, options.out, options.seed
    rounds = options.rounds or ROUNDS[size]
    taking_part, absent = contenders()
    for name, reason in absent.items():
        print(f"!! {name}: {reason}", flush=True)
    times, samples, counts = [], [], []
    for case in cases(size):
        problem = Problem.draw(case, seed=seed, device=device)
        label = {"case": f"{case.shape} ε={case.epsilon:g}", **vars(case.shape), "epsilon": case.epsilon}
        entries, unable = tune(problem, taking_part)
        drawn = pd.DataFrame(time_entries(entries, rounds=rounds, seed=seed, clock=options.clock))
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
    parser = _report.command_line(__doc__)
    parser.add_argument("--size", choices=list(ROUNDS), default="full", help="full: minutes; quick: under a minute")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="the same as --size quick")
    parser.add_argument("--seed", type=int, default=0, help="seed of the token clouds")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
