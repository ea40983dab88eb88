"""The strict runner, on real kernels: whole or not at all, and every failure says what and where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from mmwa_utils.cli import app
from tests.notebooks.small import write_notebook
from workflow.runner import RunError, run_notebook


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(out.get("text", "") for cell in cells if cell.cell_type == "code" for out in cell.outputs)


def test_parameters_reach_the_notebook_as_numbers(tmp_path: Path) -> None:
    notebook = write_notebook(
        tmp_path / "01_small.ipynb", "print(epsilon * 2, chapter.pick(size, smoke=1, tutorial=2, paper=3))"
    )
    (tmp_path / "values.yml").write_text("epsilon: 1e-3\nprofile: paper\n")
    words = ["run", str(notebook), "-f", str(tmp_path / "values.yml"), "-p", "profile", "smoke"]
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "out.ipynb"), "--no-progress"])
    assert done.exit_code == 0, done.output
    assert printed(tmp_path / "out.ipynb") == "0.002 1\n"
    assert "executed in" in done.output


def test_a_wrong_parameter_exits_with_2_and_runs_nothing(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "01_small.ipynb")
    done = CliRunner().invoke(app, ["run", str(notebook), "-p", "epsilom", "0.1", "-o", str(tmp_path / "out.ipynb")])
    assert done.exit_code == 2
    assert "did you mean 'epsilon'" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["01_small.ipynb"]


def test_a_failing_cell_is_shown_and_the_earlier_output_survives(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "01_small.ipynb", "before = 41", "1 / (before - 41)")
    (tmp_path / "out.ipynb").write_text("an earlier whole notebook")
    done = CliRunner().invoke(app, ["run", str(notebook), "-o", str(tmp_path / "out.ipynb"), "--no-progress"])
    assert done.exit_code == 1
    assert "1 / (before - 41)" in done.output
    assert "ZeroDivisionError: division by zero" in done.output
    kept = tmp_path / "out.failed.ipynb"
    assert str(kept) in done.output
    assert any(
        cell.source == "before = 41" and cell.execution_count for cell in nbformat.read(kept, as_version=4).cells
    )
    assert (tmp_path / "out.ipynb").read_text() == "an earlier whole notebook"


@pytest.mark.parametrize("limit", ["cell_timeout", "timeout"])
def test_a_time_limit_stops_the_notebook(tmp_path: Path, limit: str) -> None:
    sleep = "import time\n\ntime.sleep(600)"
    notebook = write_notebook(tmp_path / "01_small.ipynb", sleep)
    with pytest.raises(RunError, match=r"time limit \(8 s for (a cell|the notebook)\) was reached") as caught:
        run_notebook(notebook, tmp_path / "out.ipynb", progress=False, **{limit: 8.0})
    assert "time.sleep(600)" in str(caught.value)


def test_a_dead_kernel_is_reported_as_such(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "01_small.ipynb", "import os\n\nos._exit(3)")
    with pytest.raises(RunError, match="the kernel died") as caught:
        run_notebook(notebook, tmp_path / "out.ipynb", progress=False)
    assert "os._exit(3)" in str(caught.value)
    assert not (tmp_path / "out.ipynb").exists()


def test_the_output_may_not_be_the_notebook(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "01_small.ipynb")
    before = notebook.read_bytes()
    with pytest.raises(RunError, match="would overwrite"):
        run_notebook(notebook, notebook)
    assert notebook.read_bytes() == before


def test_plain_papermill_works_and_the_notebook_itself_refuses_bad_values(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "01_small.ipynb", "print(epsilon)")

    def papermill(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "papermill", str(notebook), str(tmp_path / "out.ipynb"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert papermill("-p", "epsilon", "0.25").returncode == 0
    assert printed(tmp_path / "out.ipynb") == "0.25\n"
    refused = papermill("-p", "epsilom", "0.25", "-p", "size", "0")
    assert refused.returncode != 0
    assert "did you mean 'epsilon'" in refused.stderr
    assert "parameter 'size' got 0" in refused.stderr


def test_params_lists_type_default_and_meaning(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["params", str(write_notebook(tmp_path / "01_small.ipynb"))])
    assert done.exit_code == 0
    for words in ("epsilon = 0.1", "a number > 0", "strength of the entropic", "size = None", "or none"):
        assert words in done.output


def test_results_by_hand_are_kept_apart_from_the_graphs(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "notebooks" / "01_small.ipynb", 'chapter.save("table", {"value": epsilon})')
    (tmp_path / "_config.yml").touch()
    run_notebook(notebook, tmp_path / "out.ipynb", progress=False)
    assert (tmp_path / "_build" / "by_hand" / "01_small" / "table.json").is_file()
    run_notebook(notebook, tmp_path / "out.ipynb", build=tmp_path / "graph", progress=False)
    assert (tmp_path / "graph" / "results" / "01_small" / "table.json").is_file()


def test_a_page_does_not_show_where_its_results_were_saved(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "notebooks" / "01_small.ipynb", 'chapter.save("table", {"value": epsilon})')
    run_notebook(notebook, tmp_path / "out.ipynb", build=tmp_path / "graph", progress=False)
    shown = [
        out for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells for out in cell.get("outputs", [])
    ]
    assert not [out for out in shown if "table.json" in str(out)]
