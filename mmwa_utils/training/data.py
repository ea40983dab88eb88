"""The data of a run: its splits, how samples become batches, and a fingerprint of all that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import standins
from mmwa_utils import datasets
from mmwa_utils.corruption import LossySplit
from mmwa_utils.datasets.collate import Collator
from mmwa_utils.datasets.processing import PRETRAINED, Processor, grid_images, load_processor
from mmwa_utils.fusion import ModelConfig, split_pretrained
from mmwa_utils.fusion.installed import INSTALLED, locate
from mmwa_utils.training.config import RunConfig
from mmwa_utils.training.features import FeatureCollator, FeatureStore
from mmwa_utils.types import Batch, DatasetSpec, Sample, Split


@dataclass(frozen=True)
class RunData:
    """The splits "train", "val" and "test" of a run's dataset, and their collator."""

    root: Path | None
    splits: Mapping[str, Split]
    collate: Callable[[Sequence[Sample]], Batch]
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
    spec = splits["train"].spec
    processor = _processor(config, spec, root) if {m.kind for m in spec.modalities} & {"text", "image"} else None
    collate = Collator(spec, processor)
    if not config.freeze_encoders:
        return RunData(root, splits, collate, processor)
    sizes = model_config(config, processor)
    frozen = split_pretrained(config.pretrained)[1]
    stores = {name: FeatureStore(spec.modality(name), sizes, place) for name, place in frozen.items()}
    return RunData(root, splits, FeatureCollator(collate, stores), processor)


def model_config(config: RunConfig, processor: Processor | None) -> ModelConfig:
    """Return the sizes of a run's model: the profile's, with the tokenizer's vocabulary."""
    own: dict[str, Any] = {"freeze_encoders": config.freeze_encoders, "encoders": config.encoders}
    if config.fusion == "early" and config.pretrained is not None:
        own["dropout"] = 0.1  # a pretrained tower is tuned as it was pretrained, whatever small models are given
    if processor is not None:
        tokenizer = processor.tokenizer
        own |= {"vocab_size": processor.vocabulary_size, "cls_token_id": tokenizer.cls_token_id}
        own |= {"pad_token_id": tokenizer.pad_token_id}
    return ModelConfig.for_profile(config.profile, **own)


def reading(config: RunConfig) -> str:
    """Return what a run's batches depend on besides its data: runs of one reading can share them."""
    if config.pretrained is None:
        return ""
    encoders = [config.fusion, config.encoders] if config.freeze_encoders else None
    return json.dumps([config.pretrained, encoders], sort_keys=True)


def _processor(config: RunConfig, spec: DatasetSpec, root: Path | None) -> Processor:
    """Return the tokenizer and the image processor of installed weights, else those beside the data or the weights."""
    tower, encoders = split_pretrained(config.pretrained)
    texts = [encoders.get(m.name, tower) for m in spec.modalities if m.kind == "text"]
    words = next((place for place in (*texts, tower) if place is not None), PRETRAINED)
    beside = root / "processor" if root is not None else None
    if words not in INSTALLED and beside is not None and beside.is_dir():
        words = beside
    images = [encoders.get(m.name, tower) for m in spec.modalities if m.kind == "image"]
    return load_processor(locate(words), images=grid_images() if INSTALLED.keys() & set(images) else None)
