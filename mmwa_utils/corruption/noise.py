"""Noise on a sample's raw data, by the kind of each modality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from mmwa_utils.corruption import image, multibench, stream, text
from mmwa_utils.corruption._random import generator
from mmwa_utils.types import DatasetSpec, Sample

NoiseMode = Literal["corrected", "multibench"]

_Noise = Mapping[str, Callable[..., Any]]
_CORRECTED: _Noise = {"image": image.corrupt_image, "text": text.corrupt_text, "stream": stream.corrupt_stream}
_PUBLISHED: _Noise = {
    "image": multibench.corrupt_image, "text": multibench.corrupt_text, "stream": multibench.corrupt_stream,
}  # fmt: skip
_MODES = {"corrected": _CORRECTED, "multibench": _PUBLISHED}


def add_noise(
    sample: Sample,
    spec: DatasetSpec,
    *,
    level: float,
    seed: int,
    modalities: Iterable[str] | None = None,
    mode: NoiseMode = "corrected",
) -> Sample:
    """Return the sample with noise on some modalities; the result depends on (seed, sample id, modality, level) alone.

    Args:
        sample: raw data; it is not changed.
        spec: the dataset's spec, which says of what kind each modality is.
        level: in [0, 1]; 0 returns the sample itself.
        seed: of the noise.
        modalities: names to corrupt; None is all that the sample has.
        mode: "corrected", or "multibench" for the published behaviour with its defects.

    Raises:
        ValueError: the level is outside [0, 1], or the mode unknown.
        KeyError: a modality that the dataset does not have.

    >>> from mmwa_utils.types import ModalitySpec
    >>> spec = DatasetSpec("demo", (ModalitySpec("text", "text"),), "binary", 1, ("yes",), "auroc")
    >>> sample = Sample("7", 1, {"text": "transport moves tokens"})
    >>> add_noise(sample, spec, level=0.0, seed=0) is sample
    True
    >>> add_noise(sample, spec, level=1.0, seed=0).modalities["text"] == sample.modalities["text"]
    False
    """
    if not 0 <= level <= 1:
        raise ValueError(f"level is {level}; it must be in [0, 1]")
    if mode not in _MODES:
        raise ValueError(f"mode is {mode!r}; it must be 'corrected' or 'multibench'")
    chosen = spec.modality_names if modalities is None else tuple(modalities)
    kinds = {name: spec.modality(name).kind for name in chosen}
    if level == 0:
        return sample
    noisy = {
        name: _MODES[mode][kinds[name]](sample.modalities[name], level, generator(seed, sample.id, name))
        for name in chosen
        if name in sample.modalities
    }
    return replace(sample, modalities={**sample.modalities, **noisy})
