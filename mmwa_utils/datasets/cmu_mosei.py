"""CMU-MOSEI: how positive is what somebody says in front of a camera, from -3 to 3? Words, face and voice.

Two families of files are read: MultiBench's `mosei_senti_data.pkl`, which the paper's counts belong to, and MMSA's
`aligned_50.pkl` and `unaligned_50.pkl`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from mmwa_utils.datasets import _unpickle
from mmwa_utils.datasets._files import DatasetError, is_standin
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._sequence_store import SPLITS, SequenceSplit, Store, open_store, with_lengths
from mmwa_utils.datasets._sequence_verify import verify_sequences
from mmwa_utils.datasets._sequences import (
    Collected,
    as_array,
    as_text,
    content,
    declared,
    finite,
    flat_labels,
    or_absent,
    require,
    same_count,
)
from mmwa_utils.types import DatasetSpec, ModalitySpec

NAME = "cmu_mosei"
FILES = ("mosei_senti_data.pkl", "aligned_50.pkl", "unaligned_50.pkl")
"""The files that are recognised; the first one that is there is read, unless another is asked for."""

EXPECTED: Mapping[str, Mapping[str, int]] = {
    "mosei_senti_data.pkl": {"train": 16265, "val": 1869, "test": 4643},
    "aligned_50.pkl": {"train": 16326, "val": 1871, "test": 4659},
    "unaligned_50.pkl": {"train": 16326, "val": 1871, "test": 4659},
}
"""Samples of each file; the paper's numbers are those of the first."""

WIDTHS: Mapping[str, Mapping[str, int]] = {
    "mosei_senti_data.pkl": {"text": 300, "vision": 35, "audio": 74},
    "aligned_50.pkl": {"text": 768, "vision": 35, "audio": 74},
    "unaligned_50.pkl": {"text": 768, "vision": 35, "audio": 74},
}
"""Features of a step: GloVe (or, in MMSA's files, BERT) vectors, Facet features, COVAREP features."""

WORDS = ("features", "raw")
"""How the text is read: the file's feature vectors, or (MMSA's files) the words themselves for a tokenizer."""

WHERE = """\
CMU-MOSEI: how positive what a speaker says is, from -3 to 3 (Zadeh et al., 2018).

Licence: for research; the videos are their authors' (see the CMU Multimodal SDK, "CMU-MOSEI").

Any of these files, in one folder:

1. MultiBench's file, which the paper's counts belong to. Follow the data section of the MultiBench repository on
   GitHub (pliang279/MultiBench, "Affective computing") to its shared folder and take

       mosei_senti_data.pkl

2. MMSA's files. Follow the README of thuiar/MMSA on GitHub to its shared folder and take, under MOSEI/Processed,

       aligned_50.pkl   or   unaligned_50.pkl

The pickles are read without executing anything in them, and are converted once (into .mmwa/ in the same folder, or in
~/.cache/mmwa where that cannot be written): the first opening needs about as much memory as the file is large.
Check the result with `mmwa data verify cmu_mosei PATH`.
"""

_LAYOUTS = (
    "MultiBench (mosei_senti_data.pkl)",
    "MMSA, aligned to words (aligned_50.pkl)",
    "MMSA, not aligned (unaligned_50.pkl)",
)
KEYS = {"train": "train", "val": "valid", "test": "test"}
_LIMIT = 3.0


def recognise(root: Path) -> str | None:
    """The name of the layout that the folder holds, or None."""
    for name, layout in zip(FILES, _LAYOUTS, strict=True):
        if (root / name).is_file():
            return layout
    return None


def _find(root: Path, file: str | None) -> str:
    if file is not None and file not in FILES:
        raise ValueError(f"file is {file!r}, expected one of {', '.join(FILES)}")
    wanted = FILES if file is None else (file,)
    for name in wanted:
        if (root / name).is_file():
            return name
    problem = f"holds no CMU-MOSEI: there is no {', no '.join(wanted)}."
    raise DatasetError(root, problem, remedy="See `mmwa data where cmu_mosei`.")


def _store(root: Path, name: str) -> Store:
    return open_store(root, [root / name], f"{NAME}-{name.removesuffix('.pkl')}", partial(_convert, root / name))


def _specification(file: str, words: str) -> DatasetSpec:
    streams = [ModalitySpec(name, "stream", width) for name, width in WIDTHS[file].items()]
    if words == "raw":
        streams[0] = ModalitySpec("text", "text")
    return DatasetSpec(NAME, tuple(streams), "regression", 1, ("sentiment",), "mae", higher_is_better=False)


SPEC = _specification(FILES[0], "features")
"""Of MultiBench's file. A split's own specification adds the longest sequence of each modality."""


def open_split(root: Path, split: str, *, file: str | None = None, words: str = "features") -> SequenceSplit:
    """One split; the pickle is converted when it is first opened, and then only its index is read.

    `file` chooses among several files in the folder; `words="raw"` gives the text of MMSA's files as strings for a
    tokenizer instead of their BERT features. Raises `ValueError` for an option that the file does not have.
    """
    name = _find(root, file)
    if words not in WORDS:
        raise ValueError(f"words is {words!r}, expected one of {', '.join(WORDS)}")
    if words == "raw" and name == FILES[0]:
        raise ValueError(f'words is "raw", but {name} holds no words; use words="features" or one of MMSA\'s files')
    store = _store(root, name)
    spec = with_lengths(_specification(name, words), store.longest)
    standin = is_standin(root)
    return SequenceSplit(split, spec, store, standin=standin, words="text" if words == "raw" else None)


def convert(root: Path) -> list[Path]:
    """Convert the pickles now rather than when a split is first opened."""
    names = [name for name in FILES if (root / name).is_file()]
    stores = [_store(root, name) for name in names or [_find(root, None)]]
    return [store.file(split) for store in stores for split in SPLITS]


def verify(root: Path) -> Report:
    """Found against expected counts of each split, labels, repairs and sequences; never raises on bad data."""
    name = next((name for name in FILES if (root / name).is_file()), FILES[0])
    note = "The paper used 16265 / 1869 / 4643 samples, the counts of mosei_senti_data.pkl."
    if name != FILES[0]:
        note += f" {name} has other features and other counts: results on it are not comparable."
    return verify_sequences(NAME, root, recognise(root), partial(open_split, root), EXPECTED[name], note)


def _convert(path: Path) -> Iterator[tuple[str, Collected]]:
    payload = require(_unpickle.load(path), KEYS.values(), path)
    for split, key in KEYS.items():
        yield split, _split(payload[key], path, key)


def _split(part: Any, path: Path, key: str) -> Collected:
    if path.name == FILES[0]:
        return _multibench_split(require(part, (*WIDTHS[path.name], "labels", "id"), path, key), path, key)
    lengths = ("audio_lengths", "vision_lengths") if path.name == "unaligned_50.pkl" else ()
    wanted = (*WIDTHS[path.name], "regression_labels", "raw_text", "text_bert", *lengths, "id")
    return _mmsa_split(require(part, wanted, path, key), lengths, path, key)


def _streams(part: Mapping[str, Any], path: Path, key: str) -> dict[str, Shaped[np.ndarray, "n _ _"]]:
    widths = WIDTHS[path.name]
    return {name: as_array(part[name], path, f"{key}/{name}", width=width) for name, width in widths.items()}


def _multibench_split(part: Mapping[str, Any], path: Path, key: str) -> Collected:
    arrays, labels = _streams(part, path, key), _sentiment(part["labels"], path, f"{key}/labels")
    same_count({**arrays, "labels": labels, "id": part["id"]}, path, key)
    collected = Collected(labels=labels.tolist(), streams={name: [] for name in arrays})
    for i, identifier in enumerate(part["id"]):
        collected.add_id(as_text(identifier))
        streams = {name: finite(array[i], collected.repairs, name) for name, array in arrays.items()}
        kept = content(*streams.values())  # word-aligned, so all are cut at the same step
        for name, stream in streams.items():
            collected.streams[name].append(or_absent(stream[kept]))
    return collected


def _mmsa_split(part: Mapping[str, Any], lengths: tuple[str, ...], path: Path, key: str) -> Collected:
    arrays, labels = _streams(part, path, key), _sentiment(part["regression_labels"], path, f"{key}/regression_labels")
    bert = as_array(part["text_bert"], path, f"{key}/text_bert")
    if bert.shape[1:] != (3, arrays["text"].shape[1]):
        problem = f"has shape {bert.shape}, expected (n, 3, {arrays['text'].shape[1]}): ids, mask and types of tokens."
        raise DatasetError(path, problem, at=f"{key}/text_bert")
    columns = {name: part[name] for name in ("id", "raw_text", *lengths)}
    same_count({**arrays, "text_bert": bert, "regression_labels": labels, **columns}, path, key)
    collected = Collected(labels=labels.tolist(), streams={name: [] for name in arrays})
    for i, identifier in enumerate(part["id"]):
        collected.add_id(as_text(identifier))
        collected.texts.append(as_text(part["raw_text"][i]))
        streams = {name: finite(array[i], collected.repairs, name) for name, array in arrays.items()}
        # BERT's vectors are not 0 at padding; its attention mask says which are real.
        text = streams.pop("text")[bert[i, 1] > 0]
        if lengths:
            kept = {
                n: declared(s, part[f"{n}_lengths"][i], path, f"{key}/{n}_lengths, row {i}") for n, s in streams.items()
            }
        else:
            words = content(*streams.values())
            kept = {name: stream[words] for name, stream in streams.items()}
        for name, stream in {"text": text, **kept}.items():
            collected.streams[name].append(or_absent(stream))
    return collected


def _sentiment(value: Any, path: Path, at: str) -> Float[np.ndarray, " n"]:
    labels = flat_labels(value, path, at).astype(np.float32)
    # A mean of ratings from -3 to 3, stored in float32: its rounding error is far below 1e-3.
    wrong = np.flatnonzero(~(np.abs(labels) <= _LIMIT + 1e-3))
    if wrong.size:
        problem = f"the label of row {wrong[0]} is {labels[wrong[0]]}, expected a number from -3 to 3."
        raise DatasetError(path, problem, at=at, remedy="Fetch the file again.")
    return labels.clip(-_LIMIT, _LIMIT)
