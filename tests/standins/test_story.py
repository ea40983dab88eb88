"""The Bayes scores of the stories: exact against simulation, and in the order that the story promises."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

import standins
from mmwa_utils import datasets
from standins.story import RATINGS, Story, sizes

MANY = 40_000
"""Draws; a score's standard error is then about 0.003, and the tolerances are four of them."""

STORIES = tuple(standins.STANDINS)


def _subsets(story: Story) -> list[tuple[str, ...]]:
    return [names for size in (1, 2, 3) for names in combinations(story.modalities, size)]


def _simulated(story: Story, present: tuple[str, ...]) -> dict[str, float]:
    drawn = story.draw(MANY, seed=5)
    predicted = story.predictions(drawn, present)
    if story.task == "binary":
        return {
            "auroc": float(roc_auc_score(drawn.labels, predicted)),
            "auprc": float(average_precision_score(drawn.labels, predicted)),
            "accuracy": float(((predicted >= 0.5) == drawn.labels).mean()),
        }
    if story.task == "multilabel":
        chosen = predicted >= 0.5
        return {
            f"f1_{how}": float(f1_score(drawn.labels, chosen, average=how, zero_division=0))
            for how in ("macro", "micro", "weighted")
        }
    return {"pearson": float(pearsonr(drawn.labels, predicted)[0])}


@pytest.mark.parametrize("name", STORIES)
def test_exact_scores_are_what_a_simulation_finds(name: str) -> None:
    story = standins.story(name)
    for present in _subsets(story):
        exact = story.scores(present)
        for score, found in _simulated(story, present).items():
            if score == "pearson" and np.std(story.predictions(story.draw(100, seed=0), present)) == 0:
                continue
            assert found == pytest.approx(exact[score], abs=0.016), (present, score)


@pytest.mark.parametrize("name", STORIES)
def test_the_story_keeps_its_promises(name: str) -> None:
    """The dominant modality is the best alone, all together are better, and nothing is perfect."""
    story, metric = standins.story(name), datasets.spec(name).metric
    sign = 1 if datasets.spec(name).higher_is_better else -1
    assert story.modalities == datasets.spec(name).modality_names
    alone = {modality: sign * story.scores((modality,))[metric] for modality in story.modalities}
    everything = sign * story.scores()[metric]
    assert max(alone, key=alone.__getitem__) == story.dominant
    assert everything > max(alone.values()) + 0.02
    assert everything < (0.98 if sign > 0 else -0.1)


@pytest.mark.parametrize("name", STORIES)
def test_the_interaction_needs_both(name: str) -> None:
    """Without the interaction's weight the best score falls: no modality alone carries it."""
    story, metric = standins.story(name), datasets.spec(name).metric
    without = replace(story, weights=tuple((s, 0.0, o) for s, _, o in story.weights))
    sign = 1 if datasets.spec(name).higher_is_better else -1
    assert sign * story.scores()[metric] > sign * without.scores()[metric]


def test_a_product_says_nothing_alone() -> None:
    story = Story(("a", "b"), "a", ("a", "b"), ((0.0, 2.0, 0.0),), {"a": 0.1, "b": 0.1})
    assert story.scores(("a",))["auroc"] == pytest.approx(0.5)
    assert story.scores(("b",))["auroc"] == pytest.approx(0.5)
    probability = 1 / (1 + np.exp(-2.0))
    # two groups of equal mass with probabilities p and 1-p: AUROC = p^2 + p(1-p) = p
    assert story.scores()["auroc"] == pytest.approx(probability)
    assert story.scores()["accuracy"] == pytest.approx(probability)
    assert replace(story, lean=1.0).scores(("a",))["auroc"] > 0.6


def test_a_hand_computed_shared_signal() -> None:
    """One sign, seen through one noisy eye: p(y=1 | seen) is a mixture of two sigmoids."""
    story = Story(("a", "b"), "a", ("a", "b"), ((1.5, 0.0, 0.0),), {"a": 0.2, "b": 0.5})
    up = 1 / (1 + np.exp(-1.5))
    seen_up = 0.8 * up + 0.2 * (1 - up)
    assert story.scores(("a",))["accuracy"] == pytest.approx(seen_up)
    assert story.scores(("b",))["accuracy"] == pytest.approx(0.5)  # wrong half the time: no information


def test_predictions_are_calibrated() -> None:
    """Among samples with the same prediction p, a share p of the labels is 1."""
    story = standins.story("hateful_memes")
    drawn = story.draw(MANY, seed=1)
    predicted = story.predictions(drawn)
    for value in np.unique(predicted):
        chosen = predicted == value
        error = np.sqrt(value * (1 - value) / chosen.sum())
        assert abs(drawn.labels[chosen].mean() - value) < 4.5 * error


def test_absence_lowers_the_score_and_is_seen() -> None:
    story = standins.story("medfuse")
    gone = next(name for name, share in story.absence.items() if share > 0)
    drawn = story.draw(MANY, seed=2)
    share = 1 - drawn.present[gone].mean()
    assert share == pytest.approx(story.absence[gone], abs=0.01)  # four standard errors of 0.0022
    assert not drawn.seen[gone][~drawn.present[gone]].any()
    assert story.scores()["auroc"] < replace(story, absence={}).scores()["auroc"]


def test_draws_depend_on_seed_and_split_alone() -> None:
    story = standins.story("cmu_mosei")
    first, again = story.draw(50, seed=7, split=1), story.draw(50, seed=7, split=1)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, story.draw(50, seed=8, split=1).labels)
    assert not np.array_equal(first.labels, story.draw(50, seed=7, split=2).labels)
    assert set(np.round(first.labels, 6)) <= set(RATINGS)


def test_the_median_is_the_best_guess_for_the_absolute_error() -> None:
    story = standins.story("cmu_mosei")
    drawn = story.draw(MANY, seed=4)
    of_mean = np.abs(story.predictions(drawn) - drawn.labels).mean()
    assert story.scores()["mae"] <= of_mean + 0.01  # four standard errors of the simulated mean


def test_an_unknown_modality_is_an_error() -> None:
    with pytest.raises(KeyError, match="the story has no modality 'smell'"):
        standins.story("ur_funny").scores(("smell",))


@pytest.mark.parametrize("samples", [16, 100, 2000])
def test_the_splits_to_validate_and_to_test_are_a_quarter_of_the_training_split(samples: int) -> None:
    assert list(sizes(samples).items()) == [("train", samples), ("val", samples // 4), ("test", samples // 4)]
    with pytest.raises(ValueError, match="at least 16"):
        sizes(15)
