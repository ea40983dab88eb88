"""MultiBench's noise as published, defects included, to reproduce numbers that were measured with it.

The families are those of the corrected mode; what follows is our own rendering of the published behaviour
(Liang et al. 2021, robustness folder of the release). Its defects, each seen by a test:

1. the image gaussian has standard deviation = level <= 1 on a 0-255 scale, turns the image grey and wraps around;
2. "salt" writes 1, which is almost black, and the image turns grey;
3. the crop resizes to (height, width), so that a wide image becomes a tall one;
4. swapping overwrites a letter with its neighbour instead of exchanging the two;
5. white noise adds one constant to a whole sample, random drop removes whole steps, and structured drop zeroes
   whole samples, because the loaders' layout has one axis more than the code expects;
6. padding receives noise like anything else.

The published code is not seeded; here the draws come from a seeded generator like everywhere in this project.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps

from mmwa_utils.corruption import image as corrected_image
from mmwa_utils.corruption import text as corrected_text

STRETCH = 3


def corrupt_image(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    """Return the image after the ten published steps; its size may change (defect 3)."""
    published = {"salt and pepper": _salt_and_pepper, "gaussian": _gaussian, "crop": _crop}
    return corrected_image.corrupt_image(image, level, rng, steps={**corrected_image.STEPS, **published})


def _salt_and_pepper(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    pixels = np.array(ImageOps.grayscale(image))
    count = int(np.ceil(level * pixels.size * 0.5))
    for value in (1, 0):
        rows, columns = (rng.integers(0, max(side - 1, 1), count) for side in pixels.shape)
        pixels[rows, columns] = value
    return Image.fromarray(pixels)


def _gaussian(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    grey = np.asarray(ImageOps.grayscale(image))
    noisy = np.trunc(grey + rng.normal(0, level, grey.shape))
    return Image.fromarray((noisy % 256).astype(np.uint8))


def _crop(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    left, top = int(rng.random() * width / 5), int(rng.random() * height / 5)
    window = (left, top, left + width * 4 // 5, top + height * 4 // 5)
    return image.crop(window).resize((height, width))


def corrupt_text(text: str, level: float, rng: np.random.Generator) -> str:
    """Return the lower-cased text with the published misspellings; a swap loses a letter (defect 4)."""
    ways = (_swap, *corrected_text.WAYS[1:])
    return " ".join(corrected_text.misspell(word, level, rng, ways) for word in text.lower().split())


def _swap(word: str, rng: np.random.Generator) -> str:
    at = int(rng.integers(1, len(word) - 2))
    return word[:at] + word[at + 1] + word[at + 1] + word[at + 2 :]


def corrupt_stream(
    values: Float[np.ndarray, "steps width"], level: float, rng: np.random.Generator
) -> Float[np.ndarray, "steps width"]:
    """Return the sequence with one constant added, whole steps dropped and, often, everything zeroed (defect 5)."""
    shifted = values + rng.normal(0, 1) * level
    shifted[rng.random(len(values)) < level] = 0
    # Published over samples: this one is zeroed if any of the three windows that hold it is drawn.
    zeroed = bool((rng.random(STRETCH) < level).any())
    return (np.zeros_like(values) if zeroed else shifted).astype(np.float32)
