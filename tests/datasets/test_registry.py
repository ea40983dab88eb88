"""The registry keeps every dataset module to one protocol, and the command line to honest exit codes."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import standins
from mmwa_utils import datasets
from mmwa_utils.cli.data import app
from mmwa_utils.datasets import Dataset, DatasetError, Report, module
from mmwa_utils.datasets._files import MARKER
from mmwa_utils.types import DatasetSpec, Sample, Split


@pytest.mark.parametrize("name", datasets.names())
def test_every_module_offers_the_protocol(name: str) -> None:
    offered = module(name)
    assert isinstance(offered, Dataset)
    assert isinstance(offered.SPEC, DatasetSpec)
    assert offered.SPEC.name == name
    assert offered.SPLITS[:3] == ("train", "val", "test")
    assert "icence" in datasets.where(name)


@pytest.mark.parametrize("name", datasets.names())
def test_every_split_is_a_split(name: str, tmp_path: Path) -> None:
    root = None if name in datasets.BUNDLED else standins.write(name, tmp_path / name, samples=40, seed=1)
    splits = datasets.load(name, root)
    for split_name, split in splits.items():
        assert isinstance(split, Split)
        assert (split.name, split.spec.name, split.standin) == (split_name, name, name not in datasets.BUNDLED)
        assert len(split) == len(split.ids()) == len(split.labels()) > 0
        assert len(set(split.ids())) == len(split)
        sample = pickle.loads(pickle.dumps(split))[0]
        assert isinstance(sample, Sample)
        assert set(sample.modalities) | sample.absent == set(split.spec.modality_names)
        assert np.array_equal(sample.label, split.labels()[0])
        assert pickle.loads(pickle.dumps(split)).fingerprint == split.fingerprint
    assert len({split.fingerprint for split in splits.values()}) == 3
    groups = [{sample.group or sample.id for sample in split} for split in splits.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    if root is not None:
        assert datasets.verify(name, root).usable


def test_unknown_names_are_errors() -> None:
    with pytest.raises(KeyError, match="there is no dataset 'imagenet'; there are cmu_mosei"):
        datasets.load("imagenet", "x")
    with pytest.raises(KeyError, match="has no split 'dev'"):
        datasets.open_split("digits", None, "dev")
    with pytest.raises(DatasetError, match=r"needs data_root.*mmwa data where mm_imdb"):
        datasets.load("mm_imdb")


def test_a_report_counts_everything_and_names_the_first() -> None:
    report = Report("toy", Path("data"), layout="files")
    report.count("rows", 7, expected=8)
    for number in range(9):
        report.problem("odd file", f"f{number}", fatal=False)
    assert report.usable
    assert len(report.problems["odd file"]) == 9
    text = str(report)
    assert "DIFFERS" in text
    assert "f4" in text
    assert "f5" not in text
    assert "and 4 more" in text
    report.problem("no labels", "g", fatal=True)
    assert not report.usable
    assert str(report).index("ERROR: no labels") < str(report).index("warning: odd file")
    assert "NOT usable" in str(report)
    assert not Report("toy", Path("data"), layout=None).usable


def test_nobody_expects_the_releases_numbers_of_a_standin() -> None:
    report = Report("toy", Path("data"), layout="files", standin=True)
    report.count("rows", 7, expected=8)
    assert report.counts == {"rows": (7, None)}


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_the_command_writes_describes_and_verifies(tmp_path: Path) -> None:
    root = str(tmp_path / "data")
    assert _run("standin", "cmu_mosei", root, "--samples", "60", "--seed", "2")[0] == 0
    code, text = _run("verify", "cmu_mosei", root)
    assert (code, "a stand-in in the layout" in text) == (0, True)
    code, text = _run("describe", "cmu_mosei", root)
    assert code == 0
    for word in ("text", "vision", "audio", "train", "val", "test", "absent in"):
        assert word in text
    code, text = _run("standin", "cmu_mosei", root, "--samples", "61")
    assert (code, "holds something other" in text) == (1, True)


def test_the_command_fails_where_data_cannot_be_used(tmp_path: Path) -> None:
    assert _run("verify", "hateful_memes", str(tmp_path))[0] == 1
    assert _run("verify", "hateful_memes", str(tmp_path / "nowhere"))[0] == 1
    assert _run("describe", "mm_imdb", str(tmp_path))[0] == 1
    assert _run("verify", "imagenet", str(tmp_path))[0] == 2
    code, text = _run("where", "medfuse")
    assert (code, "MIMIC" in text) == (0, True)
    assert _run("describe", "digits")[0] == 0


class _Harmful:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("created",)


def test_the_command_converts_and_never_executes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = standins.write("cmu_mosei", tmp_path / "data", samples=60, seed=2)
    code, text = _run("convert", "cmu_mosei", str(root))
    assert code == 0
    assert all(Path(line).is_file() for line in text.split())
    before = datasets.open_split("cmu_mosei", root, "val")[0]
    assert before.id
    assert "nothing to convert" in _run("convert", "hateful_memes", str(tmp_path))[1]
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "mosei_senti_data.pkl").write_bytes(pickle.dumps(_Harmful()))
    code, text = _run("convert", "cmu_mosei", str(bad))
    assert (code, "nothing was executed" in text) == (1, True)
    assert _run("verify", "cmu_mosei", str(bad))[0] == 1
    assert not (tmp_path / "created").exists()


def test_a_small_standin_is_decoded_once_and_a_release_every_time(tmp_path: Path) -> None:
    # A stand-in's epochs read the same few samples again and again; a release would fill the memory.
    root = standins.write("hateful_memes", tmp_path / "memes", samples=40, seed=1)
    standin = datasets.open_split("hateful_memes", root, "train")
    (root / MARKER).unlink()
    release = datasets.open_split("hateful_memes", root, "train")
    assert standin[0].modalities["image"] == release[0].modalities["image"]
    for picture in (root / "img").iterdir():
        picture.unlink()
    assert standin[0] is standin[-len(standin)]
    for forgetful in (release, pickle.loads(pickle.dumps(standin))):
        with pytest.raises(DatasetError, match=r"\.png"):
            forgetful[0]
