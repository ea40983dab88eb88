"""Writing a file whole or not at all, the hash by which a file is known again, and where packages keep theirs."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file takes the place of `path` when the block ends without an error.

    The folder is made if it is not there. The yielded path keeps the ending of `path`, since some writers go by it,
    and is this process's own, so that two processes that write the same file don't tear each other's.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new" / "table.csv"
    >>> with atomic_write(path) as partial:
    ...     _ = partial.write_text("a,b")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('a,b', 1)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; what JSON doesn't know is written as its `str`."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=str))


def package_folder(package: str) -> Path:
    """Return the folder of an installed package, which is found and not imported.

    Raises:
        ImportError: it is not installed; names the remedy.

    >>> package_folder("sklearn").name
    'sklearn'
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"{package} is not installed. Run: pip install 'mmwa-utils[real]'")
    return Path(found.submodule_search_locations[0])


def sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
