"""The assumptions ledger: what we inferred or chose where the paper does not say, validated and drawn as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import StringConstraints

from workflow.checked_yaml import Entry, Slug, Words, read_checked

Switch = Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\.([a-z_]+|\*))?$")]

_HEAD = """(assumptions)=
# What we assumed

The paper leaves choices open, and parts of it are not available to us. This ledger lists each thing that we
*inferred* from what is known or *chose* because nothing is known, why, and the switch that changes it. A switch is a
field of the run's configuration; the sensitivity of the results to it is measured, not argued: below each switch
stands the largest change of the gain of alignment over the baseline that {doc}`../notebooks/15_sensitivity` found, with
its 95 % interval, wherever that chapter changed the switch. The page is made from `book/assumptions.yml` and the
chapter's results when the book is built.

"""
NOT_MEASURED = "not measured"


class Assumption(Entry):
    """One row of the ledger."""

    id: Slug
    """Name of the row, for links: `[](#assumption-cost)`."""
    item: Words
    kind: Literal["inferred", "chosen"]
    """Inferred: something known points to it. Chosen: nothing does, and we had to decide."""
    reading: Words
    why: Words
    switch: Switch | None
    """Field of the run's configuration that changes it; None where another choice is another programme."""
    values: tuple[Words, ...] = ()
    """What the switch accepts, where that is a short list."""


def read_ledger(path: Path) -> list[Assumption]:
    """Read and check a ledger in YAML: a list of rows with the fields of `Assumption`."""
    return read_checked(path, list[Assumption])


def describe_sensitivity(effects: pd.DataFrame) -> dict[str, str]:
    """Return what was measured of each assumption, in words: its largest effect, and whether that is one.

    An effect whose interval excludes zero is told before a larger one whose interval does not.

    Args:
        effects: columns assumption, value, what, metric, dataset, difference, low, high, as chapter 15 saves them.

    >>> row = {"assumption": "cost", "value": "sqeuclidean", "what": "clean", "metric": "accuracy", "dataset": "digits"}
    >>> describe_sensitivity(pd.DataFrame([{**row, "difference": 0.1, "low": -0.05, "high": 0.25}]))["cost"]
    '`sqeuclidean`: +0.100 (−0.050 to +0.250) accuracy, digits, clean; cannot tell'
    """
    said = {}
    for assumption, group in effects.groupby("assumption"):
        excludes = (group["low"] > 0) | (group["high"] < 0)
        row = group.loc[(group[excludes] if excludes.any() else group)["difference"].abs().idxmax()]
        decided = "matters" if excludes.any() else "cannot tell"
        interval = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})".replace("-", "−")
        said[str(assumption)] = (
            f"`{row['value']}`: {interval} {row['metric']}, {row['dataset']}, {row['what']}; {decided}"
        )
    return said


def render_ledger(rows: Sequence[Assumption], sensitivity: Mapping[str, str] | None = None) -> str:
    """Return the ledger as a MyST page: one table, each row a target that other pages can link to.

    Args:
        rows: the ledger.
        sensitivity: assumption -> what was measured of it, as `describe_sensitivity` says it.

    >>> cost = Assumption(id="cost", item="cost", kind="inferred", reading="1 - cos", why="usual", switch=None)
    >>> page = render_ledger([cost])
    >>> "[cost]{#assumption-cost}" in page, NOT_MEASURED in page
    (True, True)
    """
    table = [
        "```{list-table} Inferred and chosen, with the switch that changes each",
        ":name: tab-assumptions",
        ":header-rows: 1",
        ":widths: 16 28 24 32",
        "",
        "   * - Item\n     - Our reading\n     - Why\n     - Switch and sensitivity",
    ]
    found = sensitivity or {}
    return _HEAD + "\n".join([*table, *(_row(row, found.get(row.id, NOT_MEASURED)) for row in rows), "```"]) + "\n"


def write_ledger(source: Path, page: Path, effects: Path | None = None) -> None:
    """Validate the ledger `source` and write it as the MyST page `page`.

    Args:
        source: the ledger.
        page: what is written.
        effects: the table of effects that chapter 15 saved; where there is no such file nothing was measured.
    """
    measured = effects is not None and effects.is_file()
    sensitivity = describe_sensitivity(pd.read_csv(effects)) if measured else None
    page.write_text(render_ledger(read_ledger(source), sensitivity), encoding="utf-8")


def _row(row: Assumption, sensitivity: str) -> str:
    switch = "none" if row.switch is None else f"`{row.switch}`"
    if row.values:
        switch += " in " + ", ".join(f"`{value}`" for value in row.values)
    # Two blocks in one cell: with a column each the table would be wider than the page.
    item = f"[{row.item}]{{#assumption-{row.id}}}\n\n       *{row.kind}*"
    cells = (item, _line(row.reading), _line(row.why), f"{switch}\n\n       {sensitivity}")
    return "   * - " + "\n     - ".join(cells)


def _line(text: str) -> str:
    return " ".join(text.split())
