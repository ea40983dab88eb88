"""Early and late fusion transformers with one call signature: `build_model(...)(batch.modalities) -> FusionOutput`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mmwa_utils.fusion.base import FusionModel, n_outputs
from mmwa_utils.fusion.config import EncoderName, FusionName, ModelConfig
from mmwa_utils.fusion.early import EarlyFusion
from mmwa_utils.fusion.late import LateFusion
from mmwa_utils.fusion.output import FusionOutput
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
        fusion: "early" (ViLT) or "late" (an encoder per modality).
        config: sizes, usually `ModelConfig.for_profile(...)`.
        pretrained: local folder or hub name of ViLT weights for early fusion; a mapping from modality name to
            such a place for late fusion; None for random weights.

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
    models: Mapping[str, Callable[..., FusionModel]] = {"early": EarlyFusion, "late": LateFusion}
    if fusion not in models:
        raise ValueError(f"fusion {fusion!r} is unknown: use 'early' or 'late'")
    form = "{modality name: folder or hub name}" if fusion == "late" else "one folder or hub name"
    if pretrained is not None and isinstance(pretrained, Mapping) != (fusion == "late"):
        raise ValueError(f"pretrained: {fusion} fusion takes {form}, not {pretrained!r}")
    return models[fusion](spec, config, pretrained=pretrained)
