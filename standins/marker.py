"""The file that says a folder holds a stand-in, and which."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmwa_utils.datasets import DatasetError
from mmwa_utils.datasets._files import MARKER, parse_json, read_bytes

VERSION = 4
"""Changes when a writer's output changes, so that no folder of an older writer is taken for a newer one's."""


@dataclass(frozen=True)
class Marker:
    """Which stand-in a folder holds."""

    dataset: str
    samples: int
    """In the training split."""
    seed: int
    version: int = VERSION


def write_marker(root: Path, marker: Marker) -> None:
    """Say in the folder that its files are a stand-in's; written last, so that it vouches for whole files."""
    note = "Not a release: drawn by `mmwa data standin` from a known story, in the release's layout."
    (root / MARKER).write_text(json.dumps({"note": note, **vars(marker)}, indent=1) + "\n", encoding="utf-8")


def read_marker(root: Path) -> Marker | None:
    """Return the stand-in's marker, or None in a folder of a release."""
    path = root / MARKER
    if not path.is_file():
        return None
    value: Any = parse_json(read_bytes(path), path)
    fields = ("dataset", "samples", "seed", "version")
    if not isinstance(value, dict) or any(name not in value for name in fields):
        raise DatasetError(path, f"expected the keys {', '.join(fields)}.", remedy="Write the stand-in again.")
    return Marker(*(value[name] for name in fields))
