"""Words to token ids and pictures to pixels, through transformers' own tokenizer and ViLT image processor.

A processor is a folder that `from_pretrained` reads: the one of a pre-trained checkpoint for the real data, a small
one beside a stand-in. Nothing is fetched: a name that is no folder must already be in the local cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from mmwa_utils.datasets._files import DatasetError

PRETRAINED = "dandelin/vilt-b32-mlm"
"""The checkpoint whose processor goes with ViLT-B."""


@dataclass(frozen=True)
class Encoded:
    """Texts as token ids, padded at the end: `mask` is True at tokens, `special` at [CLS] and [SEP].

    `offsets` are the [start, end) characters of each token, (0, 0) for special tokens and padding.
    """

    ids: Int[np.ndarray, "batch length"]
    mask: Bool[np.ndarray, "batch length"]
    special: Bool[np.ndarray, "batch length"]
    offsets: Int[np.ndarray, "batch length 2"]


class Processor:
    """A tokenizer and an image processor, with the limits that the model has.

    Args:
        tokenizer: a fast tokenizer of transformers.
        images: transformers' `ViltImageProcessorPil`.
        max_text_length: longer texts are cut to this many tokens, [CLS] and [SEP] included; ViLT has 40 positions.
    """

    def __init__(self, tokenizer: Any, images: Any, *, max_text_length: int = 40) -> None:
        if max_text_length < 3:
            raise ValueError(f"max_text_length = {max_text_length}: expected at least 3 ([CLS], a word, [SEP])")
        if not (images.do_resize and images.do_rescale and images.do_normalize):
            raise ValueError("the image processor must resize, rescale and normalise, as ViLT's does")
        self.tokenizer, self.images, self.max_text_length = tokenizer, images, max_text_length
        self.vocabulary_size = len(tokenizer)  # rows that a word embedding needs
        self.shortest_edge = int(images.size["shortest_edge"])
        self.longest_edge = int(1333 / 800 * self.shortest_edge)  # ViLT's own limit on the aspect ratio
        self.size_divisor = int(images.size_divisor)  # sides are multiples of this: the patch size of the model

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return token ids of texts; a text longer than `max_text_length` tokens is cut."""
        returned = {"return_special_tokens_mask": True, "return_offsets_mapping": True, "return_tensors": "np"}
        limit = self.max_text_length
        encoded = self.tokenizer(list(texts), padding=True, truncation=True, max_length=limit, **returned)
        mask = encoded["attention_mask"].astype(bool)
        special = encoded["special_tokens_mask"].astype(bool) & mask  # transformers counts padding as special
        return Encoded(encoded["input_ids"].astype(np.int64), mask, special, encoded["offset_mapping"])

    def resized(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """Return the picture at its final size, still in 8 bits; sizes and filter are the image processor's."""
        from transformers.models.vilt.image_processing_pil_vilt import get_resize_output_image_size

        image = self._not_too_thin(image)
        shape = np.empty((3, image.height, image.width), dtype=np.bool_)
        limits = (self.shortest_edge, self.longest_edge, self.size_divisor)
        height, width = get_resize_output_image_size(shape, *limits, input_data_format="channels_first")
        return np.asarray(image.resize((width, height), resample=self.images.resample))

    def scale_into(
        self, resized: UInt8[np.ndarray, "height width 3"], out: Float[np.ndarray, "3 height width"]
    ) -> None:
        """Write (value * rescale_factor - mean) / std of each channel into `out`."""
        mean, std = (np.broadcast_to(np.float64(part), 3) for part in (self.images.image_mean, self.images.image_std))
        gain, shift = (self.images.rescale_factor / std).astype(np.float32), (mean / std).astype(np.float32)
        planes = np.ascontiguousarray(resized.transpose(2, 0, 1))
        np.multiply(planes, gain[:, None, None], out=out)
        np.subtract(out, shift[:, None, None], out=out)

    def _not_too_thin(self, image: Image.Image) -> Image.Image:
        # transformers rounds the shorter side of a very long picture down to 0 and fails: widen it to one patch.
        limit = self.longest_edge // (self.size_divisor + 1)
        width, height = image.size
        if max(width, height) <= limit * min(width, height):
            return image
        least = max(1, -(-max(width, height) // limit))
        return image.resize((max(width, least), max(height, least)))


def grid_images(side: int = 128) -> Any:
    """Return the image processor of EfficientNet-Lite: (value - 127) / 128, sides in steps of its stride of 32.

    Args:
        side: of the shorter edge, in pixels; 128 give a square picture 4 x 4 cells.
    """
    from transformers import ViltImageProcessorPil

    settings: dict[str, Any] = {"size": {"shortest_edge": side}, "size_divisor": 32}
    settings |= {"image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3}
    return ViltImageProcessorPil(**settings)


def load_processor(source: Path | str = PRETRAINED, *, images: Any = None, max_text_length: int = 40) -> Processor:
    """Read a processor with `from_pretrained`.

    Args:
        source: a folder, such as `data_root / "processor"` of a stand-in, or the name of a checkpoint in the local
            cache; nothing is downloaded.
        images: the image processor, such as `grid_images()`; None reads the source's.
        max_text_length: limit on the tokens of a text.

    Raises:
        DatasetError: there is no processor.
    """
    from transformers import AutoTokenizer, ViltImageProcessorPil

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), local_files_only=True)
        images = images or ViltImageProcessorPil.from_pretrained(str(source), local_files_only=True)
    except (OSError, ValueError) as error:
        remedy = "Give the folder of a saved processor; a stand-in has one in its folder 'processor'."
        raise DatasetError(Path(source), f"holds no processor ({type(error).__name__}).", remedy=remedy) from None
    return Processor(tokenizer, images, max_text_length=max_text_length)
