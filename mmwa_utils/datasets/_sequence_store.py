"""Released pickles converted once: one memory-mapped safetensors file a split, with the SHA-256 of what it came from.

A released pickle must be read whole, which takes as much memory as the dataset. So it is read once, and its sequences
are laid end to end, without padding, in a file of which a sample then reads only its own steps.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mmwa_utils.datasets._files import DatasetError
from mmwa_utils.datasets._sequences import Collected
from mmwa_utils.datasets._split import IndexedSplit
from mmwa_utils.files import atomic_write, sha256, write_json
from mmwa_utils.types import DatasetSpec, Sample

SPLITS = ("train", "val", "test")
_FORMAT = "1"
"""Changes when converted files change, so that older ones are converted again."""

Convert = Callable[[], Iterator[tuple[str, Collected]]]
"""Reads the release and yields its splits one at a time, each freed before the next."""


@dataclass(frozen=True)
class Store:
    """A folder with one converted file a split."""

    folder: Path
    sources: Mapping[str, str]
    """SHA-256 of each file of the release, by name."""
    longest: Mapping[str, int]
    """The most steps that a sample has, for each modality, over all splits."""

    def file(self, split: str) -> Path:
        return self.folder / f"{split}.safetensors"

    def header(self, split: str) -> dict[str, Any]:
        """Ids, texts, repairs and lengths of a split, without its arrays."""
        return _read_header(self.file(split))


def open_store(root: Path, files: list[Path], kind: str, convert: Convert) -> Store:
    """The converted files of these files of a release; they are converted first if they are not there yet.

    `kind` tells apart different conversions of the same files. A conversion is found again by the files' size and
    time of change; if those differ, by SHA-256. Raises `DatasetError` when an id occurs in two splits.
    """
    folder = cache_folder(root) / kind
    stats = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    known = _read_index(folder)
    if not known or known["stats"] != stats:
        sources = {path.name: sha256(path) for path in files}
        same = known is not None and known["sha256"] == sources
        longest = known["longest"] if known and same else _convert(folder, convert, files[0])
        known = {"format": _FORMAT, "stats": stats, "sha256": sources, "longest": longest}
        write_json(folder / "index.json", known)
    return Store(folder, known["sha256"], known["longest"])


def cache_folder(root: Path) -> Path:
    """Where converted files of a data folder are kept: inside it, or in the user's cache if it cannot be written to."""
    inside = root / ".mmwa"
    if os.access(inside if inside.exists() else root, os.W_OK):
        return inside
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mmwa" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]


def _read_index(folder: Path) -> dict[str, Any] | None:
    try:
        index = json.loads((folder / "index.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None  # nothing converted yet, or an interrupted writer: converting again mends both
    whole = isinstance(index, dict) and index.get("format") == _FORMAT and {"stats", "sha256", "longest"} <= set(index)
    return index if whole and all((folder / f"{split}.safetensors").is_file() for split in SPLITS) else None


def _convert(folder: Path, convert: Convert, source: Path) -> dict[str, int]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)  # a conversion that stops midway vouches for nothing
    seen: dict[str, str] = {}
    longest: Counter[str] = Counter()
    for split, collected in convert():
        if not collected.ids:
            raise DatasetError(source, "has no sample.", at=split, remedy="Fetch the file again.")
        longest |= Counter({name: max(map(len, streams)) for name, streams in collected.streams.items()})
        for identifier in collected.ids:
            if seen.setdefault(identifier, split) != split:
                problem = f"the sample {identifier[:80]!r} is in both {seen[identifier]} and {split}."
                raise DatasetError(source, problem, at=split, remedy="Splits must not share samples: fetch it again.")
        _write(folder / f"{split}.safetensors", collected)
    return dict(longest)


def _write(path: Path, collected: Collected) -> None:
    tensors: dict[str, np.ndarray] = {"labels": np.asarray(collected.labels, dtype=np.float32)}
    for name, streams in collected.streams.items():
        tensors[name] = np.concatenate(streams)
        tensors[f"{name}.offsets"] = np.cumsum([0, *map(len, streams)], dtype=np.int64)
    about = {"ids": collected.ids, "texts": collected.texts, "repairs": +collected.repairs}
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata={"about": json.dumps(about)})


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="np") as file:
            about = json.loads(file.metadata()["about"])
            about["labels"] = file.get_tensor("labels")
            names = [name for name in file.keys() if not name.startswith("labels") and "." not in name]  # noqa: SIM118
            about["offsets"] = {name: file.get_tensor(f"{name}.offsets") for name in names}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        remedy = f"Delete the folder {path.parent}: it is made again from the release."
        raise DatasetError(path, f"is not a whole converted file ({error}).", remedy=remedy) from None
    return about


def with_lengths(spec: DatasetSpec, longest: Mapping[str, int]) -> DatasetSpec:
    """The specification with the longest sequence that each stream of this release has."""
    modalities = tuple(
        replace(modality, max_length=longest[modality.name]) if modality.kind == "stream" else modality
        for modality in spec.modalities
    )
    return replace(spec, modalities=modalities)


class SequenceSplit(IndexedSplit):
    """A split read from a converted file: opening it reads ids, labels and lengths, a sample only its own steps.

    `words` names the modality that is read as words instead of features (MMSA's `raw_text`).
    """

    def __init__(self, name: str, spec: DatasetSpec, store: Store, *, standin: bool, words: str | None = None) -> None:
        self._header = store.header(name)
        labels = self._header["labels"].astype(np.float32 if spec.task == "regression" else np.int64)
        super().__init__(name, spec, ids=self._header["ids"], labels=labels, standin=standin)
        self._store, self._words = store, words
        self._file: Any = None

    def read(self, index: int) -> Sample:
        """Read one sample's steps from the converted file."""
        values = {modality.name: self._value(modality.name, index) for modality in self.spec.modalities}
        present = {name: value for name, value in values.items() if len(value)}
        return Sample(
            id=self._ids[index],
            label=self._labels[index].item(),
            modalities=present,
            absent=frozenset(values) - frozenset(present),
        )

    def _value(self, name: str, index: int) -> Any:
        if name == self._words:
            return self._header["texts"][index]
        if self._file is None:
            self._file = safe_open(self._store.file(self.name), framework="np")
        start, stop = (int(offset) for offset in self._header["offsets"][name][index : index + 2])
        return self._file.get_slice(name)[start:stop] if stop > start else ()

    def sources(self) -> Iterator[bytes]:
        """The SHA-256 of the release's files, the version of the conversion and the option."""
        yield json.dumps([_FORMAT, self._words, sorted(self._store.sources.items())]).encode()

    @property
    def repairs(self) -> Counter[str]:
        """What was set right while converting, with counts."""
        return Counter(self._header["repairs"])

    def lengths(self, name: str) -> Int[np.ndarray, " samples"]:
        """Steps of a modality in each sample, 0 where it is absent; words are counted between spaces."""
        if name == self._words:
            return np.asarray([len(text.split()) for text in self._header["texts"]], dtype=np.int64)
        return np.diff(self._header["offsets"][name])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # a worker opens the file itself
