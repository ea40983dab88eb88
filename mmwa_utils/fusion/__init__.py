"""Early and late fusion transformers with one call signature: `build_model(...)(batch.modalities) -> FusionOutput`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transformers import AutoConfig

from mmwa_utils.fusion.base import FusionModel, n_outputs
from mmwa_utils.fusion.config import EncoderName, FusionName, ModelConfig
from mmwa_utils.fusion.early import EarlyFusion
from mmwa_utils.fusion.installed import locate
from mmwa_utils.fusion.late import LateFusion
from mmwa_utils.fusion.output import FusionOutput
from mmwa_utils.fusion.tower import TowerFusion
from mmwa_utils.types import DatasetSpec

Pretrained = str | Path | Mapping[str, str | Path] | None
TOWER = "tower"
"""The key of the weights of early fusion's one transformer."""


def split_pretrained(pretrained: Pretrained) -> tuple[str | Path | None, dict[str, str | Path]]:
    """Return the weights of early fusion's tower, and those of modalities' encoders by modality.

    >>> split_pretrained("vilt"), split_pretrained({"tower": "minilm-l6", "image": "efficientnet-lite0"})
    (('vilt', {}), ('minilm-l6', {'image': 'efficientnet-lite0'}))
    """
    places = dict(pretrained) if isinstance(pretrained, Mapping) else {}
    tower = places.pop(TOWER, None) if isinstance(pretrained, Mapping) else pretrained
    return tower, places


def build_model(
    spec: DatasetSpec, *, fusion: FusionName, config: ModelConfig, pretrained: Pretrained = None
) -> FusionModel:
    """Build a fusion model for a dataset; random weights come from torch's global generator.

    Args:
        spec: the dataset's modalities and task.
        fusion: "early" (one tower: ViLT, or BERT where `pretrained` names its weights) or "late" (an encoder per
            modality).
        config: sizes, usually `ModelConfig.for_profile(...)`.
        pretrained: local folders, hub names or installed names (`installed.INSTALLED`) of weights. Late fusion: a
            mapping from modality name to its encoder's. Early fusion: the tower's, or a mapping that has them under
            "tower" and, beside a BERT, the encoders of images under the modality's name. None for random weights.

    Raises:
        ValueError: an unknown fusion, or `pretrained` in the other fusion's form.

    Example:
        >>> import torch
        >>> from mmwa_utils.types import ModalityBatch, ModalitySpec
        >>> views = (ModalitySpec("left", "stream", width=4, max_length=8), ModalitySpec("right", "stream", 4, 8))
        >>> spec = DatasetSpec("views", views, "multiclass", 10, tuple("0123456789"), "accuracy")
        >>> model = build_model(spec, fusion="late", config=ModelConfig.for_profile("smoke"))
        >>> view = ModalityBatch(torch.randn(2, 8, 4), torch.ones(2, 8, dtype=torch.bool))
        >>> output = model({"left": view, "right": view})
        >>> tuple(output.logits.shape), tuple(output.tokens["last"]["left"].values.shape)
        ((2, 10), (2, 8, 32))
    """
    if fusion not in ("early", "late"):
        raise ValueError(f"fusion {fusion!r} is unknown: use 'early' or 'late'")
    tower, encoders = split_pretrained(pretrained)
    if fusion == "late":
        if tower is not None:
            raise ValueError(f"pretrained: late fusion takes {{modality name: folder or hub name}}, not {pretrained!r}")
        return LateFusion(spec, config, pretrained=encoders)
    if tower is not None and AutoConfig.from_pretrained(locate(tower)).model_type == "bert":
        return TowerFusion(spec, config, tower=tower, pretrained=encoders)
    if encoders:
        form = "one folder or hub name of ViLT, or {'tower': that of a BERT, image modality: its encoder's}"
        raise ValueError(f"pretrained: early fusion takes {form}, not {pretrained!r}")
    return EarlyFusion(spec, config, pretrained=tower)
