"""Image noise: MultiBench's ten steps, each applied with probability = level, without the published defects."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

GAUSSIAN_SCALE = 64.0
"""Standard deviation of the gaussian step at level 1, on the 0-255 scale: a quarter of the range."""
CONTRAST, TINT, MOST_DEGREES, CROPPED = 0.5, 0.3, 20.0, 0.2

# The colour of a white point, by its temperature in kelvin: black-body radiators in sRGB, rounded.
WHITE_POINTS = {
    2000: (255, 137, 14), 3000: (255, 180, 107), 4500: (255, 219, 186), 6500: (255, 249, 253), 9000: (214, 225, 255),
}  # fmt: skip

Step = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def corrupt_image(
    image: Image.Image, level: float, rng: np.random.Generator, *, steps: Mapping[str, Step] | None = None
) -> Image.Image:
    """Return the image after the ten steps, each taken with probability `level`; size and RGB mode are kept.

    Args:
        image: an RGB image.
        level: in [0, 1]; 0 returns the image unchanged.
        rng: draws the same numbers at every level, so that the steps taken are nested over levels.
        steps: other steps to take, such as those with the published defects.
    """
    steps = STEPS if steps is None else steps
    taken = rng.random(len(steps)) < level
    for use, step, own in zip(taken, steps.values(), rng.spawn(len(steps)), strict=True):
        if use:
            image = step(image, level, own).convert("RGB")
    return image


def _white_balance(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    white = np.array(WHITE_POINTS[int(rng.choice(list(WHITE_POINTS)))]) / 255
    return Image.fromarray(np.rint(np.asarray(image) * white).astype(np.uint8))


def _tint(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    layer = Image.new("RGB", image.size, str(rng.choice(["red", "lime", "blue"])))
    return Image.blend(image, layer, TINT)


def _salt_and_pepper(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    """A share `level` of the pixels becomes white (255) or black (0) in all channels."""
    pixels = np.array(image)
    hit, white = rng.random(pixels.shape[:2]) < level, rng.random(pixels.shape[:2]) < 0.5
    pixels[hit & white], pixels[hit & ~white] = 255, 0
    return Image.fromarray(pixels)


def _gaussian(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    """Add noise of standard deviation `level` x `GAUSSIAN_SCALE`; clip instead of wrapping around."""
    noise = rng.standard_normal(np.asarray(image).shape) * (level * GAUSSIAN_SCALE)
    return Image.fromarray(np.clip(np.rint(np.asarray(image) + noise), 0, 255).astype(np.uint8))


def _rotate(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return image.rotate(rng.uniform(-MOST_DEGREES, MOST_DEGREES), Image.Resampling.BILINEAR)


def _crop(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    """Cut a window of four fifths of each side and stretch it to the old width and height."""
    width, height = image.size
    left, top = rng.random(2) * CROPPED * np.array([width, height])
    window = (left, top, left + width * (1 - CROPPED), top + height * (1 - CROPPED))
    return image.resize((width, height), Image.Resampling.BILINEAR, box=window)


STEPS: Mapping[str, Step] = {
    "grayscale": lambda image, level, rng: ImageOps.grayscale(image),
    "contrast": lambda image, level, rng: ImageEnhance.Contrast(image).enhance(CONTRAST),
    "invert": lambda image, level, rng: ImageOps.invert(image),
    "white balance": _white_balance,
    "tint": _tint,
    "salt and pepper": _salt_and_pepper,
    "gaussian": _gaussian,
    "rotate": _rotate,
    "flip": lambda image, level, rng: ImageOps.mirror(image),
    "crop": _crop,
}
"""The steps in the order in which they are taken."""
