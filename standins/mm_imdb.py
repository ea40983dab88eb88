"""The stand-in of MM-IMDb: plots and posters that show one scene, and 23 genres that depend on its signs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from mmwa_utils.datasets._mm_imdb_spec import DROPPED, GENRES
from standins.processor import write_processor
from standins.scenes import VOCABULARY, Correspondence, find_scene, retell, scene_of
from standins.story import Draws, Story

_GRID = (6, 4)
_EDGE = 32
_WEIGHTS = (1.8, 1.8, 2.2)
"""What a right sign of shared, agreement and own adds to a genre's log-odds, and a wrong one takes away."""

_AT_HOME = 2.5
"""Log-odds of a genre where all its signs are right."""
_PLOTS = (0.35, 0.35, 0.18, 0.12)
"""Share of films with 1, 2, 3 and 4 plots: 2.07 on average, as in the release."""

# A genre is at home where some of the three signals (shared, agreement, own) have given signs; 26 such homes exist.
# Three that do not involve `own`, the dominant modality's, are left out, which leaves one for each genre.
_HOMES = [
    home for home in product((-1, 0, 1), repeat=3) if any(home) and home not in ((1, 0, 0), (-1, 0, 0), (0, -1, 0))
]

STORY = Story(
    modalities=("text", "image"),
    dominant="text",
    interacting=("text", "image"),
    weights=tuple((_WEIGHTS[0] * s, _WEIGHTS[1] * x, _WEIGHTS[2] * o) for s, x, o in _HOMES),
    flips={"text": 0.1, "image": 0.1},
    task="multilabel",
    bias=tuple(_AT_HOME - sum(w * abs(sign) for w, sign in zip(_WEIGHTS, home, strict=True)) for home in _HOMES),
    lean=0.4,
)


def write(root: Path, draws: Mapping[str, Draws], seed: int) -> None:
    """Write films in the folder layout, and a processor."""
    (root / "dataset").mkdir()
    splits: dict[str, list[str]] = {}
    first = 1
    for number, (split, drawn) in enumerate(draws.items()):
        films = [f"{first + index:07d}" for index in range(len(drawn))]
        for index, film in enumerate(films):
            _write_film(root / "dataset", film, drawn, index, [seed, number, index])
        splits["dev" if split == "val" else split] = films
        first += len(drawn)
    (root / "split.json").write_text(json.dumps(splits) + "\n", encoding="utf-8")
    write_processor(root / "processor", words=VOCABULARY, shortest_edge=_EDGE)


def _write_film(folder: Path, film: str, draws: Draws, index: int, seed: list[int]) -> None:
    scene = scene_of(draws, index, _GRID, seed)
    Image.fromarray(scene.pixels).save(folder / f"{film}.jpeg", quality=92)
    rng = np.random.default_rng([*seed, 1])
    n_plots = 1 + int(rng.choice(len(_PLOTS), p=_PLOTS))
    plots = [scene.text, *(retell(scene, rng, sentences=int(rng.integers(1, 4))) for _ in range(n_plots - 1))]
    genres = [name for name, has in zip(GENRES, draws.labels[index], strict=True) if has]
    if rng.random() < 0.003:  # the release's raw genres have a few that every reader drops
        genres.append(DROPPED[0])
    record = {"plot": plots, "genres": genres, "title": f"Stand-in {film}"}
    (folder / f"{film}.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


def correspondence(sample_id: str, draws: Mapping[str, Draws], seed: int) -> Correspondence:
    """Return which words of a film's plots and which patches of its poster are about the same object."""
    return find_scene(sample_id, draws, _GRID, seed).correspondence
