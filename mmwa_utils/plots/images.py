"""What an array looks like: a strip of images side by side, and a feature stream as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mmwa_utils.plots.style import DIVERGING, GREY, INK_MAP, hide_ticks


def image_strip(
    axes: Axes,
    images: Float[np.ndarray, "rows columns height width"],
    *,
    column_labels: Sequence[str],
    row_labels: Sequence[str] = (),
) -> Axes:
    """Draw rows of images side by side, white paper and dark ink.

    Args:
        axes: where to draw.
        images: ink of each frame; each frame is scaled by its own maximum, since mass spread wide is pale.
        column_labels: one label below each column.
        row_labels: one label beside each row.

    >>> import matplotlib.pyplot as plt
    >>> from mmwa_utils.plots import figure
    >>> drawing, axes = figure()
    >>> axes = image_strip(axes, np.ones((1, 2, 4, 4)), column_labels=["t = 0", "t = 1"])
    >>> [text.get_text() for text in axes.get_xticklabels()]
    ['t = 0', 't = 1']
    >>> plt.close(drawing)
    """
    n_rows, n_columns, height, width = images.shape
    for row, column in np.ndindex(n_rows, n_columns):
        image, left, top = images[row, column], 1.08 * column, 1.08 * row
        extent = (left, left + 1, top + 1, top)
        axes.imshow(image, cmap=INK_MAP, vmin=0, vmax=image.max() or 1, extent=extent)
        axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=GREY, linewidth=0.6))
    hide_ticks(axes)
    axes.set(xlim=(-0.04, 1.08 * n_columns), ylim=(1.08 * n_rows, -0.04), aspect=height / width)
    axes.set_xticks(1.08 * np.arange(n_columns) + 0.5, column_labels)
    if row_labels:
        axes.set_yticks(1.08 * np.arange(n_rows) + 0.5, row_labels)
    axes.tick_params(length=0)
    return axes


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
