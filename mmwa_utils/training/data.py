"""The data of a run: its splits, how samples become batches, and a fingerprint of all that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import standins
from mmwa_utils import datasets
from mmwa_utils.corruption import LossySplit
from mmwa_utils.datasets.collate import Collator
from mmwa_utils.datasets.processing import PRETRAINED, Processor, load_processor
from mmwa_utils.training.config import RunConfig
from mmwa_utils.types import DatasetSpec, Split


@dataclass(frozen=True)
class RunData:
    """The splits "train", "val" and "test" of a run's dataset, and their collator."""

    root: Path | None
    splits: Mapping[str, Split]
    collate: Collator
    processor: Processor | None
    """None where no modality is text or image."""

    @property
    def spec(self) -> DatasetSpec:
        """Return the dataset's specification."""
        return self.splits["train"].spec

    @property
    def standin(self) -> bool:
        """Return whether the files are a stand-in's."""
        return self.splits["train"].standin

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of what the samples of all splits depend on."""
        return hashlib.sha256("".join(split.fingerprint for split in self.splits.values()).encode()).hexdigest()


def open_data(config: RunConfig) -> RunData:
    """Open a run's dataset: the release at `data_root`, or a stand-in, which is written first if it is not there.

    Raises:
        DatasetError: the folder holds no known layout, or no processor; names the file and the remedy.
    """
    root = Path(config.data_root) if config.data_root else None
    if root is None and config.dataset in standins.STANDINS:
        root = standins.cached(config.dataset, config.samples, config.data_seed)
    splits = dict(datasets.load(config.dataset, root, **config.options))
    if config.missing_rate:
        splits["train"] = LossySplit(splits["train"], rate=config.missing_rate, seed=config.seed)
    kinds = {modality.kind for modality in splits["train"].spec.modalities}
    processor = load_processor(_processor_source(config, root)) if kinds & {"text", "image"} else None
    return RunData(root, splits, Collator(splits["train"].spec, processor), processor)


def _processor_source(config: RunConfig, root: Path | None) -> Path | str:
    """Return where the tokenizer and the image processor are: beside a stand-in, else with the pretrained weights."""
    if root is not None and (root / "processor").is_dir():
        return root / "processor"
    if isinstance(config.pretrained, str):
        return config.pretrained
    return PRETRAINED
