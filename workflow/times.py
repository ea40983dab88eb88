"""The execution-times page: what each executed chapter took, as papermill recorded it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

_HEAD = """(execution-times)=
# Execution times

The wall time of each chapter in the build that made these pages, read from the executed notebooks. A chapter that
has not changed is not executed again, so rows may come from different days.

"""


@dataclass(frozen=True)
class ChapterTime:
    """How long one chapter took."""

    name: str
    title: str
    profile: str
    seconds: float
    slowest_cell: float
    """Seconds of its longest cell."""
    finished: str
    """UTC, to the minute."""


def read_time(notebook: Path) -> ChapterTime:
    """Read the times that papermill wrote into an executed notebook.

    Raises:
        ValueError: the notebook was not executed by papermill, or not to its end.
    """
    book = nbformat.read(notebook, as_version=4)
    record = book.metadata.get("papermill", {})
    if record.get("duration") is None or record.get("end_time") is None:
        raise ValueError(f"{notebook}: no papermill times; execute it with  mmwa run NOTEBOOK -o {notebook.name}")
    cells = [cell.metadata.get("papermill", {}).get("duration") or 0.0 for cell in book.cells]
    return ChapterTime(
        name=notebook.stem,
        title=_title(book, notebook.stem),
        profile=str(record.get("parameters", {}).get("profile", "tutorial")),
        seconds=float(record["duration"]),
        slowest_cell=max(cells, default=0.0),
        finished=str(record["end_time"])[:16].replace("T", " "),
    )


def format_seconds(seconds: float) -> str:
    """Say a duration in the unit people would use.

    >>> format_seconds(8.26), format_seconds(95), format_seconds(7300)
    ('8.3 s', '1 min 35 s', '2 h 1 min')
    """
    if seconds < 60 and round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def executed_notebooks(folder: Path) -> list[Path]:
    """Return a folder's executed chapters in their order, without what failed or is still being written."""
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    return [path for path in found if not path.name.endswith((".failed.ipynb", ".partial.ipynb"))]


def execution_times(notebooks: Sequence[Path]) -> str:
    """Return the execution-times page in MyST for these executed notebooks, in the order given."""
    times = [read_time(notebook) for notebook in notebooks]
    if not times:
        return _HEAD + "No chapter was executed in this build.\n"
    lines = [
        "```{list-table} Wall time of each chapter",
        ":name: tab-execution-times",
        ":header-rows: 1",
        "",
        "   * - Chapter\n     - Profile\n     - Wall time\n     - Longest cell\n     - Finished (UTC)",
        *(_row(time) for time in times),
        "```",
    ]
    total = format_seconds(sum(time.seconds for time in times))
    return _HEAD + "\n".join(lines) + f"\n\nTogether: {total}, one after the other.\n"


def write_execution_times(notebooks: Sequence[Path], page: Path) -> None:
    """Write the execution-times page for these executed notebooks."""
    page.write_text(execution_times(notebooks), encoding="utf-8")


def _row(time: ChapterTime) -> str:
    durations = (format_seconds(time.seconds), format_seconds(time.slowest_cell))
    cells = (f"[{time.title}](../notebooks/{time.name}.ipynb)", time.profile, *durations, time.finished)
    return "   * - " + "\n     - ".join(cells)


def _title(book: nbformat.NotebookNode, fallback: str) -> str:
    for cell in book.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    return fallback
