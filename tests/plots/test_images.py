"""Images and streams are drawn as they were given."""

from __future__ import annotations

import numpy as np
import pytest

from mmwa_utils.plots import figure, image_strip
from mmwa_utils.plots.images import stream


@pytest.fixture
def axes():
    drawing, axes = figure()
    yield axes
    drawing.canvas.draw()  # a figure that cannot be rendered fails here, whatever the test looked at


def test_strip_places_each_image_in_its_row_and_column(axes):
    images = np.random.default_rng(2).random((2, 3, 5, 5)) + 0.1
    image_strip(axes, images, column_labels=["a", "b", "c"], row_labels=["up", "down"])
    assert len(axes.images) == 6
    for image, shown in zip(images.reshape(6, 5, 5), axes.images, strict=True):
        np.testing.assert_allclose(shown.norm(shown.get_array()), image / image.max())
    lefts = [shown.get_extent()[0] for shown in axes.images]
    tops = [shown.get_extent()[3] for shown in axes.images]
    assert lefts[:3] == sorted(lefts[:3])
    assert tops[0] < tops[3]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top


def test_strip_draws_a_blank_frame_as_blank(axes):
    image_strip(axes, np.zeros((1, 1, 3, 3)), column_labels=["nothing"])
    assert np.all(axes.images[0].get_array() == 0)


def test_strip_refuses_labels_that_do_not_fit(axes):
    with pytest.raises(ValueError, match="FixedLocator"):
        image_strip(axes, np.ones((1, 2, 3, 3)), column_labels=["a"])


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
