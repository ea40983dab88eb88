"""The page on the datasets says what the code says: counts, files, keys and the commands it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmwa_utils import datasets
from mmwa_utils.evaluation.probe import linear_probe, summarise

PAGE = (Path(__file__).parents[2] / "book" / "datasets.md").read_text("utf-8")


def section(name: str) -> str:
    start = PAGE.index(f"(sec-data-{name.replace('_', '-')})=")
    end = PAGE.find("\n(sec-data-", start + 1)
    return PAGE[start : end if end > 0 else None]


def leaves(value: object) -> list[int]:
    return [leaf for part in value.values() for leaf in leaves(part)] if isinstance(value, dict) else [value]


@pytest.mark.parametrize("name", datasets.names())
def test_every_expected_count_stands_in_the_section(name: str) -> None:
    text = section(name)
    numbers = set(map(int, re.findall(r"\d+", text)))
    assert set(leaves(dict(datasets.module(name).EXPECTED))) <= numbers


@pytest.mark.parametrize("name", datasets.names())
def test_the_overview_has_the_paper_s_split(name: str) -> None:
    expected = datasets.module(name).EXPECTED
    first = next(iter(expected.values())) if isinstance(next(iter(expected.values())), dict) else expected
    counts = " / ".join(str(first[split]) for split in ("train", "val", "test"))
    assert counts in PAGE[: PAGE.index("(sec-data-steps)=")]


@pytest.mark.parametrize("name", datasets.names())
def test_every_file_that_a_user_is_told_to_fetch_is_on_the_page(name: str) -> None:
    files = set(re.findall(r"[\w.-]+\.(?:pkl|jsonl|csv|hdf5)\b", datasets.where(name)))
    assert files <= set(re.findall(r"[\w.-]+\.(?:pkl|jsonl|csv|hdf5)\b", section(name)))


@pytest.mark.parametrize("name", datasets.names())
def test_each_section_has_what_a_reader_needs(name: str) -> None:
    text = section(name)
    assert "**What it is.**" in text
    assert "**How to get it.**" in text
    assert "**Traps.**" in text
    assert "Datasheet" in text


def test_every_table_and_section_has_its_own_label() -> None:
    labels = re.findall(r"^\(([\w-]+)\)=|^:(?:name|label): ([\w-]+)", PAGE, flags=re.MULTILINE)
    flat = [one or other for one, other in labels]
    assert len(flat) == len(set(flat))
    assert all(f"#{label}" in PAGE for label in flat if label.startswith("sec-data-") and label[9:] in datasets.names())


def features(name: str, value: Any) -> np.ndarray:
    if isinstance(value, Image.Image):
        return np.asarray(value.resize((16, 16))).ravel() / 255
    return summarise(value.astype(float), steps=8 if name == "spoken_digits" else 0)


@pytest.mark.parametrize("name", ["emoji", "watch", "spoken_digits"])
def test_the_linear_probes_are_as_accurate_as_the_page_says(name: str) -> None:
    title = name.capitalize().replace("_", " ")
    rows = re.findall(rf"\* - {title}\n     - (.+)\n     - (\.\d+)", PAGE[PAGE.index("(sec-data-probes)=") :])
    probed = {tuple(read.split(", ")): float(accuracy) for read, accuracy in rows}
    splits = datasets.load(name)
    labels = {split: opened.labels() for split, opened in splits.items()}
    if majority := probed.pop(("always the largest category",), None):
        assert (labels["test"] == np.bincount(labels["train"]).argmax()).mean() == pytest.approx(majority, abs=5e-4)
    read = {modality for modalities in probed for modality in modalities}
    tables = {
        split: {m: np.stack([features(name, sample.modalities[m]) for sample in opened]) for m in read}
        for split, opened in splits.items()
    }
    assert probed
    for modalities, accuracy in probed.items():
        parts = [
            part
            for split in splits
            for part in (np.concatenate([tables[split][m] for m in modalities], axis=1), labels[split])
        ]
        # Another version of the solver may turn one or two samples.
        assert linear_probe(*parts).accuracy == pytest.approx(accuracy, abs=0.006)
