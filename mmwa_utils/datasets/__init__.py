"""Datasets: read a release from a folder, check it and describe it.

`load` gives the splits "train", "val" and "test" of a dataset; the releases' own names ("dev", "valid", "dev_seen")
stay inside the dataset's module. Nothing is ever downloaded. Files in the layout of a release that are drawn instead
of collected are written by the package `standins`, and read here like the release.

>>> names()
('cmu_mosei', 'digits', 'emoji', 'hateful_memes', 'medfuse', 'mm_imdb', 'spoken_digits', 'ur_funny', 'watch')
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from pydantic import validate_call

from mmwa_utils.datasets._describe import describe_splits
from mmwa_utils.datasets._files import DatasetError, is_standin
from mmwa_utils.datasets._report import Report
from mmwa_utils.types import DatasetSpec, Split

BUNDLED = ("digits", "emoji", "spoken_digits", "watch")
"""Datasets that come with an installed package and need no folder."""
_NAMES = tuple(sorted((*BUNDLED, "cmu_mosei", "hateful_memes", "medfuse", "mm_imdb", "ur_funny")))


@runtime_checkable
class Dataset(Protocol):
    """What the module of a dataset offers; its docstring says how to obtain the dataset: licence, steps, files."""

    SPEC: DatasetSpec
    """Modalities in fixed order, task, labels, metric."""
    SPLITS: tuple[str, ...]
    """("train", "val", "test"), and after them further splits that a release may have."""
    EXPECTED: Mapping[str, Any]
    """The release's number of samples by split, or by file and split."""
    open_split: Callable[..., Split]
    """One split of (root, split) and the module's own options; reads an index only. Raises DatasetError."""

    def recognise(self, root: Path) -> str | None:
        """Return the name of the layout that a folder holds, or None."""

    def check(self, root: Path, report: Report) -> None:
        """Note in the report what a folder has against what the release has; a DatasetError ends the check."""


def names() -> tuple[str, ...]:
    """Return the datasets' names, in alphabetical order."""
    return _NAMES


def module(name: str) -> Dataset:
    """Return the module of a dataset.

    Raises:
        KeyError: there is no such dataset.
    """
    if name not in _NAMES:
        raise KeyError(f"there is no dataset {name!r}; there are {', '.join(_NAMES)}")
    return cast(Dataset, import_module(f"{__name__}.{name}"))


def spec(name: str, **options: Any) -> DatasetSpec:
    """Return what a model and a metric must know of a dataset; `options` as for `load` where they change it."""
    chosen = module(name)
    specification = getattr(chosen, "specification", None)
    return validate_call(specification)(**options) if specification else chosen.SPEC


def open_split(name: str, data_root: Path | str | None, split: str, **options: Any) -> Split:
    """Return one split of a dataset; reads its index and no sample.

    Raises:
        DatasetError: the folder holds no known layout, or an index file cannot be used.
        ValueError: an option has a value that the dataset does not know; names those that it knows.
    """
    chosen = module(name)
    if split not in chosen.SPLITS:
        raise KeyError(f"{name} has no split {split!r}; it has {', '.join(chosen.SPLITS)}")
    return validate_call(chosen.open_split)(_folder(name, data_root), split, **options)


def load(name: str, data_root: Path | str | None = None, **options: Any) -> dict[str, Split]:
    """Return the splits "train", "val" and "test" of a dataset.

    Args:
        name: one of `names()`.
        data_root: a folder with a release or a stand-in; not needed for those of `BUNDLED`.
        options: the dataset's own, such as `plot_policy` of `mm_imdb` and `views` of `digits`.

    >>> splits = load("digits", views=2)
    >>> {name: len(split) for name, split in splits.items()}
    {'train': 1078, 'val': 359, 'test': 360}
    """
    return {split: open_split(name, data_root, split, **options) for split in ("train", "val", "test")}


def verify(name: str, data_root: Path | str | None = None) -> Report:
    """Check a folder against the release: counts, files, contents. Bad data become problems of the report."""
    chosen, root = module(name), _folder(name, data_root)
    report = Report(name, root, chosen.recognise(root), is_standin(root))
    try:
        chosen.check(root, report)
    except DatasetError as error:
        report.problem("cannot be used", str(error), fatal=True)
    return report


def describe(name: str, data_root: Path | str | None = None) -> str:
    """Return fields, shapes, label balance and natural missingness of a dataset's splits, as text."""
    return describe_splits(load(name, data_root))


def where(name: str) -> str:
    """Return how to obtain a dataset: licence, steps, files."""
    return inspect.getdoc(module(name)) or ""


def convert(name: str, data_root: Path | str) -> list[Path]:
    """Write the safe copy of each pickle of a release; a release without pickles has none."""
    write_copies = getattr(module(name), "convert", None)
    return write_copies(_folder(name, data_root)) if write_copies else []


def _folder(name: str, data_root: Path | str | None) -> Path:
    if name in BUNDLED:
        return Path()
    remedy = f"See `mmwa data where {name}`, or write a stand-in."
    if data_root is None:
        raise DatasetError(Path(name), "needs data_root.", remedy=remedy)
    root = Path(data_root)
    if not root.is_dir():
        raise DatasetError(root, "is not a folder.", remedy=remedy)
    return root
