"""The check of a dataset of sequences: counts, labels, repairs, lengths and missing modalities of each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mmwa_utils.datasets._files import DatasetError, is_standin
from mmwa_utils.datasets._report import Report, ReportBuilder
from mmwa_utils.datasets._sequence_store import SequenceSplit

_SIGNS = {"negative": -1, "neutral": 0, "positive": 1}


def verify_sequences(
    name: str,
    root: Path,
    layout: str | None,
    open_split: Callable[[str], SequenceSplit],
    expected: Mapping[str, int],
    note: str,
) -> Report:
    """Check every split that `expected` names; data that cannot be used become problems of the report."""
    builder = ReportBuilder(name, root, layout)
    builder.note(note)
    try:
        builder.standin = is_standin(root)
        for split, n in expected.items():
            _check(builder, open_split(split), None if builder.standin else n)
    except DatasetError as error:
        builder.problem("cannot be used", str(error), fatal=True)
    return builder.finish()


def _check(builder: ReportBuilder, split: SequenceSplit, expected: int | None) -> None:
    builder.count(f"{split.name}: samples", len(split), expected=expected)
    labels = split.labels()
    if split.spec.task == "regression":
        for sign, value in _SIGNS.items():
            builder.count(f"{split.name}: {sign}", int((np.sign(labels) == value).sum()))
    else:
        for value, count in sorted(Counter(labels.tolist()).items()):
            builder.count(f"{split.name}: label {value}", count)
    steps = {name: split.lengths(name) for name in split.spec.modality_names}
    for modality, lengths in steps.items():
        if absent := int((lengths == 0).sum()):
            builder.count(f"{split.name}: without {modality}", absent)
    for kind, times in sorted(split.repairs.items()):
        builder.count(f"{split.name}: repaired, {kind}", times)
    ranges = [f"{name} {found[found > 0].min()} to {found.max()}" for name, found in steps.items() if found.any()]
    builder.note(f"Steps in {split.name}: {', '.join(ranges)}.")
