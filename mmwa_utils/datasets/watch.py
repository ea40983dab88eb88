"""Watch: accelerometer and gyroscope of a smartwatch during seven shoulder exercises (Burns and others, 2018).

Licence: BSD 3-clause, with the package `seglearn`, which brings 140 recordings of 10 of the study's subjects.
Steps: pip install 'mmwa-utils[real]'; no folder is needed.

A recording is one subject's twenty repetitions of one exercise on one side, sampled at 50 Hz. It is cut into windows of
4 s, each beginning 2 s after the one before, of which a sample has two streams: `accelerometer` (three axes, in g) and
`gyroscope` (three axes, in rad/s), each (200, 3). Ten steps make a token (`patch`), so a stream has 20 tokens of 0.2 s.
Each axis is standardised with mean and deviation of all steps of the *training* subjects.

Subjects 1 to 6 train, 7 and 8 validate, 9 and 10 test: nobody is in two splits. Neighbouring windows share half their
steps, so the recording is what is independent: it is `Sample.group`.

The package's file holds a pickle, which could run code. It is read only if its SHA-256 is the one of the file that we
looked into (NumPy arrays, lists and a dictionary, nothing else).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmwa_utils.datasets._packages import packaged
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._split import IndexedSplit
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample

WINDOW, HOP = 200, 100
"""Steps of a window, and from one window's first step to the next one's."""
STREAMS = {"accelerometer": slice(0, 3), "gyroscope": slice(3, 6)}
EXERCISES = (
    "pendulum", "abduction", "forward elevation", "internal rotation",
    "external rotation", "lower trapezius row", "bent-over row",
)  # fmt: skip
SPEC = DatasetSpec(
    "watch", tuple(ModalitySpec(name, "stream", width=3, max_length=WINDOW, patch=10) for name in STREAMS),
    "multiclass", len(EXERCISES), EXERCISES, "accuracy",
)  # fmt: skip
SPLITS = ("train", "val", "test")
EXPECTED = {"train": 1271, "val": 480, "test": 478}
SUBJECTS = {"train": range(1, 7), "val": range(7, 9), "test": range(9, 11)}
_FILE = ("seglearn", "data/watch_dataset.npy", "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537")


@dataclass(frozen=True)
class Recording:
    """One subject's exercise on one side; `values` are standardised."""

    name: str
    subject: int
    exercise: int
    values: Float[np.ndarray, "steps 6"]


class Watch(IndexedSplit):
    """The windows of some subjects."""

    def __init__(self, name: str, recordings: list[Recording]) -> None:
        self._windows = [
            (recording, start)
            for recording in recordings
            for start in range(0, len(recording.values) - WINDOW + 1, HOP)
        ]
        ids = [f"{recording.name}-{start:04d}" for recording, start in self._windows]
        labels = np.array([recording.exercise for recording, _ in self._windows])
        super().__init__(name, SPEC, ids=ids, labels=labels, standin=False)

    def read(self, index: int) -> Sample:
        """Cut one window out of its recording."""
        recording, start = self._windows[index]
        window = recording.values[start : start + WINDOW]
        streams = {name: np.ascontiguousarray(window[:, axes]) for name, axes in STREAMS.items()}
        return Sample(self._ids[index], recording.exercise, streams, group=recording.name)

    def sources(self) -> Iterator[bytes]:
        """Yield the windows' places and values."""
        for index, (recording, start) in enumerate(self._windows):
            yield f"{self._ids[index]}/{recording.exercise}".encode()
            yield recording.values[start : start + WINDOW].tobytes()


def open_split(root: Path, split: str) -> Watch:
    """Return one split's subjects; `root` is not read.

    Raises:
        DatasetError: the package is not installed, or its file is another one.
    """
    return Watch(split, [recording for recording in _recordings() if recording.subject in SUBJECTS[split]])


def recognise(root: Path) -> str:
    """Return where the recordings come from; `root` is not read."""
    return "bundled with seglearn"


def check(root: Path, report: Report) -> None:
    """Count recordings and windows."""
    for split in SPLITS:
        report.count(split, len(open_split(root, split)), expected=EXPECTED[split])
    report.count("recordings", len(_recordings()), expected=140)
    report.note("The paper did not use these recordings: they are real data that everybody can have.")


@lru_cache(maxsize=1)
def _recordings() -> list[Recording]:
    # The pickle is read only after its hash was found right.
    data = np.load(io.BytesIO(packaged(*_FILE)), allow_pickle=True).item()
    train = np.concatenate([x for x, who in zip(data["X"], data["subject"], strict=True) if who in SUBJECTS["train"]])
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    recordings = []
    for values, who, side, exercise in zip(data["X"], data["subject"], data["side"], data["y"], strict=True):
        name = f"s{who:02d}-{'right' if side else 'left'}-{data['y_labels'][exercise].lower()}"
        standardised = ((values - mean) / deviation).astype(np.float32)
        recordings.append(Recording(name, int(who), int(exercise), standardised))
    return recordings
