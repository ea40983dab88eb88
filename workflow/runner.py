"""Run a notebook with papermill, strictly: checked parameters, time limits, nothing half-written.

Papermill only warns of an unknown parameter, keeps "1e-3" from YAML as a text and leaves a half-executed
notebook under the name of the whole one; this runner does not.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError, strip_color
from traitlets.config import Config

from mmwa_utils import project
from mmwa_utils.files import atomic_write
from mmwa_utils.parameters import ParameterError, check_all, read_parameters


class RunError(RuntimeError):
    """A notebook that did not run to its end; the message shows the cell, the error and what was kept."""


def run_notebook(
    notebook: Path,
    output: Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    cell_timeout: float | None = None,
    timeout: float | None = None,
    build: Path | None = None,
    progress: bool = True,
) -> float:
    """Execute a notebook with checked parameters and write it whole, or not at all.

    Args:
        notebook: the notebook, with one cell tagged `parameters`.
        output: where the executed notebook goes; it must not be the notebook itself.
        parameters: values by name; texts are read as YAML would read them.
        cell_timeout: seconds that one cell may take; None is no limit.
        timeout: seconds that the notebook may take in all; None is no limit.
        build: folder for results (`MMWA_BUILD` for the notebook); None leaves the environment as it is.
        progress: show a progress bar over the cells.

    Returns:
        The seconds that it took.

    Raises:
        ParameterError: a parameter is unknown, of the wrong type or out of range; nothing was executed.
        RunError: a cell failed, a time limit was reached or the kernel died. The half-executed notebook is kept
            beside the output as `<name>.failed.ipynb`, and an earlier output stays as it was.
    """
    values = check_all(read_parameters(notebook), parameters or {})
    if output.resolve() == notebook.resolve():
        raise RunError(f"{output}: the output would overwrite the notebook; give another path with -o")
    failed = output.with_suffix(".failed.ipynb")
    began = time.monotonic()

    def seconds_left(cell: Any) -> float | None:
        left = None if timeout is None else max(timeout - (time.monotonic() - began), 0.001)
        return min((limit for limit in (left, cell_timeout) if limit is not None), default=None)

    with atomic_write(output) as partial:
        try:
            with _kernel(build) as config:
                papermill.execute_notebook(
                    str(notebook),
                    str(partial),
                    parameters=values,
                    progress_bar=progress,
                    timeout_func=seconds_left,
                    config=config,
                    cwd=str(notebook.parent),
                )
        except BaseException as error:  # an interrupt, a full disk: what was executed is kept all the same
            if partial.exists():
                partial.replace(failed)
            if not isinstance(error, PapermillExecutionError | CellTimeoutError | DeadKernelError):
                raise
            reason = _explain(error, failed, cell_timeout, timeout)
            raise RunError(f"{notebook}: {reason}\nThe half-executed notebook is kept at {failed}") from error
    failed.unlink(missing_ok=True)
    return time.monotonic() - began


def read_parameter_file(path: Path) -> dict[str, Any]:
    """Read parameters from a YAML file: a mapping of names to values.

    Raises:
        ParameterError: the file is missing, is no YAML or is no mapping; names the file.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(f"{path}: not readable as YAML ({error})") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ParameterError(f"{path}: expected lines  name: value")
    return values


@contextlib.contextmanager
def _kernel(build: Path | None) -> Iterator[Config]:
    """Name the build folder to the kernel, and talk to it where nobody else on a shared machine can listen."""
    before = os.environ.copy()
    if build is not None:
        os.environ[project.BUILD_VARIABLE] = str(build.resolve())
    try:
        with tempfile.TemporaryDirectory(prefix="mmwa-") as folder:
            yield Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
    finally:
        os.environ.clear()
        os.environ.update(before)


def _explain(error: Exception, kept: Path, cell_timeout: float | None, timeout: float | None) -> str:
    if isinstance(error, PapermillExecutionError):
        trace = strip_color("\n".join(error.traceback))
        return f"cell {error.exec_count} failed with {error.ename}: {error.evalue}\n{_indent(error.source)}\n{trace}"
    cell = _last_started_cell(kept)
    if isinstance(error, CellTimeoutError):
        limits = {"a cell": cell_timeout, "the notebook": timeout}
        given = " and ".join(f"{seconds:g} s for {what}" for what, seconds in limits.items() if seconds is not None)
        return f"the time limit ({given}) was reached in the cell\n{_indent(cell)}"
    return (
        "the kernel died (often: out of memory, or a crash in compiled code) in the cell\n"
        f"{_indent(cell)}\nTry the profile smoke, or a smaller size"
    )


def _last_started_cell(path: Path) -> str:
    """Return the source of the last cell that papermill started in a half-executed notebook."""
    cells = nbformat.read(path, as_version=4).cells
    started = [c for c in cells if c.cell_type == "code" and c.metadata.get("papermill", {}).get("start_time")]
    return started[-1].source if started else "(none was started)"


def _indent(source: str) -> str:
    return "\n".join(f"    | {line}" for line in source.splitlines())
