"""The figure of a stream draws what was given."""

from __future__ import annotations

import numpy as np

from mmwa_utils.plots import figure
from mmwa_utils.plots.streams import stream


def shown(values: np.ndarray):
    _, axes = figure()
    stream(axes, values)
    return axes.images[0]


def test_zero_has_the_middle_colour_whatever_the_values() -> None:
    values = np.random.default_rng(0).normal(3.0, 1.0, (7, 5)).astype(np.float32)
    low, high = shown(values).get_clim()
    assert low == -high < 0


def test_an_empty_looking_stream_still_has_a_scale() -> None:
    assert shown(np.zeros((3, 2), np.float32)).get_clim() == (-1.0, 1.0)


def test_time_runs_to_the_right() -> None:
    values = np.zeros((4, 2), np.float32)
    values[3, 0] = 1.0
    assert np.array_equal(shown(values).get_array(), values.T)
