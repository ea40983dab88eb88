"""UR-FUNNY, version 2: is the punchline of a talk funny? Words, face and voice of its context and punchline.

Two layouts are read: MultiBench's one pickle `humor.pkl`, and the six pickles of the release itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

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
    finite,
    flat_labels,
    or_absent,
    require,
    same_count,
)
from mmwa_utils.types import DatasetSpec, ModalitySpec

NAME = "ur_funny"
WIDTHS: Mapping[str, int] = {"text": 300, "vision": 371, "audio": 81}
"""Features of a step: a GloVe vector, OpenFace 2 features, COVAREP features."""

EXPECTED = {"train": 8074, "val": 1034, "test": 1058}
"""Samples of version 2, which are also the paper's numbers."""

PARTS = ("all", "punchline")
"""What is read of the release's own layout: the context and then the punchline, or the punchline alone."""

SPEC = DatasetSpec(
    name=NAME,
    modalities=tuple(ModalitySpec(name, "stream", width) for name, width in WIDTHS.items()),
    task="binary",
    n_labels=1,
    label_names=("humorous",),
    metric="accuracy",
)
"""A split's own specification adds the longest sequence of each modality, which depends on the file."""

WHERE = """\
UR-FUNNY, version 2: punchlines of TED talks, humorous or not (Hasan et al., 2019).

Licence: see the release's page; the talks themselves are under TED's terms (CC BY-NC-ND 4.0).

Either of two sets of files, in one folder:

1. MultiBench's file (the simplest). Follow the data section of the MultiBench repository on GitHub
   (pliang279/MultiBench, "Affective computing") to its shared folder and take

       humor.pkl

2. The release's own pickles. Follow "UR-FUNNY-V2, extracted features" in the README of ROC-HCI/UR-FUNNY on GitHub,
   unpack, and keep

       data_folds.pkl            language_sdk.pkl         openface_features_sdk.pkl
       covarep_features_sdk.pkl  humor_label_sdk.pkl      word_embedding_list.pkl

   Version 1 has other files and another split; it is not read.

The pickles are read without executing anything in them, and are converted once (into .mmwa/ in the same folder, or in
~/.cache/mmwa where that cannot be written): the first opening needs about as much memory as the files are large.
Check the result with `mmwa data verify ur_funny PATH`.
"""

MULTIBENCH = "humor.pkl"
KEYS = {"train": "train", "val": "valid", "test": "test"}
_FOLDS = {"train": "train", "val": "dev", "test": "test"}
_OWN = (
    *("data_folds.pkl", "language_sdk.pkl", "openface_features_sdk.pkl", "covarep_features_sdk.pkl"),
    *("humor_label_sdk.pkl", "word_embedding_list.pkl"),
)
_FEATURES = {"vision": "openface_features_sdk.pkl", "audio": "covarep_features_sdk.pkl"}


def recognise(root: Path) -> str | None:
    """The name of the layout that the folder holds, or None."""
    if (root / MULTIBENCH).is_file():
        return "MultiBench (humor.pkl)"
    return "the release's own pickles" if all((root / name).is_file() for name in _OWN) else None


def _store(root: Path, part: str) -> Store:
    """The release converted once; `part` says what is read of the release's own layout."""
    if (root / MULTIBENCH).is_file():
        path = root / MULTIBENCH
        return open_store(root, [path], f"{NAME}-multibench", partial(_from_multibench, path))
    if missing := [name for name in _OWN if not (root / name).is_file()]:
        problem = (
            f"holds no UR-FUNNY: there is no {MULTIBENCH}, and of the release's own files no {', no '.join(missing)}."
        )
        raise DatasetError(root, problem, remedy="See `mmwa data where ur_funny`.")
    return open_store(root, [root / name for name in _OWN], f"{NAME}-{part}", partial(_from_release, root, part))


def open_split(root: Path, split: str, *, part: str = "all") -> SequenceSplit:
    """One split; the pickles are converted when it is first opened, and then only its index is read.

    `part` matters for the release's own layout alone: the context and then the punchline ("all"), or the punchline.
    """
    if part not in PARTS:
        raise ValueError(f"part is {part!r}, expected one of {', '.join(PARTS)}")
    store = _store(root, part)
    return SequenceSplit(split, with_lengths(SPEC, store.longest), store, standin=is_standin(root))


def convert(root: Path) -> list[Path]:
    """Convert the pickles now rather than when a split is first opened."""
    store = _store(root, "all")
    return [store.file(split) for split in SPLITS]


def verify(root: Path) -> Report:
    """Found against expected counts of each split, labels, repairs and sequences; never raises on bad data."""
    note = "The paper used 8074 / 1034 / 1058 samples, the counts of version 2."
    return verify_sequences(NAME, root, recognise(root), partial(open_split, root), EXPECTED, note)


def _from_multibench(path: Path) -> Iterator[tuple[str, Collected]]:
    payload = require(_unpickle.load(path), KEYS.values(), path)
    for split, key in KEYS.items():
        part = require(payload[key], (*WIDTHS, "labels", "id"), path, key)
        arrays = {name: as_array(part[name], path, f"{key}/{name}", width=w) for name, w in WIDTHS.items()}
        labels, ids = flat_labels(part["labels"], path, f"{key}/labels"), part["id"]
        same_count({**arrays, "labels": labels, "id": ids}, path, key)
        collected = Collected(streams={name: [] for name in WIDTHS})
        for i, identifier in enumerate(ids):
            collected.add_id(as_text(identifier))
            collected.labels.append(_label(labels[i], path, f"{key}/labels, row {i}"))
            streams = {name: finite(array[i], collected.repairs, name) for name, array in arrays.items()}
            kept = content(*streams.values())  # word-aligned, so all are cut at the same step
            for name, stream in streams.items():
                collected.streams[name].append(or_absent(stream[kept]))
        yield split, collected


def _label(value: Any, path: Path, at: str) -> float:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, int | float | np.number) or value not in (0, 1):
        raise DatasetError(path, f"the label is {str(value)[:40]}, expected 0 or 1.", at=at)
    return float(value)


def _from_release(root: Path, part: str) -> Iterator[tuple[str, Collected]]:
    folds_path, label_path = root / "data_folds.pkl", root / "humor_label_sdk.pkl"
    folds = require(_unpickle.load(folds_path), _FOLDS.values(), folds_path)
    labels = require(_unpickle.load(label_path), (), label_path)
    splits = {split: _fold(folds[fold], fold, labels, root) for split, fold in _FOLDS.items()}
    # One file after the other: each is large, and is freed once its streams are arrays.
    _read_words(root, part, splits)
    for name, file in _FEATURES.items():
        _read_features(root / file, name, part, splits)
    for split, (_, collected) in splits.items():
        yield split, collected


def _fold(ids: Any, fold: str, labels: Mapping[Any, Any], root: Path) -> tuple[list[Any], Collected]:
    """The keys of a fold, each once, and a split that has their ids and labels."""
    if not isinstance(ids, Sequence | np.ndarray) or isinstance(ids, str | bytes):
        raise DatasetError(root / "data_folds.pkl", "expected a list of ids.", at=fold)
    label_path, collected = root / "humor_label_sdk.pkl", Collected()
    keys: dict[Any, None] = {}
    for key in ids:
        key = key.item() if isinstance(key, np.generic) else key
        if not isinstance(key, int | str | bytes):
            raise DatasetError(root / "data_folds.pkl", f"{str(key)[:40]!r} is no id.", at=fold)
        if key in keys:
            collected.repairs["id listed twice"] += 1
            continue
        keys[key] = None
        if key not in labels:
            raise DatasetError(label_path, f"the id {key!r} of data_folds.pkl has no label.", at=f"[{key!r}]")
        collected.add_id(as_text(key))
        collected.labels.append(_label(labels[key], label_path, f"[{key!r}]"))
    return list(keys), collected


Splits = Mapping[str, tuple[list[Any], Collected]]


def _read_words(root: Path, part: str, splits: Splits) -> None:
    path, words_path = root / "language_sdk.pkl", root / "word_embedding_list.pkl"
    words = as_array(_unpickle.load(words_path), words_path, "the list of vectors", width=WIDTHS["text"], ndim=2)
    language = require(_unpickle.load(path), (), path)
    for keys, collected in splits.values():
        collected.streams["text"] = streams = []
        for key in keys:
            entry = _entry(language, key, path, ("punchline_embedding_indexes", "context_embedding_indexes"))
            indexes = _parts(entry, "embedding_indexes", part, path, key)
            index = np.concatenate([_word_indexes(sentence, len(words), path, key) for sentence in indexes])
            streams.append(finite(words[index], collected.repairs, "text"))


def _entry(table: Mapping[Any, Any], key: Any, path: Path, wanted: tuple[str, ...]) -> Mapping[str, Any]:
    if key not in table:
        raise DatasetError(path, f"the id {key!r} of data_folds.pkl is not there.", at=f"[{key!r}]")
    return require(table[key], wanted, path, f"[{key!r}]")


def _parts(entry: Mapping[str, Any], suffix: str, part: str, path: Path, key: Any) -> list[Any]:
    """The sentences of a sample in spoken order, the punchline last."""
    context = entry[f"context_{suffix}"] if part == "all" else []
    if not isinstance(context, Sequence | np.ndarray) or isinstance(context, str | bytes):
        raise DatasetError(path, f"expected a list of sentences in context_{suffix}.", at=f"[{key!r}]")
    return [*context, entry[f"punchline_{suffix}"]]


def _word_indexes(sentence: Any, n_words: int, path: Path, key: Any) -> np.ndarray:
    try:
        index = np.asarray(sentence).reshape(-1)
    except ValueError:
        index = np.asarray(["ragged"])
    if index.size == 0:
        return np.zeros(0, dtype=np.int64)
    if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= n_words:
        problem = f"a word index is no whole number from 0 to {n_words - 1} (the length of word_embedding_list.pkl)."
        raise DatasetError(path, problem, at=f"[{key!r}]")
    return index.astype(np.int64)


def _read_features(path: Path, name: str, part: str, splits: Splits) -> None:
    table = require(_unpickle.load(path), (), path)
    for keys, collected in splits.values():
        collected.streams[name] = streams = []
        for key in keys:
            entry = _entry(table, key, path, ("punchline_features", "context_features"))
            sentences = [sentence for sentence in _parts(entry, "features", part, path, key) if _has_words(sentence)]
            arrays = [as_array(s, path, f"[{key!r}]", width=WIDTHS[name], ndim=2) for s in sentences]
            stream = np.concatenate(arrays) if arrays else np.zeros((0, WIDTHS[name]), np.float32)
            streams.append(or_absent(finite(stream, collected.repairs, name)))


def _has_words(sentence: Any) -> bool:
    return (
        sentence.size > 0 if isinstance(sentence, np.ndarray) else bool(sentence) or not isinstance(sentence, Sequence)
    )
