"""Count lines of code by room: `python -m tests.count_lines`. Blank lines, comments and docstrings are no code.

A string that stands by itself is a docstring, also below an attribute.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mmwa_utils"
HIDDEN = {"remove-input", "remove-cell", "hide-input", "hide-cell"}
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Return the number of lines that hold code.

    >>> code_lines('def f():\\n    "What it does."\\n\\n    # Why.\\n    return 1  # one\\n')
    2
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {n for token in tokens if token.type not in _NO_CODE for n in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def by_room(package: Path = PACKAGE) -> Counter[str]:
    """Return the lines of code of each folder and each single module of a package."""
    rooms: Counter[str] = Counter()
    for path in package.rglob("*.py"):
        rooms[path.relative_to(package).parts[0]] += code_lines(path.read_text(encoding="utf-8"))
    return rooms


def hidden_share(notebook: Path) -> float:
    """Return which share of a chapter's lines of code its page does not show."""
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    counted = [(code_lines(cell.source), bool(HIDDEN & set(cell.metadata.get("tags", [])))) for cell in cells]
    return sum(lines for lines, hidden in counted if hidden) / sum(lines for lines, _ in counted)


def main() -> None:
    """Print what was counted."""
    rooms = by_room()
    for room, lines in sorted(rooms.items()):
        print(f"{lines:6d}  {PACKAGE.name}/{room}")
    print(f"{rooms.total():6d}  {PACKAGE.name}, together")
    for other in ("standins", "workflow", "benchmarks", "tests"):
        print(f"{by_room(ROOT / other).total():6d}  {other}")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        print(f"{hidden_share(path):6.0%}  of the code of {path.stem} is hidden")


if __name__ == "__main__":
    main()
