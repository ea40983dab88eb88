"""Digits (UCI, "Optical recognition of handwritten digits", E. Alpaydin and C. Kaynak, 1998).

Licence: CC BY 4.0.
Steps: none; the 1797 scans come with scikit-learn, and no folder is needed.

A scan of 8 x 8 pixels is cut into vertical strips. Each strip is a stream of eight steps, its rows from top to bottom,
with the grey values of the row (divided by 16, so in [0, 1]) as features. With two views, `left` has three columns
and is weak on its own, `right` has five and dominates; with three views there are `left`, `centre` and `right` of 3, 2
and 3 columns. Step t of every strip is the same row of the paper: the true correspondence of tokens is the identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._split import IndexedSplit, stratified
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample

SPLITS = ("train", "val", "test")
EXPECTED = {"train": 1078, "val": 359, "test": 360}
_STRIPS = {
    2: {"left": slice(0, 3), "right": slice(3, 8)},
    3: {"left": slice(0, 3), "centre": slice(3, 5), "right": slice(5, 8)},
}


def specification(*, views: Literal[2, 3] = 2) -> DatasetSpec:
    """Return the specification with two or three modalities."""
    strips = _STRIPS[views].items()
    modalities = (ModalitySpec(name, "stream", width=cut.stop - cut.start, max_length=8) for name, cut in strips)
    return DatasetSpec("digits", tuple(modalities), "multiclass", 10, tuple("0123456789"), "accuracy")


SPEC = specification()


class Digits(IndexedSplit):
    """One split of the scans."""

    def __init__(self, name: str, rows: Int[np.ndarray, " n"], *, views: Literal[2, 3]) -> None:
        images, labels = scans()
        ids = [f"{row:04d}" for row in rows]
        super().__init__(name, specification(views=views), ids=ids, labels=labels[rows], standin=False)
        self._images, self._strips = images[rows], _STRIPS[views]

    def read(self, index: int) -> Sample:
        """Cut one scan into its strips."""
        image = self._images[index]
        strips = {name: np.ascontiguousarray(image[:, cut]) for name, cut in self._strips.items()}
        return Sample(self._ids[index], int(self._labels[index]), strips)

    def sources(self) -> Iterator[bytes]:
        """Yield strips, pixels and labels."""
        yield repr(self._strips).encode()
        yield self._images.tobytes()
        yield self._labels.tobytes()


def open_split(root: Path, split: str, *, views: Literal[2, 3] = 2) -> Digits:
    """Return one split, 60/20/20 % of each digit's scans; `root` is not read."""
    return Digits(split, _rows()[split], views=views)


def recognise(root: Path) -> str:
    """Return where the scans come from; `root` is not read."""
    return "bundled with scikit-learn"


def check(root: Path, report: Report) -> None:
    """Count the bundled scans."""
    for split, rows in _rows().items():
        report.count(split, len(rows), expected=EXPECTED[split])
    for digit, count in enumerate(np.bincount(scans()[1])):
        report.count(f"digit {digit}", int(count))
    report.note("The paper did not use these scans: they are the book's always-available real data.")


@lru_cache(maxsize=1)
def scans() -> tuple[Float[np.ndarray, "n 8 8"], Int[np.ndarray, " n"]]:
    """Return the bundled scans, grey values in [0, 1], and their digits."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images / 16.0).astype(np.float32), bunch.target.astype(np.int64)


@lru_cache(maxsize=1)
def _rows() -> dict[str, Int[np.ndarray, " n"]]:
    """Return the scans of each split: per digit, by a hash of the pixels, so that a copy of a scan cannot leak."""
    images, labels = scans()
    return stratified([hashlib.sha256(image.tobytes()).hexdigest() for image in images], labels, EXPECTED)
