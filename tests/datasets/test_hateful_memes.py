"""Hateful Memes: the release's layout written here by hand, and every trap of the format."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmwa_utils import datasets
from mmwa_utils.datasets import DatasetError, hateful_memes

quiet = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _record(number: int, **changes: object) -> dict:
    return {"id": number, "img": f"img/{number:05d}.png", "label": number % 2, "text": f"text {number}", **changes}


def _write(root: Path, *, train: list[dict] | None = None) -> Path:
    (root / "img").mkdir(parents=True)
    splits = {
        "train": train if train is not None else [_record(n) for n in (2345, 16, 17)],
        "dev_seen": [_record(101), _record(102)],
        "test_seen": [_record(201)],
        "dev_unseen": [_record(301)],
        "test_unseen": [_record(401)],
    }
    for name, records in splits.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        for record in records:
            target = root / "img" / Path(str(record.get("img", "x"))).name
            Image.new("RGB", (12, 8), (int(str(record["id"])) % 256, 0, 0)).save(target)
    return root


def test_the_release_is_read_sample_by_sample(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    splits = datasets.load("hateful_memes", root)
    assert {name: len(split) for name, split in splits.items()} == {"train": 3, "val": 2, "test": 1}
    sample = splits["train"][1]
    assert (sample.id, sample.label, sample.modalities["text"]) == ("00016", 0, "text 16")
    assert sample.modalities["image"].size == (12, 8)
    assert sample.modalities["image"].getpixel((0, 0)) == (16, 0, 0)
    assert splits["train"].labels().tolist() == [1, 0, 1]
    assert not splits["train"].standin
    assert len(datasets.open_split("hateful_memes", root, "test_unseen")) == 1


def test_opening_reads_no_picture(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    (root / "img" / "00016.png").write_bytes(b"broken")
    split = datasets.open_split("hateful_memes", root, "train")
    assert split[0].id == "02345"
    with pytest.raises(DatasetError, match=r"00016\.png: is not a readable image"):
        split[1]


@pytest.mark.parametrize("written", [345, "345", "00345"])
@pytest.mark.parametrize("named", ["img/345.png", "img/00345.png"])
@pytest.mark.parametrize("stored", ["345.png", "00345.png"])
def test_padded_and_unpadded_ids_are_the_same_meme(tmp_path: Path, written: object, named: str, stored: str) -> None:
    root = _write(tmp_path / "d", train=[_record(345, id=written, img=named)])
    source = next(iter((root / "img").glob("*345.png")))
    source.rename(root / "img" / stored)
    sample = datasets.open_split("hateful_memes", root, "train")[0]
    assert sample.id == "00345"
    assert sample.modalities["image"].getpixel((0, 0))[0] == 345 % 256


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 1', "is not JSON"),
        (json.dumps({"id": 1, "img": "img/1.png", "text": "x"}), "has no 'label'.*test_seen"),
        (json.dumps({"id": 1, "label": 0, "text": "x"}), "expected 'img' as text, found None"),
        (json.dumps(_record(1, text=None)), "expected 'text' as text"),
        (json.dumps(_record(1, id=[1])), "expected 'id' as a number or text"),
        (json.dumps(_record(1, label=2)), "expected the label 0 or 1, found 2"),
        (json.dumps(_record(1, label=True)), "expected the label 0 or 1, found True"),
        (json.dumps(_record(1, label="1")), "expected the label 0 or 1"),
        (json.dumps(_record(16)), "repeats the id 00016 of line 2"),
        (json.dumps(_record(1, id="016")), "repeats the id 00016 of line 2"),
        (json.dumps(_record(1, img="/etc/passwd")), "leaves the dataset's folder"),
        (json.dumps(_record(1, img="img/../../x.png")), "leaves the dataset's folder"),
    ],
)
def test_a_bad_line_is_an_error_that_names_it(tmp_path: Path, line: str, message: str) -> None:
    root = _write(tmp_path / "d")
    with (root / "train.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError, match=rf"train\.jsonl, line 4: .*{message}"):
        datasets.open_split("hateful_memes", root, "train")
    report = datasets.verify("hateful_memes", root)
    assert not report.usable
    assert "line 4" in str(report)


def test_broken_utf8_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    path = root / "train.jsonl"
    path.write_bytes(path.read_bytes().replace(b"text 16", b"text \xff"))
    with pytest.raises(DatasetError, match=r"train\.jsonl, line 2: is not UTF-8"):
        datasets.open_split("hateful_memes", root, "train")


def test_a_picture_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    (tmp_path / "secret.png").write_bytes((root / "img" / "00016.png").read_bytes())
    (root / "img" / "00016.png").unlink()
    (root / "img" / "00016.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DatasetError, match=r"line 2: the link .* outside the folder"):
        datasets.open_split("hateful_memes", root, "train")


def test_missing_pictures_stop_or_are_absent(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    (root / "img" / "00016.png").unlink()
    with pytest.raises(DatasetError, match="1 of 3 pictures are missing, first of id 00016"):
        datasets.open_split("hateful_memes", root, "train")
    split = datasets.open_split("hateful_memes", root, "train", missing_images="absent")
    assert [sample.absent for sample in split] == [frozenset(), frozenset({"image"}), frozenset()]
    assert "image" not in split[1].modalities
    report = datasets.verify("hateful_memes", root)
    assert report.usable
    assert report.problems == {"missing picture": ["train.jsonl: id 00016"]}


def test_verify_counts_against_the_release_and_lists_the_first_bad_files(tmp_path: Path) -> None:
    root = _write(tmp_path / "d", train=[_record(n) for n in range(1, 10)])
    for number in range(1, 9):
        (root / "img" / f"{number:05d}.png").write_bytes(b"")
    report = datasets.verify("hateful_memes", root)
    assert report.counts["train.jsonl"] == (9, 8500)
    assert report.counts["train.jsonl: hateful"] == (5, None)
    assert {kind: len(places) for kind, places in report.problems.items()} == {"unreadable picture": 8}
    assert "and 3 more" in str(report)


def test_verify_finds_an_id_in_two_splits(tmp_path: Path) -> None:
    root = _write(tmp_path / "d", train=[_record(101)])
    report = datasets.verify("hateful_memes", root)
    assert not report.usable
    assert "id in two splits" in str(report)


def test_a_folder_without_the_files_is_not_recognised(tmp_path: Path) -> None:
    assert hateful_memes.recognise(tmp_path) is None
    assert not datasets.verify("hateful_memes", tmp_path).usable
    with pytest.raises(DatasetError, match=r"train\.jsonl: cannot be read.*mmwa data where"):
        datasets.load("hateful_memes", tmp_path)
    with pytest.raises(DatasetError, match="is not a folder"):
        datasets.load("hateful_memes", tmp_path / "nowhere")


def test_the_fingerprint_depends_on_content_and_not_on_the_place(tmp_path: Path) -> None:
    root = _write(tmp_path / "d")
    moved = Path(shutil.copytree(root, tmp_path / "elsewhere"))
    first = datasets.open_split("hateful_memes", root, "train").fingerprint
    assert datasets.open_split("hateful_memes", moved, "train").fingerprint == first
    (moved / "train.jsonl").write_text((moved / "train.jsonl").read_text().replace("text 16", "text 61"))
    assert datasets.open_split("hateful_memes", moved, "train").fingerprint != first


@given(content=st.binary(max_size=300))
@quiet
def test_any_index_gives_samples_or_an_error(tmp_path: Path, data_or_error: Callable, content: bytes) -> None:
    (tmp_path / "train.jsonl").write_bytes(content)
    with data_or_error("train.jsonl"):
        list(hateful_memes.open_split(tmp_path, "train", missing_images="absent"))


@given(
    record=st.fixed_dictionaries(
        {}, optional={k: st.none() | st.integers() | st.text() | st.booleans() for k in ("id", "img", "label", "text")}
    )
)
@quiet
def test_any_record_gives_a_sample_or_an_error(tmp_path: Path, data_or_error: Callable, record: dict) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(record))
    with data_or_error("train.jsonl"):
        list(hateful_memes.open_split(tmp_path, "train", missing_images="absent"))
