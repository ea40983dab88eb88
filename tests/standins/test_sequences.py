"""The stand-ins of UR-FUNNY and CMU-MOSEI: in the releases' shapes, and as good as their story says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import standins
from mmwa_utils import datasets
from standins.sequences import OBJECT, SIGNS
from standins.story import RATINGS, Draws

NAMES = ("ur_funny", "cmu_mosei")
WIDTHS = {"ur_funny": (300, 371, 81), "cmu_mosei": (300, 35, 74)}
SAMPLES = 480
TOTAL = 720
"""With the splits to validate and to test."""


@pytest.fixture(scope="module", params=NAMES)
def standin(request, tmp_path_factory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp(request.param) / "standin"
    return request.param, standins.write(request.param, root, SAMPLES, seed=3)


def test_the_release_s_shapes_and_marked_as_a_standin(standin: tuple[str, Path]) -> None:
    name, root = standin
    splits = datasets.load(name, root)
    assert sum(map(len, splits.values())) == TOTAL
    assert all(split.standin for split in splits.values())
    ids = [set(split.ids()) for split in splits.values()]
    assert len(set.union(*ids)) == TOTAL  # disjoint, and no id twice
    for sample in splits["val"]:
        assert tuple(value.shape[1] for value in sample.modalities.values()) == WIDTHS[name]
        assert len({len(value) for value in sample.modalities.values()}) == 1
        assert all(np.isfinite(value).all() and value.dtype == np.float32 for value in sample.modalities.values())
    lengths = {len(sample.modalities["text"]) for sample in splits["train"]}
    assert lengths == set(range(5, 15))
    assert datasets.verify(name, root).usable


def read_signs(name: str, root: Path) -> tuple[Draws, np.ndarray]:
    """What a reader of features sees: the sign of the largest sum over a step's 8 features, sample by sample."""
    story = standins.story(name)
    samples = [sample for split in datasets.load(name, root).values() for sample in split]
    seen = {}
    for modality in story.modalities:
        values = np.zeros((len(samples), 3), dtype=np.int8)
        for i, sample in enumerate(samples):
            for j, features in enumerate(SIGNS):
                sums = sample.modalities[modality][:, features].mean(axis=1)
                strongest = sums[np.abs(sums).argmax()]
                values[i, j] = np.sign(strongest) * (abs(strongest) > 1.0)
        seen[modality] = values
    labels = np.asarray([sample.label for sample in samples])
    nothing = np.zeros((len(samples), 3), dtype=np.int8)
    present = {modality: np.ones(len(samples), dtype=bool) for modality in story.modalities}
    return Draws(nothing, seen, present, labels), labels


def test_bayes_predictions_from_the_files_reach_the_story_s_scores(standin: tuple[str, Path]) -> None:
    name, root = standin
    story = standins.story(name)
    draws, labels = read_signs(name, root)
    for present in (story.modalities, ("text",), ("vision", "audio"), ("text", "vision")):
        prediction, best = story.predictions(draws, present), story.scores(present)
        if name == "ur_funny":
            found = ((prediction > 0.5) == labels).mean()
            # four standard errors of a proportion of 720
            assert found == pytest.approx(best["accuracy"], abs=4 * np.sqrt(0.25 / TOTAL))
        else:
            found = np.corrcoef(prediction, labels)[0, 1]
            assert found == pytest.approx(best["pearson"], abs=4 / np.sqrt(TOTAL))


def test_labels_lie_on_the_release_s_grid(standin: tuple[str, Path]) -> None:
    name, root = standin
    labels = datasets.load(name, root)["train"].labels()
    grid = RATINGS if name == "cmu_mosei" else np.array([0, 1])
    # float32 of a third: off by less than 1e-6
    assert np.abs(labels[:, None] - grid).min(axis=1).max() < 1e-6


def test_the_dominant_modality_is_the_best_one_and_no_two_reach_all_three(standin: tuple[str, Path]) -> None:
    story = standins.story(standin[0])
    metric, sign = ("accuracy", 1) if standin[0] == "ur_funny" else ("mae", -1)
    score = {m: sign * story.scores((m,))[metric] for m in story.modalities}
    assert max(score, key=score.get) == story.dominant == "text"
    everything = sign * story.scores()[metric]
    for left_out in story.modalities:
        rest = tuple(m for m in story.modalities if m != left_out)
        assert everything > sign * story.scores(rest)[metric] + 1e-3


def test_steps_that_correspond_show_the_same_object(standin: tuple[str, Path]) -> None:
    name, root = standin
    split = datasets.load(name, root)["train"]
    words, faces, voices = (
        np.concatenate([sample.modalities[m][:, OBJECT] for sample in split]) for m in ("text", "vision", "audio")
    )
    kinds, of_step = np.unique(words, axis=0, return_inverse=True)
    assert len(kinds) == 12  # a word has the same vector wherever it occurs
    for other in (faces, voices):
        means = np.stack([other[of_step.ravel() == kind].mean(axis=0) for kind in range(12)])
        nearest = ((other[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        # 11 features at least (Facet), one standard deviation of noise to sqrt(22) of distance
        assert (nearest == of_step.ravel()).mean() > 0.97
    sample = split[0]
    true = standins.correspondence(root, sample.id)
    np.testing.assert_array_equal(true, np.arange(len(sample.modalities["audio"])))
    with pytest.raises(KeyError, match="nobody"):
        standins.correspondence(root, "nobody")
