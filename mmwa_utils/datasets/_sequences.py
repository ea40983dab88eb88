"""Sequences of feature vectors as released: arrays checked, repaired with a count, and freed of their padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from mmwa_utils.datasets import _unpickle
from mmwa_utils.datasets._files import DatasetError

_REMEDY = "Fetch the file again, or check that it is the version that the book describes."
_KINDS = {"U": "text", "S": "bytes", "O": "objects of unequal shape", "c": "complex numbers"}

KEYS = {"train": "train", "val": "valid", "test": "test"}
"""The keys of the splits in MultiBench's and MMSA's files."""

Streams = Mapping[str, Float[np.ndarray, "_ _"]]
"""The steps of each modality."""


@dataclass
class Collected:
    """One split of a release in memory: what a layout's reader hands to the store.

    `streams` holds for each modality one array (steps, width) per sample, without padding; one without steps says that
    the release lacks this modality for this sample. `texts` is empty where the layout has no words.
    """

    ids: list[str] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    streams: dict[str, list[Float[np.ndarray, "_ _"]]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    repairs: Counter[str] = field(default_factory=Counter)
    _seen: set[str] = field(default_factory=set)

    def add(self, identifier: str, label: float, streams: Streams) -> None:
        """Append a sample; an id that occurs again gets a number, a stream that is 0 throughout becomes absent."""
        if identifier in self._seen:
            self.repairs["duplicated id"] += 1
            identifier = f"{identifier}#{self.repairs['duplicated id'] + 1}"
        self._seen.add(identifier)
        self.ids.append(identifier)
        self.labels.append(label)
        for name, stream in streams.items():
            self.streams.setdefault(name, []).append(or_absent(stream))


def read_splits(path: Path, read: Callable[[Any, Path, str], Collected]) -> Iterator[tuple[str, Collected]]:
    """Yield the name and the contents of each split of a pickle that holds one dictionary per split."""
    payload = require(_unpickle.load(path), KEYS.values(), path)
    for split, key in KEYS.items():
        yield split, read(payload[key], path, key)


def read_split(
    part: Any,
    path: Path,
    at: str,
    widths: Mapping[str, int],
    cut: Callable[[Streams, Mapping[str, Any]], Streams],
    labels: str,
    valid: Callable[[Any], float],
    others: Iterable[str] = (),
) -> Collected:
    """Read a split that is a dictionary of padded arrays, one row per sample.

    Args:
        part: The dictionary.
        path: Its file.
        at: Its key, for errors.
        widths: The streams' names and numbers of features.
        cut: Takes a sample's streams and its entries of the `others`, and returns the streams without padding.
        labels: The labels' key.
        valid: Returns a label as a number, and raises `ValueError` for a wrong one.
        others: Further keys with one entry per sample; "raw_text" becomes the texts.

    Raises:
        DatasetError: For a missing key, an array of another shape, different numbers of samples, a wrong label.
    """
    part = require(part, (*widths, labels, "id", *others), path, at)
    columns = {name: part[name] for name in ("id", *others)}
    columns |= {name: as_array(part[name], path, f"{at}/{name}", width=width) for name, width in widths.items()}
    truth = as_array(part[labels], path, f"{at}/{labels}", ndim=None)
    if truth.ndim == 0 or truth.size != len(truth):
        raise DatasetError(path, f"has shape {truth.shape}, expected one number per sample.", at=f"{at}/{labels}")
    columns[labels] = truth.reshape(-1)  # the releases also have (n, 1) and (n, 1, 1)
    counts = {name: len(entries(column, path, f"{at}/{name}")) for name, column in columns.items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DatasetError(path, f"the numbers of samples differ: {listed}.", at=at, remedy=_REMEDY)
    collected = Collected(texts=[as_text(text) for text in columns.get("raw_text", ())])
    for i, identifier in enumerate(columns["id"]):
        padded = {name: finite(columns[name][i], collected.repairs, name) for name in widths}
        try:
            label = valid(columns[labels][i])
            streams = cut(padded, {name: columns[name][i] for name in others})
        except ValueError as error:
            raise DatasetError(path, f"{error}.", at=f"{at}, row {i}", remedy=_REMEDY) from None
        collected.add(as_text(identifier), label, streams)
    return collected


def require(payload: Any, keys: Iterable[str], path: Path, at: str | None = None) -> Mapping[str, Any]:
    """Return the payload if it is a dictionary with these keys; the error says what is missing and what is there.

    >>> sorted(require({"train": 1, "test": 2}, ["train"], Path("toy.pkl")))
    ['test', 'train']
    >>> require({"train": 1}, ["train", "valid"], Path("toy.pkl"))
    Traceback (most recent call last):
    mmwa_utils.datasets._files.DatasetError: toy.pkl: no key 'valid', it has 'train'. ...
    """
    if not isinstance(payload, Mapping):
        raise DatasetError(path, f"expected a dictionary, found {type(payload).__name__}.", at=at, remedy=_REMEDY)
    if missing := [key for key in keys if key not in payload]:
        found = ", ".join(repr(str(key)[:40]) for key in list(payload)[:12]) or "none"
        problem = f"no key {', '.join(map(repr, missing))}, it has {found}."
        raise DatasetError(path, problem, at=at, remedy=_REMEDY)
    return payload


def as_array(value: Any, path: Path, at: str, *, width: int | None = None, ndim: int | None = 3) -> np.ndarray:
    """Return a numeric array of `ndim` axes (None: any), the last of `width`.

    Ragged, textual or misshapen data is an error.

    >>> as_array([[1.0, 2.0]], Path("toy.pkl"), "train/labels", ndim=2).shape
    (1, 2)
    """
    shape = "any shape" if ndim is None else f"shape ({', '.join(['·'] * (ndim - 1))}, {width or '·'})"
    try:
        array = np.asarray(list(value) if isinstance(value, np.ndarray) and value.dtype == object else value)
    except (ValueError, TypeError, MemoryError):
        problem = f"the rows differ in shape, or are too many: expected one array of {shape}."
        raise DatasetError(path, problem, at=at, remedy=_REMEDY) from None
    if array.dtype.kind not in "fiub":
        found = _KINDS.get(array.dtype.kind, str(array.dtype))
        raise DatasetError(path, f"expected numbers, found {found}.", at=at, remedy=_REMEDY)
    if ndim is not None and (array.ndim != ndim or width not in (None, array.shape[-1])):
        problem = f"has shape {array.shape}, expected {shape}."
        raise DatasetError(path, problem, at=at, remedy=_REMEDY)
    return array


def as_text(value: Any) -> str:
    """Return the text of an id or sentence: pickles of Python 2 hold bytes, arrays of one element and broken UTF-8."""
    if isinstance(value, np.ndarray) and not value.ndim:
        return as_text(value.item())
    if isinstance(value, np.ndarray | list | tuple):
        return "_".join(map(as_text, value))
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def entries(value: Any, path: Path, at: str) -> Sequence[Any] | np.ndarray:
    """Return a list or an array with one entry per sample or sentence; anything else is an error."""
    single = isinstance(value, str | bytes) or (isinstance(value, np.ndarray) and not value.ndim)
    if single or not isinstance(value, Sequence | np.ndarray):
        raise DatasetError(path, f"expected a list, found {type(value).__name__}.", at=at, remedy=_REMEDY)
    return value


def finite(
    stream: Shaped[np.ndarray, "steps width"], repairs: Counter[str], name: str
) -> Float[np.ndarray, "steps width"]:
    """Return the stream as float32, with NaN and ±inf (log-features of silence in the audio) set to 0 and counted.

    >>> repairs = Counter()
    >>> finite(np.array([[1.0, -np.inf]]), repairs, "audio").tolist(), dict(repairs)
    ([[1.0, 0.0]], {'audio: non-finite value': 1})
    """
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes inf, which is counted below
        single = stream.astype(np.float32)
    bad = ~np.isfinite(single)
    if bad.any():
        repairs[f"{name}: non-finite value"] += int(bad.sum())
        single[bad] = 0.0
    return single


def cut_together(streams: Streams, *rest: object) -> dict[str, Float[np.ndarray, "_ _"]]:
    """Cut word-aligned streams, from the first to the last step at which any of them has a value other than 0.

    Releases pad with zeros, at the front or at the end. All streams are cut at the same steps, so that step t of each
    still belongs to the same word; a silent step inside stays.

    >>> text, audio = np.array([[0.0], [0.0], [5.0], [0.0]]), np.array([[0.0], [0.0], [0.0], [1.0]])
    >>> {name: stream.tolist() for name, stream in cut_together({"text": text, "audio": audio}).items()}
    {'text': [[5.0], [0.0]], 'audio': [[0.0], [1.0]]}

    Raises `ValueError` when the streams have different numbers of steps.
    """
    steps = {name: len(stream) for name, stream in streams.items()}
    if len(set(steps.values())) > 1:
        raise ValueError(f"the numbers of steps differ, so words are not aligned: {steps}")
    used = np.flatnonzero(np.any([stream.any(axis=1) for stream in streams.values()], axis=0))
    kept = slice(used[0], used[-1] + 1) if used.size else slice(0, 0)
    return {name: stream[kept] for name, stream in streams.items()}


def declared(stream: Float[np.ndarray, "steps width"], length: Any, name: str) -> Float[np.ndarray, "kept width"]:
    """Return the `length` steps that a file says are real: the first ones, or the last ones where it pads at the front.

    Raises `ValueError` for a length that is no whole number from 0 to the number of steps, or that leaves out a step
    which is not 0.
    """
    if not isinstance(length, int | float | np.number) or length not in range(len(stream) + 1):
        raise ValueError(f"{name} is {str(length)[:40]}, expected a whole number from 0 to {len(stream)}")
    n = int(length)
    if not stream[n:].any():
        return stream[:n]
    if not stream[: len(stream) - n].any():
        return stream[len(stream) - n :]
    raise ValueError(f"{name} is {n}, but steps outside the first and outside the last {n} are not 0")


def or_absent(stream: Float[np.ndarray, "steps width"]) -> Float[np.ndarray, "kept width"]:
    """Return the stream, without steps where it is 0 throughout: the release lacks it (no face found, no sound)."""
    return stream if stream.any() else stream[:0]
