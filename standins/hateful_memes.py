"""The stand-in of Hateful Memes: a caption and a picture of one scene."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from mmwa_utils.datasets.hateful_memes import FILES
from standins.processor import write_processor
from standins.scenes import VOCABULARY, Correspondence, find_scene, scene_of
from standins.story import Draws, Story

STORY = Story(
    modalities=("text", "image"),
    dominant="text",
    interacting=("text", "image"),
    weights=((1.0, 1.4, 1.8),),
    flips={"text": 0.15, "image": 0.15},
    bias=(-0.5,),
    lean=0.4,
)
_GRID = (4, 4)
_EDGE = 32


def write(root: Path, draws: Mapping[str, Draws], seed: int) -> None:
    """Write index files, pictures and a processor."""
    (root / "img").mkdir()
    identifier = 0
    for number, (split, drawn) in enumerate(draws.items()):
        lines = []
        for index in range(len(drawn)):
            identifier += 1
            scene, name = scene_of(drawn, index, _GRID, [seed, number, index]), f"img/{identifier:05d}.png"
            Image.fromarray(scene.pixels).save(root / name, compress_level=1)
            record = {"id": identifier, "img": name, "label": int(drawn.labels[index]), "text": scene.text}
            lines.append(json.dumps(record) + "\n")
        (root / FILES[split]).write_text("".join(lines), encoding="utf-8")
    write_processor(root / "processor", words=VOCABULARY, shortest_edge=_EDGE)


def correspondence(sample_id: str, draws: Mapping[str, Draws], seed: int) -> Correspondence:
    """Return which words and patches of a sample are about the same object."""
    return find_scene(sample_id, draws, _GRID, seed).correspondence
