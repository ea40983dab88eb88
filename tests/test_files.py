"""A file is there whole, or as it was before."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mmwa_utils.files import atomic_write, sha256


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("before")

    def write_half() -> None:
        with atomic_write(path) as partial:
            partial.write_text("half of a")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("before")
    with atomic_write(path) as partial:
        partial.write_text("after")
        assert path.read_text() == "before"
        assert partial.suffix == path.suffix  # papermill and NumPy go by the ending
    assert path.read_text() == "after"


def test_the_hash_is_of_the_content_alone(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(b"content")
    assert sha256(tmp_path / "one") == sha256(tmp_path / "other") == hashlib.sha256(b"content").hexdigest()
