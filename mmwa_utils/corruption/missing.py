"""Missing modalities: exactly a share of the samples loses one, the same samples and more at a higher rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from PIL import Image

from mmwa_utils.corruption._random import generator
from mmwa_utils.types import DatasetSpec, Sample, Split

Representation = Literal["masked", "dummy"]
"""What stands for a lost modality: nothing (its tokens are masked), or a constant that the model still reads."""


def choose_missing(
    samples: Iterable[Sample], spec: DatasetSpec, *, rate: float, seed: int, modality: str | None = None
) -> dict[str, str]:
    """Choose which samples lose which modality: a map from sample id to the modality lost.

    Exactly round(rate x groups) groups of samples are chosen, a group being `Sample.group` where it is set
    (in MM-IMDb the film) and the sample otherwise; all samples of a group lose the same modality. A sample that
    loses a modality at one rate loses the same one at every higher rate. A sample never loses its last one, and
    what the release itself lacks (natural missingness) is not counted: only groups that can lose the modality
    take part.

    Args:
        samples: the split; raw data are not looked at or kept, only which modalities are there.
        spec: the dataset's spec.
        rate: share of the groups, in [0, 1].
        seed: of the choice.
        modality: the modality that is lost; None draws one for each group among those it can lose.

    Raises:
        ValueError: the rate is outside [0, 1].
        KeyError: a modality that the dataset does not have.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}; it must be in [0, 1]")
    if modality is not None:
        spec.modality(modality)
    members: dict[str, list[str]] = {}
    losable_of: dict[str, set[str]] = {}
    for sample in samples:
        group = sample.group or sample.id
        members.setdefault(group, []).append(sample.id)
        losable = sample.modalities if len(sample.modalities) > 1 else ()
        losable_of.setdefault(group, set(spec.modality_names)).intersection_update(losable)

    candidates: dict[str, str] = {}
    for group in members:
        names = [name for name in spec.modality_names if name in losable_of[group] and modality in (None, name)]
        if names:
            candidates[group] = names[int(generator(seed, group, "which").integers(len(names)))]
    # Each group has a rank that does not depend on the rate: the choices are nested, whatever the samples' order.
    ranked = sorted(candidates, key=lambda group: (generator(seed, group, "rank").random(), group))
    chosen = ranked[: round(rate * len(candidates))]
    return {identifier: candidates[group] for group in chosen for identifier in members[group]}


def lose(sample: Sample, modality: str, spec: DatasetSpec, *, representation: Representation = "masked") -> Sample:
    """Return the sample without a modality, or with a constant in its place.

    Args:
        sample: raw data; it is not changed.
        modality: the modality that is lost.
        spec: the dataset's spec.
        representation: "masked" removes it (its mask is False throughout); "dummy" puts a constant of its size in
            its place, whose tokens the model reads like any others: a white image (ones after ViLT's
            normalisation), an empty text (which is [CLS] and [SEP] all the same), or a stream of zeros.

    Raises:
        ValueError: the sample would lose its last modality, or the representation is unknown.
    """
    kind = spec.modality(modality).kind
    if modality not in sample.modalities:
        return sample
    if representation == "masked":
        if len(sample.modalities) == 1:
            raise ValueError(f"sample {sample.id} has no modality but {modality}; it cannot lose it")
        return sample.without(modality)
    if representation != "dummy":
        raise ValueError(f"representation is {representation!r}; it must be masked or dummy")
    value: Any = sample.modalities[modality]
    if kind == "stream":
        value = np.zeros_like(value)
    else:
        value = "" if kind == "text" else Image.new("RGB", value.size, "white")
    return replace(sample, modalities={**sample.modalities, modality: value})


class LossySplit:
    """A split of which a share of the samples has lost a modality, the same samples each time it is read.

    For training with missing modalities; the choice is made when the first sample is read, which takes one
    pass over the split.

    Args:
        split: the whole split.
        rate: share of the samples (MM-IMDb: of the films) that lose one modality, drawn among those they can lose.
        seed: of the choice.
    """

    def __init__(self, split: Split, *, rate: float, seed: int) -> None:
        self.whole, self.rate, self.seed = split, rate, seed
        self.name, self.spec, self.standin, self.fingerprint = split.name, split.spec, split.standin, split.fingerprint
        self.labels, self.ids = split.labels, split.ids  # no sample loses those

    @cached_property
    def lost(self) -> dict[str, str]:
        """Sample id -> the modality that it lost."""
        return choose_missing(self.whole, self.spec, rate=self.rate, seed=self.seed)

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        sample = self.whole[index]
        lost = self.lost.get(sample.id)
        return sample if lost is None else lose(sample, lost, self.spec)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))
