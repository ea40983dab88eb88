"""Stage what Sphinx reads: the pages, the executed notebooks and the pages made from data."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from workflow.ledger import write_ledger
from workflow.times import executed_notebooks, write_execution_times


def stage(build: Path, root: Path) -> Path:
    """Write `build`/source afresh from the project's pages and `build`/executed; return it."""
    source = build / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book", source / "book")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, source / name)
    (source / "notebooks").mkdir()
    executed = executed_notebooks(build / "executed")
    for notebook in executed:
        shutil.copy(notebook, source / "notebooks" / notebook.name)
    effects = build / "results" / "15_sensitivity" / "sensitivity.csv"
    write_ledger(root / "book" / "assumptions.yml", source / "book" / "assumptions.md", effects)
    write_execution_times(executed, source / "book" / "execution_times.md")
    return source


if __name__ == "__main__":
    stage(Path(sys.argv[1]), Path.cwd())
