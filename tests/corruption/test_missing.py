"""Missing modalities: exact shares, nested, never the last one, the same whatever the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmwa_utils import datasets
from mmwa_utils.corruption import LossySplit, choose_missing, lose
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample

SPEC = DatasetSpec(
    "demo",
    (ModalitySpec("text", "text"), ModalitySpec("image", "image"), ModalitySpec("audio", "stream", width=2)),
    "binary",
    1,
    ("yes",),
    "auroc",
)
RATES = (0.25, 0.5, 0.75)


def samples(number: int, per_group: int = 1) -> list[Sample]:
    data = {"text": "a b", "image": Image.new("RGB", (4, 6), "red"), "audio": np.full((3, 2), 5.0, np.float32)}
    return [
        Sample(f"{n}-{k}", 0, data, group=str(n) if per_group > 1 else None)
        for n in range(number)
        for k in range(per_group)
    ]


@given(number=st.integers(1, 60), rate=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_exactly_that_share_loses_one(number: int, rate: float, seed: int) -> None:
    assert len(choose_missing(samples(number), SPEC, rate=rate, seed=seed)) == round(rate * number)


@pytest.mark.parametrize("modality", [None, "image"])
def test_who_is_missing_at_a_rate_is_missing_at_every_higher_one(modality: str | None) -> None:
    chosen = [choose_missing(samples(80), SPEC, rate=rate, seed=1, modality=modality) for rate in RATES]
    assert chosen[0].items() < chosen[1].items() < chosen[2].items()


def test_the_choice_does_not_depend_on_the_order_but_on_the_seed() -> None:
    split = samples(50)
    assert choose_missing(split, SPEC, rate=0.5, seed=0) == choose_missing(split[::-1], SPEC, rate=0.5, seed=0)
    assert choose_missing(split, SPEC, rate=0.5, seed=0) != choose_missing(split, SPEC, rate=0.5, seed=1)


def test_all_modalities_are_drawn_about_equally() -> None:
    lost = list(choose_missing(samples(900), SPEC, rate=1.0, seed=0).values())
    for name in SPEC.modality_names:  # a share of 1/3 of 900 has a standard deviation of 14
        assert abs(lost.count(name) - 300) < 4 * 14.2


def test_the_plots_of_a_film_lose_the_same_modality() -> None:
    split = samples(40, per_group=3)
    chosen = choose_missing(split, SPEC, rate=0.5, seed=0)
    by_film: dict[str, set[str | None]] = {}
    for sample in split:
        by_film.setdefault(str(sample.group), set()).add(chosen.get(sample.id))
    assert all(len(lost) == 1 for lost in by_film.values())
    assert sum(lost != {None} for lost in by_film.values()) == 20


def test_natural_missingness_is_not_counted_and_no_sample_loses_its_last_modality() -> None:
    split = samples(40)
    split = [s.without("image", "audio") if i % 2 else s for i, s in enumerate(split)]
    chosen = choose_missing(split, SPEC, rate=1.0, seed=0)
    assert set(chosen) == {s.id for i, s in enumerate(split) if i % 2 == 0}
    by_id = {s.id: s for s in split}
    assert all(lose(by_id[i], name, SPEC).modalities for i, name in chosen.items())
    with pytest.raises(ValueError, match="no modality but text"):
        lose(split[1], "text", SPEC)


def test_representations() -> None:
    clean = samples(1)[0]
    masked = lose(clean, "image", SPEC)
    assert "image" not in masked.modalities
    assert masked.absent == {"image"}
    assert clean.absent == frozenset()
    text, image, audio = (
        lose(clean, name, SPEC, representation="dummy").modalities[name] for name in ("text", "image", "audio")
    )
    assert text == ""
    assert image.getextrema() == ((255, 255),) * 3
    assert image.size == (4, 6)
    assert (audio == 0).all()
    assert audio.shape == (3, 2)
    naturally = clean.without("image")
    assert lose(naturally, "image", SPEC, representation="dummy") is naturally


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"rate is 1\.5"):
        choose_missing(samples(2), SPEC, rate=1.5, seed=0)
    with pytest.raises(KeyError, match="no modality 'smell'"):
        choose_missing(samples(2), SPEC, rate=0.5, seed=0, modality="smell")
    with pytest.raises(ValueError, match="representation is 'twos'"):
        lose(samples(1)[0], "text", SPEC, representation="twos")  # type: ignore[arg-type]


def test_a_lossy_split_loses_exactly_its_share_and_always_the_same() -> None:
    digits = datasets.open_split("digits", None, "val", views=2)
    split = LossySplit(digits, rate=0.5, seed=3)
    first, again = [s.absent for s in split], [split[i].absent for i in range(len(split))]
    assert first == again
    assert sum(bool(lost) for lost in first) == round(0.5 * len(digits))
    assert (split.labels() == digits.labels()).all()
    assert split.ids() == digits.ids()
    assert [s.absent for s in LossySplit(digits, rate=0.5, seed=4)] != first
