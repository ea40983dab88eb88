"""The figure of speed shows what the table says, as ratios to ours."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from mmwa_utils.plots import figure, transport_speed


@pytest.fixture
def bars():
    """The bars, by contender, of two cases of which only ours was measured in the second."""
    rows = [
        {"case": "small", "contender": "ours", "ratio": 1.0, "ratio_q1": 1.0, "ratio_q3": 1.0},
        {"case": "small", "contender": "a library", "ratio": 3.0, "ratio_q1": 2.5, "ratio_q3": 5.0},
        {"case": "large", "contender": "ours", "ratio": 1.0, "ratio_q1": 1.0, "ratio_q3": 1.0},
    ]
    drawing, axes = figure()
    transport_speed.contender_times(axes, pd.DataFrame(rows), ours="ours")
    drawing.canvas.draw()
    plt.close(drawing)
    return {bar.get_label(): bar for bar in axes.containers if isinstance(bar, ErrorbarContainer)}


def test_marks_lie_at_the_ratios(bars):
    mark, _, (spread,) = bars["a library"].lines
    assert mark.get_xdata().tolist() == [3.0]
    np.testing.assert_allclose(spread.get_segments()[0][:, 0], [2.5, 5.0])


def test_ours_comes_first_and_lies_at_one_in_every_case(bars):
    assert next(iter(bars)) == "ours"
    mark = bars["ours"].lines[0]
    assert mark.get_xdata().tolist() == [1.0, 1.0]
    assert [round(height) for height in mark.get_ydata()] == [0, 1]
