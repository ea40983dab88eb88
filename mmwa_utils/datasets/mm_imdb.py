"""MM-IMDb: the genres of a film from its plot and its poster (J. Arevalo et al., "Gated Multimodal Units", 2017).

Licence: for research; plots and posters stay their owners' property and must not be passed on.
Steps:
  1. Find the authors' page (Universidad Nacional de Colombia, "mmimdb", linked from the paper and its GMU code).
  2. Fetch the archive mmimdb (json and jpeg files, about 8 GB), or multimodal_imdb.hdf5 (about 13 GB).
  3. Unpack it; point data_root at the folder that holds split.json and dataset/, or the .hdf5 file.
  4. Run `mmwa data verify mm_imdb FOLDER`.
Beware: a release has 23 genres once the four rarest of 27 are dropped; the HDF5 file holds no text, only vectors.

The folder has split.json, and for each film dataset/{id}.json with `plot` and `genres` and dataset/{id}.jpeg. In the
HDF5 file a plot is one vector of 300 numbers. A film often has several plots: with plot_policy="all" each is a row,
which gives the paper's 32278 / 5411 / 16120 rows for the release's 15552 / 2608 / 7799 films. A sample's group is its
film: splits and missingness are drawn for films.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from mmwa_utils.datasets import _files
from mmwa_utils.datasets import _mm_imdb_hdf5 as hdf5
from mmwa_utils.datasets._files import DatasetError, MissingImages
from mmwa_utils.datasets._mm_imdb_spec import DROPPED, EXPECTED, GENRES, ROWS, SPEC
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._split import IndexedSplit
from mmwa_utils.types import Sample

PlotPolicy = Literal["all", "first", "longest"]

SPLITS = ("train", "val", "test")
LAYOUT = "split.json + dataset"
_KEYS = {"train": "train", "val": "dev", "test": "test"}
_ID = re.compile(r"[0-9]{7,8}")


@dataclass(frozen=True)
class _Film:
    id: str
    genres: Int[np.ndarray, " genres"]
    lengths: tuple[int, ...]
    """Characters of each plot; the plots themselves stay on the disk."""


class MMIMDb(IndexedSplit):
    """One split of the folder layout; plot and poster are read when a sample is asked for."""

    def __init__(self, name: str, root: Path, rows: list[tuple[_Film, int | None]], state: bytes) -> None:
        labels = np.stack([film.genres for film, _ in rows])
        ids = [film.id if plot is None else f"{film.id}/{plot}" for film, plot in rows]
        super().__init__(name, SPEC, ids=ids, labels=labels, standin=_files.is_standin(root))
        self._root, self._rows, self._state = root, [(film.id, plot) for film, plot in rows], state

    def read(self, index: int) -> Sample:
        """Read plot and poster of one row; the plot's film is its `group`."""
        film, plot = self._rows[index]
        modalities: dict[str, Any] = {}
        if plot is not None:
            modalities["text"] = _read_film(self._root, film)[0][plot]
        poster = _poster(self._root, film)
        if poster.is_file():
            modalities["image"] = _files.read_image(poster)
        absent = frozenset(set(SPEC.modality_names) - set(modalities))
        return Sample(self._ids[index], self._labels[index], modalities, absent, group=film)

    def sources(self) -> Iterator[bytes]:
        """Yield the hash of plots, genres and policy, and name and size of each poster."""
        yield self._state
        yield from (_files.stat_bytes(_poster(self._root, film)) for film in dict(self._rows))


def recognise(root: Path) -> str | None:
    """Return the layout in a folder, or None."""
    if (root / "split.json").is_file():
        return LAYOUT
    return hdf5.LAYOUT if (root / hdf5.FILE).is_file() else None


def open_split(
    root: Path, split: str, *, plot_policy: PlotPolicy = "all", missing_images: MissingImages = "error"
) -> IndexedSplit:
    """Open one split.

    Args:
        root: the folder of either layout.
        split: "train", "val" (the release's "dev") or "test".
        plot_policy: "all": one row per plot, the paper's counts; "first": one row per film with its first plot;
            "longest": with its longest one, as the GMU authors do. The HDF5 layout has one vector per film, whatever
            the policy.
        missing_images: what to do about a film whose poster is not there: stop, or read its rows without the image.

    Raises:
        DatasetError: names the file and key at fault.
    """
    layout = recognise(root)
    if layout is None:
        raise DatasetError(root, f"holds neither split.json nor {hdf5.FILE}.", remedy="See `mmwa data where mm_imdb`.")
    if layout == hdf5.LAYOUT:
        return hdf5.open_split(root, split)
    digest = hashlib.sha256(plot_policy.encode())
    films = [_index_film(root, film, digest) for film in _read_splits(root)[split]]
    missing = [f"{film.id}.jpeg" for film in films if not _poster(root, film.id).is_file()]
    _files.check_missing(missing_images, missing, root / "dataset", f"of {len(films)} posters")
    return MMIMDb(split, root, list(_rows(films, plot_policy)), digest.digest())


def _rows(films: list[_Film], policy: PlotPolicy) -> Iterator[tuple[_Film, int | None]]:
    """Yield film and number of the plot for each row; a film without a plot has one row, without text."""
    for film in films:
        if not film.lengths:
            yield film, None
        elif policy == "all":
            yield from ((film, plot) for plot in range(len(film.lengths)))
        else:
            yield film, 0 if policy == "first" else int(np.argmax(film.lengths))


def _poster(root: Path, film: str) -> Path:
    return _files.inside(root, f"dataset/{film}.jpeg")


def _read_splits(root: Path) -> dict[str, list[str]]:
    """Return the film ids of each split, checked: known keys, seven digits, no film twice."""
    path = root / "split.json"
    value = _files.parse_json(_files.read_bytes(path, remedy="See `mmwa data where mm_imdb`."), path)
    owner: dict[str, str] = {}
    splits: dict[str, list[str]] = {}
    for split, key in _KEYS.items():
        films = value.get(key) if isinstance(value, dict) else None
        if not isinstance(films, list) or not films:
            raise DatasetError(path, "expected a list of film ids.", at=f"key {key!r}", remedy="Fetch it again.")
        splits[split] = [film.zfill(7) if isinstance(film, str) else film for film in films]
        for position, film in enumerate(splits[split]):
            at = f"key {key!r}, item {position}"
            if not isinstance(film, str) or not _ID.fullmatch(film):
                raise DatasetError(path, f"expected an id of seven digits, found {str(film)[:40]!r}.", at=at)
            if film in owner:
                raise DatasetError(path, f"repeats film {film}, already in {owner[film]!r}.", at=at)
            owner[film] = key
    return splits


def _read_film(root: Path, film: str) -> tuple[list[str], list[str], bytes]:
    path = _files.inside(root, f"dataset/{film}.json")
    content = _files.read_bytes(path, remedy="Fetch the archive again.")
    value = _files.parse_json(content, path)
    fields = []
    for key in ("plot", "genres"):
        items = value.get(key) if isinstance(value, dict) else None
        if isinstance(items, str):
            items = [items]
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise DatasetError(path, "expected a list of text.", at=f"key {key!r}", remedy="Fetch the archive again.")
        fields.append(items)
    return fields[0], fields[1], content


def _index_film(root: Path, film: str, digest: Any) -> _Film:
    plots, names, content = _read_film(root, film)
    digest.update(film.encode() + content)
    for name in names:
        if name not in (*GENRES, *DROPPED):
            path, remedy = root / "dataset" / f"{film}.json", f"Expected one of {', '.join((*GENRES, *DROPPED))}."
            raise DatasetError(path, f"unknown genre {name[:40]!r}.", at="key 'genres'", remedy=remedy)
    return _Film(film, np.array([name in names for name in GENRES], dtype=np.int64), tuple(map(len, plots)))


def check(root: Path, report: Report) -> None:
    """Check splits, films, rows, genres and posters of either layout."""
    report.note("The paper's 32278 / 5411 / 16120 count one row per plot: use plot_policy='all' (the default).")
    report.note("The paper says 25 labels; a release has 27 raw genres, 23 without the four rarest. The book uses 23.")
    if report.layout == hdf5.LAYOUT:
        hdf5.check(root, report)
    elif report.layout == LAYOUT:
        _check_folder(root, report)


def _check_folder(root: Path, report: Report) -> None:
    genres = np.zeros(len(GENRES), dtype=np.int64)
    for split, ids in _read_splits(root).items():
        films, posters = [], []
        for identifier in ids:
            try:
                films.append(_index_film(root, identifier, hashlib.sha256()))
            except DatasetError as error:
                report.problem("unusable film", str(error), fatal=True)
        for film in films:
            genres += film.genres
            if (poster := _poster(root, film.id)).is_file():
                posters.append(poster)
            else:
                report.problem("missing poster", str(poster), fatal=False)
            if not film.lengths:
                report.problem("film without a plot", film.id, fatal=False)
        report.count(f"{split}: films", len(ids), expected=EXPECTED[split])
        report.count(f"{split}: rows, one a plot", len(list(_rows(films, "all"))), expected=ROWS[split])
        report.check_images(posters)
    for name, count in zip(GENRES, genres, strict=True):
        report.count(f"films of {name}", int(count))
