"""Time-series noise: white noise, dropped entries and dropped stretches of steps, without the published defects."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

STRETCH = 3
"""Consecutive steps that a structured drop removes."""


def corrupt_stream(
    values: Float[np.ndarray, "steps width"], level: float, rng: np.random.Generator
) -> Float[np.ndarray, "steps width"]:
    """Return the sequence after white noise, random drop and structured drop, as float32 of the same shape.

    - White noise: every entry gets its own normal draw of standard deviation `level` (in the features' units).
    - Random drop: every entry becomes 0 with probability `level`.
    - Structured drop: at every step, with probability `level` / 3, this step and the two after it become 0 in
      all features, so that about a share `level` of the steps is hit.

    Args:
        values: a sequence of feature vectors.
        level: in [0, 1]; 0 returns the values unchanged.
        rng: draws the same numbers at every level, so that what is dropped is nested over levels.

    >>> noisy = corrupt_stream(np.ones((4, 2), np.float32), 0.5, np.random.default_rng(0))
    >>> noisy.shape, noisy.dtype.name
    ((4, 2), 'float32')
    """
    steps, width = values.shape
    noise = rng.standard_normal((steps, width)) * level
    dropped = rng.random((steps, width)) < level
    starts = np.where(rng.random(steps) < level / STRETCH, 1.0, 0.0)
    hit = np.convolve(starts, np.ones(STRETCH))[:steps] > 0
    if level == 0:
        return values
    return np.where(dropped | hit[:, None], 0.0, values + noise).astype(np.float32)
