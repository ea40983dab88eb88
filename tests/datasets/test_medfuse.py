"""MedFuse: the folder written here by hand, the pairing rule case by case, and what is done to broken files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmwa_utils import datasets
from mmwa_utils.datasets import DatasetError, medfuse

HEADER = (
    "Hours,Capillary refill rate,Diastolic blood pressure,Fraction inspired oxygen,Glascow coma scale eye opening,"
    "Glascow coma scale motor response,Glascow coma scale total,Glascow coma scale verbal response,Glucose,Heart Rate,"
    "Height,Mean blood pressure,Oxygen saturation,Respiratory rate,Systolic blood pressure,Temperature,Weight,pH"
)
TASK = Path("in-hospital-mortality")
STAYS = {"train": [(1, 1, 301, 1), (2, 1, 302, 0)], "val": [(3, 1, 303, 0)], "test": [(4, 1, 304, 0), (4, 2, 305, 1)]}
METADATA = [
    # dicom_id, subject, view, date, time
    ("a", 1, "AP", 21800101, "10000.0"),  # 01:00, not the latest
    ("b", 1, "AP", 21800102, "235900.5"),
    ("c", 1, "AP", 21800103, "0.0"),  # 48 hours to the second: the latest that counts
    ("d", 1, "AP", 21800103, "1.0"),  # one second too late
    ("e", 1, "PA", 21800102, "235959.9"),  # later than b, but the wrong view
    ("f", 2, "PA", 21800101, "120000.0"),
    ("g", 3, "AP", 21800101, "0.0"),  # at the time of admission
    ("h", 4, "AP", 21791231, "235959.0"),  # one second before admission
    ("i", 4, "AP", 21900101, "3014.531"),  # 00:30:14 of the second stay
    ("j", 9, "AP", 21800101, "broken"),  # of somebody without a stay: not looked at
]


def name(subject: int, episode: int) -> str:
    return f"{subject}_episode{episode}_timeseries.csv"


def series(heart_rate: float) -> str:
    cells = {"Hours": "1.5", "Heart Rate": f"{heart_rate}"}
    return HEADER + "\n" + ",".join(cells.get(column, "") for column in HEADER.split(",")) + "\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "medfuse"
    for folder in (TASK / "train", TASK / "test", Path("root"), Path("resized")):
        (root / folder).mkdir(parents=True)
    for split, stays in STAYS.items():
        lines = ["stay,period_length,stay_id,y_true"]
        for subject, episode, stay_id, label in stays:
            folder = root / TASK / ("test" if split == "test" else "train")
            (folder / name(subject, episode)).write_text(series(60 + 10 * subject))
            lines.append(f"{name(subject, episode)},0,{stay_id},{label}")
        (root / TASK / f"{split}_listfile.csv").write_text("\n".join(lines) + "\n")
    rows = ["subject_id,hadm_id,stay_id,intime,outtime"]
    times = {301: "2180-01-01", 302: "2180-01-01", 303: "2180-01-01", 304: "2180-01-01", 305: "2190-01-01"}
    for stays in STAYS.values():
        rows += [f"{subject},0,{stay},{times[stay]} 00:00:00,2199-01-01 00:00:00" for subject, _, stay, _ in stays]
    (root / "root" / "all_stays.csv").write_text("\n".join(rows) + "\n")
    lines = ["dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,StudyDate,StudyTime"]
    for number, (dicom, subject, view, date, time) in enumerate(METADATA):
        lines.append(f'{dicom},{subject},{number},"CHEST, PORTABLE",{view},{date},{time}')
        Image.new("L", (8, 6), 10 * number).save(root / "resized" / f"{dicom}.jpg")
    (root / "mimic-cxr-2.0.0-metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_each_stay_gets_the_latest_ap_xray_of_its_first_48_hours(root: Path) -> None:
    splits = datasets.load("medfuse", root)
    found = {stay.stay_id: stay.dicom_id for split in splits.values() for stay in split.stays}
    assert found == {301: "c", 302: None, 303: "g", 304: None, 305: "i"}
    paired, alone = splits["train"]
    assert paired.modalities["xray"].mode == "RGB"
    assert paired.modalities["xray"].size == (8, 6)
    assert (paired.absent, alone.absent) == (frozenset(), frozenset({"xray"}))
    assert set(alone.modalities) == {"ehr"}


def test_listfiles_labels_and_the_folder_of_the_validation_stays(root: Path) -> None:
    splits = datasets.load("medfuse", root)
    assert {split: splits[split].labels().tolist() for split in splits} == {"train": [1, 0], "val": [0], "test": [0, 1]}
    assert splits["test"].ids() == ["4_episode1", "4_episode2"]
    assert splits["val"][0].modalities["ehr"].shape == (48, 76)  # its file is under train/
    assert splits["test"][0].group == splits["test"][1].group == "4"
    assert not splits["train"].standin


def test_normalisation_comes_from_the_training_stays_alone(root: Path) -> None:
    heart, third = 50, 3  # Heart Rate is column 50, and the fourth continuous one
    splits = datasets.load("medfuse", root)
    # Stays 1 and 2: bin 0 is the normal value 86, the other 47 bins are 70 and 80.
    values = np.array([86.0] + [70.0] * 47 + [86.0] + [80.0] * 47)
    scale = splits["train"].normaliser
    # float64 sums of 96 numbers: equal to rounding
    assert scale.mean[third] == pytest.approx(values.mean(), rel=1e-12)
    assert scale.std[third] == pytest.approx(values.std(ddof=1), rel=1e-12)
    normalised = splits["test"][0].modalities["ehr"][:, heart]
    # float32 arithmetic
    np.testing.assert_allclose(normalised[1:], (100 - values.mean()) / values.std(ddof=1), rtol=1e-5)
    (root / TASK / "test" / name(4, 1)).write_text(series(500))
    np.testing.assert_array_equal(datasets.load("medfuse", root)["train"].normaliser.mean, scale.mean)
    (root / TASK / "train" / name(1, 1)).write_text(series(99))
    assert datasets.load("medfuse", root)["train"].normaliser.mean[3] > scale.mean[third]


def test_statistics_are_computed_once(root: Path, monkeypatch) -> None:
    first = datasets.load("medfuse", root)["train"]
    monkeypatch.setattr(medfuse.Normaliser, "fit", lambda stays: pytest.fail("fitted again"))
    again = datasets.load("medfuse", root)["train"]
    np.testing.assert_array_equal(again.normaliser.std, first.normaliser.std)
    assert again.fingerprint == first.fingerprint


def test_opening_decodes_no_picture_and_a_worker_can_read(root: Path) -> None:
    (root / "resized" / "c.jpg").write_bytes(b"")
    split = datasets.load("medfuse", root)["train"]
    assert pickle.loads(pickle.dumps(split))[1].modalities["ehr"].shape == (48, 76)
    with pytest.raises(DatasetError, match=r"c\.jpg.*empty"):
        split[0]


def test_xrays_may_lie_in_another_folder(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "cxr"
    other.mkdir()
    for part in ("resized", "mimic-cxr-2.0.0-metadata.csv"):
        (root / part).rename(other / part)
    assert datasets.load("medfuse", root, xray_root=other)["train"][0].modalities["xray"].size == (8, 6)
    with pytest.raises(DatasetError, match=r"metadata\.csv: cannot be read"):
        datasets.load("medfuse", root)


def test_a_missing_xray_is_an_error_or_absent_as_asked_for(root: Path) -> None:
    (root / "resized" / "c.jpg").unlink()
    with pytest.raises(DatasetError, match=r"c\.jpg"):
        datasets.load("medfuse", root)["train"][0]
    assert datasets.load("medfuse", root, missing_images="absent")["train"][0].absent == {"xray"}
    report = datasets.verify("medfuse", root)
    assert any("missing X-ray" in kind and len(places) == 1 for kind, places in report.problems.items())


def test_verify_counts_and_names_what_the_paper_used(root: Path) -> None:
    report = datasets.verify("medfuse", root)
    counts = report.counts
    assert counts["train: stays"] == (2, 18845)
    assert counts["test: died"] == (1, 651)
    assert counts["train: without an X-ray"] == (1, None)
    assert report.usable
    assert "18845 / 2138 / 5243" in str(report)


def test_repairs_are_counted(root: Path) -> None:
    listfile = root / TASK / "train_listfile.csv"
    listfile.write_text(listfile.read_text() + f"{name(1, 1)},0,301,1\n")
    edit(root / "root" / "all_stays.csv", "2,0,302,", "2,0,999,")
    edit(root / "mimic-cxr-2.0.0-metadata.csv", "21800101,0.0", "21801341,0.0")
    edit(root / TASK / "test" / name(4, 1), "100", "-inf")
    counts = {what: found for what, (found, _) in datasets.verify("medfuse", root).counts.items()}
    assert counts["repaired, train: stay listed twice"] == 1
    assert counts["repaired, stay not in all_stays.csv, so without an X-ray"] == 1
    assert counts["repaired, mimic-cxr-2.0.0-metadata.csv: X-ray with a broken date left out"] == 1
    assert counts["test: repaired, values not finite or rows out of order"] == 1
    assert datasets.load("medfuse", root)["val"][0].absent == {"xray"}


LIST = TASK / "train_listfile.csv"


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (LIST, "period_length", "period", r"train_listfile\.csv, line 1: the column period_length is missing"),
        (LIST, ",0,301,", ",24,301,", "line 2, period_length: '24', expected 0 .*48"),
        (LIST, ",302,0", ",302,2", "line 3, y_true: '2', expected 0 or 1"),
        (LIST, ",302,0", ",302", "line 3: 3 cells, but the header has 4"),
        (LIST, ",302,", ",x302,", "line 3, stay_id: 'x302', expected a whole number"),
        (LIST, "1_episode1", "../1_episode1", "leaves the dataset's folder"),
        (LIST, "1_episode1", "/etc/1_episode1", "leaves the dataset's folder"),
        (LIST, ",302,", ",303,", r"val_listfile\.csv: the stay 303 is in train_listfile\.csv too"),
        (Path("root/all_stays.csv"), "intime", "in", r"all_stays\.csv, line 1: the column intime is missing"),
        (
            Path("root/all_stays.csv"),
            "2190-01-01 00:00:00",
            "yesterday",
            "line 6, intime: 'yesterday', expected a time",
        ),
        (Path("mimic-cxr-2.0.0-metadata.csv"), "ViewPosition", "View", "line 1: the column ViewPosition is missing"),
        (Path("mimic-cxr-2.0.0-metadata.csv"), "f,2,", "f,two,", "line 7, subject_id: 'two', expected a whole number"),
        (TASK / "train" / name(1, 1), "1.5", "soon", "1_episode1_timeseries.csv, line 2, Hours: 'soon', expected"),
        (TASK / "train" / name(2, 1), "80", "fast", "2_episode1_timeseries.csv, line 2, Heart Rate: 'fast'"),
    ],
)
def test_a_broken_file_is_named_with_line_and_column(root: Path, file: Path, old: str, new: str, words: str) -> None:
    edit(root / file, old, new)
    with pytest.raises(DatasetError, match=words):
        datasets.load("medfuse", root)
    assert not datasets.verify("medfuse", root).usable


@pytest.mark.parametrize("file", [LIST, Path("root/all_stays.csv"), Path("mimic-cxr-2.0.0-metadata.csv")])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe,\n", b"stay\x00,\n", None])
def test_an_empty_binary_or_missing_table_is_named(root: Path, file: Path, data: bytes | None) -> None:
    if data is None:
        (root / file).unlink()
    else:
        (root / file).write_bytes(data)
    with pytest.raises(DatasetError, match=file.name):
        datasets.load("medfuse", root)


def test_a_stay_without_its_time_series_is_named(root: Path) -> None:
    (root / TASK / "test" / name(4, 1)).unlink()
    with pytest.raises(DatasetError, match=r"4_episode1_timeseries\.csv.*Every stay"):
        datasets.load("medfuse", root)["test"][0]
    report = datasets.verify("medfuse", root)
    assert report.fatal == set(report.problems) == {"missing time series"}
    (root / TASK / "train" / name(1, 1)).unlink()
    with pytest.raises(DatasetError, match=r"1_episode1_timeseries\.csv"):
        datasets.load("medfuse", root)


def test_an_xray_s_name_cannot_leave_the_folder(root: Path, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "secret.jpg")
    edit(root / "mimic-cxr-2.0.0-metadata.csv", "\nc,", "\n../../secret,")
    with pytest.raises(DatasetError, match=r"metadata\.csv, line 4, dicom_id: .*leaves the dataset's folder"):
        datasets.load("medfuse", root)
    assert not datasets.verify("medfuse", root).usable


def test_a_patient_in_two_splits_is_reported(root: Path) -> None:
    edit(root / "root" / "all_stays.csv", "3,0,303", "1,0,303")
    assert "patient in two splits" in str(datasets.verify("medfuse", root))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        [LIST, Path("root/all_stays.csv"), Path("mimic-cxr-2.0.0-metadata.csv"), TASK / "train" / name(1, 1)]
    ),
    st.binary(max_size=60),
    st.integers(0, 200),
)
def test_any_bytes_in_a_table_give_an_error_or_samples(root: Path, file: Path, data: bytes, position: int) -> None:
    whole = (root / file).read_bytes()
    (root / file).write_bytes(whole[:position] + data + whole[position:])
    try:
        samples = [sample for split in datasets.load("medfuse", root).values() for sample in split]
    except DatasetError as error:
        assert str(root) in str(error)  # noqa: PT017 — both outcomes are allowed, an error must name the file
    else:
        assert all(np.isfinite(sample.modalities["ehr"]).all() for sample in samples)
    finally:
        (root / file).write_bytes(whole)
