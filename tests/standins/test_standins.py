"""Every stand-in: the same bytes for the same seed, in a folder of its own, and no truth claimed of a release."""

from pathlib import Path

import pytest

import standins
from mmwa_utils.datasets import DatasetError
from standins.marker import VERSION


def contents(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dataset", standins.STANDINS)
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(dataset: str, tmp_path: Path) -> None:
    first = contents(standins.write(dataset, tmp_path / "a", 30, seed=5))
    assert first == contents(standins.write(dataset, tmp_path / "b", 30, seed=5))
    marker = Path("standin.json")
    other = contents(standins.write(dataset, tmp_path / "c", 30, seed=6))
    assert {**first, marker: b""} != {**other, marker: b""}


def test_a_standin_is_not_written_over_something_else(memes: Path, tmp_path: Path) -> None:
    before = (memes / "train.jsonl").stat().st_mtime_ns
    assert standins.write("hateful_memes", memes, samples=240, seed=3) == memes
    assert (memes / "train.jsonl").stat().st_mtime_ns == before
    with pytest.raises(DatasetError, match="holds something other"):
        standins.write("hateful_memes", memes, samples=240, seed=4)
    with pytest.raises(DatasetError, match="holds something other"):
        standins.write("hateful_memes", memes, samples=241, seed=3)
    with pytest.raises(DatasetError, match="is not a stand-in"):
        standins.correspondence(tmp_path, "00001")
    with pytest.raises(DatasetError, match="is not a stand-in"):
        standins.draws(tmp_path, "train")


def test_what_has_no_standin_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="'digits' has no stand-in and no story; there are cmu_mosei"):
        standins.write("digits", tmp_path, 10)
    with pytest.raises(KeyError, match="no story"):
        standins.story("digits")
    root = standins.write("medfuse", tmp_path / "medfuse", 20)
    with pytest.raises(KeyError, match="no known correspondence"):
        standins.correspondence(root, "1")


def test_a_marker_that_names_no_standin_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "standin.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"standin\.json: expected the keys dataset, samples"):
        standins.draws(tmp_path, "train")


def test_the_cache_writes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMWA_BUILD", str(tmp_path))
    first = standins.cached("cmu_mosei", 30, 1)
    assert first == tmp_path / "standins" / f"cmu_mosei-30-1-v{VERSION}"
    written = contents(first)
    (first / "mosei_senti_data.pkl").touch()
    assert contents(standins.cached("cmu_mosei", 30, 1)) == written
    assert sorted(path.name for path in first.parent.iterdir()) == [first.name, f"{first.name}.lock"]
