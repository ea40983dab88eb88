"""What alignment adds to a training step: `python -m benchmarks.training --out _build/bench`.

See `benchmarks/README.md` for what is measured and why it is fair.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pandas as pd
import torch

from benchmarks import _report
from benchmarks._measure import CLOCKS
from benchmarks._training_alignments import AGAIN, NONE, OURS, CountedAlignment, alignments
from benchmarks._training_cases import CASES, Case
from benchmarks._training_step import Step, align, measure_peak
from mmwa_utils.alignment import Alignment

MEMORY_TARGET = 1.05
LEARNING_RATE = 1e-3
"""The tutorial profile's, for the steps before anything is timed."""


def time_steps(
    step: Step, contenders: dict[str, Alignment | None], *, rounds: int, clock: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    """Seconds of everybody's step and of the alignment alone, in an order that is drawn anew each round."""
    order, shuffled = list(contenders), random.Random(0)
    for round_ in range(-1, rounds):  # the first round fills caches and is not counted
        shuffled.shuffle(order)
        for name in order:
            alignment = contenders[name]
            start = clock()
            step(alignment, seed=round_ + 1)
            seconds, alone = clock() - start, 0.0
            if alignment is not None:
                tokens = step.tokens(seed=round_ + 1)
                start = clock()
                align(alignment, tokens)
                alone = clock() - start
            if round_ >= 0:
                yield {"contender": name, "round": round_, "seconds": seconds, "alone": alone}


def summarise(samples: pd.DataFrame) -> pd.DataFrame:
    """One row a contender: times, and ratios to the step without alignment of the same round, with quartiles.

    `ratio` compares whole steps. `1 + share` adds to 1 the alignment's own time over the step's: the same quantity from
    two numbers of which one is small, so that little of the machine's noise is left.
    """
    base = samples[samples.contender == NONE].set_index("round").seconds
    without = samples["round"].map(base)
    samples = samples.assign(ratio=samples.seconds / without, share=1 + samples.alone / without)
    grouped = samples.groupby("contender", sort=False)
    columns = {"step_ms": grouped.seconds.median() * 1e3, "alone_ms": grouped.alone.median() * 1e3}
    for column, name in (("ratio", "ratio"), ("share", "1 + share")):
        columns[name] = grouped[column].median()
        columns[f"{name} q1"], columns[f"{name} q3"] = grouped[column].quantile(0.25), grouped[column].quantile(0.75)
    return pd.DataFrame(columns).reset_index()


def measure(case: Case, device: torch.device, *, rounds: int, clock: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A case's table and its single measurements."""
    fusion, batch = case.build()
    step = Step(fusion.to(device), batch.to(device))
    contenders = alignments()
    step.settle(contenders[OURS], steps=case.settle, lr=LEARNING_RATE)
    tokens = step.tokens(seed=0)
    for alignment in contenders.values():
        if isinstance(alignment, CountedAlignment):
            alignment.tune(tokens)
    samples = pd.DataFrame(time_steps(step, contenders, rounds=rounds, clock=CLOCKS[clock]))
    table = summarise(samples)
    counts = {name: getattr(alignment, "count", 0) for name, alignment in contenders.items()}
    table["iterations"] = [counts[name] or None for name in table.contender]
    table["peak_MB"] = [measure_peak(case.name, name, counts[name]) for name in table.contender]
    table["peak ratio"] = table.peak_MB / float(table.peak_MB[table.contender == NONE].iloc[0])
    table["target"] = [case.target if name == OURS else None for name in table.contender]
    table.insert(0, "case", case.name)
    return table, samples.assign(case=case.name)


def verdict(table: pd.DataFrame) -> str:
    """One sentence a case: our ratios beside their targets, and what the machine's noise alone does."""
    ours, again = (table[table.contender == name].iloc[0] for name in (OURS, AGAIN))
    met = {True: "met", False: "MISSED"}
    time_met, memory_met = met[bool(ours["1 + share"] <= ours.target)], met[bool(ours["peak ratio"] <= MEMORY_TARGET)]
    return (
        f"{ours.case}: step x {ours.ratio:.3f} ({ours['ratio q1']:.3f} to {ours['ratio q3']:.3f}), by its own share "
        f"x {ours['1 + share']:.3f}, target {ours.target}: {time_met}; peak memory x {ours['peak ratio']:.3f}, target "
        f"{MEMORY_TARGET}: {memory_met}; the same step against itself x {again.ratio:.3f} "
        f"({again['ratio q1']:.3f} to {again['ratio q3']:.3f})"
    )


def main() -> None:
    """Read the command line, measure, write `training.csv`, `training_samples.csv` and `training.json`."""
    parser = _report.command_line(__doc__)
    parser.add_argument("--case", choices=list(CASES), action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    device, facts = _report.begin(options)
    facts["transformers"] = version("transformers")
    tables, samples = [], []
    for name in options.case or CASES:
        table, drawn = measure(CASES[name], device, rounds=options.rounds or CASES[name].rounds, clock=options.clock)
        tables.append(table)
        samples.append(drawn)
        print(table.drop(columns=["case", "target"]).round(3).to_string(index=False), verdict(table), sep="\n")
        print(flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    pd.concat(tables).to_csv(options.out / "training.csv", index=False)
    pd.concat(samples).to_csv(options.out / "training_samples.csv", index=False)
    (options.out / "training.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    print(pd.Series(facts).to_string())


if __name__ == "__main__":
    main()
