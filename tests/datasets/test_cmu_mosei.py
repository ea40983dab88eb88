"""CMU-MOSEI: MultiBench's file and MMSA's two, written here by hand, and what is done to broken ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmwa_utils import datasets
from mmwa_utils.datasets import DatasetError
from mmwa_utils.datasets._sequences import cut_together

STEPS = 50
KEYS = {"train": "train", "val": "valid", "test": "test"}


def dump(path: Path, value: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=4))
    return path.parent


def multibench() -> dict:
    rng = np.random.default_rng(0)
    payload = {}
    for key, lengths in {"train": (4, 50, 9), "valid": (1,), "test": (12, 3)}.items():
        n = len(lengths)
        part = {
            name: np.zeros((n, STEPS, w), np.float32) for name, w in {"vision": 35, "audio": 74, "text": 300}.items()
        }
        for array in part.values():
            for row, length in zip(array, lengths, strict=True):
                row[STEPS - length :] = rng.normal(size=(length, array.shape[2]))
        labels = np.array([-3.0, 0.0, 1.3333334])[:n, None, None]
        ids = np.array([[f"{key}vid", f"{i}.5", f"{i}.9"] for i in range(n)])
        payload[key] = {**part, "labels": labels, "id": ids}
    return payload


def test_multibench_is_read_exactly_and_without_its_padding(tmp_path: Path) -> None:
    payload = multibench()
    splits = datasets.load("cmu_mosei", dump(tmp_path / "r" / "mosei_senti_data.pkl", payload))
    for ours, theirs in KEYS.items():
        for i, sample in enumerate(splits[ours]):
            for name in ("text", "vision", "audio"):
                true = payload[theirs][name][i]
                np.testing.assert_array_equal(sample.modalities[name], true[true.any(axis=1)])
            assert sample.label == pytest.approx(float(payload[theirs]["labels"][i, 0, 0]))
            assert isinstance(sample.label, float)
    assert splits["train"].ids() == ["trainvid_0.5_0.9", "trainvid_1.5_1.9", "trainvid_2.5_2.9"]
    assert splits["train"].labels().dtype == np.float32
    assert [(m.name, m.width, m.max_length) for m in splits["test"].spec.modalities] == [
        ("text", 300, 50),
        ("vision", 35, 50),
        ("audio", 74, 50),
    ]


def mmsa(*, aligned: bool) -> dict:
    rng = np.random.default_rng(1)
    vision_steps, audio_steps = (STEPS, STEPS) if aligned else (500, 375)
    payload = {}
    for key in ("train", "valid", "test"):
        part = {
            "raw_text": np.array(["it was good", "meh"]),
            "text": rng.normal(size=(2, STEPS, 768)).astype(np.float32),  # BERT is not 0 at padding
            "text_bert": np.zeros((2, 3, STEPS), dtype=np.float32),
            "vision": np.zeros((2, vision_steps, 35)),
            "audio": np.zeros((2, audio_steps, 74)),
            "regression_labels": np.array([2.0, -0.6666667]),
            "id": [f"{key}$_$0", f"{key}$_$1"],
            "annotations": ["Positive", "Negative"],
        }
        part["text_bert"][0, 1, :5] = part["text_bert"][1, 1, :3] = 1
        part["vision"][0, :4] = part["audio"][0, 1:4] = 1.5
        part["vision"][1, :2], part["audio"][1, :2] = 2.5, -np.inf
        if not aligned:
            part |= {"vision_lengths": [4, 3], "audio_lengths": np.array([6, 0])}
            part["audio"][1] = 0.0
        payload[key] = part
    return payload


def test_mmsa_aligned_takes_text_by_its_mask_and_the_rest_by_words(tmp_path: Path) -> None:
    payload = mmsa(aligned=True)
    root = dump(tmp_path / "r" / "aligned_50.pkl", payload)
    first, second = datasets.load("cmu_mosei", root)["train"]
    np.testing.assert_array_equal(first.modalities["text"], payload["train"]["text"][0, :5])
    assert first.modalities["vision"].shape == (4, 35)
    assert first.modalities["audio"].shape == (4, 74)  # silent at the first word, and still aligned with vision
    assert not first.modalities["audio"][0].any()
    assert second.absent == {"audio"}  # -inf throughout became 0 throughout
    assert (first.label, first.id) == (2.0, "train$_$0")
    report = datasets.verify("cmu_mosei", root)
    assert "train: repaired, audio: non-finite value" in str(report)
    assert "not comparable" in str(report)
    assert report.counts["train: samples"][1] == 16326


def test_mmsa_unaligned_takes_each_stream_by_its_length(tmp_path: Path) -> None:
    root = dump(tmp_path / "r" / "unaligned_50.pkl", mmsa(aligned=False))
    first, second = datasets.load("cmu_mosei", root)["val"]
    assert {name: len(value) for name, value in first.modalities.items()} == {"text": 5, "vision": 4, "audio": 6}
    assert {name: len(value) for name, value in second.modalities.items()} == {"text": 3, "vision": 3}
    assert second.absent == {"audio"}


def test_mmsa_words_are_given_for_a_tokenizer(tmp_path: Path) -> None:
    root = dump(tmp_path / "r" / "aligned_50.pkl", mmsa(aligned=True))
    split = datasets.load("cmu_mosei", root, words="raw")["train"]
    assert [sample.modalities["text"] for sample in split] == ["it was good", "meh"]
    assert (split.spec.modality("text").kind, split.spec.modality("text").width) == ("text", None)
    assert split.fingerprint != datasets.load("cmu_mosei", root)["train"].fingerprint


def test_the_file_can_be_chosen_and_options_are_checked(tmp_path: Path) -> None:
    root = dump(tmp_path / "r" / "aligned_50.pkl", mmsa(aligned=True))
    dump(root / "mosei_senti_data.pkl", multibench())
    assert datasets.load("cmu_mosei", root)["train"].spec.modality("text").width == 300
    assert datasets.load("cmu_mosei", root, file="aligned_50.pkl")["train"].spec.modality("text").width == 768
    with pytest.raises(ValueError, match="holds no words"):
        datasets.load("cmu_mosei", root, words="raw")
    with pytest.raises(ValueError, match=r"file\n.*'mosei_senti_data\.pkl', 'aligned_50\.pkl' or"):
        datasets.load("cmu_mosei", root, file="mosei.pkl")
    with pytest.raises(ValueError, match=r"words\n.*'features' or 'raw'"):
        datasets.load("cmu_mosei", root, words="ids")
    with pytest.raises(DatasetError, match="there is no unaligned_50"):
        datasets.load("cmu_mosei", root, file="unaligned_50.pkl")
    assert len(datasets.convert("cmu_mosei", root)) == 6


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (
            "labels",
            np.array([[[4.0]], [[0.0]]]),
            "test, row 0: the label is 4.0, expected a number from -3 to 3",
        ),
        ("labels", np.array([[[0.0]], [[np.nan]]]), "test, row 1: the label is nan"),
        ("labels", np.array([["high"], ["low"]]), "test/labels"),
        ("vision", np.zeros((2, 50, 34)), r"test/vision: has shape \(2, 50, 34\), expected shape .*35"),
        ("audio", [np.zeros((50, 74)), np.zeros((49, 74))], "test/audio: the rows differ in shape"),
        ("text", None, "test/text: expected numbers"),
        ("audio", np.ones((2, 400, 74)), "test, row 0: the numbers of steps differ, so words are not aligned"),
        ("id", np.array([["trainvid", "0.5", "0.9"]] * 2), "'trainvid_0.5_0.9' is in both train and test"),
    ],
)
def test_a_broken_multibench_file_is_named_with_its_key(tmp_path: Path, key: str, value: object, words: str) -> None:
    payload = multibench()
    payload["test"][key] = value
    root = dump(tmp_path / "r" / "mosei_senti_data.pkl", payload)
    with pytest.raises(DatasetError, match=words):
        datasets.load("cmu_mosei", root)
    assert not datasets.verify("cmu_mosei", root).usable


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("vision_lengths", [501, 1], "valid, row 0: vision_lengths is 501, expected .* 0 to 500"),
        ("vision_lengths", [3, 3], "valid, row 0: vision_lengths is 3, but steps outside"),
        ("audio_lengths", [6, "x"], "valid, row 1: audio_lengths is x"),
        ("audio_lengths", [6], "valid: the numbers of samples differ"),
        ("text_bert", np.zeros((2, 3, 40)), r"valid/text_bert: has shape \(2, 3, 40\), expected \(n, 3, 50\)"),
        ("raw_text", "words", "valid/raw_text: expected a list, found str"),
    ],
)
def test_a_broken_mmsa_file_is_named_with_its_key(tmp_path: Path, key: str, value: object, words: str) -> None:
    payload = mmsa(aligned=False)
    payload["valid"][key] = value
    with pytest.raises(DatasetError, match=words):
        datasets.load("cmu_mosei", dump(tmp_path / "r" / "unaligned_50.pkl", payload))


def test_a_missing_key_names_what_is_there(tmp_path: Path) -> None:
    payload = mmsa(aligned=True)
    del payload["test"]["regression_labels"]
    with pytest.raises(DatasetError, match=r"aligned_50\.pkl, test: no key 'regression_labels', it has 'raw_text'"):
        datasets.load("cmu_mosei", dump(tmp_path / "r" / "aligned_50.pkl", payload))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["mosei_senti_data.pkl", "aligned_50.pkl", "unaligned_50.pkl"]))
def test_any_bytes_give_an_error_that_names_the_file(tmp_path: Path, data: bytes, name: str) -> None:
    root = tmp_path / name
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(data)
    with pytest.raises(DatasetError, match=name):
        datasets.load("cmu_mosei", root)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_padding_at_either_end_does_not_change_a_sample(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for length in lengths:
        true = rng.normal(size=(length, 3))
        front, back = rng.integers(0, 5, 2)
        stream = np.pad(true, ((front, back), (0, 0)))
        np.testing.assert_array_equal(cut_together({"audio": stream})["audio"], true)
