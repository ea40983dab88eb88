"""The figure of a feature stream, as a heat map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mmwa_utils.plots.style import DIVERGING


def stream(
    axes: Axes, values: Float[np.ndarray, "steps features"], *, limit: float | None = None, label: str = "feature"
) -> None:
    """Draw a stream: steps to the right, features downwards, zero in the palette's middle.

    Args:
        axes: where to draw.
        values: the stream, without padding.
        limit: the value that has the palette's end colours, with either sign; by default the 99th percentile of
            |values|, so that a single outlier does not bleach the rest.
        label: label of the vertical axis.
    """
    bound = limit or float(np.quantile(np.abs(values), 0.99)) or 1.0
    axes.imshow(values.T, aspect="auto", cmap=DIVERGING, vmin=-bound, vmax=bound)
    axes.set_ylabel(label)
    axes.grid(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
