"""The set-up behind both commands says what is missing, without a traceback, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def set_up(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": python}
    command = ["sh", str(ROOT / "workflow" / "setup")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def fake_python(path: Path, answers: str) -> str:
    path.write_text(f'#!/bin/sh\ncase "$2" in\n{answers}\nesac\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ("*version_info*) exit 1;;", "Python 3.11 or 3.12 is needed"),
        ("*venv*) exit 1;;", "lacks the modules venv and ensurepip"),
    ],
)
def test_an_unfit_python_is_named(tmp_path: Path, answers: str, said: str) -> None:
    done = set_up(tmp_path, fake_python(tmp_path / "python", answers))
    assert done.returncode == 1
    assert said in done.stderr
    assert str(tmp_path / "python") in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = set_up(tmp_path, "/nowhere/python3.11")
    assert done.returncode == 1
    assert "/nowhere/python3.11" in done.stderr
    assert "make PYTHON=" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="NO make HERE: its list of targets was not read")
def test_make_alone_lists_the_targets() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("book", "test", "serve", "bench", "lock", "clean"):
        assert f"make {target} " in done.stdout
