"""UR-FUNNY, version 2: punchlines of TED talks, humorous or not (Hasan et al., 2019).

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

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mmwa_utils.datasets import _sequences, _unpickle
from mmwa_utils.datasets._files import DatasetError
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._sequence_store import SPLITS, SequenceSplit, Store, check_split, open_store
from mmwa_utils.datasets._sequences import Collected, as_array, cut_together, entries, read_split, require
from mmwa_utils.types import DatasetSpec, ModalitySpec

__all__ = ["EXPECTED", "SPEC", "SPLITS", "check", "convert", "open_split", "recognise"]

NAME = "ur_funny"
WIDTHS: Mapping[str, int] = {"text": 300, "vision": 371, "audio": 81}
"""Features of a step: a GloVe vector, OpenFace 2 features, COVAREP features."""

EXPECTED = {"train": 8074, "val": 1034, "test": 1058}
"""Samples of version 2, which are also the paper's numbers."""

Part = Literal["all", "punchline"]
"""What is read of the release's own layout: the context and then the punchline, or the punchline alone."""

MODALITIES = tuple(ModalitySpec(name, "stream", width) for name, width in WIDTHS.items())
SPEC = DatasetSpec(NAME, MODALITIES, "binary", n_labels=1, label_names=("humorous",), metric="accuracy")
"""A split's own specification adds the longest sequence of each modality, which depends on the file."""

MULTIBENCH = "humor.pkl"
_FOLDS = {"train": "train", "val": "dev", "test": "test"}
_STREAMS = {"text": "language_sdk.pkl", "vision": "openface_features_sdk.pkl", "audio": "covarep_features_sdk.pkl"}
_FOLD_FILE, _LABEL_FILE, _WORD_FILE = "data_folds.pkl", "humor_label_sdk.pkl", "word_embedding_list.pkl"
_OWN = (_FOLD_FILE, *_STREAMS.values(), _LABEL_FILE, _WORD_FILE)


def recognise(root: Path) -> str | None:
    """Return the name of the layout that the folder holds, or None."""
    if (root / MULTIBENCH).is_file():
        return "MultiBench (humor.pkl)"
    return "the release's own pickles" if all((root / name).is_file() for name in _OWN) else None


def _store(root: Path, part: str) -> Store:
    """Convert the release once; `part` says what is read of the release's own layout."""
    if (root / MULTIBENCH).is_file():
        read = partial(_sequences.read_splits, root / MULTIBENCH, _multibench_split)
        return open_store(root, [MULTIBENCH], f"{NAME}-multibench", read)
    if missing := [name for name in _OWN if not (root / name).is_file()]:
        own = f"of the release's own files no {', no '.join(missing)}"
        problem = f"holds no UR-FUNNY: there is no {MULTIBENCH}, and {own}."
        raise DatasetError(root, problem, remedy="See `mmwa data where ur_funny`.")
    return open_store(root, _OWN, f"{NAME}-{part}", partial(_read_release, root, part))


def open_split(root: Path, split: str, *, part: Part = "all") -> SequenceSplit:
    """Return one split; the pickles are converted when it is first opened, and then only its index is read.

    `part` matters for the release's own layout alone: the context and then the punchline ("all"), or the punchline.
    """
    return SequenceSplit(split, SPEC, _store(root, part))


def convert(root: Path) -> list[Path]:
    """Convert the pickles now rather than when a split is first opened."""
    return _store(root, "all").files()


def check(root: Path, report: Report) -> None:
    """Count samples, labels and repairs of each split."""
    report.note("The paper used 8074 / 1034 / 1058 samples, the counts of version 2.")
    for split, expected in EXPECTED.items():
        check_split(open_split(root, split), report, expected)


def _binary(label: np.number) -> float:
    if label not in (0, 1):
        raise ValueError(f"the label is {label}, expected 0 or 1")
    return float(label)


def _multibench_split(part: Any, path: Path, key: str) -> Collected:
    return read_split(part, path, key, WIDTHS, cut_together, "labels", _binary)


def _read_release(root: Path, part: str) -> Iterator[tuple[str, Collected]]:
    folds = require(_unpickle.load(root / _FOLD_FILE), _FOLDS.values(), root / _FOLD_FILE)
    labels = require(_unpickle.load(root / _LABEL_FILE), (), root / _LABEL_FILE)
    splits = {split: _fold(folds[fold], fold, labels, root) for split, fold in _FOLDS.items()}
    for name in _STREAMS:  # one file after the other: each is large, and is freed once its streams are arrays
        _read_stream(root, name, part, splits)
    for split, (_, collected) in splits.items():
        yield split, collected


Splits = Mapping[str, tuple[list[Any], Collected]]
"""For each split its keys, each once, and what is read of them."""


def _fold(ids: Any, fold: str, labels: Mapping[Any, Any], root: Path) -> tuple[list[Any], Collected]:
    collected = Collected()
    keys: dict[Any, None] = {}
    for key in entries(ids, root / _FOLD_FILE, fold):
        key = key.item() if isinstance(key, np.generic) else key
        if not isinstance(key, int | str | bytes):
            raise DatasetError(root / _FOLD_FILE, f"{str(key)[:40]!r} is no id.", at=fold)
        if key in keys:
            collected.repairs["id listed twice"] += 1
            continue
        keys[key] = None
        at = f"[{key!r}]"
        if key not in labels:
            raise DatasetError(root / _LABEL_FILE, f"the id {key!r} of {_FOLD_FILE} has no label.", at=at)
        label = as_array(labels[key], root / _LABEL_FILE, at, ndim=None)
        if label.size != 1 or label.item() not in (0, 1):
            raise DatasetError(root / _LABEL_FILE, f"the label is {str(labels[key])[:40]}, expected 0 or 1.", at=at)
        collected.add(_sequences.as_text(key), label.item(), {})
    return list(keys), collected


def _read_stream(root: Path, name: str, part: str, splits: Splits) -> None:
    """Append the stream of each sample: its sentences in spoken order, the punchline last."""
    path, suffix = root / _STREAMS[name], "embedding_indexes" if name == "text" else "features"
    read = _word_reader(root / _WORD_FILE) if name == "text" else partial(_features, WIDTHS[name])
    table = require(_unpickle.load(path), (), path)
    for keys, collected in splits.values():
        collected.streams[name] = []
        for key in keys:
            at = f"[{key!r}]"
            if key not in table:
                raise DatasetError(path, f"the id {key!r} of {_FOLD_FILE} is not there.", at=at)
            entry = require(table[key], (f"punchline_{suffix}", f"context_{suffix}"), path, at)
            context = entries(entry[f"context_{suffix}"], path, at) if part == "all" else ()
            sentences = [read(sentence, path, at) for sentence in (*context, entry[f"punchline_{suffix}"])]
            stream = _sequences.finite(np.concatenate(sentences), collected.repairs, name)
            collected.streams[name].append(stream if name == "text" else _sequences.or_absent(stream))


def _word_reader(path: Path) -> Callable[[Any, Path, str], Float[np.ndarray, "steps 300"]]:
    words = as_array(_unpickle.load(path), path, "the list of vectors", width=WIDTHS["text"], ndim=2)

    def read(sentence: Any, path: Path, at: str) -> Float[np.ndarray, "steps 300"]:
        index = as_array(sentence, path, at, ndim=1)
        if index.size and (index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= len(words)):
            problem = f"a word index is no whole number from 0 to {len(words) - 1} (the length of {_WORD_FILE})."
            raise DatasetError(path, problem, at=at)
        return words[index.astype(np.int64)]

    return read


def _features(width: int, sentence: Any, path: Path, at: str) -> Float[np.ndarray, "steps _"]:
    empty = not sentence.size if isinstance(sentence, np.ndarray) else isinstance(sentence, Sequence) and not sentence
    return np.zeros((0, width), np.float32) if empty else as_array(sentence, path, at, width=width, ndim=2)
