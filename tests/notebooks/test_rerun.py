"""The command with which the report reruns the book on real data is one that works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from mmwa_utils.parameters import check_all, read_parameters

ROOT = Path(__file__).parents[2]
REPORT = "\n".join(
    cell.source
    for cell in nbformat.read(ROOT / "notebooks" / "16_reproduction_report.ipynb", as_version=4).cells
    if cell.cell_type == "markdown"
)


@pytest.fixture(scope="module")
def shown() -> str:
    (block,) = re.findall(r"```yaml\n(.*?)```", REPORT, flags=re.DOTALL)
    return str(block)


def test_every_parameter_that_is_shown_exists_and_is_accepted(shown: str) -> None:
    told = yaml.safe_load(shown)
    assert told["profile"] == "paper"
    assert len(told["parameters"]) == 5
    for name, values in told["parameters"].items():
        check_all(read_parameters(ROOT / "notebooks" / f"{name}.ipynb"), values)
        assert "data_root" in values


def test_one_command_plans_every_chapter(shown: str, tmp_path: Path) -> None:
    (command,) = re.findall(r"```sh\nsnakemake (.*?)\n```", REPORT)
    told = {**yaml.safe_load(shown), "build": str(tmp_path / "build")}
    for values in told["parameters"].values():
        values["data_root"] = str(tmp_path)  # the graph looks at the folder's files
    (tmp_path / "real_data.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    arguments = command.replace("real_data.yaml", str(tmp_path / "real_data.yaml")).split()
    # Dry, and without the lock that a build at work in this folder may hold.
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, "-n", "--nolock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    chapters = len(list((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")))
    assert re.search(rf"^chapter\s+{chapters}$", said, flags=re.MULTILINE), said
