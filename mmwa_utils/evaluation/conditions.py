"""What is done to each raw sample before a trained run sees it: the change is declared, the ordinary pipeline runs.

A `Condition` is nothing, noise, a modality taken away, or a modality taken from another sample. Corruption happens
before tokenizer, image processor and collator, on pixels, characters and feature sequences.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache

import numpy as np

from mmwa_utils import project
from mmwa_utils.corruption import NoiseMode, Representation, add_noise, lose
from mmwa_utils.types import Sample, Split

SOURCES = ("evaluation/conditions.py", "evaluation/prediction.py", "corruption")
"""What predictions depend on besides the run: they are made anew when it changes."""
KEPT = 512
"""Decoded samples in memory: more than the samples of a batch and their partners under the conditions of one pass."""


@dataclass(frozen=True)
class Condition(ABC):
    """What is done to each sample before the pipeline sees it."""

    @abstractmethod
    def change(self, samples: SplitView, index: int) -> Sample | None:
        """Return the changed sample; None where nothing of it is left, and the training prior has to answer."""

    @property
    def digest(self) -> str:
        """Return a hash of the condition and of the source it depends on."""
        said = json.dumps({"condition": type(self).__name__, **asdict(self)}, sort_keys=True)
        return hashlib.sha256((said + project.source_hash(*SOURCES)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Clean(Condition):
    """The split as it is."""

    def change(self, samples: SplitView, index: int) -> Sample:
        """Return the sample."""
        return samples[index]


@dataclass(frozen=True)
class Noise(Condition):
    """Noise of one level on some modalities, None for all: see `corruption.add_noise`."""

    level: float
    seed: int = 0
    modalities: tuple[str, ...] | None = None
    mode: NoiseMode = "corrected"

    def change(self, samples: SplitView, index: int) -> Sample:
        """Return the noisy sample; its noise depends on its id, not on its position."""
        return add_noise(samples[index], samples.spec, **vars(self))


@dataclass(frozen=True)
class Without(Condition):
    """Every sample loses these modalities; see `corruption.lose` for what stands in their place."""

    modalities: tuple[str, ...]
    representation: Representation = "masked"

    def change(self, samples: SplitView, index: int) -> Sample | None:
        """Return the rest of the sample, if there is a rest."""
        sample = samples[index]
        if self.representation == "masked" and not set(sample.modalities) - set(self.modalities):
            return None
        for modality in self.modalities:
            sample = lose(sample, modality, samples.spec, representation=self.representation)
        return sample


@dataclass(frozen=True)
class Shuffled(Condition):
    """Every sample gets a modality of another sample, drawn among those that have it: its link to the label is cut."""

    modality: str
    seed: int = 0

    def change(self, samples: SplitView, index: int) -> Sample:
        """Return the sample with the modality of its partner."""
        sample = samples[index]
        if self.modality not in sample.modalities:
            return sample
        other = samples[samples.partner(index, self.modality, self.seed)]
        changed = {**sample.modalities, self.modality: other.modalities[self.modality]}
        return Sample(sample.id, sample.label, changed, sample.absent, sample.group)


class SplitView:
    """A split with a cache of at most `KEPT` decoded samples and a table of the modalities of each one."""

    def __init__(self, split: Split) -> None:
        self.split, self.spec = split, split.spec
        self._decoded = lru_cache(KEPT)(split.__getitem__)
        self._partners: dict[tuple[str, int], dict[int, int]] = {}

    def __getitem__(self, index: int) -> Sample:
        return self._decoded(index)

    @cached_property
    def presence(self) -> tuple[frozenset[str], ...]:
        """Which modalities each sample has; one pass over the split when first asked for."""
        return tuple(frozenset(self[index].modalities) for index in range(len(self.split)))

    def partner(self, index: int, modality: str, seed: int) -> int:
        """Return the sample whose modality `index` gets: a random cycle through those that have it, never itself."""
        if (modality, seed) not in self._partners:
            having = [i for i, names in enumerate(self.presence) if modality in names]
            order = np.random.default_rng([seed, len(modality), *modality.encode()]).permutation(having)
            self._partners[modality, seed] = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        return self._partners[modality, seed][index]
