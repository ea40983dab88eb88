"""The graph on a small project of its own: what changed runs again, and nothing else; no page can be stale."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.notebooks.small import write_notebook

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two chapters, the second reading the first's result, with a copy of the package and the real workflow."""
    for folder in ("workflow", "mmwa_utils", "standins"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("requirements.lock", "_config.yml", "_toc.yml"):
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / "book").mkdir()
    config = tmp_path / "workflow" / "config.yaml"
    config.write_text(
        "build: _build\nprofile: tutorial\nparameters: {}\nreads: {02_second: [01_first]}\nalone: []\ntimeout: 100\n"
    )
    write_notebook(tmp_path / "notebooks" / "01_first.ipynb", 'chapter.save("result", {"epsilon": epsilon})')
    write_notebook(tmp_path / "notebooks" / "02_second.ipynb", 'print(chapter.find("01_first", "result"))')
    return tmp_path


def make(project: Path, *targets: str, check: bool = True) -> list[str]:
    """Run the graph up to the executed notebooks and return the chapters that were executed."""
    command = [sys.executable, "-m", "workflow.book", "--cores", "2", *(targets or ("executed",))]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return [line.split(":")[0] for line in done.stdout.splitlines() if ": executed in" in line]


def configure(project: Path, old: str, new: str) -> None:
    config = project / "workflow" / "config.yaml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))


def test_only_what_changed_runs_again(project: Path) -> None:
    assert make(project) == ["01_first", "02_second"]
    assert make(project) == []

    write_notebook(project / "notebooks" / "02_second.ipynb", "from workflow import times")
    assert make(project) == ["02_second"]

    write_notebook(project / "notebooks" / "01_first.ipynb", 'chapter.save("result", {"epsilon": 2 * epsilon})')
    assert make(project) == ["01_first", "02_second"], "the second reads the first's result"

    configure(project, "parameters: {}", "parameters: {02_second: {epsilon: 1e-3}}")
    assert make(project) == ["02_second"], "a parameter of one chapter"

    helper = project / "mmwa_utils" / "project.py"
    helper.write_text(helper.read_text() + "\n# an edit\n")
    assert make(project) == ["01_first", "02_second"], "a helper"

    judge = project / "workflow" / "times.py"
    judge.write_text(judge.read_text() + "\n# an edit\n")
    assert make(project) == ["02_second"], "what judges the book, for the chapter that imports it"

    (project / "requirements.lock").write_text("# another lock\n")
    assert make(project) == ["01_first", "02_second"], "the lock"


def test_changed_data_run_the_chapter_again(project: Path) -> None:
    (project / "data").mkdir()
    (project / "data" / "train.jsonl").write_text("{}\n")
    data_root = 'data_root: "Optional[Folder]" = None  # folder of the release\n'
    source = f'profile: "Profile" = "tutorial"  # sizes\n{data_root}'
    write_notebook(project / "notebooks" / "02_second.ipynb", parameters=source.strip())
    configure(
        project, "parameters: {}", f"parameters: {{02_second: {{data_root: {json.dumps(str(project / 'data'))}}}}}"
    )
    assert make(project) == ["01_first", "02_second"]
    assert make(project) == []
    (project / "data" / "train.jsonl").write_text('{"id": 1}\n')
    assert make(project) == ["02_second"]


def test_a_failing_notebook_fails_the_build_and_is_shown(project: Path) -> None:
    write_notebook(project / "notebooks" / "02_second.ipynb", 'raise RuntimeError("the injected fault")')
    command = [sys.executable, "-m", "workflow.book", "--cores", "2"]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the injected fault" in done.stderr
    assert "02_second.failed.ipynb" in done.stderr
    assert not (project / "_build" / "html").exists()
    assert (project / "_build" / "executed" / "01_first.ipynb").is_file(), "what could be done was done"
