"""The assumptions ledger: what we inferred or chose where the paper does not say, validated and drawn as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Switch = Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\.([a-z_]+|\*))?$")]

_HEAD = """(assumptions)=
# What we assumed

The paper leaves choices open, and parts of it are not available to us. This ledger lists each thing that we
*inferred* from what is known or *chose* because nothing is known, why, and the switch that changes it. A switch is a
field of the run's configuration; the sensitivity of the results to it is measured, not argued: below each switch
stands the largest change of the gain of alignment over the baseline that {doc}`../notebooks/14_sensitivity` found, with
its 95 % interval, wherever that chapter changed the switch. The page is made from `book/assumptions.yml` and the
chapter's results when the book is built.

"""
NOT_MEASURED = "not measured"


class LedgerError(ValueError):
    """A ledger that can't be read; names the row and the field, and says what was expected."""


class Assumption(BaseModel):
    """One row of the ledger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


def read_ledger(path: Path) -> tuple[Assumption, ...]:
    """Read and validate a ledger in YAML: a list of rows with the fields of `Assumption`.

    Raises:
        LedgerError: not YAML, no list, a field is missing, unknown or malformed, or an id occurs twice.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise LedgerError(f"{path}: not YAML: {error}") from error
    if not isinstance(raw, list):
        raise LedgerError(f"{path}: expected a list of rows, each beginning with `- id:`")
    try:
        rows = TypeAdapter(tuple[Assumption, ...]).validate_python(raw)
    except ValidationError as error:
        raise LedgerError("\n".join(f"{path}: {_describe(fault, raw)}" for fault in error.errors())) from error
    doubled = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
    if doubled:
        raise LedgerError(f"{path}: id {doubled[0]!r} occurs more than once; each row needs its own")
    return rows


def describe_sensitivity(effects: pd.DataFrame) -> dict[str, str]:
    """Return what was measured of each assumption, in words: its largest effect, and whether that is one.

    An effect whose interval excludes zero is told before a larger one whose interval does not.

    Args:
        effects: columns assumption, value, what, metric, dataset, difference, low, high, as chapter 14 saves them.

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
        effects: the table of effects that chapter 14 saved; where there is no such file nothing was measured.
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


def _describe(fault: object, raw: list[object]) -> str:
    """Say which row and field is at fault, counting rows as people do and by id where there is one."""
    assert isinstance(fault, dict)
    index, *field = fault["loc"]
    entry = raw[index] if isinstance(index, int) else None
    name = entry.get("id", "without id") if isinstance(entry, dict) else "no mapping"
    where = ".".join(str(part) for part in field) or "the row"
    return f"row {int(index) + 1} ({name}), {where}: {fault['msg'].lower()}"
