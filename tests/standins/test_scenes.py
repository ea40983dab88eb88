"""Captions and pictures of one scene: what is read from words and pixels is what the story drew."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import standins
from mmwa_utils import datasets


def test_memes_are_marked_sized_and_complete(memes: Path) -> None:
    splits = datasets.load("hateful_memes", memes)
    assert {name: len(split) for name, split in splits.items()} == {"train": 240, "val": 60, "test": 60}
    assert all(split.standin for split in splits.values())
    assert not datasets.verify("hateful_memes", memes).problems
    ids = [identifier for split in splits.values() for identifier in split.ids()]
    assert len(set(ids)) == 360


def test_memes_are_what_the_story_drew(memes: Path) -> None:
    """Read back from words and pixels, the signs are the story's, and its predictions beat each modality alone."""
    split, drawn = datasets.open_split("hateful_memes", memes, "train"), standins.draws(memes, "train")
    np.testing.assert_array_equal(split.labels(), drawn.labels)
    for index in range(0, len(split), 7):
        sample = split[index]
        words, pixels = sample.modalities["text"].split(), np.asarray(sample.modalities["image"]).astype(int)
        assert ("red" in words) == (drawn.seen["text"][index, 0] > 0)
        assert ("yellow" in words) == (drawn.seen["text"][index, 1] > 0)
        assert ("old" in words) == (drawn.seen["text"][index, 2] > 0)
        red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
        assert ((red > 150) & (green < 90) & (blue < 90)).any() == (drawn.seen["image"][index, 0] > 0)
        assert ((red > 180) & (green > 150) & (blue < 100)).any() == (drawn.seen["image"][index, 1] > 0)
    scores = [
        roc_auc_score(drawn.labels, standins.story("hateful_memes").predictions(drawn, present))
        for present in (("image",), ("text",), None)
    ]
    assert scores[0] < scores[1] < scores[2]


def test_words_and_patches_of_an_object_correspond(memes: Path) -> None:
    """The patches that belong to a coloured word have its colour's object, and every object has words and a cell."""
    for sample in list(datasets.open_split("hateful_memes", memes, "test"))[:8]:
        true = standins.correspondence(memes, sample.id)
        pixels = np.asarray(sample.modalities["image"]).astype(int)
        assert {item.shape for item in true.objects} == {"circle", "square", "triangle"}
        for item in true.objects:
            assert item.shape in sample.modalities["text"][item.start : item.end]
            cell = pixels[item.row * 16 : (item.row + 1) * 16, item.column * 16 : (item.column + 1) * 16]
            # the object covers the middle of its cell, far from the light background (at least 200)
            assert cell[6:10, 6:10].min(axis=2).mean() < 150
    with pytest.raises(KeyError):
        standins.correspondence(memes, "99999")


def test_films_are_marked_complete_and_of_one_split(films: Path) -> None:
    assert not datasets.verify("mm_imdb", films).problems
    splits = datasets.load("mm_imdb", films)
    assert all(split.standin for split in splits.values())
    groups = [{identifier.split("/")[0] for identifier in split.ids()} for split in splits.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 360


def test_films_are_what_the_story_drew(films: Path) -> None:
    split, drawn = datasets.open_split("mm_imdb", films, "train", plot_policy="longest"), standins.draws(films, "train")
    np.testing.assert_array_equal(split.labels(), drawn.labels)
    for index in range(0, len(split), 9):
        words = split[index].modalities["text"].split()
        seen = drawn.seen["text"][index]
        assert [word in words for word in ("red", "yellow", "old")] == [bool(sign > 0) for sign in seen]
        true = standins.correspondence(films, split[index].id)
        text = split[index].modalities["text"]
        assert all(item.shape in text[item.start : item.end] for item in true.objects)


def test_every_plot_of_a_film_tells_the_same(films: Path) -> None:
    split = datasets.open_split("mm_imdb", films, "val")
    first: dict[str | None, str] = {}
    longer = 0
    for sample in split:
        text = sample.modalities["text"]
        assert text.startswith(first.setdefault(sample.group, text))
        longer += len(text) > len(first[sample.group])
    assert longer > 0
