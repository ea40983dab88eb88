"""The words that every room shares: sample, split, batch, tokens, mask.

`mask` is True where there is a token, everywhere in this project. A modality that is absent from a sample has
a mask that is False throughout, and no value in `Sample.modalities`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

ModalityKind = Literal["text", "image", "stream"]
"""How a modality is read: words, pixels, or a sequence of feature vectors."""

Task = Literal["binary", "multilabel", "multiclass", "regression"]


@dataclass(frozen=True)
class ModalitySpec:
    """What a model must know about one modality before it sees a sample.

    `width` is the number of features of a step of a stream (None for text and images); `max_length` is the
    longest sequence a sample can have, in tokens, steps or (for an image) pixels of the longer side. `patch` is the
    number of consecutive steps of a stream that make one token.
    """

    name: str
    kind: ModalityKind
    width: int | None = None
    max_length: int | None = None
    patch: int = 1


@dataclass(frozen=True)
class DatasetSpec:
    """What a model and a metric must know about a dataset: modalities in their fixed order, task and labels."""

    name: str
    modalities: tuple[ModalitySpec, ...]
    task: Task
    n_labels: int
    label_names: tuple[str, ...]
    metric: str
    """Name of the validation metric that selects the model, such as "auroc" or "f1_macro"."""
    higher_is_better: bool = True

    @property
    def modality_names(self) -> tuple[str, ...]:
        """Return the modalities' names in their fixed order."""
        return tuple(modality.name for modality in self.modalities)

    def modality(self, name: str) -> ModalitySpec:
        """Return the modality of this name; KeyError, naming the known ones, if there is none."""
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise KeyError(f"{self.name} has no modality {name!r}; it has {', '.join(self.modality_names)}")


@dataclass(frozen=True)
class Sample:
    """One sample with its raw data: what a corruption changes, and what the ordinary pipeline then processes.

    `modalities` maps a modality's name to a `str` (text), an RGB `PIL.Image.Image` (image) or a float32 array
    of shape (steps, width) (stream, without padding). A modality in `absent` has no entry there: the release
    lacks it. `label` is an int, a float or an array of 0/1 for several labels.
    """

    id: str
    label: Any
    modalities: Mapping[str, Any]
    absent: frozenset[str] = frozenset()
    group: str | None = None
    """What must stay together when samples are drawn (MM-IMDb: the film of a plot); None is the id itself."""

    def without(self, *names: str) -> Sample:
        """The same sample with these modalities absent."""
        kept = {name: value for name, value in self.modalities.items() if name not in names}
        return replace(self, modalities=kept, absent=self.absent | set(names))


@runtime_checkable
class Split(Protocol):
    """A lazily read sequence of samples: opening one reads an index, indexing decodes one sample."""

    name: str
    spec: DatasetSpec
    standin: bool
    """True when the files were written by a stand-in writer and not by a release's authors."""
    fingerprint: str
    """SHA-256 (hex) of what the split's samples depend on."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
    def __iter__(self) -> Iterator[Sample]: ...
    def labels(self) -> np.ndarray:
        """Return all labels without decoding a sample."""

    def ids(self) -> list[str]:
        """Return all ids without decoding a sample."""


@dataclass(frozen=True)
class ModalityBatch:
    """One modality of a batch, padded, with its mask.

    - text: `values` int64 (batch, length), token ids;     `mask` (batch, length);
    - image: `values` float32 (batch, 3, height, width);    `mask` (batch, height, width), True at real pixels;
    - stream: `values` float32 (batch, steps, width);       `mask` (batch, steps);
    - of any kind, read by a frozen encoder: `values` float32 (batch, length, dim), its tokens; `mask` (batch, length).

    `special` marks the tokens that carry no content ([CLS], [SEP]); it is False at padding and for pixels.
    `positions` says where a frozen encoder's tokens stood (see `FusionOutput.positions`); None: one behind the other.
    """

    values: Shaped[Tensor, "batch ..."]
    mask: Bool[Tensor, "batch ..."]
    special: Bool[Tensor, "batch length"] | None = None
    positions: Int[Tensor, "batch length"] | None = None

    @property
    def present(self) -> Bool[Tensor, " batch"]:
        """Which samples of the batch have this modality at all."""
        return self.mask.flatten(1).any(dim=1)

    def each(self, change: Callable[[Tensor], Tensor]) -> ModalityBatch:
        """Return the same with each tensor changed, such as moved or cut to some samples."""
        parts = (self.values, self.mask, self.special, self.positions)
        return ModalityBatch(*(part if part is None else change(part) for part in parts))  # type: ignore[arg-type]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ModalityBatch:
        """Return the same on another device."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ModalityBatch:
        """Return the same in page-locked memory, as a `DataLoader` asks: copies to an accelerator then overlap."""
        return self.each(Tensor.pin_memory)


@dataclass(frozen=True)
class Batch:
    """What a collator makes of samples and a fusion model reads: one `ModalityBatch` per modality, in spec order.

    `labels`: int64 (batch,) for binary and multiclass, float32 (batch, labels) for multilabel, float32 (batch,)
    for regression.
    """

    modalities: Mapping[str, ModalityBatch]
    labels: Int[Tensor, " batch"] | Float[Tensor, "batch labels"] | Float[Tensor, " batch"]
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """Return the same on another device."""
        moved = {name: modality.to(device) for name, modality in self.modalities.items()}
        return Batch(moved, self.labels.to(device), self.ids)


@dataclass(frozen=True)
class Tokens:
    """Hidden states of one modality: what an alignment reads. `mask` is True where there is a token.

    `special` marks tokens without content ([CLS], [SEP]); they are excluded from transport by default.
    """

    values: Float[Tensor, "batch length dim"]
    mask: Bool[Tensor, "batch length"]
    special: Bool[Tensor, "batch length"] | None = None
