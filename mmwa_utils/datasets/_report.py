"""What a check of a folder found: counts against the expected ones, problems by kind, and whether it can be used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mmwa_utils.datasets._files import DatasetError, read_image

EXAMPLES = 5
"""How many files or lines of one kind of problem are named; the rest is counted."""


@dataclass
class Report:
    """The result of `verify`, which fills it in; `str(report)` is what `mmwa data verify` prints.

    >>> report = Report("memes", Path("data"), layout="jsonl")
    >>> report.count("train", 3, expected=4)
    >>> report.problem("missing file", "img/1.png", fatal=True)
    >>> print(report)
    memes in data: a release in the layout: jsonl
    <BLANKLINE>
      train  found        3   expected        4   DIFFERS
      ERROR: missing file (1)
        img/1.png
    <BLANKLINE>
    NOT usable
    """

    dataset: str
    root: Path
    layout: str | None
    standin: bool = False
    counts: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """By what is counted: the number found, and the release's if it has one."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """By kind of problem: each place where it was found."""
    fatal: set[str] = field(default_factory=set)
    """Kinds of problems that forbid use."""
    notes: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether every split can be opened; part of a release is usable, whatever its counts."""
        return self.layout is not None and not self.fatal

    def count(self, what: str, found: int, *, expected: int | None = None) -> None:
        """Note a number, beside the release's; nobody expects the release's number of a stand-in."""
        self.counts[what] = (found, None if self.standin else expected)

    def problem(self, kind: str, where: str, *, fatal: bool) -> None:
        """Note one thing that is wrong."""
        self.problems.setdefault(kind, []).append(where)
        if fatal:
            self.fatal.add(kind)

    def note(self, text: str) -> None:
        """Add a sentence for the reader."""
        self.notes.append(text)

    def check_images(self, paths: Iterable[Path]) -> None:
        """Decode each picture, and note the unreadable ones."""
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for error in pool.map(_decoding_error, paths):
                if error is not None:
                    self.problem("unreadable picture", error, fatal=False)

    def __str__(self) -> str:
        kind = "a stand-in" if self.standin else "a release"
        found = f"{kind} in the layout: {self.layout}" if self.layout else "no known layout recognised"
        packaged = bool(self.layout and self.layout.startswith("bundled"))
        lines = [f"{self.dataset}: {self.layout}" if packaged else f"{self.dataset} in {self.root}: {found}", ""]
        width = max(map(len, self.counts), default=0)
        for what, (number, expected) in self.counts.items():
            verdict = "ok" if number == expected else "DIFFERS"
            beside = "" if expected is None else f"   expected {expected:>8}   {verdict}"
            lines.append(f"  {what:<{width}}  found {number:>8}{beside}")
        for kind in sorted(self.problems, key=lambda kind: (kind not in self.fatal, kind)):
            places = self.problems[kind]
            lines.append(f"  {'ERROR' if kind in self.fatal else 'warning'}: {kind} ({len(places)})")
            lines += [f"    {place}" for place in places[:EXAMPLES]]
            if len(places) > EXAMPLES:
                lines.append(f"    and {len(places) - EXAMPLES} more")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, "", "usable" if self.usable else "NOT usable"])


def _decoding_error(path: Path) -> str | None:
    try:
        read_image(path)
    except DatasetError as error:
        return str(error)
    return None
