"""What `sinkhorn` and the costs accept: every complaint names the argument and what was found."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def require_float(name: str, tensor: Tensor) -> None:
    """A floating-point tensor."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, found {type(tensor).__name__}")
    if torch.jit.is_tracing():
        raise RuntimeError("torch.jit.trace would keep the numbers of its example: use torch.compile or torch.export")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating-point, found {tensor.dtype}: convert it with .float()")


def require_batch(name: str, tensor: Tensor, axes: str) -> None:
    """A floating-point tensor with these three axes."""
    require_float(name, tensor)
    if tensor.ndim != 3:
        shape = tuple(tensor.shape)
        raise ValueError(f"{name} must be {axes}, found shape {shape}: a batch of one is made with {name}[None]")


def require_like(name: str, tensor: Tensor, shape: tuple[int, ...], other: str, device: torch.device) -> None:
    """Exactly this shape, and the device of the main argument."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape} to go with {other}, found {tuple(tensor.shape)}")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device} but {other} is on {device}: move one of them")


def require_mask(name: str, mask: Tensor | None, shape: tuple[int, int], other: str, device: torch.device) -> None:
    """A boolean mask, True where there is a token, of this shape and on this device; or None."""
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"{name} must be a boolean tensor, True where there is a token, found {found}")
    require_like(name, mask, shape, other, device)


def require_positive(name: str, number: float) -> None:
    """A finite number above 0; no tensor, whose gradient would be lost."""
    if isinstance(number, Tensor) or not 0 < number < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, found {number}")


def require_weights(name: str, weights: Tensor, mask: Tensor | None) -> None:
    """Weights that are >= 0 at tokens, and sum to 1, or to 0 for an empty problem. Reads the values."""
    valid = weights if mask is None else weights.masked_fill(~mask, 0)
    if not bool(torch.isfinite(valid).all()) or bool((valid < 0).any()):
        raise ValueError(f"{name} must be finite and >= 0 at every token, found {float(valid.min()):g} as its smallest")
    total = valid.sum(dim=1, dtype=torch.float64 if valid.device.type != "mps" else torch.float32)
    # Weights of 16 bits are off by up to a few thousandths after rounding; a forgotten normalisation is off by more.
    wrong = ((total - 1).abs() > 1e-2) & (total != 0)
    if bool(wrong.any()):
        p = int(wrong.nonzero()[0])
        raise ValueError(
            f"{name} must sum to 1 over the tokens of each problem, as both marginals must sum alike; found"
            f" {float(total[p]):g} in problem {p}: divide {name} by its sum"
        )
