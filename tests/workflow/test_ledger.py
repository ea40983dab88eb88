"""The ledger and the execution times: what is wrong is refused by name, what is right becomes a page."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from workflow.checked_yaml import BookFileError
from workflow.ledger import NOT_MEASURED, describe_sensitivity, read_ledger, render_ledger, write_ledger
from workflow.times import execution_times, read_time

ROOT = Path(__file__).parents[2]
ROW = {"id": "cost", "item": "cost", "kind": "inferred", "reading": "1 - cos", "why": "usual", "switch": "a.cost"}


def _write(folder: Path, rows: object) -> Path:
    path = folder / "assumptions.yml"
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    return path


def test_every_row_of_the_books_ledger_is_on_its_page() -> None:
    rows = read_ledger(ROOT / "book" / "assumptions.yml")
    page = render_ledger(rows)
    assert {"alpha", "beta", "cost", "marginals", "value", "noise", "missing"} <= {row.id for row in rows}
    for row in rows:
        assert page.count(f"{{#assumption-{row.id}}}") == 1
        assert row.switch is None or f"`{row.switch}`" in page


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "guessed"}, "kind"),
        ({"why": "  "}, "why"),
        ({"switch": "a cost"}, "switch"),
        ({"id": "The Cost"}, "id"),
        ({"swtich": "a.cost"}, "swtich"),
    ],
)
def test_a_faulty_row_is_refused_by_name(change: dict[str, str], named: str, tmp_path: Path) -> None:
    path = _write(tmp_path, [ROW, {**ROW, "id": "second", **change}])
    with pytest.raises(BookFileError, match=rf"assumptions.yml: [^:]+\.{named}: "):
        read_ledger(path)


def test_a_missing_field_a_doubled_id_and_no_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BookFileError, match=r"cost.why: field required"):
        read_ledger(_write(tmp_path, [{key: value for key, value in ROW.items() if key != "why"}]))
    with pytest.raises(BookFileError, match="'cost' occurs more than once"):
        read_ledger(_write(tmp_path, [ROW, ROW]))
    with pytest.raises(BookFileError, match="the file: input should be a valid list"):
        read_ledger(_write(tmp_path, {"cost": ROW}))


def _effect(value: str, difference: float, half: float, *, assumption: str = "cost") -> dict[str, object]:
    place = {"assumption": assumption, "value": value, "what": "clean", "metric": "auroc", "dataset": "digits"}
    return {**place, "difference": difference, "low": difference - half, "high": difference + half}


def test_the_largest_effect_of_an_assumption_is_told_whichever_its_sign() -> None:
    told = describe_sensitivity(pd.DataFrame([_effect("a", 0.1, 0.05), _effect("b", -0.3, 0.1)]))
    assert set(told) == {"cost"}
    assert told["cost"].startswith("`b`: −0.300 (−0.400 to −0.200)")
    assert told["cost"].endswith("matters")
    assert describe_sensitivity(pd.DataFrame([_effect("a", 0.1, 0.2)]))["cost"].endswith("cannot tell")


def test_an_effect_that_is_one_comes_before_a_larger_one_that_may_be_none() -> None:
    told = describe_sensitivity(pd.DataFrame([_effect("sure", 0.1, 0.05), _effect("unsure", -0.3, 0.9)]))
    assert told["cost"].startswith("`sure`")
    assert told["cost"].endswith("matters")


def test_an_effect_without_interval_can_not_matter() -> None:
    assert describe_sensitivity(pd.DataFrame([_effect("a", 9.0, float("nan"))]))["cost"].endswith("cannot tell")


def test_the_page_shows_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    source = _write(tmp_path, [ROW, {**ROW, "id": "other"}])
    page, effects = tmp_path / "page.md", tmp_path / "sensitivity.csv"
    write_ledger(source, page, effects)
    assert page.read_text(encoding="utf-8").count(NOT_MEASURED) == 2, "no results yet"

    pd.DataFrame([_effect("b", 0.3, 0.1), _effect("x", 9.0, 1.0, assumption="unknown")]).to_csv(effects, index=False)
    write_ledger(source, page, effects)
    text = page.read_text(encoding="utf-8")
    assert text.count(NOT_MEASURED) == 1
    assert "`b`: +0.300" in text
    assert "+9" not in text, "no row of the ledger"


def _executed(folder: Path, name: str, *, seconds: float | None) -> Path:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"(label)=\n# The title of {name}")])
    end = None if seconds is None else "2026-01-02T03:04:05.678"
    book.metadata["papermill"] = {"duration": seconds, "end_time": end, "parameters": {"profile": "smoke"}}
    path = folder / f"{name}.ipynb"
    nbformat.write(book, path)
    return path


def test_execution_times_list_each_chapter_and_their_sum(tmp_path: Path) -> None:
    chapters = [_executed(tmp_path, "01_a", seconds=50.0), _executed(tmp_path, "02_b", seconds=45.0)]
    page = execution_times(chapters)
    for name in ("01_a", "02_b"):
        assert page.count(f"[The title of {name}](../notebooks/{name}.ipynb)") == 1
    assert "Together: 1 min 35 s" in page


def test_a_notebook_that_did_not_end_has_no_time(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no papermill times"):
        read_time(_executed(tmp_path, "01_a", seconds=None))
