"""What a training run of the paper's size would take, computed from its shapes and not measured."""

from __future__ import annotations

from collections.abc import Mapping

from mmwa_utils.fusion import ModelConfig
from mmwa_utils.fusion.encoders import ENCODERS
from mmwa_utils.training.config import RunConfig

SUSTAINED = 40e12
"""Floating-point operations a second that we assume: about a third of a V100's 125e12 in half precision."""
TRIES = 5 + 4 * 13 + 2 * 5
"""Runs of a fusion in the paper profile: learning rates, then alpha and beta, then five seeds of both arms."""


def estimate_epoch(
    config: RunConfig, *, samples: int, tokens: Mapping[str, int], others: float = 0
) -> dict[str, float]:
    """Compute what training a run's transformers costs, as the row of a table: quantity and unit -> value.

    A layer of width d costs 24 d^2 + 4 n d operations for each of n tokens (projections and feed-forward layer; the
    two products of attention), and a training step three times its forward pass. Memory is 16 bytes per parameter
    (weight, gradient, Adam's two moments, in float32) and, in half precision, 34 + 5 n heads / d bytes per token, layer
    and unit of width for the activations (Korthikanti et al. 2023, "Reducing activation recomputation in large
    transformer models"). Loading data, evaluation, the alignment itself and encoders that are no transformers (linear,
    LSTM, ResNet) are left out.

    Args:
        config: the run; its profile gives the transformers' sizes.
        samples: training samples.
        tokens: tokens of each modality. In late fusion a text and an image have transformers of their own first.
        others: operations per sample, in the forward pass of late fusion, of encoders that are no transformers.

    >>> config = RunConfig.for_profile("paper", dataset="hateful_memes")
    >>> cost = estimate_epoch(config, samples=8500, tokens={"text": 40, "image": 145})
    >>> round(cost["PFLOP an epoch"], 2), round(cost["GiB a step"])
    (0.83, 4)
    """
    sizes = ModelConfig.for_profile(config.profile)
    passes = [(sizes.early if config.fusion == "early" else sizes.late, sum(tokens.values()))]
    if config.fusion == "late":
        kinds = {modality.name: modality.kind for modality in config.spec.modalities}
        own = {name: config.encoders.get(name, ENCODERS[kinds[name]][0]) for name in tokens}
        passes += [(sizes.encoder, length) for name, length in tokens.items() if own[name] in ("bert", "vit")]
    batch = config.device_batch_size or config.batch_size
    flops, memory = 3 * samples * others * (config.fusion == "late"), 0.0
    for size, n in passes:
        width, layers = size.dim, size.layers
        flops += 3 * samples * layers * n * (24 * width**2 + 4 * n * width)
        memory += 16 * 12 * layers * width**2 + batch * layers * n * width * (34 + 5 * n * size.heads / width)
    hours = flops / SUSTAINED / 3600
    times = {"minutes an epoch": 60 * hours, "hours a run": config.epochs * hours}
    times["hours, selection and runs"] = TRIES * (config.epochs * hours)
    return {"PFLOP an epoch": flops / 1e15, **times, "GiB a step": memory / 2**30}
