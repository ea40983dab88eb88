"""The stand-in of UR-FUNNY: MultiBench's pickle, with sequences that carry the signs of a story."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmwa_utils.datasets._sequences import KEYS
from mmwa_utils.datasets.ur_funny import MULTIBENCH, WIDTHS
from standins.sequences import OBJECT, aligned_steps, draw_sequences, front_padded, write_pickle
from standins.story import Draws, Story

STORY = Story(
    modalities=tuple(WIDTHS),
    dominant="text",
    interacting=("text", "vision"),
    weights=((1.5, 2.0, 2.2),),
    flips={"text": 0.25, "vision": 0.15, "audio": 0.25},
    lean=0.4,
)
_STEPS = 20
"""Steps to which the stand-in pads, at the front."""
correspondence = aligned_steps


def write(root: Path, draws: Mapping[str, Draws], seed: int) -> None:
    """Write `humor.pkl` with the release's dimensions and front padding; some audio values are -inf, as there."""
    payload, first = {}, 0
    for number, (split, drawn) in enumerate(draws.items()):
        streams, _ = draw_sequences(drawn, WIDTHS, seed=seed, split=number, quiet="text")
        arrays = {name: front_padded(values, _STEPS) for name, values in streams.items()}
        audio = arrays["audio"][:, :, OBJECT]
        audio[np.random.default_rng([seed, number, 2]).random(audio.shape) < 0.002] = -np.inf
        labels = drawn.labels.astype(np.int64)[:, None]
        payload[KEYS[split]] = {**arrays, "labels": labels, "id": np.arange(first, first + len(drawn))}
        first += len(drawn)
    write_pickle(root / MULTIBENCH, payload)
