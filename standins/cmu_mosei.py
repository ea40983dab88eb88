"""The stand-in of CMU-MOSEI: MultiBench's pickle, with sequences that carry the signs of a story."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmwa_utils.datasets._sequences import KEYS
from mmwa_utils.datasets.cmu_mosei import MULTIBENCH, WIDTHS
from standins.sequences import aligned_steps, draw_sequences, front_padded, write_pickle
from standins.story import Draws, Story

STORY = Story(
    modalities=("text", "vision", "audio"),
    dominant="text",
    interacting=("text", "vision"),
    weights=((0.7, 0.7, 1.1),),
    flips={"text": 0.25, "vision": 0.15, "audio": 0.25},
    lean=0.4,
    task="regression",
    noise=0.5,
)
_STEPS = 50
"""Steps to which the stand-in pads, at the front: the release's number."""
correspondence = aligned_steps


def write(root: Path, draws: Mapping[str, Draws], seed: int) -> None:
    """Write `mosei_senti_data.pkl` with the release's dimensions and its 50 steps, padded at the front."""
    payload, first = {}, 0
    for number, (split, drawn) in enumerate(draws.items()):
        streams, lengths = draw_sequences(drawn, WIDTHS[MULTIBENCH], seed=seed, split=number, quiet="text")
        arrays = {name: front_padded(values, _STEPS) for name, values in streams.items()}
        ids = [[f"standin{first + i:05d}", "0.0", f"{length}.0"] for i, length in enumerate(lengths)]
        labels = drawn.labels.astype(np.float32)[:, None, None]
        payload[KEYS[split]] = {**arrays, "labels": labels, "id": np.array(ids)}
        first += len(drawn)
    write_pickle(root / MULTIBENCH, payload)
