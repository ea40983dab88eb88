"""MedFuse's stand-in: with the release's missingness, and its signs legible in charts and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import standins
from mmwa_utils import datasets
from mmwa_utils.datasets.medfuse_features import CONTINUOUS, Normaliser
from mmwa_utils.datasets.processing import load_processor

SAMPLES = 160
HEART, OXYGEN, SYSTOLIC = 50, 3, 55


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return standins.write("medfuse", tmp_path_factory.mktemp("medfuse") / "standin", SAMPLES, seed=1)


def test_the_release_s_missingness_and_mortality() -> None:
    story = standins.story("medfuse")
    drawn = story.draw(40_000, seed=0)
    # Standard errors 0.0022 and 0.0017; the release has 2357 deaths among 18845, and 74 % without an X-ray.
    assert 1 - drawn.present["xray"].mean() == pytest.approx(0.74, abs=0.01)
    assert drawn.labels.mean() == pytest.approx(2357 / 18845, abs=0.008)


def test_pairing_finds_exactly_the_drawn_xrays_and_the_signs_are_legible(root: Path) -> None:
    splits = datasets.load("medfuse", root)
    assert [len(split) for split in splits.values()] == [SAMPLES, SAMPLES // 4, SAMPLES // 4]
    others = len(list((root / "resized").iterdir()))
    paired = 0
    for name, split in splits.items():
        drawn = standins.draws(root, name)
        np.testing.assert_array_equal(split.labels(), drawn.labels)
        for i, sample in enumerate(split):
            ehr, scale = sample.modalities["ehr"], split.normaliser
            read = [
                -np.sign(np.median(_raw(ehr, SYSTOLIC, scale)) - 115),
                np.sign(np.median(_raw(ehr, OXYGEN, scale)) - 0.5),
                np.sign(np.median(_raw(ehr, HEART, scale)) - 97),
            ]
            np.testing.assert_array_equal(read, drawn.seen["ehr"][i])
            assert ("xray" in sample.modalities) == drawn.present["xray"][i]
            if "xray" in sample.modalities:
                paired += 1
                grey = np.asarray(sample.modalities["xray"], dtype=float)[:, :, 0]
                clouded = np.sign(grey[44:50, 12:22].mean() - 110)
                device = np.sign(grey[10:26, 40:58].max() - grey[10:26, 6:24].max())
                np.testing.assert_array_equal([clouded, device], drawn.seen["xray"][i, :2])
    assert others > paired  # some X-rays are there to be left out


def _raw(ehr: np.ndarray, column: int, scale: Normaliser) -> np.ndarray:
    position = CONTINUOUS.index(column)
    return ehr[:, column] * scale.std[position] + scale.mean[position]


def test_its_processor_reads_its_xrays(root: Path) -> None:
    split = datasets.load("medfuse", root)["train"]
    assert split.standin
    xray = next(sample.modalities["xray"] for sample in split if "xray" in sample.modalities)
    assert load_processor(root / "processor").resized(xray).shape == (64, 64, 3)
    assert datasets.verify("medfuse", root).usable


def test_charts_alone_are_dominant_and_the_xray_adds() -> None:
    scores = {
        present: standins.story("medfuse").scores(present)["auroc"]
        for present in (("ehr",), ("xray",), ("ehr", "xray"))
    }
    assert scores["xray",] < scores["ehr",] < scores["ehr", "xray"]
