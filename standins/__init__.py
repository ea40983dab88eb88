"""Stand-ins: files in a release's own layout, drawn from a story whose best possible scores are known exactly.

>>> sorted(STANDINS)
['cmu_mosei', 'hateful_memes', 'medfuse', 'mm_imdb', 'ur_funny']
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from filelock import FileLock

from mmwa_utils import project
from mmwa_utils.datasets import DatasetError
from standins import cmu_mosei, hateful_memes, medfuse, mm_imdb, ur_funny
from standins.marker import VERSION, Marker, read_marker, write_marker
from standins.story import Draws, Story, sizes

__all__ = ["STANDINS", "Draws", "Standin", "Story", "cached", "correspondence", "draws", "story", "write"]


@runtime_checkable
class Standin(Protocol):
    """What a module of this package offers for its dataset."""

    STORY: Story
    """What is drawn, with the exact Bayes scores."""

    def write(self, root: Path, draws: Mapping[str, Draws], seed: int) -> None:
        """Write what was drawn for each split into an empty folder; the marker is written by the caller."""

    def correspondence(self, sample_id: str, draws: Mapping[str, Draws], seed: int) -> Any:
        """Return which tokens of a sample are about the same thing; KeyError where that is not known."""


STANDINS: Mapping[str, Standin] = {
    "cmu_mosei": cmu_mosei,
    "hateful_memes": hateful_memes,
    "medfuse": medfuse,
    "mm_imdb": mm_imdb,
    "ur_funny": ur_funny,
}


def story(dataset: str) -> Story:
    """Return the generative story of a dataset's stand-in.

    Raises:
        KeyError: the dataset has no stand-in.
    """
    return _standin(dataset).STORY


def write(dataset: str, folder: Path | str, samples: int, seed: int = 0) -> Path:
    """Write a stand-in in the release's layout; the same (samples, seed) gives the same bytes.

    Args:
        dataset: name of the dataset.
        folder: a new or empty folder, or one that holds this very stand-in.
        samples: in the training split (films of MM-IMDb, stays of MedFuse); `story.sizes` gives those of the others.
        seed: of the story and of its files.

    A folder that already holds exactly this stand-in is left alone, so a notebook may call this on every run.

    Raises:
        KeyError: the dataset has no stand-in.
        DatasetError: the folder holds anything else.
    """
    standin, root, marker = _standin(dataset), Path(folder), Marker(dataset, samples, seed)
    if read_marker(root) == marker:
        return root
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        remedy = "Choose a new folder, or remove this one if you no longer need it."
        raise DatasetError(root, f"holds something other than this stand-in ({marker}).", remedy=remedy)
    root.mkdir(parents=True, exist_ok=True)
    standin.write(root, _draw(dataset, samples, seed), seed)
    write_marker(root, marker)
    return root


def cached(dataset: str, samples: int, seed: int) -> Path:
    """Return the folder of a stand-in below the build folder, and write it first if it is not there yet."""
    folder = project.build_folder() / "standins" / f"{dataset}-{samples}-{seed}-v{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                write(dataset, Path(scratch) / "standin", samples, seed).rename(folder)
    return folder


def draws(root: Path | str, split: str) -> Draws:
    """Return what the story drew for a split, in file order: for Bayes-optimal predictions on its very samples.

    Raises:
        DatasetError: the folder holds no stand-in.
    """
    return _drawn_for(Path(root))[1][split]


def correspondence(root: Path | str, sample_id: str) -> Any:
    """Return which tokens of a stand-in's sample are about the same thing; see the dataset's module.

    Raises:
        KeyError: the dataset has no known correspondence, or the stand-in no such sample.
        DatasetError: the folder holds no stand-in.
    """
    marker, drawn = _drawn_for(Path(root))
    return _standin(marker.dataset).correspondence(sample_id, drawn, marker.seed)


def _standin(dataset: str) -> Standin:
    if dataset not in STANDINS:
        raise KeyError(f"{dataset!r} has no stand-in and no story; there are {', '.join(STANDINS)}")
    return STANDINS[dataset]


def _drawn_for(root: Path) -> tuple[Marker, Mapping[str, Draws]]:
    marker = read_marker(root)
    if marker is None:
        raise DatasetError(root, "is not a stand-in: its story is not known.")
    return marker, _draw(marker.dataset, marker.samples, marker.seed)


@lru_cache(maxsize=8)
def _draw(dataset: str, samples: int, seed: int) -> Mapping[str, Draws]:
    drawn = _standin(dataset).STORY
    return {
        split: drawn.draw(count, seed=seed, split=number)
        for number, (split, count) in enumerate(sizes(samples).items())
    }
