"""Where things are: the project's root, the build folder, and what the code and the machine are."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from pathlib import Path

import torch

import mmwa_utils
from mmwa_utils.files import sha256

BUILD_VARIABLE = "MMWA_BUILD"
"""Environment variable that names the build folder; the runner and the graph set it for the notebooks."""


def find_root() -> Path:
    """Return the nearest folder from here upward that holds the book's `_config.yml`, or the folder itself."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "_config.yml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return here


def build_folder() -> Path:
    """Return the folder that generated files go to: `MMWA_BUILD`, else `_build` in the project's root."""
    named = os.environ.get(BUILD_VARIABLE)
    return Path(named).resolve() if named else find_root() / "_build"


@functools.cache  # what this process loaded, even if a file is edited meanwhile
def source_hash(*rooms: str) -> str:
    """Return the SHA-256 (hex) of the package's source files in the named rooms.

    Args:
        rooms: modules or folders of `mmwa_utils`, such as "ot" or "alignment.py".

    >>> source_hash("ot") == source_hash("ot")
    True
    >>> source_hash("ot") == source_hash("fusion")
    False
    """
    package = Path(mmwa_utils.__file__).parent
    digest = hashlib.sha256()
    for root in (package / room for room in rooms):
        for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def git_commit() -> str:
    """Return the commit of the checkout the package lies in, with "+changes" if files differ; "unknown" outside one."""
    folder = Path(mmwa_utils.__file__).parent
    describe = ["describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+changes"]
    try:
        done = subprocess.run(["git", "-C", str(folder), *describe], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def default_device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Name the default device for people: the accelerator's model, or the processor with the threads in use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"


def provenance() -> dict[str, str]:
    """Return what a result depends on besides its parameters: versions, commit, lock, device."""
    lock = find_root() / "requirements.lock"
    return {
        "mmwa_utils": mmwa_utils.__version__,
        "commit": git_commit(),
        "requirements.lock": sha256(lock)[:12] if lock.is_file() else "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device_name(),
    }
