"""UR-FUNNY: both layouts, written here by hand and not by the stand-in's writer, and what is done to broken ones."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import standins
from mmwa_utils import datasets
from mmwa_utils.datasets import DatasetError, ur_funny

LENGTHS = {"train": [3, 5, 1], "valid": [2, 4], "test": [6]}
PADDED = 7


class Harmful:
    """A pickle of this creates a file when it is loaded naively."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def dump(path: Path, value: object, protocol: int = 4) -> None:
    path.write_bytes(pickle.dumps(value, protocol=protocol))


def padded(true: list[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(true), PADDED, true[0].shape[1]))
    for row, array in zip(out, true, strict=True):
        row[PADDED - len(array) :] = array
    return out


@pytest.fixture
def truth() -> dict[str, dict[str, list[np.ndarray]]]:
    rng = np.random.default_rng(0)
    widths = {"vision": 371, "audio": 81, "text": 300}
    return {s: {n: [rng.normal(size=(t, w)) for t in ts] for n, w in widths.items()} for s, ts in LENGTHS.items()}


def humor(truth: dict) -> dict:
    payload, first = {}, 100
    for split, streams in truth.items():
        n = len(LENGTHS[split])
        payload[split] = {name: padded(true) for name, true in streams.items()}
        payload[split] |= {"labels": np.arange(n)[:, None] % 2, "id": np.arange(first, first + n)}
        first += n
    return payload


def write(root: Path, payload: dict, protocol: int = 4) -> Path:
    root.mkdir(exist_ok=True)
    dump(root / "humor.pkl", payload, protocol)
    return root


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_multibench_is_read_exactly_and_without_its_padding(tmp_path: Path, truth: dict, protocol: int) -> None:
    splits = datasets.load("ur_funny", write(tmp_path / "r", humor(truth), protocol))
    for ours, theirs in {"train": "train", "val": "valid", "test": "test"}.items():
        split = splits[ours]
        assert len(split) == len(LENGTHS[theirs])
        assert split.labels().tolist() == [i % 2 for i in range(len(split))]
        for i, sample in enumerate(split):
            assert (sample.id, sample.label, sample.absent) == (split.ids()[i], i % 2, frozenset())
            for name in ("text", "vision", "audio"):
                np.testing.assert_array_equal(sample.modalities[name], truth[theirs][name][i].astype(np.float32))
    assert [m.max_length for m in splits["train"].spec.modalities] == [6, 6, 6]
    assert splits["train"].ids() == ["100", "101", "102"]
    assert not splits["train"].standin


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 1, 1)])
def test_labels_of_any_usual_shape(tmp_path: Path, truth: dict, shape: tuple[int, ...]) -> None:
    payload = humor(truth)
    for part in payload.values():
        part["labels"] = part["labels"].reshape(shape).astype(float)
    assert datasets.load("ur_funny", write(tmp_path / "r", payload))["train"].labels().tolist() == [0, 1, 0]


def test_silence_inside_stays_and_all_modalities_are_cut_together(tmp_path: Path, truth: dict) -> None:
    payload = humor(truth)
    payload["train"]["audio"][0, -3:-1] = 0.0  # the first two of three words are silent
    payload["train"]["vision"][1] = 0.0  # no face was found
    sample, faceless, _ = datasets.load("ur_funny", write(tmp_path / "r", payload))["train"]
    assert [len(sample.modalities[name]) for name in ("text", "vision", "audio")] == [3, 3, 3]
    assert faceless.absent == {"vision"}
    assert set(faceless.modalities) == {"text", "audio"}


def test_infinite_audio_becomes_zero_and_is_counted(tmp_path: Path, truth: dict) -> None:
    payload = humor(truth)
    payload["train"]["audio"][1, -2, 5:9] = -np.inf
    payload["test"]["vision"][0, -1, 0] = np.nan
    root = write(tmp_path / "r", payload)
    stream = datasets.load("ur_funny", root)["train"][1].modalities["audio"]
    np.testing.assert_array_equal(stream[3, 5:9], 0.0)
    assert np.isfinite(stream).all()
    counts = {what: found for what, (found, _) in datasets.verify("ur_funny", root).counts.items()}
    assert counts["train: repaired, audio: non-finite value"] == 4
    assert counts["test: repaired, vision: non-finite value"] == 1


# The release's own pickles.

FOLDS = {"train": ["a", "b"], "dev": ["c"], "test": ["d"]}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    root = tmp_path / "own"
    root.mkdir()
    words = rng.normal(size=(20, 300)).tolist()
    language, features = {}, {"openface": {}, "covarep": {}}
    for key in "abcd":
        context, punchline = [[3, 4], [5]], [6, 7, 8]
        language[key] = {
            "punchline_embedding_indexes": punchline,
            "context_embedding_indexes": [] if key == "b" else context,
            "punchline_sentence": ["w6", "w7", "w8"],
            "context_sentences": [],
        }
        for name, width in (("openface", 371), ("covarep", 81)):
            features[name][key] = {
                "punchline_features": np.full((3, width), 9.0),
                "context_features": [] if key == "b" else [np.full((2, width), 1.0).tolist(), np.full((1, width), 2.0)],
            }
    dump(root / "data_folds.pkl", FOLDS)
    dump(root / "language_sdk.pkl", language)
    dump(root / "word_embedding_list.pkl", words)
    dump(root / "openface_features_sdk.pkl", features["openface"])
    dump(root / "covarep_features_sdk.pkl", features["covarep"])
    dump(root / "humor_label_sdk.pkl", {"a": 1, "b": 0, "c": np.int64(1), "d": 0})
    return root


def test_the_release_s_own_pickles_give_context_then_punchline(own: Path) -> None:
    splits = datasets.load("ur_funny", own)
    with (own / "word_embedding_list.pkl").open("rb") as file:
        words = np.asarray(pickle.load(file), dtype=np.float32)
    first, second = splits["train"]
    np.testing.assert_array_equal(first.modalities["text"], words[[3, 4, 5, 6, 7, 8]])
    np.testing.assert_array_equal(first.modalities["vision"][:, 0], [1, 1, 2, 9, 9, 9])
    np.testing.assert_array_equal(second.modalities["text"], words[[6, 7, 8]])
    assert first.modalities["audio"].shape == (6, 81)
    assert [splits[split].ids() for split in ("train", "val", "test")] == [["a", "b"], ["c"], ["d"]]
    assert splits["train"].labels().tolist() == [1, 0]
    punchline = datasets.load("ur_funny", own, part="punchline")["train"][0]
    np.testing.assert_array_equal(punchline.modalities["text"], words[[6, 7, 8]])
    assert datasets.verify("ur_funny", own).layout == "the release's own pickles"
    with pytest.raises(ValueError, match=r"part\n.*'all' or 'punchline'"):
        datasets.load("ur_funny", own, part="context")


def change(path: Path, edit) -> None:
    with path.open("rb") as file:
        value = pickle.load(file)
    dump(path, edit(value))


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        ("language_sdk.pkl", lambda v: {k: v[k] for k in "abd"}, "language_sdk.pkl.*'c'"),
        ("language_sdk.pkl", lambda v: v | {"a": {}}, r"language_sdk.pkl, \['a'\].*punchline_embedding_indexes"),
        ("language_sdk.pkl", lambda v: v | {"a": {**v["a"], "punchline_embedding_indexes": [99]}}, "'a'.*0 to 19"),
        ("covarep_features_sdk.pkl", lambda v: v | {"d": {**v["d"], "punchline_features": [[1.0]]}}, "'d'.*81"),
        ("openface_features_sdk.pkl", lambda v: v | {"d": {**v["d"], "context_features": [[[1.0], [1, 2]]]}}, "'d'"),
        ("humor_label_sdk.pkl", lambda v: v | {"b": 2}, r"humor_label_sdk.pkl, \['b'\].*2.*0 or 1"),
        ("humor_label_sdk.pkl", lambda v: {"a": 1}, "humor_label_sdk.pkl.*'b'.*no label"),
        ("data_folds.pkl", lambda v: v | {"dev": ["a"]}, "'a' is in both train and val"),
        ("data_folds.pkl", lambda v: {"train": ["a"]}, "data_folds.pkl.*'dev'"),
        ("data_folds.pkl", lambda v: v | {"test": []}, "test.*no sample"),
        ("word_embedding_list.pkl", lambda v: [*v[:-1], [1.0]], "word_embedding_list.pkl"),
    ],
)
def test_a_broken_own_release_is_named_with_file_and_key(own: Path, file: str, edit, words: str) -> None:
    change(own / file, edit)
    with pytest.raises(DatasetError, match=words):
        datasets.load("ur_funny", own)
    report = datasets.verify("ur_funny", own)
    assert not report.usable
    assert "ERROR" in str(report)


def test_an_id_that_a_fold_lists_twice_counts_once(own: Path) -> None:
    change(own / "data_folds.pkl", lambda v: v | {"train": ["a", "b", "a"]})
    assert datasets.load("ur_funny", own)["train"].ids() == ["a", "b"]
    assert "id listed twice" in str(datasets.verify("ur_funny", own))


# Broken files of MultiBench's layout.


def _with(split: str, key: str, value: object):
    return lambda p: p | {split: {**p[split], key: value}}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda p: {"train": p["train"]}, "humor.pkl: no key 'valid', 'test'.*'train'"),
        (lambda p: [1, 2], "humor.pkl: expected a dictionary, found list"),
        (lambda p: p | {"valid": {}}, "humor.pkl, valid: no key 'text'"),
        (_with("train", "vision", np.zeros((3, 7, 75))), r"train/vision: has shape \(3, 7, 75\).*371"),
        (_with("train", "vision", [np.zeros((2, 371)), np.zeros((3, 371))]), "train/vision: the rows differ"),
        (_with("test", "text", np.array([["a"]])), "test/text: expected numbers, found text"),
        (_with("test", "audio", np.zeros((2, 7, 81))), "test: the numbers of samples differ: .*audio 2"),
        (_with("test", "labels", np.array([[0.5]])), "test, row 0: the label is 0.5"),
        (_with("test", "labels", np.array([[np.nan]])), "test, row 0: the label is nan"),
        (_with("test", "labels", np.array([[0, 1]])), r"test/labels.*\(1, 2\)"),
        (_with("test", "id", 7), "test/id: expected a list, found int"),
        (_with("valid", "id", np.array([100, 500])), "'100' is in both train and val"),
    ],
)
def test_a_broken_multibench_file_is_named_with_its_key(tmp_path: Path, truth: dict, edit, words: str) -> None:
    root = write(tmp_path / "r", edit(humor(truth)))
    with pytest.raises(DatasetError, match=words):
        datasets.load("ur_funny", root)
    assert not datasets.verify("ur_funny", root).usable


def test_duplicated_ids_are_numbered_and_counted(tmp_path: Path, truth: dict) -> None:
    root = write(tmp_path / "r", _with("train", "id", np.array([b"x", b"y", b"x"]))(humor(truth)))
    assert datasets.load("ur_funny", root)["train"].ids() == ["x", "y", "x#2"]
    assert "duplicated id" in str(datasets.verify("ur_funny", root))


@pytest.mark.parametrize("name", ["humor.pkl", "data_folds.pkl", "language_sdk.pkl", "covarep_features_sdk.pkl"])
def test_a_harmful_pickle_is_refused_and_not_executed(tmp_path: Path, own: Path, name: str) -> None:
    target = tmp_path / "harm"
    dump(own / name, {"train": Harmful(target)})
    with pytest.raises(DatasetError, match=rf"{name}.*refused.*posix.mkdir"):
        datasets.load("ur_funny", own)
    assert not target.exists()


def test_an_empty_folder_says_what_lacks(tmp_path: Path) -> None:
    assert ur_funny.recognise(tmp_path) is None
    with pytest.raises(DatasetError, match=r"humor\.pkl.*data_folds\.pkl.*mmwa data where"):
        datasets.load("ur_funny", tmp_path)
    assert not datasets.verify("ur_funny", tmp_path).usable


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=400)
    | st.builds(lambda cut: pickle.dumps({"train": {"text": np.ones(9)}})[:cut], st.integers(0, 250))
)
def test_any_bytes_give_an_error_that_names_the_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "humor.pkl").write_bytes(data)
    with pytest.raises(DatasetError, match=r"humor\.pkl"):
        datasets.load("ur_funny", tmp_path)


plain = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=4) | st.just(np.zeros((2, 3, 300))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "id", "labels"]), inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["vision", "audio", "text", "labels", "id"]), plain)
def test_any_value_at_a_key_gives_an_error_or_samples(tmp_path: Path, key: str, value: object) -> None:
    streams = {name: np.ones((2, 3, width)) for name, width in ur_funny.WIDTHS.items()}
    payload = {s: {**streams, "labels": [0, 1], "id": [s + "0", s + "1"]} for s in ("train", "valid", "test")}
    payload["test"][key] = value
    dump(tmp_path / "humor.pkl", payload)
    try:
        split = datasets.load("ur_funny", tmp_path)["test"]
    except DatasetError as error:
        assert "humor.pkl" in str(error)  # noqa: PT017 — both outcomes are allowed, an error must name the file
    else:
        assert len([sample.modalities for sample in split]) == 2


# The converted copy.


def test_a_pickle_is_read_once_and_again_only_when_it_changes(tmp_path: Path, truth: dict, monkeypatch) -> None:
    root = write(tmp_path / "r", humor(truth))
    first = datasets.load("ur_funny", root)["train"]
    calls = []
    real = ur_funny._unpickle.load
    monkeypatch.setattr(ur_funny._unpickle, "load", lambda path: calls.append(path) or real(path))
    again = datasets.load("ur_funny", root)["train"]
    assert calls == []
    assert again.fingerprint == first.fingerprint
    os.utime(root / "humor.pkl", ns=(1, 1))  # touched, not changed: its SHA-256 still matches
    datasets.load("ur_funny", root)
    assert calls == []
    payload = humor(truth)
    payload["train"]["text"][0, -1, 0] += 1.0
    write(root, payload)
    changed = datasets.load("ur_funny", root)["train"]
    assert len(calls) == 1
    assert changed.fingerprint != first.fingerprint


def test_opening_reads_no_features_and_a_worker_can_open_the_file(tmp_path: Path) -> None:
    standins.write("ur_funny", tmp_path / "s", 300)
    datasets.load("ur_funny", tmp_path / "s")
    tracemalloc.start()
    split = datasets.load("ur_funny", tmp_path / "s")["train"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The training features are about 300 samples x 10 steps x 752 features x 4 bytes = 9 MB.
    assert peak < 1_000_000
    sample = split[5]
    copy = pickle.loads(pickle.dumps(split))
    np.testing.assert_array_equal(copy[5].modalities["vision"], sample.modalities["vision"])
    np.testing.assert_array_equal(split[-1].modalities["text"], split[len(split) - 1].modalities["text"])
    with pytest.raises(IndexError):
        split[len(split)]


def test_a_folder_that_cannot_be_written_is_converted_elsewhere(tmp_path: Path, truth: dict, monkeypatch) -> None:
    root = write(tmp_path / "r", humor(truth))
    monkeypatch.setattr("mmwa_utils.datasets._sequence_store.os.access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(datasets.load("ur_funny", root)["train"]) == 3
    assert sorted(path.name for path in root.iterdir()) == ["humor.pkl"]


def test_a_damaged_copy_is_an_error_that_says_how_to_mend_it(tmp_path: Path, truth: dict) -> None:
    root = write(tmp_path / "r", humor(truth))
    for path in datasets.convert("ur_funny", root):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match="Delete the folder"):
        datasets.load("ur_funny", root)
