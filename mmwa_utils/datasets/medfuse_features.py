"""From a stay's irregular chart events to the 76 features at 48 one-hour bins of the MIMIC benchmark.

The channels, their categories and normal values are those of the in-hospital-mortality benchmark of Harutyunyan et al.,
*Multitask learning and benchmarking with clinical time series data* (2019), which MedFuse (Hayat et al., 2022) uses
unchanged. The columns are the 17 channels in alphabetical order, a continuous channel as one column and a categorical
one as one-hot columns (12 + 47 in all), followed by 17 columns that are 1 where the channel was observed in that hour.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmwa_utils.datasets._files import DatasetError
from mmwa_utils.datasets.medfuse_index import rows

N_BINS = 48
"""One-hour bins: the first 48 hours of the stay."""

_EPSILON = 1e-6  # a reading on the hour belongs to the hour that it ends, as in the benchmark
_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_FILE = 20_000_000  # bytes; a release's have some ten thousand


@dataclass(frozen=True)
class Channel:
    """One of the 17 charted quantities: its normal value stands in where nothing was measured before.

    `categories` are in the order of their columns; a continuous channel has none.
    """

    name: str
    normal: str
    categories: Sequence[str] = ()

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Spelling -> category; numbers also match by value, since "15.0" and "15" both occur."""
        numbers = {category: i for i, category in enumerate(self.categories)}
        for category, i in list(numbers.items()):
            if category.replace(".", "").isdigit():
                numbers |= {f"{float(category)}": i, f"{float(category):.0f}": i}
        return numbers

    def read(self, cell: str) -> float:
        """Return the value of a cell, or its category's number; inf for what is no finite float32.

        Raises `ValueError` for anything else.
        """
        if self.categories:
            if cell not in self._numbers:
                raise ValueError(f"{cell[:40]!r}, expected one of {', '.join(self.categories)}")
            return self._numbers[cell]
        try:
            value = float(cell)
        except ValueError:
            raise ValueError(f"{cell[:40]!r}, expected a number") from None
        return value if abs(value) <= _LARGEST else math.inf


_EYES = "To Pain|3 To speech|1 No Response|4 Spontaneously|None|To Speech|Spontaneously|2 To pain"
_MOTOR = (
    "1 No Response|3 Abnorm flexion|Abnormal extension|No response|4 Flex-withdraws|Localizes Pain|Flex-withdraws|"
    "Obeys Commands|Abnormal Flexion|6 Obeys Commands|5 Localizes Pain|2 Abnorm extensn"
)
_VERBAL = (
    "1 No Response|No Response|Confused|Inappropriate Words|Oriented|No Response-ETT|5 Oriented|"
    "Incomprehensible sounds|1.0 ET/Trach|4 Confused|2 Incomp sounds|3 Inapprop words"
)
CHANNELS = (
    Channel("Capillary refill rate", "0.0", ("0.0", "1.0")),
    Channel("Diastolic blood pressure", "59.0"),
    Channel("Fraction inspired oxygen", "0.21"),
    Channel("Glascow coma scale eye opening", "4 Spontaneously", _EYES.split("|")),
    Channel("Glascow coma scale motor response", "6 Obeys Commands", _MOTOR.split("|")),
    Channel("Glascow coma scale total", "15", ["11", "10", "13", "12", "15", "14", "3", "5", "4", "7", "6", "9", "8"]),
    Channel("Glascow coma scale verbal response", "5 Oriented", _VERBAL.split("|")),
    Channel("Glucose", "128.0"),
    Channel("Heart Rate", "86"),
    Channel("Height", "170.0"),
    Channel("Mean blood pressure", "77.0"),
    Channel("Oxygen saturation", "98.0"),
    Channel("Respiratory rate", "19"),
    Channel("Systolic blood pressure", "118.0"),
    Channel("Temperature", "36.6"),
    Channel("Weight", "81.0"),
    Channel("pH", "7.4"),
)
"""The 17 channels in the order of the files (spelling is the release's)."""


FEATURE_NAMES: tuple[str, ...] = (
    *(f"{c.name}->{v}" if v else c.name for c in CHANNELS for v in c.categories or ("",)),
    *(f"observed->{c.name}" for c in CHANNELS),
)
"""Names of the 76 columns, in order."""

CONTINUOUS: tuple[int, ...] = tuple(i for i, name in enumerate(FEATURE_NAMES) if "->" not in name)
"""The 12 columns that are normalised."""

_NORMAL = np.array([channel.read(channel.normal) for channel in CHANNELS])


@dataclass(frozen=True)
class Timeseries:
    """The readings of a stay, in order of time.

    `hours` count from admission. `values` are NaN where a channel was not measured, and a category's number where it
    is categorical. `repairs` counts what was set right while reading: "non-finite value", "row out of order".
    """

    hours: Float[np.ndarray, " rows"]
    values: Float[np.ndarray, "rows 17"]
    repairs: Mapping[str, int]


def read_timeseries(path: Path) -> Timeseries:
    """Read a `*_timeseries.csv`, whose columns are found by name: their order and extra columns do not matter.

    Raises:
        DatasetError: With file, line and column, for a missing or ragged file, a missing column, an hour or a value
            that is not a number, an unknown category.
    """
    columns = (Channel("Hours", "0"), *CHANNELS)
    lines: list[int] = []
    table: list[list[float]] = []
    remedy = "Every stay of a listfile needs its time series, as the benchmark extracts it."
    names = [column.name for column in columns]
    for line, cells in rows(path, names, remedy=remedy, limit=_LARGEST_FILE):
        lines.append(line)
        table.append([])
        channel = columns[0]
        try:
            for channel, cell in zip(columns, cells, strict=True):
                table[-1].append(channel.read(cell) if cell else math.nan)
        except ValueError as error:
            raise DatasetError(path, f"{error}.", at=f"line {line}, {channel.name}") from None
    values = np.array(table, dtype=np.float64).reshape(-1, len(columns))
    hours, values = values[:, 0], values[:, 1:]
    if (unknown := ~np.isfinite(hours)).any():
        problem = "expected the hours since admission, such as 1.25."
        raise DatasetError(path, problem, at=f"line {lines[int(unknown.argmax())]}, Hours")
    infinite, backwards = np.isinf(values), int((np.diff(hours) < 0).sum())
    values[infinite] = np.nan
    order = np.argsort(hours, kind="stable")
    repairs = Counter({"non-finite value": int(infinite.sum()), "row out of order": backwards})
    return Timeseries(hours[order], values[order], dict(+repairs))


def discretise(series: Timeseries) -> Float[np.ndarray, "48 76"]:
    """Return the 76 features at 48 one-hour bins, not yet normalised.

    Bin b holds the readings with b < hours <= b + 1 (hour 0 is in bin 0); the last reading of a bin counts. A bin
    without a reading takes the value of the last bin that has one, before the first reading the channel's normal
    value; the last 17 columns are 1 where the bin has a reading of its own. Rows after 48 h are left out.

    >>> readings = np.full((1, 17), np.nan)
    >>> readings[0, [channel.name for channel in CHANNELS].index("Heart Rate")] = 90
    >>> heart = FEATURE_NAMES.index("Heart Rate")
    >>> discretise(Timeseries(np.array([5.5]), readings, {}))[3:8, heart].tolist()
    [86.0, 86.0, 90.0, 90.0, 90.0]
    """
    kept = (series.hours >= -_EPSILON) & (series.hours <= N_BINS + _EPSILON)
    bins = np.floor(series.hours[kept] - _EPSILON).clip(0, N_BINS - 1).astype(int)
    row, channel = np.nonzero(~np.isnan(series.values[kept]))
    table = np.full((1 + N_BINS, len(CHANNELS)), np.nan)
    table[0] = _NORMAL
    table[1 + bins[row], channel] = series.values[kept][row, channel]  # in order of time, so the last one stays
    observed = ~np.isnan(table)
    latest = np.maximum.accumulate(np.where(observed, np.arange(1 + N_BINS)[:, None], 0))
    values = np.take_along_axis(table, latest, axis=0)[1:]
    blocks = [
        np.eye(len(channel.categories))[column.astype(int)] if channel.categories else column[:, None]
        for channel, column in zip(CHANNELS, values.T, strict=True)
    ]
    return np.hstack([*blocks, observed[1:]]).astype(np.float32)


@dataclass(frozen=True)
class Normaliser:
    """Mean and standard deviation of the 12 continuous columns over every bin of the *training* stays.

    x -> (x - mean) / std on those columns; one-hot and observed columns are left alone. A column that never varies
    keeps a standard deviation of 1.
    """

    mean: Float[np.ndarray, " continuous"]
    std: Float[np.ndarray, " continuous"]
    n_stays: int

    @classmethod
    def fit(cls, stays: Iterable[Float[np.ndarray, "48 76"]]) -> Normaliser:
        """Compute the statistics in one pass, one stay in memory at a time (Chan's merging of sums, in float64).

        Raises `ValueError` when there is no stay.
        """
        count, n_stays = 0, 0
        mean = np.zeros(len(CONTINUOUS))
        squares = np.zeros(len(CONTINUOUS))
        for stay in stays:
            values = stay[:, CONTINUOUS].astype(np.float64)
            delta = values.mean(axis=0) - mean
            total = count + len(values)
            squares += ((values - values.mean(axis=0)) ** 2).sum(axis=0) + delta**2 * count * len(values) / total
            mean += delta * len(values) / total
            count, n_stays = total, n_stays + 1
        if n_stays == 0:
            raise ValueError("the training split has no stay: there is nothing to take normalisation statistics from")
        std = np.sqrt(squares / (count - 1))
        return cls(mean, np.where(std < 1e-7, 1.0, std), n_stays)

    def __call__(self, features: Float[np.ndarray, "48 76"]) -> Float[np.ndarray, "48 76"]:
        """Return the features with their continuous columns normalised; the argument is left as it is."""
        normalised = features.copy()
        normalised[:, CONTINUOUS] = ((features[:, CONTINUOUS] - self.mean) / self.std).astype(np.float32)
        return normalised
