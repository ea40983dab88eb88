"""Which stays a split has, and which chest X-ray belongs to a stay: the release's tables, with errors by line."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mmwa_utils.datasets._files import DatasetError, inside, read_bytes

TASK = "in-hospital-mortality"
SPLITS = ("train", "val", "test")
HOURS = 48
METADATA = "mimic-cxr-2.0.0-metadata.csv"


@dataclass(frozen=True)
class Stay:
    """One line of a listfile, with its patient and its X-ray.

    `name` is the file name of the time series. `subject_id` is None where `all_stays.csv` does not list the stay,
    `dicom_id` where the stay has no X-ray.
    """

    name: str
    stay_id: int
    label: int
    subject_id: int | None = None
    dicom_id: str | None = None


Index = tuple[Mapping[str, tuple[Stay, ...]], Mapping[str, int]]
"""The stays of every split with their X-rays, and what was set right while reading, with counts."""


def rows(
    path: Path, columns: Sequence[str], *, remedy: str = "See `mmwa data where medfuse`.", limit: int = 2_000_000_000
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, the cells of these columns) of a table with a header, whatever the order of its columns.

    Cells stay text: pandas would take "None", a category of the eye opening, for a missing value, and would not say
    which line is too short.

    Raises:
        DatasetError: For a missing or unreadable file, one of more than `limit` bytes, a column that is missing or
            occurs twice, a line with too few or too many cells, bytes that are not UTF-8.
    """
    try:
        text = read_bytes(path, remedy=remedy, limit=limit).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""))
        header = [cell.strip() for cell in next(reader, [])]
        if wrong := [column for column in columns if header.count(column) != 1]:
            how = "occurs twice" if wrong[0] in header else "is missing"
            problem = f"the column {', '.join(wrong)} {how}; found {', '.join(header)[:200] or 'an empty line'}."
            raise DatasetError(path, problem, at="line 1", remedy="Check that it is the release's file.")
        positions = [header.index(column) for column in columns]
        for row in reader:
            if not any(row):
                continue
            if len(row) != len(header):
                problem = f"{len(row)} cells, but the header has {len(header)}."
                raise DatasetError(path, problem, at=f"line {reader.line_num}")
            yield reader.line_num, [row[position].strip() for position in positions]
    except UnicodeDecodeError as error:
        raise DatasetError(path, f"is not UTF-8 (byte {error.start}).", remedy="Fetch it again.") from None
    except csv.Error as error:
        raise DatasetError(path, f"is not a table of comma-separated values ({error}).") from None


class _Table:
    """A table's cells as text, one row per line; what is asked of a column is checked for every line."""

    def __init__(self, path: Path, *columns: str) -> None:
        self.path = path
        self.cells = pd.DataFrame.from_dict(dict(rows(path, columns)), orient="index", columns=columns, dtype=object)

    def check(self, column: str, good: pd.Series, expected: str) -> None:
        if not good.all():
            line = good.idxmin()
            problem = f"{self.cells.at[line, column][:40]!r}, expected {expected}."
            raise DatasetError(self.path, problem, at=f"line {line}, {column}")

    def whole(self, column: str, among: Sequence[int] = (), expected: str = "a whole number") -> pd.Series:
        """Return whole numbers, also in the spelling 30000153.0 that pandas gives a column with gaps."""
        numbers = pd.to_numeric(self.cells[column], errors="coerce")
        good = numbers.isin(among) if among else (numbers % 1 == 0) & (numbers.abs() < 2**53)
        self.check(column, good, expected)
        return numbers.astype("int64")

    def keep(self, chosen: pd.Series) -> int:
        """Keep the chosen lines and return the number of the others."""
        self.cells = self.cells[chosen]
        return int((~chosen).sum())


def series_folder(root: Path, split: str) -> Path:
    """Return where a split's time series lie: those of the validation stays are in the folder of the training stays."""
    return root / TASK / ("test" if split == "test" else "train")


def _read_listfile(root: Path, split: str, repairs: Counter[str]) -> pd.DataFrame:
    """Return the stays of a split in file order; a stay that is listed twice counts once."""
    table = _Table(root / TASK / f"{split}_listfile.csv", "stay", "period_length", "stay_id", "y_true")
    table.whole("period_length", (0, HOURS), f"0 (which stands for {HOURS} hours) or {HOURS}")
    stays = table.cells[["stay"]].assign(stay_id=table.whole("stay_id"), label=table.whole("y_true", (0, 1), "0 or 1"))
    for name in stays["stay"]:
        inside(series_folder(root, split), name)
    if stays.empty:
        raise DatasetError(table.path, "lists no stay.", remedy="Fetch the file again.")
    once = stays.drop_duplicates("stay")
    repairs[f"{split}: stay listed twice"] += len(stays) - len(once)
    return once


def _read_admissions(root: Path, wanted: pd.Series, repairs: Counter[str]) -> pd.DataFrame:
    """Return patient and time of admission of the wanted stays, by `stay_id`; other stays may hold broken times."""
    table = _Table(root / "root" / "all_stays.csv", "subject_id", "stay_id", "intime")
    table.cells["stay_id"] = table.whole("stay_id")
    table.keep(table.cells["stay_id"].isin(wanted))
    repairs["all_stays.csv: stay listed twice"] += table.keep(~table.cells.duplicated("stay_id"))
    local = table.cells["intime"].str.replace(r"(Z|[+-]\d\d:?\d\d)$", "", regex=True)  # as the X-rays' times are
    intime = pd.to_datetime(local, format="ISO8601", errors="coerce")
    table.check("intime", intime.notna(), "a time such as 2180-07-23 14:00:00")
    return table.cells.assign(subject_id=table.whole("subject_id"), intime=intime).set_index("stay_id")


def _pair(path: Path, admissions: pd.DataFrame, repairs: Counter[str]) -> dict[int, str]:
    """Return each stay's latest AP X-ray of the same patient, from admission to 48 hours later, both ends included.

    Of two X-rays at the same second the one with the larger name counts. An X-ray whose date cannot be read is left
    out and counted.
    """
    table = _Table(path, "dicom_id", "subject_id", "ViewPosition", "StudyDate", "StudyTime")
    table.cells["subject_id"] = table.whole("subject_id")
    table.keep((table.cells["ViewPosition"] == "AP") & table.cells["subject_id"].isin(admissions["subject_id"]))
    table.cells["taken"] = _taken(table.cells["StudyDate"], table.cells["StudyTime"])
    repairs[f"{METADATA}: X-ray with a broken date left out"] += table.keep(table.cells["taken"].notna())
    for line, name in table.cells["dicom_id"].items():
        # The name becomes a path, so it must not lead anywhere else.
        inside(path.parent, f"{name}.jpg", named_in=path, at=f"line {line}, dicom_id")
    near = table.cells.merge(admissions.reset_index()[["stay_id", "subject_id", "intime"]], on="subject_id")
    chosen = near[(near["taken"] - near["intime"]).between(pd.Timedelta(0), pd.Timedelta(hours=HOURS))]
    return chosen.sort_values(["taken", "dicom_id"]).groupby("stay_id")["dicom_id"].last().to_dict()


def _taken(date: pd.Series, time: pd.Series) -> pd.Series:
    """Return when X-rays were taken, from dates such as 21800506 and times such as 213014.531, or 3014.5 for 00:30.

    >>> _taken(pd.Series(["21800506", "21801341"]), pd.Series(["3014.531", "0"])).tolist()
    [Timestamp('2180-05-06 00:30:14'), NaT]
    """
    day, second = (pd.to_numeric(cells, errors="coerce") // 1 for cells in (date, time))
    known = day.between(0, 99_999_999) & second.between(0, 235_959)
    digits = (day * 1_000_000 + second).where(known, -1).astype("int64").astype(str).str.zfill(14)
    return pd.to_datetime(digits, format="%Y%m%d%H%M%S", errors="coerce")


def read_index(root: Path, xray_root: Path) -> Index:
    """Return the stays of all splits with their X-rays; raises `DatasetError` when a stay is in two splits."""
    repairs: Counter[str] = Counter()
    listed = pd.concat({split: _read_listfile(root, split, repairs) for split in SPLITS}, names=["split"])
    listed = listed.reset_index("split").reset_index(drop=True)
    owner = listed.groupby("stay_id")["split"].transform("first")
    for _, stay in listed[listed["split"] != owner].head(1).iterrows():
        problem = f"the stay {stay['stay_id']} is in {owner[stay.name]}_listfile.csv too."
        path = root / TASK / f"{stay['split']}_listfile.csv"
        raise DatasetError(path, problem, remedy="Splits must not share stays.")
    admissions = _read_admissions(root, listed["stay_id"], repairs)
    repairs["stay not in all_stays.csv, so without an X-ray"] += listed["stay_id"].nunique() - len(admissions)
    dicoms = _pair(xray_root / METADATA, admissions, repairs)
    subjects = admissions["subject_id"].to_dict()
    stays: dict[str, list[Stay]] = {split: [] for split in SPLITS}
    columns = (listed[column].tolist() for column in ("split", "stay", "stay_id", "label"))
    for split, name, stay_id, label in zip(*columns, strict=True):
        stays[split].append(Stay(name, stay_id, label, subjects.get(stay_id), dicoms.get(stay_id)))
    return {split: tuple(found) for split, found in stays.items()}, dict(+repairs)
