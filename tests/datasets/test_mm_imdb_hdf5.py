"""MM-IMDb as one HDF5 file: the release's shape with most rows never written, so that the file stays small."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmwa_utils import datasets
from mmwa_utils.datasets import DatasetError
from mmwa_utils.datasets._mm_imdb_spec import GENRES
from mmwa_utils.datasets.collate import Collator
from mmwa_utils.datasets.processing import Processor

N = 25959


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "h"
    root.mkdir()
    with h5py.File(root / "multimodal_imdb.hdf5", "w") as file:
        images = file.create_dataset("images", (N, 3, 256, 160), "i4", chunks=(1, 3, 256, 160))
        images[15552, 0] = 200
        features = file.create_dataset("features", (N, 300), "f4", chunks=(64, 300))
        features[15552] = np.arange(300)
        file.create_dataset("vgg_features", (N, 4096), "f4", chunks=(8, 4096))
        genres = np.zeros((N, 23), dtype="i4")
        genres[15552, 0] = 1
        file["genres"] = genres
        file["genres"].attrs["target_names"] = json.dumps(list(reversed(GENRES)))  # the file has its own order
        file["imdb_ids"] = np.array([f"{n:07d}" for n in range(N)], dtype="S7")
    return root


def test_the_file_is_split_where_the_release_splits_it(release: Path) -> None:
    splits = datasets.load("mm_imdb", release)
    assert {name: len(split) for name, split in splits.items()} == {"train": 15552, "val": 2608, "test": 7799}
    assert [splits[name].ids()[0] for name in splits] == ["0000000", "0015552", "0018160"]
    sample = splits["val"][0]
    assert sample.modalities["image"].getpixel((0, 0)) == (200, 0, 0)
    assert sample.modalities["image"].size == (160, 256)
    np.testing.assert_array_equal(sample.modalities["text"], np.arange(300, dtype="f4")[None])
    assert [GENRES[index] for index in np.flatnonzero(sample.label)] == [GENRES[-1]]
    assert pickle.loads(pickle.dumps(splits["val"]))[0].id == sample.id
    assert "DIFFERS" not in str(datasets.verify("mm_imdb", release))


def test_its_plot_is_a_stream_of_one_step(release: Path, processor: Processor) -> None:
    split = datasets.open_split("mm_imdb", release, "val")
    batch = Collator(split.spec, processor)([split[0], split[1]])
    assert batch.modalities["text"].values.shape == (2, 1, 300)
    assert batch.modalities["image"].values.shape[:2] == (2, 3)


def _change(root: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(root / "multimodal_imdb.hdf5", "r+") as file:
        change(file)


def _replace(name: str, **options: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return change


def _link(file: h5py.File) -> None:
    del file["features"]
    file["features"] = h5py.ExternalLink("/etc/passwd", "/x")


def _external(file: h5py.File) -> None:
    del file["features"]
    file.create_dataset("features", (N, 300), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.__delitem__("imdb_ids"), "dataset 'imdb_ids': expected a dataset"),
        (_replace("features", shape=(10, 300), dtype="f4"), r"dataset 'features': has shape \(10, 300\)"),
        (_replace("imdb_ids", shape=(N,), dtype="i4"), "dataset 'imdb_ids': has shape"),
        (_link, "dataset 'features': expected a dataset of this file"),
        (_external, "dataset 'features': refers to another file"),
        (lambda file: file["genres"].attrs.__delitem__("target_names"), "'target_names' of 'genres': expected a list"),
        (lambda file: file["genres"].attrs.__setitem__("target_names", '["Drama"]'), "lacks Action"),
        (lambda file: file["genres"].attrs.__setitem__("target_names", "["), "is not JSON"),
        (lambda file: file["genres"].__setitem__((15552, 1), 7), "dataset 'genres': expected 0 and 1 only"),
    ],
)
def test_a_bad_file_is_an_error_that_names_the_key(release: Path, change: Callable, message: str) -> None:
    _change(release, change)
    with pytest.raises(DatasetError, match=rf"multimodal_imdb\.hdf5, .*{message}"):
        datasets.open_split("mm_imdb", release, "val")
    assert not datasets.verify("mm_imdb", release).usable


def test_bad_rows_are_errors_that_name_them(release: Path) -> None:
    _change(release, lambda file: file["images"].__setitem__((15552, 1), 300))
    with pytest.raises(DatasetError, match="images, row 15552: a pixel lies outside"):
        datasets.open_split("mm_imdb", release, "val")[0]
    _change(release, lambda file: file["features"].__setitem__((15553, 1), np.nan))
    with pytest.raises(DatasetError, match="features, row 15553: a number is not finite"):
        datasets.open_split("mm_imdb", release, "val")[1]


@given(content=st.binary(max_size=200))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "multimodal_imdb.hdf5").write_bytes(content)
    with pytest.raises(DatasetError, match="is not a readable HDF5 file"):
        datasets.open_split("mm_imdb", tmp_path, "train")
