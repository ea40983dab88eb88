"""Watch: windows are the package's recordings, standardised by the training subjects, who are in no other split."""

from __future__ import annotations

import numpy as np
from seglearn.datasets import load_watch

from mmwa_utils import datasets
from mmwa_utils.datasets import watch

AXES = {"accelerometer": slice(0, 3), "gyroscope": slice(3, 6)}


def train_values() -> np.ndarray:
    data = load_watch()
    return np.concatenate(
        [x for x, who in zip(data["X"], data["subject"], strict=True) if who in watch.SUBJECTS["train"]]
    )


def test_subjects_are_in_one_split_and_all_are_used() -> None:
    people = [{sample.group.split("-")[0] for sample in split} for split in datasets.load("watch").values()]
    assert [len(some) for some in people] == [6, 2, 2]
    assert len(set.union(*people)) == 10


def test_a_window_is_a_standardised_piece_of_its_recording() -> None:
    data = load_watch()
    mean, deviation = train_values().mean(axis=0), train_values().std(axis=0)
    assert data["X_labels"] == ["ax", "ay", "az", "wx", "wy", "wz"]
    recordings = {
        f"s{who:02d}-{'right' if side else 'left'}-{data['y_labels'][y].lower()}": (x, y)
        for x, y, side, who in zip(data["X"], data["y"], data["side"], data["subject"], strict=True)
    }
    assert len(recordings) == len(data["X"])
    for split in datasets.load("watch").values():
        for sample in (split[0], split[len(split) // 2], split[-1]):
            raw, exercise = recordings[sample.group]
            start = int(sample.id.rsplit("-", 1)[1])
            assert sample.label == exercise
            for name, axes in AXES.items():
                values = sample.modalities[name]
                assert (values.shape, values.dtype) == ((watch.WINDOW, 3), np.float32)
                piece = raw[start : start + watch.WINDOW, axes]
                np.testing.assert_allclose(values * deviation[axes] + mean[axes], piece, atol=1e-5)


def test_windows_of_a_recording_overlap_by_half_and_fill_it() -> None:
    data = load_watch()
    lengths = sum((len(x) - watch.WINDOW) // (watch.WINDOW // 2) + 1 for x in data["X"])
    assert sum(len(split) for split in datasets.load("watch").values()) == lengths
    first, second = (datasets.open_split("watch", None, "val")[index] for index in (0, 1))
    assert first.group == second.group
    for name in AXES:
        np.testing.assert_array_equal(first.modalities[name][100:], second.modalities[name][:100])


def test_the_training_subjects_alone_have_mean_zero_and_deviation_one() -> None:
    moments = {}
    for split, subjects in watch.SUBJECTS.items():
        values = np.concatenate([r.values for r in watch._recordings() if r.subject in subjects])
        moments[split] = np.abs(values.mean(axis=0)).max(), np.abs(values.std(axis=0) - 1).max()
    assert max(moments["train"]) < 1e-4
    assert min(max(moments["val"]), max(moments["test"])) > 0.01


def test_ten_steps_make_a_token_and_tokens_fill_a_window() -> None:
    assert all(item.patch == 10 and item.max_length % item.patch == 0 for item in watch.SPEC.modalities)
