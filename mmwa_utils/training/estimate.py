"""What a training run of the paper's size would take, computed from its shapes and not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmwa_utils import datasets
from mmwa_utils.fusion import ModelConfig
from mmwa_utils.fusion.config import TransformerSize
from mmwa_utils.fusion.encoders import DEFAULT_ENCODERS
from mmwa_utils.training.config import RunConfig

SUSTAINED = 40e12
"""Floating-point operations a second that we assume: about a third of a V100's 125e12 in half precision."""


@dataclass(frozen=True)
class Estimate:
    """Operations of one epoch, its hours at an assumed speed, and the memory of a step."""

    flops: float
    hours: float
    memory_gib: float


def estimate_epoch(
    config: RunConfig, *, samples: int, tokens: Mapping[str, int], sustained: float = SUSTAINED
) -> Estimate:
    """Compute the cost of one epoch of training a run's transformers.

    A layer of width d costs 24 d^2 + 4 n d operations for each of n tokens (projections and feed-forward layer; the
    two products of attention), and a training step three times its forward pass. Memory is 16 bytes a parameter
    (weight, gradient, Adam's two moments, in float32) and, in half precision, 34 + 5 n heads / d bytes a token, layer
    and unit of width for the activations (Korthikanti et al. 2023, "Reducing activation recomputation in large
    transformer models"). Loading data, evaluation, the alignment itself and encoders that are no transformers (linear,
    LSTM, ResNet) are left out.

    Args:
        config: the run; its profile gives the transformers' sizes.
        samples: training samples.
        tokens: tokens of each modality. In late fusion a text and an image have transformers of their own first.
        sustained: floating-point operations a second.

    >>> config = RunConfig.for_profile("paper", dataset="hateful_memes")
    >>> estimate = estimate_epoch(config, samples=8500, tokens={"text": 40, "image": 145})
    >>> f"{estimate.flops:.1e}", round(estimate.memory_gib)
    ('8.3e+14', 4)
    """
    sizes = ModelConfig.for_profile(config.profile)
    together = sum(tokens.values())
    if config.fusion == "early":
        passes = [(sizes.early, together)]
    else:
        spec = datasets.spec(config.dataset, **(dict(config.options) if config.dataset == "digits" else {}))
        kinds = {name: spec.modality(name).kind for name in tokens}
        own = {name: config.encoders.get(name, DEFAULT_ENCODERS[kind]) for name, kind in kinds.items()}
        encoded = [(sizes.encoder, length) for name, length in tokens.items() if own[name] in ("bert", "vit")]
        passes = [*encoded, (sizes.late, together)]
    flops = 3 * samples * sum(_flops(size, length) for size, length in passes)
    batch = config.device_batch_size or config.batch_size
    memory = sum(16 * _parameters(size) + batch * _activations(size, length) for size, length in passes)
    return Estimate(flops, flops / sustained / 3600, memory / 2**30)


def _parameters(size: TransformerSize) -> int:
    return 12 * size.layers * size.dim**2


def _flops(size: TransformerSize, length: int) -> float:
    return size.layers * length * (24.0 * size.dim**2 + 4.0 * length * size.dim)


def _activations(size: TransformerSize, length: int) -> float:
    return size.layers * length * size.dim * (34 + 5 * length * size.heads / size.dim)
