"""One style, and the figures that several chapters share; each draws on the Axes it is given and returns them."""

from mmwa_utils.plots.images import image_strip as image_strip
from mmwa_utils.plots.intervals import dots_with_bars as dots_with_bars
from mmwa_utils.plots.style import *  # noqa: F403
