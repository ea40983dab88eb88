"""Cost matrices between two batches of token sets, in IEEE arithmetic whatever the global settings say.

An error dC in the cost becomes a relative error dC / epsilon in the plan, so TensorFloat-32 (dC about 1e-3) would be as
large as the plan itself at epsilon 0.001. Half-precision tokens are widened to float32 first, autocast is off inside,
and the matrix products run at full float32 precision.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from . import _checks
from ._autograd import is_plain


def _lowered(x: Tensor) -> bool:
    """Whether the process lets float32 products be rounded further. The setting is read and never written.

    It is one for all threads, so a change for the duration of a call is seen by others, and may be what they restore.
    """
    backend: Any = torch.backends.cuda if x.is_cuda else torch.backends.mkldnn
    return x.dtype == torch.float32 and backend.matmul.fp32_precision not in ("ieee", "none")


def _no_autocast(device: str) -> Any:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _compiled(x: Float[Tensor, "batch n dim"], y: Float[Tensor, "batch m dim"], *more: Tensor) -> ModuleType | None:
    """The CPU back end where its passes take these tokens; of the largest, all threads together multiply faster."""
    if not (x.is_cpu and is_plain(x, y, *more) and x.numel() > 0 and y.numel() > 0) or _lowered(x):
        return None
    from . import _numba

    return _numba if x.shape[1] * y.shape[1] <= _numba.LARGEST else None


def _matmul(x: Float[Tensor, "batch n dim"], y: Float[Tensor, "batch dim m"]) -> Float[Tensor, "batch n m"]:
    """Batched matrix product in IEEE arithmetic."""
    return _product_operator(x, y) if torch.compiler.is_compiling() else _product(x, y)


def _product(x: Tensor, y: Tensor) -> Tensor:
    with _no_autocast(x.device.type):
        return torch.bmm(x.double(), y.double()).float() if _lowered(x) else torch.bmm(x, y)


# An operator, so compiled code keeps the settings too.
_product_operator = torch.library.custom_op("mmwa_ot::matmul", _product, mutates_args=())


_product_operator.register_fake(lambda x, y: x.new_empty((x.shape[0], x.shape[1], y.shape[2])))


def _matmul_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, y = ctx.saved_tensors
    return (
        _matmul(grad, y.mT) if ctx.needs_input_grad[0] else None,
        _matmul(x.mT, grad) if ctx.needs_input_grad[1] else None,
    )


def _matmul_setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


_product_operator.register_autograd(_matmul_backward, setup_context=_matmul_setup)


def _pull_back(
    weights: Float[Tensor, "batch n m"], scale: Float[Tensor, "batch n"], x: Tensor, y: Tensor
) -> Float[Tensor, "batch n dim"]:
    """`sum_j weights_ij y_j + scale_i x_i`: the gradient of both costs has this form."""
    return _matmul(weights, y).add_(scale[:, :, None] * x)


class _Cosine(torch.autograd.Function):
    """1 - <x, y> / (|x| |y|), and 1 / |x| and 1 / |y|."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One product and a scaling in place; the normalised tokens are never stored."""
        if compiled := _compiled(x, y):
            with _no_autocast("cpu"):
                return compiled.cosine(x, y)
        inverse_x, inverse_y = _inverse_norm(x), _inverse_norm(y)
        cost = _matmul(x, y.mT).mul_(-inverse_x[:, :, None]).mul_(inverse_y[:, None, :]).add_(1)
        return cost, inverse_x, inverse_y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Keep the norms, through which nothing is differentiated."""
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        """By d cos_ij / dx_i = y_j / (|x_i| |y_j|) - cos_ij x_i / |x_i|^2, and 0 at a zero vector."""
        x, y, cost, inverse_x, inverse_y = ctx.saved_tensors
        if torch.is_grad_enabled():
            # For a second derivative the norms must be functions of the tokens.
            inverse_x, inverse_y = _inverse_norm(x), _inverse_norm(y)
        elif compiled := _compiled(x, y, grad):
            with _no_autocast("cpu"):
                return compiled.cosine_gradient(grad, x, y, cost, inverse_x, inverse_y)
        weights = grad * (inverse_x[:, :, None] * -inverse_y[:, None, :])
        turning = torch.addcmul(grad, grad, cost, value=-1)
        turn_x, turn_y = turning.sum(2) * inverse_x**2, turning.sum(1) * inverse_y**2
        grad_x = _pull_back(weights, turn_x, x, y) if ctx.needs_input_grad[0] else None
        grad_y = _pull_back(weights.mT, turn_y, y, x) if ctx.needs_input_grad[1] else None
        return grad_x, grad_y


class _SquaredEuclidean(torch.autograd.Function):
    """|x - y|^2, from one product; the tokens come centred, so that little cancels."""

    generate_vmap_rule = True
    setup_context = staticmethod(_matmul_setup)

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Float[Tensor, "batch n m"]:
        """|x|^2 + |y|^2 - 2 <x, y>, not below 0."""
        cost = _matmul(x, y.mT).mul_(-2)
        return cost.add_((x * x).sum(2)[:, :, None]).add_((y * y).sum(2)[:, None, :]).clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        """2 (x_i - y_j): linear, so coincident points are nothing special."""
        x, y = ctx.saved_tensors
        grad_x = _pull_back(-2 * grad, 2 * grad.sum(2), x, y) if ctx.needs_input_grad[0] else None
        grad_y = _pull_back(-2 * grad.mT, 2 * grad.sum(1), y, x) if ctx.needs_input_grad[1] else None
        return grad_x, grad_y


def _inverse_norm(x: Float[Tensor, "batch n dim"]) -> Float[Tensor, "batch n"]:
    """1 / |x|, and 0 for a zero vector, with gradient 0 there: zero is what the number type cannot square."""
    norm = torch.linalg.vector_norm(x, dim=2)
    return norm.masked_fill(norm <= torch.finfo(x.dtype).tiny ** 0.5, torch.inf).reciprocal()


def cosine_cost(
    x: Float[Tensor, "batch n dim"],
    y: Float[Tensor, "batch m dim"],
    *,
    mask_x: Bool[Tensor, "batch n"] | None = None,
    mask_y: Bool[Tensor, "batch m"] | None = None,
) -> Float[Tensor, "batch n m"]:
    """Cosine distance `C_ij = 1 - <x_i, y_j> / (|x_i| |y_j|)`, between 0 and 2.

    Args:
        x: source tokens of any length and unit. Half precision is widened to float32, the result's type.
        y: target tokens.
        mask_x: True where there is a token; None means everywhere. What padding holds, NaN included, has no influence
            on other tokens and gets gradient exactly 0; its cost is 1.
        mask_y: the same for `y`.

    A zero vector has no direction: its cosine is taken as 0, its cost is 1 and its gradient 0. So is one whose squared
    length is not a normal number (shorter than 1e-19 in float32).

    Raises:
        ValueError: naming the argument, if a shape, number type, mask or device is wrong.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
        >>> cosine_cost(x, x)
        tensor([[[0., 1.], [1., 0.]]])
    """
    return _Cosine.apply(*_tokens(x, y, mask_x, mask_y))[0]


def sqeuclidean_cost(
    x: Float[Tensor, "batch n dim"],
    y: Float[Tensor, "batch m dim"],
    *,
    mask_x: Bool[Tensor, "batch n"] | None = None,
    mask_y: Bool[Tensor, "batch m"] | None = None,
) -> Float[Tensor, "batch n m"]:
    """Squared Euclidean distance `C_ij = |x_i - y_j|^2`, in the squared unit of the tokens.

    Args:
        x: source tokens. Half precision is widened to float32, the result's type.
        y: target tokens.
        mask_x: True where there is a token; None means everywhere. What padding holds, NaN included, has no influence
            on other tokens and gets gradient exactly 0.
        mask_y: the same for `y`.

    The distance grows with the dimension: for tokens of 768 features divide by 768 (or choose epsilon accordingly), or
    the plan is that of an unregularised problem, which float32 cannot resolve.

    Raises:
        ValueError: naming the argument, if a shape, number type, mask or device is wrong.

    Example:
        >>> x = torch.tensor([[[0.0], [3.0]]])
        >>> sqeuclidean_cost(x, x)
        tensor([[[0., 9.], [9., 0.]]])
    """
    x, y = _tokens(x, y, mask_x, mask_y)
    # Distances do not change with the origin, so a constant one leaves the gradient exact.
    centre = y.detach().mean(dim=1, keepdim=True) if y.shape[1] else 0
    return _SquaredEuclidean.apply(x - centre, y - centre)


def _tokens(x: Tensor, y: Tensor, mask_x: Tensor | None, mask_y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both batches checked, in one IEEE number type, with zeros at padding."""
    for name, tokens in (("x", x), ("y", y)):
        _checks.require_batch(name, tokens, "(batch, tokens, dim)")
    _checks.require_like("y", y, (x.shape[0], y.shape[1], x.shape[2]), "x", x.device)
    _checks.require_mask("mask_x", mask_x, (x.shape[0], x.shape[1]), "x", x.device)
    _checks.require_mask("mask_y", mask_y, (y.shape[0], y.shape[1]), "y", y.device)
    dtype = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
    x, y = x.to(dtype), y.to(dtype)
    x = x if mask_x is None else x.masked_fill(~mask_x[:, :, None], 0)
    y = y if mask_y is None else y.masked_fill(~mask_y[:, :, None], 0)
    return x, y
