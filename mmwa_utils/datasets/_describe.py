"""What is in a dataset: fields, shapes, label balance and natural missingness, as a text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample, Split

LOOKED_AT = 200
"""Samples of a split that are decoded for shapes and missingness, evenly spread; labels are counted in full."""


def describe_splits(splits: Mapping[str, Split]) -> str:
    """Return the description of a dataset's splits.

    >>> from mmwa_utils import datasets
    >>> print(describe_splits(datasets.load("digits")))
    digits: multiclass, selected by accuracy (higher is better)
    ...
    """
    first = next(iter(splits.values()))
    better = "higher" if first.spec.higher_is_better else "lower"
    kind = "; a stand-in, not the release" if first.standin else ""
    lines = [f"{first.spec.name}: {first.spec.task}, selected by {first.spec.metric} ({better} is better){kind}"]
    for name, split in splits.items():
        lines += ["", f"{name}: {len(split)} samples"]
        lines += [f"  label  {line}" for line in _labels(split.labels(), split.spec)]
        step = max(1, len(split) // LOOKED_AT)
        samples = [_sizes(split[index]) for index in range(0, len(split), step)][:LOOKED_AT]
        lines += [f"  {item.name:<6} {_modality(item, samples)}" for item in split.spec.modalities]
    return "\n".join(lines)


def _labels(labels: np.ndarray, spec: DatasetSpec) -> list[str]:
    if spec.task == "regression":
        ends = f"from {labels.min():.3f} to {labels.max():.3f}"
        return [f"mean {labels.mean(dtype=float):.3f}, deviation {labels.std(dtype=float):.3f}, {ends}"]
    if spec.task == "multilabel":
        return [f"{name} {share:.1%}" for name, share in zip(spec.label_names, labels.mean(axis=0), strict=True)]
    names = ("not " + spec.label_names[0], *spec.label_names) if spec.task == "binary" else spec.label_names
    counts = np.bincount(labels, minlength=len(names))
    return [f"{name} {count} ({count / len(labels):.1%})" for name, count in zip(names, counts, strict=True)]


def _sizes(sample: Sample) -> Mapping[str, Sequence[int]]:
    """Number of words, width and height, or steps and features; the data are dropped at once, so memory stays flat."""
    return {
        name: (len(value.split()),) if isinstance(value, str) else getattr(value, "shape", None) or value.size
        for name, value in sample.modalities.items()
    }


def _modality(modality: ModalitySpec, samples: Sequence[Mapping[str, Sequence[int]]]) -> str:
    found = [sample[modality.name] for sample in samples if modality.name in sample]
    missing = f"absent in {len(samples) - len(found)} of {len(samples)} looked at"
    if not found:
        return f"{modality.kind}, {missing}"
    first, *second = (_range(numbers) for numbers in zip(*found, strict=True))
    if modality.kind == "text":
        return f"text, words a sample: {first}; {missing}"
    if modality.kind == "image":
        return f"image, width {first}, height {second[0]} pixels; {missing}"
    return f"stream, {modality.width} features, steps: {first}; {missing}"


def _range(values: Sequence[int]) -> str:
    low, middle, high = min(values), int(np.median(values)), max(values)
    return str(low) if low == high else f"{low} to {high} (median {middle})"
