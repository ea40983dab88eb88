"""Noise: pure in (seed, id, modality, level), shape-keeping, nested over levels; the published defects in one mode."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmwa_utils.corruption import add_noise, multibench
from mmwa_utils.corruption import image as corrected_image
from mmwa_utils.corruption import text as corrected_text
from mmwa_utils.corruption._random import generator
from mmwa_utils.corruption.stream import corrupt_stream
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample

SPEC = DatasetSpec(
    "demo",
    (ModalitySpec("text", "text"), ModalitySpec("image", "image"), ModalitySpec("audio", "stream", width=5)),
    "binary",
    1,
    ("yes",),
    "auroc",
)
LEVELS = (0.25, 0.5, 0.75)
WORDS = "transport moves every token of one modality onto tokens of another modality"


def sample(number: int = 0) -> Sample:
    rng = np.random.default_rng(number)
    # Smooth like a photograph: on white noise a mere flip would already be as far as anything can be.
    coarse = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((36, 24), Image.Resampling.BICUBIC))
    steps = rng.standard_normal((30, 5)).astype(np.float32)
    return Sample(str(number), 1, {"text": WORDS, "image": Image.fromarray(pixels), "audio": steps})


def distance(clean: Sample, noisy: Sample, name: str) -> float:
    one, other = clean.modalities[name], noisy.modalities[name]
    if name == "text":
        return float(np.mean([a != b for a, b in zip(one.split(), other.split(), strict=True)]))
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


def equal(one: Any, other: Any) -> bool:
    return one == other if isinstance(one, str) else bool(np.array_equal(np.asarray(one), np.asarray(other)))


@pytest.mark.parametrize("mode", ["corrected", "multibench"])
def test_level_zero_is_the_identity(mode: str) -> None:
    clean = sample()
    assert add_noise(clean, SPEC, level=0, seed=3, mode=mode) is clean


def test_the_result_depends_on_seed_id_modality_and_level_alone() -> None:
    alone = add_noise(sample(1), SPEC, level=0.5, seed=7, modalities=["audio"])
    np.random.default_rng(0).random(100)
    after_others = [add_noise(sample(n), SPEC, level=0.5, seed=7) for n in (3, 2, 1)][-1]
    assert equal(alone.modalities["audio"], after_others.modalities["audio"])
    assert not equal(alone.modalities["audio"], add_noise(sample(1), SPEC, level=0.5, seed=8).modalities["audio"])


def test_only_the_named_modalities_change_and_the_clean_sample_stays() -> None:
    clean, untouched = sample(), sample()
    noisy = add_noise(clean, SPEC, level=1.0, seed=0, modalities=["image"])
    assert equal(noisy.modalities["text"], WORDS)
    assert not equal(noisy.modalities["image"], clean.modalities["image"])
    assert all(equal(clean.modalities[name], untouched.modalities[name]) for name in SPEC.modality_names)


@given(level=st.floats(0, 1), seed=st.integers(0, 2**31), steps=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_shape_type_and_range_are_kept(level: float, seed: int, steps: int) -> None:
    clean = sample(seed % 11)
    clean = Sample("x", 1, {**clean.modalities, "audio": clean.modalities["audio"][:steps]})
    noisy = add_noise(clean, SPEC, level=level, seed=seed).modalities
    assert (noisy["image"].size, noisy["image"].mode) == (clean.modalities["image"].size, "RGB")
    assert (noisy["audio"].shape, noisy["audio"].dtype) == ((steps, 5), np.float32)
    assert np.isfinite(noisy["audio"]).all()
    assert len(noisy["text"].split()) == len(WORDS.split())


@pytest.mark.parametrize("name", SPEC.modality_names)
def test_the_higher_the_level_the_further_from_the_clean_sample(name: str) -> None:
    means = [
        np.mean([distance(sample(n), add_noise(sample(n), SPEC, level=level, seed=0), name) for n in range(60)])
        for level in (0.0, *LEVELS)
    ]
    assert all(low < high for low, high in itertools.pairwise(means)), means


def test_a_word_misspelt_at_a_level_is_misspelt_at_every_higher_one() -> None:
    for n in range(20):
        changed = [
            {i for i, w in enumerate(add_noise(sample(n), SPEC, level=level, seed=0).modalities["text"].split())
             if w != WORDS.split()[i]}
            for level in LEVELS
        ]  # fmt: skip
        assert changed[0] <= changed[1] <= changed[2]


def test_short_words_punctuation_and_spaces_are_left_alone() -> None:
    text = "  an owl, 12345  (sees) -- mice!\n"
    assert corrected_text.corrupt_text(text, 1.0, generator(0, "x")) == text


@pytest.mark.parametrize("way", corrected_text.WAYS, ids=lambda way: way.__name__)
def test_each_misspelling_does_what_its_name_says(way: Callable[..., str]) -> None:
    word = "Wasserstein"
    for seed in range(30):
        got = way(word, np.random.default_rng(seed))
        expected = {"_omit": len(word) - 1, "_repeat": len(word) + 1}.get(way.__name__, len(word))
        assert len(got) == expected
        if way.__name__ in ("_swap", "_shuffle_middle"):
            assert sorted(got) == sorted(word), "letters are exchanged, none is lost"
            assert (got[0], got[-1]) == (word[0], word[-1])


def test_a_typo_hits_a_neighbouring_key() -> None:
    assert set("qwerty") & set(corrected_text.NEIGHBOURS["g"]) == {"t", "y"}
    assert all(a in corrected_text.NEIGHBOURS[b] for a, near in corrected_text.NEIGHBOURS.items() for b in near)


def _stream_draws(function: Callable[..., np.ndarray], level: float = 0.3) -> list[np.ndarray]:
    values = np.full((20, 5), 10.0, np.float32)
    return [function(values, level, generator(seed, "x")) - values for seed in range(200)]


def test_white_noise_is_a_constant_a_sample_only_as_published() -> None:
    def spread(noise: np.ndarray) -> float:
        return float(np.ptp(noise[noise > -9])) if (noise > -9).any() else 0.0

    assert max(spread(noise) for noise in _stream_draws(multibench.corrupt_stream)) < 1e-5
    assert min(spread(noise) for noise in _stream_draws(corrupt_stream)) > 0.3


def test_whole_samples_are_zeroed_only_as_published() -> None:
    level = 0.3
    share = np.mean([(noise == -10).all() for noise in _stream_draws(multibench.corrupt_stream, level)])
    expected = 1 - (1 - level) ** 3
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 200)
    assert not any((noise == -10).all() for noise in _stream_draws(corrupt_stream, level))


def test_gaussian_noise_is_visible_and_clipped_but_as_published_invisible_and_wrapping() -> None:
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    white = Image.new("RGB", (64, 64), (255, 255, 255))
    published, mended = multibench._gaussian, corrected_image._gaussian
    assert np.asarray(published(grey, 1.0, generator(0, "x"))).std() < 1.5
    assert np.asarray(mended(grey, 1.0, generator(0, "x"))).std() > 0.8 * corrected_image.GAUSSIAN_SCALE
    assert np.asarray(published(white, 1.0, generator(0, "x"))).min() < 10, "255 + 1 wraps to 0"
    assert np.asarray(mended(white, 0.1, generator(0, "x"))).min() > 200


def test_salt_is_white_but_as_published_almost_black() -> None:
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    assert set(np.unique(corrected_image._salt_and_pepper(grey, 0.5, generator(0, "x")))) == {0, 128, 255}
    assert set(np.unique(multibench._salt_and_pepper(grey, 0.5, generator(0, "x")))) == {0, 1, 128}


def test_the_crop_keeps_width_and_height_but_as_published_swaps_them() -> None:
    wide = sample().modalities["image"]
    assert corrected_image._crop(wide, 1.0, generator(0, "x")).size == wide.size
    assert multibench._crop(wide, 1.0, generator(0, "x")).size == wide.size[::-1]


def test_swapping_keeps_the_letters_but_as_published_overwrites_one() -> None:
    assert sorted(corrected_text._swap("abcdefg", generator(0, "x"))) == list("abcdefg")
    assert len(set(multibench._swap("abcdefg", generator(0, "x")))) == 6


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan")])
def test_a_level_outside_its_range_is_named(level: float) -> None:
    with pytest.raises(ValueError, match="level is"):
        add_noise(sample(), SPEC, level=level, seed=0)


@pytest.mark.usefixtures("unchecked")
def test_unknown_modes_and_modalities_are_named() -> None:
    with pytest.raises(ValueError, match="mode is 'loud'"):
        add_noise(sample(), SPEC, level=0.5, seed=0, mode="loud")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="no modality 'smell'"):
        add_noise(sample(), SPEC, level=0.5, seed=0, modalities=["smell"])
