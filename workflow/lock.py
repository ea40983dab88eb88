"""Renew requirements.lock: the exact versions of everything that the ranges of pyproject.toml lead to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HEADER = """\
# Exact versions of everything the book is built and tested with; made by `make lock` from pyproject.toml.
# The accelerator's libraries are torch's own pins: pip adds them where it installs torch's accelerator build.
"""


def lock(root: Path) -> None:
    """Write `root`/requirements.lock."""
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--no-header", "--no-annotate", "--strip-extras"]
    extras = ["--extra=book", "--extra=real", "--extra=dev"]
    options = [*extras, "--upgrade", "--allow-unsafe", "--no-emit-index-url", "--output-file=-"]
    done = subprocess.run([*command, *options, "pyproject.toml"], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    pins = re.findall(r"^[A-Za-z0-9][^\s;]*==.*$", done.stdout, flags=re.MULTILINE)
    exact = [re.sub(r"\+[\w.]+", "", pin) for pin in pins]  # torch's build (cpu, cuda) is the machine's choice
    (root / "requirements.lock").write_text(HEADER + "\n".join(exact) + "\n", encoding="utf-8")


if __name__ == "__main__":
    lock(Path.cwd())
