"""Hateful Memes (Meta AI, 2020): is a picture with its caption hateful? One line of JSON and one picture per sample.

Licence: the challenge's own data licence; it has to be accepted in person, and the pictures must not be passed on.
Steps:
  1. Read and accept the licence on the challenge's page (DrivenData, "Hateful Memes: Phase 2", or Meta AI's page).
  2. Fetch the archive of phase 2, which has the "seen" and "unseen" files, and unpack it.
  3. Point data_root at the folder that holds train.jsonl, dev_seen.jsonl, test_seen.jsonl and img/.
  4. Run `mmwa data verify hateful_memes FOLDER`.
Beware: the test.jsonl of phase 1 has no labels, and some mirrors lack pictures (one lacks 535).

Each line has `id`, `img` ("img/02345.png"), `label` (0 or 1) and `text`; dev_unseen.jsonl and test_unseen.jsonl are
read too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmwa_utils.datasets import _files
from mmwa_utils.datasets._files import DatasetError, MissingImages
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._split import IndexedSplit
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample

MODALITIES = (ModalitySpec("text", "text"), ModalitySpec("image", "image"))
SPEC = DatasetSpec("hateful_memes", MODALITIES, "binary", n_labels=1, label_names=("hateful",), metric="auroc")

FILES = {"train": "train.jsonl", "val": "dev_seen.jsonl", "test": "test_seen.jsonl"}
FILES |= {name: f"{name}.jsonl" for name in ("dev_unseen", "test_unseen")}
EXPECTED = {"train": 8500, "val": 500, "test": 1000, "dev_unseen": 540, "test_unseen": 2000}
SPLITS = tuple(FILES)
LAYOUT = "jsonl + img"


@dataclass(frozen=True)
class _Row:
    """One line of the index, checked."""

    id: str
    text: str
    label: int
    image: Path | None


class HatefulMemes(IndexedSplit):
    """One split; a picture is decoded when its sample is asked for."""

    def __init__(self, name: str, rows: list[_Row], index: bytes, *, standin: bool) -> None:
        labels = np.array([row.label for row in rows], dtype=np.int64)
        super().__init__(name, SPEC, ids=[row.id for row in rows], labels=labels, standin=standin)
        self.rows, self._index = rows, index

    def read(self, index: int) -> Sample:
        """Decode the picture of one line."""
        row = self.rows[index]
        if row.image is None:
            return Sample(row.id, row.label, {"text": row.text}, frozenset({"image"}))
        return Sample(row.id, row.label, {"text": row.text, "image": _files.read_image(row.image)})

    def sources(self) -> Iterator[bytes]:
        """Yield the index file, and name and size of each picture."""
        yield self._index
        yield from (_files.stat_bytes(row.image) for row in self.rows)


def recognise(root: Path) -> str | None:
    """Return the layout in a folder, or None."""
    return LAYOUT if (root / FILES["train"]).is_file() or (root / FILES["val"]).is_file() else None


def open_split(root: Path, split: str, *, missing_images: MissingImages = "error") -> HatefulMemes:
    """Open one split.

    Args:
        root: the folder with the `.jsonl` files and `img/`.
        split: one of `SPLITS`.
        missing_images: what to do about a line whose picture is not in `img/`: stop, or read the sample without it.

    Raises:
        DatasetError: names the file and line: broken UTF-8 or JSON, a missing key, a label other than 0 and 1, a
            repeated id, a path out of the folder, a missing picture.
    """
    path, folder = root / FILES[split], root / "img"
    # The folder is listed once instead of asking for each of thousands of files.
    pictures = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    rows: list[_Row] = []
    lines: dict[str, int] = {}
    for line, value in _files.read_json_lines(path, remedy="See `mmwa data where hateful_memes`."):
        row = _row(value, root, pictures, path, f"line {line}")
        if row.id in lines:
            problem = f"repeats the id {row.id} of line {lines[row.id]}."
            raise DatasetError(path, problem, at=f"line {line}", remedy="Remove one of the two lines.")
        lines[row.id] = line
        rows.append(row)
    if not rows:
        raise DatasetError(path, "has no lines.", remedy="Fetch the file again.")
    missing = [f"of id {row.id}" for row in rows if row.image is None]
    _files.check_missing(missing_images, missing, path, f"of {len(rows)} pictures")
    return HatefulMemes(split, rows, _files.read_bytes(path), standin=_files.is_standin(root))


def _row(value: dict[str, Any], root: Path, pictures: set[str], path: Path, at: str) -> _Row:
    for key, kinds in (("id", (int, str)), ("img", str), ("text", str)):
        if not isinstance(value.get(key), kinds) or isinstance(value[key], bool):
            problem = f"expected {key!r} as {'text' if kinds is str else 'a number or text'}, found {value.get(key)!r}."
            raise DatasetError(path, problem[:200], at=at, remedy="Fetch the file again.")
    if "label" not in value:
        remedy = "The test.jsonl of phase 1 has no labels: use test_seen.jsonl of phase 2."
        raise DatasetError(path, "has no 'label'.", at=at, remedy=remedy)
    if type(value["label"]) is not int or value["label"] not in (0, 1):
        raise DatasetError(path, f"expected the label 0 or 1, found {value['label']!r}.", at=at)
    image = _find(value["img"], pictures, partial(_files.inside, root, named_in=path, at=at))
    return _Row(_padded(str(value["id"])), value["text"], value["label"], image)


def _padded(identifier: str) -> str:
    """Return an id in five digits: releases and mirrors write 2345, "2345" and "02345" for the same meme."""
    return identifier.zfill(5) if identifier.isdigit() else identifier


def _find(value: str, pictures: set[str], inside: Callable[[str], Path]) -> Path | None:
    """Return the picture of a line, whether its name or the file's is padded or not."""
    path = inside(value)
    if path.parent != inside("img"):
        return path if path.is_file() else None
    for stem in (path.stem, _padded(path.stem), path.stem.lstrip("0") or "0"):
        if (name := stem + path.suffix) in pictures:
            return inside(f"img/{name}")
    return None


def check(root: Path, report: Report) -> None:
    """Check lines, labels, pictures and the overlap of splits."""
    owner: dict[str, str] = {}
    for split, file in FILES.items():
        if not (root / file).is_file():
            if split in ("train", "val", "test"):
                report.problem("missing file", file, fatal=True)
            continue
        try:
            opened = open_split(root, split, missing_images="absent")
        except DatasetError as error:
            report.problem("unusable index", str(error), fatal=True)
            continue
        report.count(file, len(opened), expected=EXPECTED[split])
        positive = int(opened.labels().sum())
        report.count(f"{file}: hateful", positive)
        report.count(f"{file}: not hateful", len(opened) - positive)
        for row in opened.rows:
            if row.image is None:
                report.problem("missing picture", f"{file}: id {row.id}", fatal=False)
            if split in ("train", "val", "test") and owner.setdefault(row.id, split) != split:
                report.problem("id in two splits", f"{row.id} in {owner[row.id]} and {split}", fatal=True)
        report.check_images(row.image for row in opened.rows if row.image is not None)
    report.note("The paper used train, dev_seen and test_seen: 8500, 500 and 1000 (its table's numbers).")
    if (root / "test.jsonl").is_file():
        report.note("test.jsonl is phase 1's file without labels; it is not read.")
