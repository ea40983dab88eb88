"""MedFuse's stand-in: charts and drawn X-rays that carry the signs of a story, with the release's missingness.

In the charts the `shared` sign is a low or high blood pressure, the chart's `part` a high or low share of oxygen in
the air breathed, and `own`, the dominant sign, a low or high coma score with a fast or slow heart. In the X-ray the
`shared` sign is clouded or clear lower lungs and its `part` a device in the left or right upper chest. Each stay has
further readings that say nothing, and some patients further X-rays that the pairing rule must leave out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFilter

from mmwa_utils.datasets.medfuse_features import CHANNELS
from mmwa_utils.datasets.medfuse_index import METADATA, TASK, series_folder
from standins.processor import write_processor
from standins.story import Draws, Story

STORY = Story(
    modalities=("ehr", "xray"),
    dominant="ehr",
    interacting=("ehr", "xray"),
    weights=((1.2, 1.8, 2.2),),
    flips={"ehr": 0.2, "xray": 0.1},
    lean=0.4,
    bias=(-4.4,),  # 12.5 % die, as in the release (2357 of 18845)
    absence={"xray": 0.74},
)

_EDGE = 64  # pixels of a drawn X-ray's side

# Channel -> means at the sign -1 and +1, spread between readings, decimals. The means lie four or more spreads apart.
_SHOWN: Mapping[str, Mapping[str, tuple[float, float, float, int]]] = {
    "shared": {
        "Systolic blood pressure": (140, 90, 8, 0),
        "Mean blood pressure": (95, 60, 6, 0),
        "Diastolic blood pressure": (75, 45, 6, 0),
    },
    "part": {"Fraction inspired oxygen": (0.3, 0.7, 0.05, 2)},
    "own": {"Heart Rate": (75, 120, 8, 0)},
}
_PLAIN: Mapping[str, tuple[float, float, int]] = {
    "Glucose": (130, 30, 0),
    "Oxygen saturation": (96, 2, 0),
    "Respiratory rate": (19, 3, 0),
    "Temperature": (36.9, 0.4, 1),
    "pH": (7.38, 0.05, 2),
}
# Both spellings of the release occur; a stay keeps to one.
_COMA = {
    -1: (
        ("4 Spontaneously", "6 Obeys Commands", "15", "5 Oriented"),
        ("Spontaneously", "Obeys Commands", "15", "Oriented"),
    ),
    1: (("2 To pain", "4 Flex-withdraws", "7", "1.0 ET/Trach"), ("To Pain", "Flex-withdraws", "7", "No Response-ETT")),
}
_COMA_CHANNELS = ("eye opening", "motor response", "total", "verbal response")
_FIRST_SUBJECT, _FIRST_STAY = 10_000_001, 30_000_001


def write(root: Path, draws: Mapping[str, Draws], seed: int) -> None:
    """Write listfiles, time series, `all_stays.csv`, X-rays with their metadata, and a processor for the X-rays."""
    (root / "root").mkdir()
    (root / "resized").mkdir()
    stays: list[tuple] = []
    xrays: list[tuple] = []
    first = 0
    for number, (split, drawn) in enumerate(draws.items()):
        series_folder(root, split).mkdir(parents=True, exist_ok=True)
        listed = []
        for i in range(len(drawn)):
            rng = np.random.default_rng([seed, number, i, 1])
            subject, stay_id = _FIRST_SUBJECT + first + i, _FIRST_STAY + first + i
            name = f"{subject}_episode1_timeseries.csv"
            listed.append((name, 0, stay_id, int(drawn.labels[i])))
            _write_rows(series_folder(root, split) / name, _series(drawn.seen["ehr"][i], rng))
            intime = datetime(2150, 1, 1) + timedelta(minutes=int(rng.integers(0, 20_000_000)))
            stays.append((subject, stay_id, intime, intime + timedelta(hours=int(rng.integers(49, 400)))))
            seen = drawn.seen["xray"][i] if drawn.present["xray"][i] else None
            xrays += _xrays(root, subject, intime, seen, rng)
        header = ("stay", "period_length", "stay_id", "y_true")
        _write_rows(root / TASK / f"{split}_listfile.csv", [header, *listed])
        first += len(drawn)
    _write_rows(root / "root" / "all_stays.csv", [("subject_id", "stay_id", "intime", "outtime"), *stays])
    columns = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")
    _write_rows(root / METADATA, [columns, *xrays])
    write_processor(root / "processor", words=["patient"], shortest_edge=_EDGE)


def correspondence(sample_id: str, draws: Mapping[str, Draws], seed: int) -> NoReturn:
    """Raise KeyError: charts and X-rays share no objects."""
    raise KeyError("medfuse has no known correspondence of tokens")


def _write_rows(path: Path, rows: list[tuple]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _series(seen: Int[np.ndarray, " signs"], rng: np.random.Generator) -> list[tuple]:
    """A header and some 20 to 40 rows in the order of time, most cells empty."""
    signs = dict(zip(("shared", "part", "own"), (int(sign) for sign in seen), strict=True))
    spelling = int(rng.integers(0, 2))
    rows: list[tuple] = [("Hours", *(channel.name for channel in CHANNELS))]
    hours = np.sort(rng.uniform(0.05, 47.9, rng.integers(20, 41)))
    for number, hour in enumerate(hours):
        cells: dict[str, str] = {}
        for sign, channels in _SHOWN.items():
            for name, (low, high, spread, decimals) in channels.items():
                if number < 2 or rng.random() < 0.6:  # the first rows are full, as on admission
                    cells[name] = f"{(low, high)[signs[sign] > 0] + spread * rng.standard_normal():.{decimals}f}"
        for name, (mean, spread, decimals) in _PLAIN.items():
            if rng.random() < 0.3:
                cells[name] = f"{mean + spread * rng.standard_normal():.{decimals}f}"
        if number == 0 or rng.random() < 0.4:
            words = _COMA[signs["own"]][spelling]
            cells |= {f"Glascow coma scale {name}": word for name, word in zip(_COMA_CHANNELS, words, strict=True)}
        if number == 0:
            cells |= {"Height": f"{rng.normal(170, 9):.0f}", "Weight": f"{rng.normal(81, 14):.1f}"}
        rows.append((f"{hour:.4f}", *(cells.get(channel.name, "") for channel in CHANNELS)))
    return rows


def _xrays(
    root: Path, subject: int, intime: datetime, seen: Int[np.ndarray, " signs"] | None, rng: np.random.Generator
) -> Iterator[tuple]:
    """Write a patient's X-rays and yield their lines: the one that counts, and others that the rule must leave out."""
    hours = float(rng.uniform(12, 47))
    others = (("AP", 60.0), ("PA", hours + 0.5), ("AP", -30.0))  # after the window, another view, before admission
    taken = [(view, hour, rng.choice((-1, 1), 3)) for view, hour in others if rng.random() < 0.1]
    if seen is not None:
        taken.append(("AP", hours, seen))
        if rng.random() < 0.3:
            taken.append(("AP", hours - 10, rng.choice((-1, 1), 3)))  # an earlier one, superseded
    for view, hour, signs in taken:
        dicom_id = "-".join(f"{part:08x}" for part in rng.integers(0, 2**32, 5))
        _draw(signs, rng).save(root / "resized" / f"{dicom_id}.jpg", quality=90)
        time = intime + timedelta(hours=hour)
        study = 50_000_000 + int(rng.integers(0, 10_000_000))
        clock = f"{time:%H%M%S}".lstrip("0") or "0"  # the release's numbers have lost their leading zeros
        yield dicom_id, subject, study, view, f"{time:%Y%m%d}", f"{clock}.{int(rng.integers(0, 1000)):03d}"


def _draw(signs: Int[np.ndarray, " signs"], rng: np.random.Generator) -> Image.Image:
    """A chest, 64 x 64, in grey: two dark lungs, the heart, clouds in the lower lungs (shared), a device (part)."""
    image = Image.new("L", (_EDGE, _EDGE), 120)
    draw = ImageDraw.Draw(image)
    dx, dy = (int(shift) for shift in rng.integers(-2, 3, 2))
    for left in (8, 36):
        draw.ellipse((left + dx, 8 + dy, left + 20 + dx, 56 + dy), fill=40)
        if signs[0] > 0:
            draw.ellipse((left + 2 + dx, 34 + dy, left + 18 + dx, 54 + dy), fill=170)
    draw.ellipse((26 + dx, 34 + dy, 44 + dx, 52 + dy), fill=150)
    image = image.filter(ImageFilter.BoxBlur(1))
    side = 12 if signs[1] < 0 else 44
    ImageDraw.Draw(image).rectangle((side + dx, 14 + dy, side + 8 + dx, 22 + dy), fill=250)
    noise: Float[np.ndarray, "64 64"] = 6 * rng.standard_normal((_EDGE, _EDGE))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
