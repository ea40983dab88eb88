"""Digits: the strips are the scan, splits are disjoint and stratified, and one strip dominates."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmwa_utils import datasets
from mmwa_utils.datasets.digits import specification


@pytest.mark.parametrize("views", [2, 3])
def test_strips_side_by_side_are_the_scan(views: int) -> None:
    scans = load_digits()
    for split in datasets.load("digits", views=views).values():
        assert split.spec.modality_names == specification(views=views).modality_names
        for sample in split:
            whole = np.concatenate([sample.modalities[name] for name in split.spec.modality_names], axis=1)
            np.testing.assert_array_equal(whole, scans.images[int(sample.id)] / 16)
            assert sample.label == scans.target[int(sample.id)]
            assert all(
                sample.modalities[item.name].shape == (item.max_length, item.width) for item in split.spec.modalities
            )


def test_splits_are_disjoint_cover_everything_and_keep_the_shares() -> None:
    splits = datasets.load("digits")
    ids = [set(split.ids()) for split in splits.values()]
    assert sum(map(len, ids)) == len(set.union(*ids)) == 1797
    images = load_digits().images
    scans = [{images[int(i)].tobytes() for i in split.ids()} for split in splits.values()]
    assert not scans[0] & scans[1]
    assert not scans[0] & scans[2]
    for split in splits.values():
        share = np.bincount(split.labels(), minlength=10) / len(split)
        assert np.abs(share - 0.1).max() < 0.012
    assert not splits["train"].standin
    assert all(found == expected for found, expected in list(datasets.verify("digits").counts.values())[:3])


def _accuracy(names: tuple[str, ...], views: int) -> float:
    def table(split: str) -> np.ndarray:
        opened = datasets.open_split("digits", None, split, views=views)
        return np.stack([np.concatenate([s.modalities[n].ravel() for n in names]) for s in opened])

    splits = datasets.load("digits", views=views)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(table("train"), splits["train"].labels())
    return float(model.score(table("test"), splits["test"].labels()))


def test_one_view_is_weak_one_dominates_and_together_they_are_best() -> None:
    left, right, both = (_accuracy(names, 2) for names in (("left",), ("right",), ("left", "right")))
    assert 0.3 < left < right - 0.05
    assert right < both


@pytest.mark.usefixtures("unchecked")
def test_views_are_checked_and_change_the_fingerprint() -> None:
    with pytest.raises(ValueError, match=r"views\n.*should be 2 or 3"):
        datasets.load("digits", views=4)
    two, three = (datasets.open_split("digits", None, "test", views=views) for views in (2, 3))
    assert two.fingerprint != three.fingerprint
    assert two.fingerprint == datasets.open_split("digits", None, "test").fingerprint
    assert datasets.spec("digits", views=3).modality_names == ("left", "centre", "right")


def test_indices_behave_like_a_list() -> None:
    split = datasets.open_split("digits", None, "val")
    assert split[-1].id == split[len(split) - 1].id == split.ids()[-1]
    with pytest.raises(IndexError, match="sample 359 of digits/val, which has 359"):
        split[359]
    assert [sample.id for sample in split] == split.ids()
