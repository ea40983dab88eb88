"""The 76 features, channel by channel, against columns and values counted by hand from the benchmark's tables."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmwa_utils.datasets._files import DatasetError
from mmwa_utils.datasets.medfuse_features import (
    CHANNELS,
    CONTINUOUS,
    FEATURE_NAMES,
    Normaliser,
    Timeseries,
    discretise,
    read_timeseries,
)

# The release's header, typed from the release's documentation and not taken from the module under test.
HEADER = (
    "Hours,Capillary refill rate,Diastolic blood pressure,Fraction inspired oxygen,Glascow coma scale eye opening,"
    "Glascow coma scale motor response,Glascow coma scale total,Glascow coma scale verbal response,Glucose,Heart Rate,"
    "Height,Mean blood pressure,Oxygen saturation,Respiratory rate,Systolic blood pressure,Temperature,Weight,pH"
)
NAMES = HEADER.split(",")

# channel, cell, first column, width, the cell's column and value, the normal value's column and value
CASES = [
    ("Capillary refill rate", "1.0", 0, 2, 1, 1.0, 0, 1.0),
    ("Diastolic blood pressure", "71.5", 2, 1, 2, 71.5, 2, 59.0),
    ("Fraction inspired oxygen", "0.6", 3, 1, 3, 0.6, 3, 0.21),
    ("Glascow coma scale eye opening", "None", 4, 8, 8, 1.0, 7, 1.0),
    ("Glascow coma scale motor response", "2 Abnorm extensn", 12, 12, 23, 1.0, 21, 1.0),
    ("Glascow coma scale total", "8", 24, 13, 36, 1.0, 28, 1.0),
    ("Glascow coma scale verbal response", "1.0 ET/Trach", 37, 12, 45, 1.0, 43, 1.0),
    ("Glucose", "212", 49, 1, 49, 212.0, 49, 128.0),
    ("Heart Rate", "131", 50, 1, 50, 131.0, 50, 86.0),
    ("Height", "155.0", 51, 1, 51, 155.0, 51, 170.0),
    ("Mean blood pressure", "64.0", 52, 1, 52, 64.0, 52, 77.0),
    ("Oxygen saturation", "88.0", 53, 1, 53, 88.0, 53, 98.0),
    ("Respiratory rate", "33", 54, 1, 54, 33.0, 54, 19.0),
    ("Systolic blood pressure", "95.0", 55, 1, 55, 95.0, 55, 118.0),
    ("Temperature", "39.25", 56, 1, 56, 39.25, 56, 36.6),
    ("Weight", "63.5", 57, 1, 57, 63.5, 57, 81.0),
    ("pH", "7.21", 58, 1, 58, 7.21, 58, 7.4),
]


def table(*rows: dict[str, str]) -> str:
    return "\n".join([HEADER, *(",".join(row.get(name, "") for name in NAMES) for row in rows)]) + "\n"


def read(text: str) -> Timeseries:
    """What is read of a file of this text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stay.csv"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return read_timeseries(path)


def features(*rows: dict[str, str]) -> np.ndarray:
    return discretise(read(table(*rows)))


@pytest.mark.parametrize(("name", "cell", "start", "width", "hot", "value", "normal", "normal_value"), CASES)
def test_one_reading_of_each_channel(name, cell, start, width, hot, value, normal, normal_value) -> None:
    out = features({"Hours": "10.5", name: cell})
    expected = np.zeros((48, width), dtype=np.float32)
    expected[:10, normal - start] = normal_value  # before the reading: the normal value
    expected[10:, hot - start] = value  # from the reading's bin on: the reading, carried forward
    np.testing.assert_array_equal(out[:, start : start + width], expected)
    observed = np.zeros((48, 17), dtype=np.float32)
    observed[10, NAMES.index(name) - 1] = 1.0
    np.testing.assert_array_equal(out[:, 59:], observed)
    assert out.shape == (48, 76)
    assert out.dtype == np.float32


def test_the_blocks_fill_the_columns_exactly_once() -> None:
    covered = [column for _, _, start, width, *_ in CASES for column in range(start, start + width)]
    assert covered == list(range(59))
    assert len(FEATURE_NAMES) == 76
    assert len(set(FEATURE_NAMES)) == 76
    assert tuple(case[2] for case in CASES if case[3] == 1) == CONTINUOUS


def test_every_category_has_its_own_column() -> None:
    for channel, (_, _, start, width, *_) in zip(CHANNELS, CASES, strict=True):
        hot = {
            int(features({"Hours": "0.5", channel.name: category})[0, start : start + width].argmax())
            for category in channel.categories
        }
        assert hot == set(range(len(channel.categories)))


@pytest.mark.parametrize(
    ("hour", "bin_"), [("0", 0), ("0.0001", 0), ("1.0", 0), ("1.01", 1), ("47.0", 46), ("47.5", 47), ("48.0", 47)]
)
def test_a_reading_on_the_hour_belongs_to_the_hour_that_it_ends(hour: str, bin_: int) -> None:
    observed = features({"Hours": hour, "Glucose": "200"})[:, 59 + 7]
    assert np.flatnonzero(observed).tolist() == [bin_]


def test_rows_after_48_hours_or_before_admission_are_left_out() -> None:
    nothing = features()
    np.testing.assert_array_equal(features({"Hours": "48.2", "pH": "7.0"}, {"Hours": "-3", "pH": "7.0"}), nothing)


def test_the_last_reading_of_a_bin_counts() -> None:
    out = features({"Hours": "3.2", "Weight": "60"}, {"Hours": "3.9", "Weight": "61"}, {"Hours": "3.95", "pH": "7.3"})
    assert out[3, 57] == 61.0


def test_imputed_values_are_never_marked_observed() -> None:
    out = features({"Hours": "3.2", "Heart Rate": "99"}, {"Hours": "7.2", "Heart Rate": "77"})
    np.testing.assert_array_equal(out[:9, 50], [86, 86, 86, 99, 99, 99, 99, 77, 77])
    assert out[:, 59 + 8].sum() == 2


def test_columns_are_found_by_name_and_numbers_by_value() -> None:
    order = ["pH", "Extra", *reversed(NAMES[1:-1]), "Hours"]
    values = {
        "Hours": "2.5",
        "pH": "7.1",
        "Extra": "?",
        "Glascow coma scale total": "3.0",
        "Capillary refill rate": "1",
    }
    text = "\n".join([",".join(order), ",".join(values.get(name, "") for name in order)])
    out = discretise(read(text))
    same = features({"Hours": "2.5", "pH": "7.1", "Glascow coma scale total": "3", "Capillary refill rate": "1.0"})
    np.testing.assert_array_equal(out, same)


def test_repairs_are_counted() -> None:
    rows = {"Hours": "5", "pH": "nan"}, {"Hours": "2", "Weight": "-inf"}, {"Hours": "6", "Glucose": "1e999"}
    series = read(table(*rows))
    assert series.repairs == {"non-finite value": 3, "row out of order": 1}
    assert discretise(series)[:, 59:].sum() == 0
    assert series.hours.tolist() == [2.0, 5.0, 6.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["stay.csv", "empty"]),
        (HEADER.replace(",pH", ""), ["stay.csv", "line 1", "pH"]),
        (HEADER.replace(",Height", ",Weight"), ["stay.csv", "line 1", "Height"]),
        (f"{HEADER},pH", ["line 1", "pH", "twice"]),
        (f"{HEADER}\n1,2", ["line 2", "2 cells", "18"]),
        (table({"Hours": "soon"}), ["line 2", "Hours", "soon"]),
        (table({"Hours": "nan"}), ["line 2", "Hours"]),
        (table({"Hours": "1"}, {"Hours": "2", "Glucose": "high"}), ["line 3", "Glucose", "high"]),
        (table({"Hours": "1", "Glascow coma scale total": "16"}), ["line 2", "Glascow coma scale total", "16"]),
        (table({"Hours": "1", "Glascow coma scale eye opening": "Wink"}), ["eye opening", "Wink", "To Speech"]),
    ],
)
def test_a_broken_file_is_named_with_line_and_column(text: str, words: list[str]) -> None:
    with pytest.raises(DatasetError, match=r".*".join(map(re.escape, words))):
        read(text)


@given(st.one_of(st.text(), st.text().map(lambda tail: f"{HEADER}\n{tail}")))
def test_any_text_gives_features_or_a_value_error(text: str) -> None:
    try:
        series = read(text)
    except DatasetError:
        return
    assert np.isfinite(discretise(series)).all()


@given(st.lists(st.tuples(st.floats(0, 48), st.sampled_from(NAMES[8:]), st.floats(1, 400)), min_size=1, max_size=20))
def test_one_hot_blocks_sum_to_one_and_row_order_does_not_matter(readings) -> None:
    unique = list({hour: (hour, name, value) for hour, name, value in readings}.values())
    rows = [{"Hours": repr(hour), name: repr(value)} for hour, name, value in unique]
    out = features(*rows)
    for _, _, start, width, *_ in CASES:
        if width > 1:
            np.testing.assert_array_equal(out[:, start : start + width].sum(axis=1), 1.0)
    np.testing.assert_array_equal(out, features(*reversed(rows)))


def test_normalisation_touches_only_continuous_columns_and_uses_every_bin() -> None:
    rng = np.random.default_rng(0)
    stays = [
        features(*({"Hours": str(h + 0.5), "pH": f"{7.4 + 0.1 * rng.standard_normal():.3f}"} for h in range(48)))
        for _ in range(5)
    ]
    normaliser = Normaliser.fit(iter(stays))
    everything = np.concatenate(stays).astype(np.float64)
    assert normaliser.n_stays == 5
    # Two ways to sum 240 float64 numbers: they agree to rounding.
    np.testing.assert_allclose(normaliser.mean, everything[:, CONTINUOUS].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(normaliser.std[-1], everything[:, 58].std(ddof=1), rtol=1e-9)
    assert (normaliser.std[:-1] == 1).all()  # nothing else varies here
    out = normaliser(stays[0])
    rest = [i for i in range(76) if i not in CONTINUOUS]
    np.testing.assert_array_equal(out[:, rest], stays[0][:, rest])
    joined = np.concatenate([normaliser(stay) for stay in stays])[:, 58]
    # float32 values: mean and variance to about 1e-6
    assert abs(joined.mean()) < 1e-5
    assert joined.std(ddof=1) == pytest.approx(1.0, abs=1e-5)


def test_no_training_stay_is_an_error() -> None:
    with pytest.raises(ValueError, match="training split"):
        Normaliser.fit([])
