"""The check of a dataset of sequences: counts, labels, repairs, lengths and missing modalities of each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mmwa_utils.datasets._files import DatasetError, is_standin
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._sequence_store import SequenceSplit

_SIGNS = {-1: "negative", 0: "neutral", 1: "positive"}


def verify_sequences(
    name: str,
    root: Path,
    layout: str | None,
    open_split: Callable[[Path, str], SequenceSplit],
    expected: Mapping[str, int],
    note: str,
) -> Report:
    """Check every split that `expected` names; data that cannot be used become problems of the report."""
    report = Report(name, root, layout, is_standin(root))
    report.note(note)
    try:
        for split, n in expected.items():
            _check(report, open_split(root, split), n)
    except DatasetError as error:
        report.problem("cannot be used", str(error), fatal=True)
    return report


def _check(report: Report, split: SequenceSplit, expected: int) -> None:
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
