"""The habits of every notebook, checked without running it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import papermill
import pytest

from mmwa_utils.parameters import read_parameters

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_LINES = 30


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def markdown(path: Path) -> str:
    return "\n\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")


def test_there_are_notebooks_and_each_is_in_the_table_of_contents() -> None:
    assert NOTEBOOKS
    contents = (ROOT / "_toc.yml").read_text()
    for path in NOTEBOOKS:
        assert f"notebooks/{path.stem}" in contents, f"{path.name} is missing in _toc.yml"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_is_valid_and_committed_without_outputs(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
        for cell in code_cells(path):
            assert not cell.outputs
            assert cell.execution_count is None
            assert "papermill" not in cell.metadata

    def test_begins_with_parameters_then_imports_and_start(self, path: Path) -> None:
        first, second, *rest = code_cells(path)
        assert "parameters" in first.metadata.get("tags", [])
        assert next(iter(read_parameters(path))) == "profile"
        assert f'chapter = start("{path.stem}", globals())' in second.source
        for cell in rest:
            found = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not found, f"imports belong into the second cell, not here:\n{cell.source}"
        assert "chapter.footer()" in rest[-1].source

    def test_papermill_reads_the_same_parameters(self, path: Path) -> None:
        assert set(papermill.inspect_notebook(path)) == set(read_parameters(path))

    def test_cells_are_short(self, path: Path) -> None:
        lengths = {cell.source: len(cell.source.splitlines()) for cell in code_cells(path)}
        longest = max(lengths, key=lambda source: lengths[source])
        assert lengths[longest] <= MOST_LINES, longest

    def test_imports_no_other_notebook_and_has_no_style_of_its_own(self, path: Path) -> None:
        for cell in code_cells(path):
            assert not re.search(r"rcParams|plt\.style|sns\.set|%run|importlib\.import_module", cell.source), (
                cell.source
            )

    def test_every_figure_has_a_caption_and_alt_text(self, path: Path) -> None:
        for cell in code_cells(path):
            draws = re.search(r"\bfigure\(|\bsubplots\(|\btrial\.draw_", cell.source)
            told = cell.metadata.get("mystnb", {})
            if draws:
                assert told.get("image", {}).get("alt"), f"no alt text:\n{cell.source}"
                assert told.get("figure", {}).get("caption"), f"no caption:\n{cell.source}"

    def test_follows_the_pattern_of_a_chapter(self, path: Path) -> None:
        text = markdown(path)
        for words in (r"[Ww]hat you will learn", r"[Ww]hat you need", r"[Ss]ummary"):
            assert re.search(words, text), f"no section or sentence {words!r}"
        assert len(re.findall(r"\{exercise(?:-start)?\}", text)) == 3
        assert len(re.findall(r"\{solution-start\}", text)) == 3
        assert len(re.findall(r"\{solution-end\}", text)) == 3
        assert re.search(r":class:.*predict", text), "no predict-first box"
        nodes = [node for cell in code_cells(path) for node in ast.walk(ast.parse(cell.source))]
        assert any(isinstance(node, ast.Assert) for node in nodes), "no claim is asserted"
