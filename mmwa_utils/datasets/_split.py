"""What all splits have in common: an index in memory, samples decoded one at a time."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from mmwa_utils.types import DatasetSpec, Sample

KEPT = 4096
"""Samples of the largest stand-in split that is kept in memory once decoded: every epoch reads them again."""


class IndexedSplit(ABC):
    """A `Split` over an index of ids and labels; a subclass says how to read one sample and what it depends on.

    Instances must survive pickling, since that is how loader workers receive them: keep paths, not open files.
    """

    def __init__(
        self, name: str, spec: DatasetSpec, ids: Sequence[str], labels: Shaped[np.ndarray, "samples ..."], standin: bool
    ) -> None:
        self.name, self.spec, self.standin = name, spec, standin
        self._ids, self._labels = list(ids), labels
        self._kept: dict[int, Sample] = {}
        self._file: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_kept": {}, "_file": None}  # a loader's worker opens the file itself

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Decode the sample at a non-negative index."""

    @abstractmethod
    def sources(self) -> Iterator[bytes]:
        """Yield what the fingerprint is made of: index contents, options, names and sizes of large files."""

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of what the samples depend on."""
        digest = hashlib.sha256(f"{self.spec.name}/{self.name}/{len(self)}".encode())
        for part in self.sources():
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> Sample:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"sample {index} of {self.spec.name}/{self.name}, which has {len(self)}")
        if not self.standin or len(self) > KEPT:
            return self.read(position)
        if position not in self._kept:
            self._kept[position] = self.read(position)
        return self._kept[position]

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def labels(self) -> Shaped[np.ndarray, "samples ..."]:
        """Return labels in order, (samples,) or (samples, labels), without decoding a sample."""
        return self._labels

    def ids(self) -> list[str]:
        """Return identifiers in order."""
        return list(self._ids)


def stratified(
    keys: Sequence[str], labels: Int[np.ndarray, " n"], counts: Mapping[str, int]
) -> dict[str, Int[np.ndarray, " m"]]:
    """Return the rows of each split, in ascending order: the same share of each label.

    Args:
        keys: one a row; within a label they put the rows in order. A hash of the contents keeps copies together.
        labels: one a row.
        counts: rows of each split, which add up to all.

    >>> stratified(["b", "a", "c", "d"], np.array([0, 0, 1, 1]), {"train": 2, "test": 2})
    {'train': array([1, 2]), 'test': array([0, 3])}
    """
    order = np.array(sorted(range(len(keys)), key=lambda row: keys[row]))
    position = np.empty(len(order))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    ranked = np.argsort(position, kind="stable")
    parts = np.split(ranked, np.cumsum(list(counts.values()))[:-1])
    return {split: np.sort(part) for split, part in zip(counts, parts, strict=True)}
