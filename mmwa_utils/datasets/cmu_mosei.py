"""CMU-MOSEI: how positive what a speaker says is, from -3 to 3 (Zadeh et al., 2018).

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

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmwa_utils.datasets._files import DatasetError
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._sequence_store import SPLITS, SequenceSplit, Store, check_split, open_store
from mmwa_utils.datasets._sequences import (
    Collected,
    Streams,
    as_array,
    cut_together,
    declared,
    read_split,
    read_splits,
    require,
)
from mmwa_utils.types import DatasetSpec, ModalitySpec

__all__ = ["EXPECTED", "FILES", "SPEC", "SPLITS", "check", "convert", "open_split", "recognise"]

NAME = "cmu_mosei"
MULTIBENCH = "mosei_senti_data.pkl"
FILES: Mapping[str, str] = {
    MULTIBENCH: "MultiBench (mosei_senti_data.pkl)",
    "aligned_50.pkl": "MMSA, aligned to words (aligned_50.pkl)",
    "unaligned_50.pkl": "MMSA, not aligned (unaligned_50.pkl)",
}
"""The files that are recognised, and their layouts; the first one that is there is read, unless another is chosen."""

EXPECTED = {name: {"train": 16326, "val": 1871, "test": 4659} for name in FILES}
EXPECTED[MULTIBENCH] = {"train": 16265, "val": 1869, "test": 4643}
"""Samples of each file; the paper's numbers are those of the first."""

WIDTHS = {name: {"text": 768, "vision": 35, "audio": 74} for name in FILES}
WIDTHS[MULTIBENCH] = {"text": 300, "vision": 35, "audio": 74}
"""Features of a step: GloVe (or, in MMSA's files, BERT) vectors, Facet features, COVAREP features."""

File = Literal["mosei_senti_data.pkl", "aligned_50.pkl", "unaligned_50.pkl"]
Words = Literal["features", "raw"]
"""How the text is read: the file's feature vectors, or (MMSA's files) the words themselves for a tokenizer."""


def _present(root: Path) -> list[str]:
    return [name for name in FILES if (root / name).is_file()]


def recognise(root: Path) -> str | None:
    """Return the name of the layout that the folder holds, or None."""
    return next((FILES[name] for name in _present(root)), None)


def _find(root: Path, file: str | None) -> str:
    wanted = FILES if file is None else (file,)
    if found := [name for name in _present(root) if name in wanted]:
        return found[0]
    problem = f"holds no CMU-MOSEI: there is no {', no '.join(wanted)}."
    raise DatasetError(root, problem, remedy="See `mmwa data where cmu_mosei`.")


def _store(root: Path, name: str) -> Store:
    read = _multibench_split if name == MULTIBENCH else _mmsa_split
    return open_store(root, [name], f"{NAME}-{name.removesuffix('.pkl')}", partial(read_splits, root / name, read))


def _specification(file: str, words: str) -> DatasetSpec:
    streams = [ModalitySpec(name, "stream", width) for name, width in WIDTHS[file].items()]
    if words == "raw":
        streams[0] = ModalitySpec("text", "text")
    return DatasetSpec(NAME, tuple(streams), "regression", 1, ("sentiment",), "mae", higher_is_better=False)


SPEC = _specification(MULTIBENCH, "features")
"""Of MultiBench's file. A split's own specification adds the longest sequence of each modality."""


def open_split(root: Path, split: str, *, file: File | None = None, words: Words = "features") -> SequenceSplit:
    """Return one split; the pickle is converted when it is first opened, and then only its index is read.

    `file` chooses among several files in the folder; `words="raw"` gives the text of MMSA's files as strings for a
    tokenizer instead of their BERT features. Raises `ValueError` for an option that the file does not have.
    """
    name = _find(root, file)
    if words == "raw" and name == MULTIBENCH:
        raise ValueError(f'words is "raw", but {name} holds no words; use words="features" or one of MMSA\'s files')
    raw = "text" if words == "raw" else None
    return SequenceSplit(split, _specification(name, words), _store(root, name), words=raw)


def convert(root: Path) -> list[Path]:
    """Convert the pickles now rather than when a split is first opened."""
    return [path for name in _present(root) or [_find(root, None)] for path in _store(root, name).files()]


def check(root: Path, report: Report) -> None:
    """Count samples, labels and repairs of each split."""
    name = next(iter(_present(root)), MULTIBENCH)
    note = "The paper used 16265 / 1869 / 4643 samples, the counts of mosei_senti_data.pkl."
    if name != MULTIBENCH:
        note += f" {name} has other features and other counts: results on it are not comparable."
    report.note(note)
    for split, expected in EXPECTED[name].items():
        check_split(open_split(root, split), report, expected)


def _multibench_split(part: Any, path: Path, key: str) -> Collected:
    return read_split(part, path, key, WIDTHS[path.name], cut_together, "labels", _sentiment)


def _mmsa_split(part: Any, path: Path, key: str) -> Collected:
    widths = WIDTHS[path.name]
    lengths = {"vision": "vision_lengths", "audio": "audio_lengths"} if path.name == "unaligned_50.pkl" else {}
    part = require(part, ("text", "text_bert"), path, key)
    n_steps = as_array(part["text"], path, f"{key}/text", width=widths["text"]).shape[1]
    bert = as_array(part["text_bert"], path, f"{key}/text_bert")
    if bert.shape[1:] != (3, n_steps):
        problem = f"has shape {bert.shape}, expected (n, 3, {n_steps}): ids, mask and types of tokens."
        raise DatasetError(path, problem, at=f"{key}/text_bert")

    def cut(streams: Streams, row: Mapping[str, Any]) -> Streams:
        # BERT's vectors are not 0 at padding; its attention mask says which are real.
        text = {"text": streams["text"][row["text_bert"][1] > 0]}
        rest = {name: stream for name, stream in streams.items() if name != "text"}
        if not lengths:
            return text | cut_together(rest)
        return text | {name: declared(rest[name], row[length], length) for name, length in lengths.items()}

    others, part = ("raw_text", "text_bert", *lengths.values()), {**part, "text_bert": bert}
    return read_split(part, path, key, widths, cut, "regression_labels", _sentiment, others)


def _sentiment(label: np.number) -> float:
    """Return a mean of ratings from -3 to 3, stored in float32: its rounding error is far below 1e-3."""
    if not abs(label) <= 3 + 1e-3:
        raise ValueError(f"the label is {label}, expected a number from -3 to 3")
    return float(np.clip(label, -3, 3))
