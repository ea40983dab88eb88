"""MM-IMDb as one HDF5 file: posters as pixels, plots as one vector of 300 numbers, films in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from mmwa_utils.datasets._files import DatasetError, parse_json, stat_bytes
from mmwa_utils.datasets._mm_imdb_spec import EXPECTED, GENRES, SPEC
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._split import IndexedSplit
from mmwa_utils.types import ModalitySpec, Sample

FILE = "multimodal_imdb.hdf5"
LAYOUT = FILE
_BOUNDS = {"train": (0, 15552), "val": (15552, 18160), "test": (18160, 25959)}
_N = sum(EXPECTED.values())
_SHAPES = {"images": (_N, 3, 256, 160), "features": (_N, 300), "genres": (_N, len(GENRES)), "imdb_ids": (_N,)}
_REMEDY = "Fetch the file again."
_PLOT = ModalitySpec("text", "stream", width=300, max_length=1)


class MMIMDbFile(IndexedSplit):
    """One split of the file; a row of pixels and the plot's vector are read when a sample is asked for."""

    def __init__(self, name: str, path: Path, ids: list[str], labels: Int[np.ndarray, "films genres"]) -> None:
        spec = replace(SPEC, modalities=(_PLOT, SPEC.modality("image")))
        super().__init__(name, spec, ids=ids, labels=labels, standin=False)
        self._path, self._first = path, _BOUNDS[name][0]

    def read(self, index: int) -> Sample:
        """Read one film; its plot is a stream of one step."""
        if self._file is None:
            self._file = _open(self._path)
        row = self._first + index
        pixels, vector = self._file["images"][row], np.asarray(self._file["features"][row], dtype=np.float32)
        if pixels.min() < 0 or pixels.max() > 255:
            raise DatasetError(self._path, "a pixel lies outside 0..255.", at=f"images, row {row}")
        if not np.isfinite(vector).all():
            raise DatasetError(self._path, "a number is not finite.", at=f"features, row {row}")
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0).astype(np.uint8)))
        modalities = {"text": vector[None], "image": image}
        return Sample(self._ids[index], self._labels[index], modalities, group=self._ids[index])

    def sources(self) -> Iterator[bytes]:
        """Yield ids and genres, and the file's name and size."""
        yield stat_bytes(self._path)
        yield "".join(self._ids).encode()
        yield self._labels.tobytes()


def open_split(root: Path, split: str) -> MMIMDbFile:
    """Open one of the three contiguous splits; reads ids and genres only."""
    path = root / FILE
    first, last = _BOUNDS[split]
    with _open(path) as file:
        _check_arrays(file, path)
        genres = np.asarray(file["genres"][first:last], dtype=np.int64)[:, _columns(file, path)]
        ids = [value.decode("ascii", errors="replace") for value in file["imdb_ids"][first:last]]
    if not np.isin(genres, (0, 1)).all():
        raise DatasetError(path, "expected 0 and 1 only.", at="dataset 'genres'")
    return MMIMDbFile(split, path, ids, genres)


def check(root: Path, report: Report) -> None:
    """Count films and genres of each split."""
    total = np.zeros(len(GENRES), dtype=np.int64)
    owner: dict[str, str] = {}
    for split in _BOUNDS:
        opened = open_split(root, split)
        report.count(f"{split}: films", len(opened), expected=EXPECTED[split])
        total += opened.labels().sum(axis=0)
        for film in opened.ids():
            if owner.setdefault(film, split) != split:
                report.problem("film in two splits", f"{film} in {owner[film]} and {split}", fatal=True)
    for name, count in zip(GENRES, total, strict=True):
        report.count(f"films of {name}", int(count))
    report.note("This file holds one vector a film and no text: the paper's counts of plots cannot be made from it.")


def _open(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(path, f"is not a readable HDF5 file ({error}).", remedy=_REMEDY) from None


def _check_arrays(file: Any, path: Path) -> None:
    """Raise unless each array has its shape and lies in this file: a link could lead out of the folder."""
    import h5py

    for name, shape in _SHAPES.items():
        at = f"dataset {name!r}"
        if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            raise DatasetError(path, "expected a dataset of this file.", at=at, remedy=_REMEDY)
        data = file[name]
        if data.is_virtual or data.external:
            raise DatasetError(path, "refers to another file.", at=at, remedy=_REMEDY)
        if data.shape != shape or data.dtype.kind not in ("S" if name == "imdb_ids" else "fiu"):
            problem = f"has shape {data.shape} of {data.dtype}, expected {shape}."
            raise DatasetError(path, problem, at=at, remedy=_REMEDY)


def _columns(file: Any, path: Path) -> list[int]:
    """Return the columns of the file's genres in the order of `GENRES`."""
    at = "attribute 'target_names' of 'genres'"
    raw = file["genres"].attrs.get("target_names", "null")
    names = parse_json(raw if isinstance(raw, bytes) else str(raw).encode(), path, at=at)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(path, "expected a list of genre names.", at=at)
    position = {name.lower(): index for index, name in enumerate(names)}
    missing = [name for name in GENRES if name.lower() not in position]
    if missing:
        raise DatasetError(path, f"lacks {', '.join(missing)}.", at=at)
    return [position[name.lower()] for name in GENRES]
