"""Sequences that carry the signs of a `Story`: objects that all modalities show at the same step, and emphasis.

A sample is a sequence of objects. At step t each modality shows the object of step t in its own way (a word vector, a
facial expression, a tone of voice), so step t of one modality corresponds to step t of every other: the true plan of a
transport between two of them is the identity. A few steps, the same ones in each modality, are emphasised: there alone
the first 24 features carry the signs that the modality sees, 8 features a sign. All other features show the object.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from standins.story import Draws, locate

SIGNS: tuple[slice, slice, slice] = (slice(0, 8), slice(8, 16), slice(16, 24))
"""Features of an emphasised step that show the signs shared, part and own; 0 where the modality sees none."""

OBJECT = slice(24, None)
"""Features that show the object."""

N_OBJECTS = 12

NOISE = 0.5
"""Standard deviation of a feature's noise; an object's features have a standard deviation of 1."""

AMPLITUDE = 4.0
"""Size of a sign in each of its 8 features.

The two values of a sign lie sqrt(8) · 2 · 4 / 0.5 = 45 standard deviations of noise apart at a single step, so reading
the signs costs nothing, and the best score of a reader of features is that of the story.
"""


Streams = dict[str, list[Float[np.ndarray, "_ _"]]]
"""For each modality one array (steps, width) per sample, without padding."""


def draw_sequences(
    draws: Draws, widths: Mapping[str, int], *, seed: int, split: int, quiet: str
) -> tuple[Streams, Int[np.ndarray, " samples"]]:
    """Return sequences, of whose last four steps two or three are emphasised, and their lengths.

    `quiet` is the modality without noise: a word has the same vector wherever it occurs.
    """
    rng = np.random.default_rng([seed, split, 1])
    lengths = _lengths(len(draws), rng)
    objects = [rng.integers(0, N_OBJECTS, length) for length in lengths]
    emphasised = [np.sort(length - 1 - rng.permutation(4)[: rng.integers(2, 4)]) for length in lengths]
    looks = {name: _looks(name, width) for name, width in widths.items()}
    streams: Streams = {name: [] for name in widths}
    for i, length in enumerate(lengths):
        for name, width in widths.items():
            stream = np.zeros((length, width), dtype=np.float32)
            stream[:, OBJECT] = looks[name][objects[i]]
            for sign, features in zip(draws.seen[name][i], SIGNS, strict=True):
                stream[emphasised[i], features] = AMPLITUDE * sign
            if name != quiet:
                stream += np.float32(NOISE) * rng.standard_normal(stream.shape, dtype=np.float32)
            streams[name].append(stream)
    return streams, lengths


def _lengths(samples: int, rng: np.random.Generator) -> Int[np.ndarray, " samples"]:
    """Draw the number of steps of each sequence, from 5 to 14; the first that is drawn of a split."""
    return rng.integers(5, 15, samples)


def _looks(name: str, width: int) -> Float[np.ndarray, "objects features"]:
    """How each object looks or sounds: the same in every stand-in, whatever its seed."""
    rng = np.random.default_rng([width, *name.encode()])
    return rng.standard_normal((N_OBJECTS, width - OBJECT.start), dtype=np.float32)


def front_padded(streams: list[Float[np.ndarray, "_ width"]], steps: int) -> Float[np.ndarray, "samples padded width"]:
    """One array with zeros before each sequence, as in the files of MultiBench."""
    padded = np.zeros((len(streams), steps, streams[0].shape[1]), dtype=np.float32)
    for row, stream in zip(padded, streams, strict=True):
        row[steps - len(stream) :] = stream
    return padded


def write_pickle(path: Path, payload: Any) -> None:
    """Write a pickle whose bytes depend on the payload's values alone."""
    path.write_bytes(pickle.dumps(payload, protocol=4))


def aligned_steps(sample_id: str, draws: Mapping[str, Draws], seed: int) -> Int[np.ndarray, " steps"]:
    """Return 0, 1, 2, ... for the steps of a sample: step t of one modality shows the object of step t of another.

    Ids count from 0.

    Raises:
        KeyError: the stand-in has no such sample.
    """
    split, index = locate(sample_id, draws, first=0)
    samples = len(tuple(draws.values())[split])
    return np.arange(_lengths(samples, np.random.default_rng([seed, split, 1]))[index])
