"""Samples to a batch: tokens or pixels with masks, labels and ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import get_worker_info

from mmwa_utils.datasets.processing import Processor
from mmwa_utils.types import Batch, DatasetSpec, ModalityBatch, ModalitySpec, Sample, Task


@dataclass(frozen=True)
class Collator:
    """Makes a `Batch` of samples; called in a loader's worker, so that decoding and resizing run there.

    Sequences are padded at the end with zeros to the longest of the batch, pictures at the right and the bottom.
    A modality that is absent from a sample has a mask that is False throughout. A stream longer than its
    specification's `max_length` keeps its first steps.

    Args:
        spec: the dataset's specification: which modalities, in which order, and the task.
        processor: for text and images; a dataset of streams needs none.

    >>> spec = DatasetSpec("toy", (ModalitySpec("audio", "stream", width=2),), "regression", 1, ("mood",), "mae")
    >>> long, short = np.ones((3, 2), np.float32), np.ones((1, 2), np.float32)
    >>> samples = [Sample("a", 0.5, {"audio": long}), Sample("b", 1.0, {"audio": short}),
    ...            Sample("c", 0.0, {}, frozenset({"audio"}))]
    >>> batch = Collator(spec)(samples)
    >>> batch.modalities["audio"].mask.int().tolist()
    [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    """

    spec: DatasetSpec
    processor: Processor | None = None

    def __post_init__(self) -> None:
        kinds = {modality.kind for modality in self.spec.modalities}
        if self.processor is None and kinds & {"text", "image"}:
            raise ValueError(f"{self.spec.name} has {' and '.join(sorted(kinds))}: pass a processor (load_processor)")

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return the batch of at least one sample.

        Raises:
            ValueError: a stream has another width than the specification says; names sample and modality.
        """
        if not samples:
            raise ValueError("a batch needs at least one sample")
        modalities = {item.name: self._modality(item, samples) for item in self.spec.modalities}
        ids = tuple(sample.id for sample in samples)
        return Batch(modalities, label_tensor([sample.label for sample in samples], self.spec.task), ids)

    def _modality(self, modality: ModalitySpec, samples: Sequence[Sample]) -> ModalityBatch:
        values = [sample.modalities.get(modality.name) for sample in samples]
        if modality.kind == "stream":
            for sample, value in zip(samples, values, strict=True):
                if value is not None and (value.ndim != 2 or value.shape[1] != modality.width):
                    problem = f"{modality.name} has shape {value.shape}, expected (steps, {modality.width})"
                    raise ValueError(f"sample {sample.id}: {problem}")
            return _streams(values, modality)
        assert self.processor is not None  # checked above
        return _texts(values, self.processor) if modality.kind == "text" else _images(values, self.processor)


def _streams(values: Sequence[Float[np.ndarray, "_ width"] | None], modality: ModalitySpec) -> ModalityBatch:
    cut = [() if value is None else value[: modality.max_length] for value in values]
    lengths = torch.tensor([len(steps) for steps in cut])
    padded = torch.zeros(len(cut), max(1, int(lengths.max())), modality.width or 0)
    for row, steps in enumerate(cut):
        if len(steps):
            padded[row, : len(steps)] = torch.from_numpy(np.ascontiguousarray(steps, dtype=np.float32))
    return ModalityBatch(padded, torch.arange(padded.shape[1]) < lengths[:, None])


def _texts(values: Sequence[str | None], processor: Processor) -> ModalityBatch:
    encoded = processor.encode(["" if value is None else value for value in values])
    absent = np.array([value is None for value in values])[:, None]
    padding = int(processor.tokenizer.pad_token_id)
    ids = np.where(absent, padding, encoded.ids)
    return ModalityBatch(
        torch.from_numpy(ids), torch.from_numpy(encoded.mask & ~absent), torch.from_numpy(encoded.special & ~absent)
    )


def _images(values: Sequence[Any], processor: Processor) -> ModalityBatch:
    # In 8 bits until the batch's size is known; the scaling then writes straight into the batch.
    resized = [None if value is None else processor.resized(value) for value in values]
    sizes = [(processor.size_divisor,) * 2, *(array.shape[:2] for array in resized if array is not None)]
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    padded = _zeros(len(resized), 3, height, width, dtype=torch.float32)
    mask = _zeros(len(resized), height, width, dtype=torch.bool)
    for row, array in enumerate(resized):
        if array is not None:
            processor.scale_into(array, padded[row, :, : array.shape[0], : array.shape[1]].numpy())
            mask[row, : array.shape[0], : array.shape[1]] = True
    return ModalityBatch(padded, mask)


def _zeros(*shape: int, dtype: torch.dtype) -> Tensor:
    """Return zeros; in a worker they are in shared memory from the start, which saves copying it there."""
    if get_worker_info() is None:
        return torch.zeros(shape, dtype=dtype)
    storage = torch.UntypedStorage._new_shared(dtype.itemsize * math.prod(shape))
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)  # new shared memory is zero already


def label_tensor(labels: Sequence[Any], task: Task) -> Tensor:
    """Return labels as the loss of a task reads them: int64 for classes, float32 for several labels and for regression.

    >>> label_tensor([1, 0], "binary"), label_tensor([np.array([1, 0])], "multilabel")
    (tensor([1, 0]), tensor([[1., 0.]]))
    """
    dtype = torch.int64 if task in ("binary", "multiclass") else torch.float32
    return torch.from_numpy(np.asarray(labels)).to(dtype)
