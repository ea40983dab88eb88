"""Small notebooks for the tests of the runner and the graph."""

from __future__ import annotations

from pathlib import Path

import nbformat

PARAMETERS = """\
profile: "Profile" = "tutorial"  # sizes only: smoke, tutorial, study or paper
epsilon: "Epsilon" = 0.1  # strength of the entropic regularisation
size: "Optional[Count]" = None  # number of points; the profile's if none
levels: "list[Fraction]" = [0.25, 0.5]  # levels of noise"""

START = """\
from mmwa_utils.notebook import start

chapter = start("{name}", globals())"""


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    """Write a notebook of a title, a parameters cell, the start and the given code cells."""
    declaration = nbformat.v4.new_code_cell(parameters)
    declaration.metadata["tags"] = ["parameters"]
    code = [nbformat.v4.new_code_cell(source) for source in (START.format(name=path.stem), *cells)]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# A small chapter"), declaration, *code],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path
