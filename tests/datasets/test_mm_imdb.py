"""MM-IMDb's folder layout written here by hand: several plots per film, genres, and every trap."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmwa_utils import datasets
from mmwa_utils.datasets import DatasetError, mm_imdb
from mmwa_utils.datasets._mm_imdb_spec import DROPPED, EXPECTED, GENRES, ROWS

quiet = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

FILMS = {
    "0000001": (["one", "a much longer plot", "short"], ["Drama", "News"]),
    "0000002": (["only"], ["Film-Noir", "Sci-Fi"]),
    "0000003": (["x", "yy"], ["Adult"]),
    "0000004": (["p", "q"], ["Comedy"]),
    "0000005": (["r"], ["War", "Western"]),
}
SPLITS = {"train": ["0000001", "0000002", "0000003"], "dev": ["0000004"], "test": ["0000005"]}


def _write(root: Path) -> Path:
    (root / "dataset").mkdir(parents=True)
    for film, (plots, genres) in FILMS.items():
        (root / "dataset" / f"{film}.json").write_text(json.dumps({"plot": plots, "genres": genres, "year": 1999}))
        Image.new("RGB", (20, 30), (10 * int(film), 0, 0)).save(root / "dataset" / f"{film}.jpeg")
    (root / "split.json").write_text(json.dumps(SPLITS))
    return root


@pytest.mark.parametrize(
    ("policy", "texts"),
    [
        ("all", ["one", "a much longer plot", "short", "only", "x", "yy"]),
        ("first", ["one", "only", "x"]),
        ("longest", ["a much longer plot", "only", "yy"]),
    ],
)
def test_the_plot_policy_chooses_the_rows(tmp_path: Path, policy: str, texts: list[str]) -> None:
    split = datasets.open_split("mm_imdb", _write(tmp_path / "d"), "train", plot_policy=policy)
    assert [sample.modalities["text"] for sample in split] == texts
    assert len(set(split.ids())) == len(split)
    assert {sample.group for sample in split} == set(SPLITS["train"])  # missingness is drawn for a film, not a plot


def test_rows_of_the_paper_are_plots_of_the_release(tmp_path: Path) -> None:
    """With 'all' a split has as many rows as plots, whatever their number a film; so the paper's counts arise."""
    root = _write(tmp_path / "d")
    for split, films in (("train", "train"), ("val", "dev"), ("test", "test")):
        plots = sum(len(FILMS[film][0]) for film in SPLITS[films])
        assert len(datasets.open_split("mm_imdb", root, split)) == plots
    assert datasets.verify("mm_imdb", root).counts["train: rows, one a plot"] == (6, 32278)
    # the same number of plots a film in every split: the paper's three numbers cannot be films
    ratio = [ROWS[name] / EXPECTED[name] for name in EXPECTED]
    assert max(ratio) - min(ratio) < 0.02
    assert ROWS == {"train": 32278, "val": 5411, "test": 16120}


def test_genres_are_the_23_of_the_literature(tmp_path: Path) -> None:
    split = datasets.open_split("mm_imdb", _write(tmp_path / "d"), "train", plot_policy="first")
    named = [{GENRES[index] for index in np.flatnonzero(row)} for row in split.labels()]
    assert named == [{"Drama"}, {"Film-Noir", "Sci-Fi"}, set()]
    assert len(GENRES) == 23
    assert not set(GENRES) & set(DROPPED)


def test_opening_reads_no_poster(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    (root / "dataset" / "0000002.jpeg").write_bytes(b"broken")
    split = datasets.open_split("mm_imdb", root, "train", plot_policy="first")
    assert split[0].modalities["image"].size == (20, 30)
    with pytest.raises(DatasetError, match=r"0000002\.jpeg: is not a readable image"):
        split[1]
    report = datasets.verify("mm_imdb", root)
    assert [len(places) for places in report.problems.values()] == [1]
    assert "0000002.jpeg" in report.problems["unreadable picture"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"[]", "key 'plot': expected a list of text"),
        (b'{"plot": ["x"]}', "key 'genres': expected a list of text"),
        (b'{"plot": ["x"], "genres": [1]}', "key 'genres': expected a list of text"),
        (b'{"plot": {"a": 1}, "genres": []}', "key 'plot': expected a list of text"),
        (b'{"plot": ["x"], "genres": ["Cooking"]}', "unknown genre 'Cooking'"),
    ],
)
def test_a_bad_film_is_an_error_that_names_file_and_key(tmp_path: Path, content: bytes, message: str) -> None:
    root = _write(tmp_path / "d")
    (root / "dataset" / "0000002.json").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"0000002\.json.*{message}"):
        datasets.open_split("mm_imdb", root, "train")
    assert not datasets.verify("mm_imdb", root).usable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dev": ["0000001"]}, "key 'dev', item 0: repeats film 0000001, already in 'train'"),
        ({"train": ["0000001", "0000001"]}, "repeats film 0000001"),
        ({"test": []}, "key 'test': expected a list"),
        ({"test": "0000005"}, "key 'test': expected a list"),
        ({"test": ["../../../etc"]}, "expected an id of seven digits"),
        ({"test": [5]}, "expected an id of seven digits"),
    ],
)
def test_a_bad_split_file_is_an_error_that_names_the_key(tmp_path: Path, change: dict, message: str) -> None:
    root = _write(tmp_path / "d")
    (root / "split.json").write_text(json.dumps({**SPLITS, **change}))
    with pytest.raises(DatasetError, match=rf"split\.json, .*{message}"):
        datasets.open_split("mm_imdb", root, "train")
    assert not datasets.verify("mm_imdb", root).usable


def test_natural_absence_and_a_missing_poster(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    (root / "dataset" / "0000001.json").write_text(json.dumps({"plot": [], "genres": ["Drama"]}))
    (root / "dataset" / "0000002.jpeg").unlink()
    with pytest.raises(DatasetError, match=r"1 of 3 posters are missing, first 0000002\.jpeg"):
        datasets.open_split("mm_imdb", root, "train")
    split = datasets.open_split("mm_imdb", root, "train", missing_images="absent")
    assert [sample.absent for sample in split][:2] == [frozenset({"text"}), frozenset({"image"})]
    kinds = {kind: len(places) for kind, places in datasets.verify("mm_imdb", root).problems.items()}
    assert kinds == {"missing poster": 1, "film without a plot": 1}


def test_a_film_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    target = root / "dataset" / "0000002.json"
    target.rename(tmp_path / "away.json")
    target.symlink_to(tmp_path / "away.json")
    with pytest.raises(DatasetError, match="outside the folder"):
        datasets.open_split("mm_imdb", root, "train")


@pytest.mark.usefixtures("unchecked")
def test_options_are_checked(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    with pytest.raises(ValueError, match=r"plot_policy\n.*'all', 'first' or 'longest'"):
        datasets.open_split("mm_imdb", root, "train", plot_policy="shortest")
    with pytest.raises(ValueError, match="missing_images"):
        datasets.open_split("mm_imdb", root, "train", missing_images="ignore")
    with pytest.raises(KeyError, match="has no split 'dev'"):
        datasets.open_split("mm_imdb", root, "dev")
    with pytest.raises(DatasetError, match=r"neither split\.json nor multimodal_imdb\.hdf5"):
        datasets.open_split("mm_imdb", tmp_path, "train")


@given(content=st.binary(max_size=200))
@quiet
def test_any_film_gives_samples_or_an_error(
    films: Path, tmp_path: Path, data_or_error: Callable, content: bytes
) -> None:
    root = tmp_path / "d"
    if not root.exists():
        _write(root)
    (root / "dataset" / "0000001.json").write_bytes(content)
    with data_or_error("0000001.json"):
        mm_imdb.open_split(root, "train")
