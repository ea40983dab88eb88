"""Padding, empty problems and problems with a cost that is no number: defined, finite, flagged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmwa_utils.ot import (
    ConvergenceWarning,
    SinkhornResult,
    cosine_cost,
    sinkhorn,
    sinkhorn_divergence,
    sqeuclidean_cost,
)

GARBAGE = (float("nan"), float("inf"), float("-inf"), 1e30)
# General masks, not only prefixes: problem 0 is full, 1 has holes, 2 is padded behind, 3 in front.
MASK_X = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], dtype=torch.bool)
MASK_Y = torch.tensor(
    [[1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1]], dtype=torch.bool
)


def tokens(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(result: SinkhornResult, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Of all three differentiable results at once."""
    loss = (result.value + result.transport_cost + (result.plan**2).sum((1, 2))).sum()
    return torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
@pytest.mark.parametrize("make", [cosine_cost, sqeuclidean_cost])
def test_padded_equals_unpadded(make, dtype, close, garbage):
    x, y = tokens(4, 5, 3, seed=0).to(dtype), tokens(4, 7, 3, seed=1).to(dtype)
    x[~MASK_X], y[~MASK_Y] = garbage, garbage
    x, y = x.requires_grad_(), y.requires_grad_()
    cost = make(x, y, mask_x=MASK_X, mask_y=MASK_Y)
    result = sinkhorn(cost, epsilon=0.5, mask_x=MASK_X, mask_y=MASK_Y, tol=1e-6)
    grad_x, grad_y = gradients(result, x, y)
    assert (grad_x[~MASK_X] == 0).all()
    assert (grad_y[~MASK_Y] == 0).all()
    for p in range(4):
        rows, cols = MASK_X[p], MASK_Y[p]
        xp, yp = x[p : p + 1, rows].detach().requires_grad_(), y[p : p + 1, cols].detach().requires_grad_()
        alone = sinkhorn(make(xp, yp), epsilon=0.5, tol=1e-6)
        alone_x, alone_y = gradients(alone, xp, yp)
        near = {"atol": close, "rtol": close}
        torch.testing.assert_close(result.value[p : p + 1], alone.value, **near)
        torch.testing.assert_close(result.plan[p][rows][:, cols], alone.plan[0], **near)
        torch.testing.assert_close(result.f[p][rows], alone.f[0], **near)
        torch.testing.assert_close(result.g[p][cols], alone.g[0], **near)
        # Squared distances of up to 30 are rounded to a last bit of 2e-6, differently in a product of another shape.
        near["atol"] *= 5 if make is sqeuclidean_cost else 1
        torch.testing.assert_close(grad_x[p][rows], alone_x[0], **near)
        torch.testing.assert_close(grad_y[p][cols], alone_y[0], **near)
        assert (result.plan[p][~rows] == 0).all()
        assert (result.plan[p][:, ~cols] == 0).all()
        assert (result.f[p][~rows] == 0).all()


@pytest.mark.parametrize("make", [cosine_cost, sqeuclidean_cost])
def test_padding_changes_nothing_about_a_given_cost(make):
    """In float32, where the cost of padded tokens may round differently: from the cost on, no difference at all."""
    cost = make(tokens(4, 5, 3, seed=0), tokens(4, 7, 3, seed=1)).requires_grad_()
    result = sinkhorn(cost, epsilon=0.5, mask_x=MASK_X, mask_y=MASK_Y)
    (grad,) = gradients(result, cost)
    for p in range(4):
        rows, cols = MASK_X[p], MASK_Y[p]
        inside = cost[p : p + 1, rows][:, :, cols].detach().requires_grad_()
        alone = sinkhorn(inside, epsilon=0.5)
        (grad_alone,) = gradients(alone, inside)
        assert torch.equal(result.plan[p][rows][:, cols], alone.plan[0])
        assert result.n_iter[p] == alone.n_iter[0]
        torch.testing.assert_close(grad[p][rows][:, cols], grad_alone[0], atol=1e-12, rtol=1e-6)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_the_padding_of_the_cost_itself(clouds, garbage):
    clean = clouds(4, 5, 7).float()
    valid = MASK_X[:, :, None] & MASK_Y[:, None, :]
    dirty = clean.masked_fill(~valid, garbage).requires_grad_()
    options = {"epsilon": 0.2, "mask_x": MASK_X, "mask_y": MASK_Y}
    expected, result = sinkhorn(clean, **options), sinkhorn(dirty, **options)
    assert torch.equal(result.plan, expected.plan)
    assert torch.equal(result.value, expected.value)
    assert torch.equal(result.duality_gap, expected.duality_gap)
    (gradient,) = torch.autograd.grad((result.value + result.transport_cost).sum(), dirty)
    assert gradient.isfinite().all()
    assert (gradient[~valid] == 0).all()


def test_weights_of_zero_are_padding(clouds, weights):
    cost, a = clouds(1, 5, 7), weights(1, 5)
    a[0, 2] = 0
    a = a / a.sum()
    mask = a > 0
    by_weight, by_mask = sinkhorn(cost, epsilon=0.2, a=a), sinkhorn(cost, epsilon=0.2, a=a, mask_x=mask)
    assert torch.equal(by_weight.plan, by_mask.plan)
    assert (by_weight.plan[0, 2] == 0).all()


def test_weights_at_padding_are_ignored(clouds, weights):
    cost, a = clouds(4, 5, 7), weights(4, 5)
    a = a.masked_fill(~MASK_X, 0)
    a = a / a.sum(1, keepdim=True)
    dirty = a.masked_fill(~MASK_X, float("nan"))
    assert torch.equal(
        sinkhorn(cost, epsilon=0.2, a=dirty, mask_x=MASK_X).plan, sinkhorn(cost, epsilon=0.2, a=a, mask_x=MASK_X).plan
    )


def test_empty_problems(clouds):
    cost = clouds(3, 4, 5).requires_grad_()
    mask_x = torch.ones(3, 4, dtype=torch.bool)
    mask_y = torch.ones(3, 5, dtype=torch.bool)
    mask_x[0], mask_y[1] = False, False
    result = sinkhorn(cost, epsilon=0.2, mask_x=mask_x, mask_y=mask_y)
    assert result.empty.tolist() == [True, True, False]
    assert result.converged.all()
    assert not result.failed.any()
    assert result.n_iter.tolist()[:2] == [0, 0]
    for tensor in (result.value, result.transport_cost, result.duality_gap, result.plan, result.f, result.g):
        assert (tensor[:2] == 0).all()
    assert result.value[2] != 0
    (gradient,) = torch.autograd.grad((result.value + result.transport_cost).sum(), cost)
    assert gradient.isfinite().all()
    assert (gradient[:2] == 0).all()


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_axes_of_length_zero(shape):
    result = sinkhorn(torch.zeros(shape), epsilon=0.2)
    assert result.value.tolist() == [0.0] * shape[0]
    assert result.plan.shape == shape
    assert result.empty.all()


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_cost_that_is_no_number_flags_its_problem_alone(clouds, bad):
    clean = clouds(3, 4, 5)
    cost = clean.clone()
    cost[1, 2, 3] = bad
    cost.requires_grad_()
    with pytest.warns(ConvergenceWarning, match="1 of 3 .*1 of them because their cost is NaN or -inf"):
        result = sinkhorn(cost, epsilon=0.2)
    assert result.converged.tolist() == [True, False, True]
    assert result.failed.tolist() == [False, True, False]
    assert (result.n_iter == 0).tolist() == [False, True, False]
    assert result.value.isnan().tolist() == [False, True, False]
    assert result.transport_cost.isnan().tolist() == [False, True, False]
    assert result.marginal_error.isnan().tolist() == [False, True, False]
    (gradient,) = torch.autograd.grad((result.value + result.transport_cost).nansum(), cost)
    assert (gradient[1] == 0).all()
    neighbours = sinkhorn(clean[[0, 2]], epsilon=0.2)
    assert torch.equal(result.value[[0, 2]], neighbours.value)


def test_a_divergence_with_an_empty_side_is_zero(clouds):
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[1] = True
    result = sinkhorn_divergence(clouds(2, 4, 5), clouds(2, 4, 4), clouds(2, 5, 5), epsilon=0.5, mask_x=mask)
    assert result.value[0] == 0
    assert result.value[1] != 0
