"""Datasets: read a release from a folder, check it and describe it. (Stand-ins are the package `standins`.)

>>> names()
('cmu_mosei', 'digits', 'hateful_memes', 'medfuse', 'mm_imdb', 'ur_funny')

`load` gives the splits "train", "val" and "test" of a dataset; the releases' own names ("dev", "valid", "dev_seen")
stay inside the dataset's module, which offers exactly this:

SPEC : DatasetSpec
    Modalities in fixed order, task, labels, metric.
WHERE : str
    Plain text: licence, steps, which files, where each goes. Nothing is ever downloaded.
SPLITS : tuple[str, ...]
    ("train", "val", "test") and after them further splits that a release may have.
recognise(root) -> str | None
    The layout that a folder holds, from what is in it; None when it is none.
open_split(root, split, **options) -> Split
    One split; reads an index only. Raises DatasetError. Options are the module's own keyword arguments.
verify(root) -> Report
    Found against expected counts, problems by kind, whether it can be used. Does not raise on bad data.
convert(root) -> list[Path]
    Only where a release comes as pickles: write the safe copy of each.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from mmwa_utils.datasets._describe import describe_splits
from mmwa_utils.datasets._files import DatasetError
from mmwa_utils.datasets._report import Report
from mmwa_utils.types import DatasetSpec, Split

__all__ = [
    "DatasetError",
    "Report",
    "convert",
    "describe",
    "load",
    "names",
    "open_split",
    "spec",
    "verify",
    "where",
]

_MODULES = ("cmu_mosei", "digits", "hateful_memes", "medfuse", "mm_imdb", "ur_funny")


def names() -> tuple[str, ...]:
    """The datasets' names, in alphabetical order."""
    return _MODULES


def module(name: str) -> ModuleType:
    """The module of a dataset, which offers what this package's docstring lists."""
    if name not in _MODULES:
        raise KeyError(f"there is no dataset {name!r}; there are {', '.join(_MODULES)}")
    return import_module(f"{__name__}.{name}")


def spec(name: str, **options: Any) -> DatasetSpec:
    """What a model and a metric must know of a dataset; `options` as for `load` where they change it (`digits`)."""
    chosen = module(name)
    return chosen.specification(**options) if options else chosen.SPEC


def open_split(name: str, data_root: Path | str | None, split: str, **options: Any) -> Split:
    """One split of a dataset; reads its index and no sample.

    Raises
    ------
    DatasetError
        When the folder holds no known layout, or an index file cannot be used.
    """
    chosen = module(name)
    if split not in chosen.SPLITS:
        raise KeyError(f"{name} has no split {split!r}; it has {', '.join(chosen.SPLITS)}")
    return chosen.open_split(_folder(name, data_root), split, **options)


def load(name: str, data_root: Path | str | None = None, **options: Any) -> dict[str, Split]:
    """The splits "train", "val" and "test" of a dataset.

    Parameters
    ----------
    name
        One of `names()`.
    data_root
        A folder with a release or a stand-in; not needed for `digits`.
    options
        The dataset's own, such as `plot_policy` of `mm_imdb` and `views` of `digits`.

    Examples
    --------
    >>> splits = load("digits", views=2)
    >>> {name: len(split) for name, split in splits.items()}
    {'train': 1078, 'val': 359, 'test': 360}
    """
    return {split: open_split(name, data_root, split, **options) for split in ("train", "val", "test")}


def verify(name: str, data_root: Path | str | None = None) -> Report:
    """Check a folder against the release: counts, files, contents."""
    return module(name).verify(_folder(name, data_root))


def describe(name: str, data_root: Path | str | None = None) -> str:
    """Fields, shapes, label balance and natural missingness of a dataset's splits, as text."""
    return describe_splits(load(name, data_root))


def where(name: str) -> str:
    """How to obtain a dataset: licence, steps, files."""
    return module(name).WHERE


def convert(name: str, data_root: Path | str) -> list[Path]:
    """Write the safe copy of each pickle of a release; a release without pickles has none."""
    chosen = module(name)
    return chosen.convert(_folder(name, data_root)) if hasattr(chosen, "convert") else []


def _folder(name: str, data_root: Path | str | None) -> Path:
    if data_root is None:
        if name == "digits":
            return Path()
        raise DatasetError(Path(name), "needs data_root.", remedy=f"See `mmwa data where {name}`, or write a stand-in.")
    root = Path(data_root)
    if not root.is_dir():
        raise DatasetError(root, "is not a folder.", remedy=f"See `mmwa data where {name}`, or write a stand-in.")
    return root
