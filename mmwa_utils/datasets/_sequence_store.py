"""Released pickles converted once: one memory-mapped safetensors file per split, with the SHA-256 of what it came from.

A released pickle must be read whole, which takes as much memory as the dataset. So it is read once, and its sequences
are laid end to end, without padding, in a file from which a sample then reads only its own steps.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mmwa_utils.datasets._files import DatasetError, is_standin
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._sequences import Collected
from mmwa_utils.datasets._split import IndexedSplit
from mmwa_utils.files import atomic_write, sha256, write_json
from mmwa_utils.types import DatasetSpec, Sample

SPLITS = ("train", "val", "test")
_SIGNS = {-1: "negative", 0: "neutral", 1: "positive"}
_FORMAT = "1"
"""Changes when converted files change, so that older ones are converted again."""

Read = Callable[[], Iterator[tuple[str, Collected]]]
"""Reads the release and yields its splits one at a time, each freed before the next."""


@dataclass(frozen=True)
class Store:
    """A folder with one converted file per split.

    `sources` are the SHA-256 of the release's files, by name; `longest` the most steps that a sample has, for each
    modality, over all splits.
    """

    folder: Path
    sources: Mapping[str, str]
    longest: Mapping[str, int]
    standin: bool

    def file(self, split: str) -> Path:
        return self.folder / f"{split}.safetensors"

    def files(self) -> list[Path]:
        return [self.file(split) for split in SPLITS]


def open_store(root: Path, names: Sequence[str], kind: str, read: Read) -> Store:
    """Return the converted files of these files of a release, converting them first if they are not there yet.

    `kind` tells apart different conversions of the same files. A conversion is found again by the files' size and
    time of change; if those differ, by SHA-256. Raises `DatasetError` when an id occurs in two splits.
    """
    folder = cache_folder(root) / kind
    stats = {name: [(root / name).stat().st_size, (root / name).stat().st_mtime_ns] for name in names}
    known = _read_index(folder)
    if not known or known["stats"] != stats:
        sources = {name: sha256(root / name) for name in names}
        if not known or known["sha256"] != sources:
            known = {"format": _FORMAT, "sha256": sources, "longest": _convert(folder, read, root / names[0])}
        known["stats"] = stats
        write_json(folder / "index.json", known)
    return Store(folder, known["sha256"], known["longest"], is_standin(root))


def cache_folder(root: Path) -> Path:
    """Return where converted files of a folder are kept: in it, or in the user's cache if it cannot be written to."""
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


def _convert(folder: Path, read: Read, source: Path) -> dict[str, int]:
    """Write each split and return the most steps that a sample has, for each modality."""
    (folder / "index.json").unlink(missing_ok=True)  # a conversion that stops midway vouches for nothing
    owner: dict[str, str] = {}
    longest: Counter[str] = Counter()
    for split, collected in read():
        if not collected.ids:
            raise DatasetError(source, "has no sample.", at=split, remedy="Fetch the file again.")
        for identifier in collected.ids:
            if owner.setdefault(identifier, split) != split:
                problem = f"the sample {identifier[:80]!r} is in both {owner[identifier]} and {split}."
                raise DatasetError(source, problem, at=split, remedy="Splits must not share samples: fetch it again.")
        tensors: dict[str, np.ndarray] = {"labels": np.asarray(collected.labels, dtype=np.float32)}
        for name, streams in collected.streams.items():
            tensors[name] = np.concatenate(streams)
            tensors[f"{name}.offsets"] = np.cumsum([0, *map(len, streams)], dtype=np.int64)
            longest[name] = max(longest[name], *map(len, streams))
        about = {"ids": collected.ids, "texts": collected.texts, "repairs": +collected.repairs}
        with atomic_write(folder / f"{split}.safetensors") as partial:
            save_file(tensors, partial, metadata={"about": json.dumps(about)})
    return dict(longest)


class SequenceSplit(IndexedSplit):
    """A split read from a converted file: opening it reads ids, labels and lengths, a sample only its own steps.

    `spec` lacks only the longest sequences, which depend on the file. `words` names the modality that is read as words
    instead of features (MMSA's `raw_text`).
    """

    def __init__(self, name: str, spec: DatasetSpec, store: Store, *, words: str | None = None) -> None:
        self._path, self._sources, self._words = store.file(name), store.sources, words
        try:
            file = self._open()
            about = json.loads(file.metadata()["about"])
            self._texts, self.repairs = about["texts"], Counter(about["repairs"])
            labels = file.get_tensor("labels").astype(np.float32 if spec.task == "regression" else np.int64)
            self._offsets = {name: file.get_tensor(f"{name}.offsets") for name in spec.modality_names}
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            remedy = f"Delete the folder {store.folder}: it is made again from the release."
            raise DatasetError(self._path, f"is not a whole converted file ({error}).", remedy=remedy) from None
        longest = {m.name: store.longest[m.name] for m in spec.modalities if m.kind == "stream"}
        modalities = tuple(replace(m, max_length=longest.get(m.name)) for m in spec.modalities)
        spec = replace(spec, modalities=modalities)
        super().__init__(name, spec, ids=about["ids"], labels=labels, standin=store.standin)

    def _open(self) -> Any:
        return safe_open(self._path, framework="np")

    def read(self, index: int) -> Sample:
        """Read one sample's steps from the converted file."""
        values = {name: self._value(name, index) for name in self.spec.modality_names}
        present = {name: value for name, value in values.items() if len(value)}
        absent = frozenset(values) - frozenset(present)
        return Sample(self._ids[index], self._labels[index].item(), present, absent)

    def _value(self, name: str, index: int) -> Any:
        if name == self._words:
            return self._texts[index]
        if self._file is None:
            self._file = self._open()
        start, stop = (int(offset) for offset in self._offsets[name][index : index + 2])
        return self._file.get_slice(name)[start:stop] if stop > start else ()

    def sources(self) -> Iterator[bytes]:
        """Yield the SHA-256 of the release's files, the version of the conversion and the option."""
        yield json.dumps([_FORMAT, self._words, sorted(self._sources.items())]).encode()

    def lengths(self, name: str) -> Int[np.ndarray, " samples"]:
        """Return the steps of a modality in each sample, 0 where it is absent; words are counted between spaces."""
        if name == self._words:
            return np.asarray([len(text.split()) for text in self._texts], dtype=np.int64)
        return np.diff(self._offsets[name])


def check_split(split: SequenceSplit, report: Report, expected: int) -> None:
    """Count samples, labels, repairs and missing modalities of a split, and note how long its sequences are."""
    report.count(f"{split.name}: samples", len(split), expected=expected)
    if split.spec.task == "regression":
        found = Counter(np.sign(split.labels()).tolist())
        counts = {name: found[sign] for sign, name in _SIGNS.items()}
    else:
        counts = {f"label {value}": count for value, count in sorted(Counter(split.labels().tolist()).items())}
    steps = {name: split.lengths(name) for name in split.spec.modality_names}
    absent = {f"without {name}": int((lengths == 0).sum()) for name, lengths in steps.items() if not lengths.all()}
    repairs = {f"repaired, {kind}": times for kind, times in sorted(split.repairs.items())}
    for what, count in (counts | absent | repairs).items():
        report.count(f"{split.name}: {what}", count)
    ranges = [f"{name} {found[found > 0].min()} to {found.max()}" for name, found in steps.items() if found.any()]
    report.note(f"Steps in {split.name}: {', '.join(ranges)}.")
