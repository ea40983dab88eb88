"""What float32, half precision, autocast, TensorFloat-32 and a wide range of costs do to the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from mmwa_utils.ot import cosine_cost, sinkhorn, sqeuclidean_cost
from mmwa_utils.ot._problem import KERNEL_RANGE


@contextmanager
def low_precision_products() -> Iterator[None]:
    """The global settings under which a float32 product may be TensorFloat-32 on a GPU and bfloat16 on a CPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
        assert torch.get_float32_matmul_precision() == "medium", "the caller's setting was changed"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("R", [1.0, 10.0, 20.0, 40.0])
@pytest.mark.parametrize(("n", "m"), [(20, 50), (32, 128), (50, 240)])
def test_float32_plan_within_the_kernel_range(clouds, n, m, R):
    cost = clouds(4, n, m, spread=1.5).float()
    epsilon = float((cost.amax((1, 2)) - cost.amin((1, 2))).max()) / R
    single = sinkhorn(cost, epsilon=epsilon)
    double = sinkhorn(cost.double(), epsilon=epsilon, tol=1e-12)
    # In total variation, so no entry is off by more; tol is 1e-6 and float32 sums add about as much.
    assert (single.plan - double.plan).abs().sum((1, 2)).max() / 2 <= 5e-6
    assert (single.value - double.value).abs().max() <= 5e-6 * epsilon * R


@pytest.mark.parametrize("R", [60.0, 200.0, 400.0])
def test_float32_plan_beyond_the_kernel_range(clouds, R):
    cost = clouds(4, 20, 50, spread=1.5).float()
    epsilon = float((cost.amax((1, 2)) - cost.amin((1, 2))).max()) / R
    assert epsilon * KERNEL_RANGE[torch.float32] < cost.max() - cost.min()
    single = sinkhorn(cost, epsilon=epsilon, tol=1e-9, max_iter=200_000)
    double = sinkhorn(cost.double(), epsilon=epsilon, tol=1e-11, max_iter=200_000)
    # Potentials and exponents are float64, so what is left is the rounding of the float32 plan, and the tolerance as
    # amplified by a rate of convergence of up to 0.9999.
    assert (single.plan - double.plan).abs().sum((1, 2)).max() / 2 <= 5e-6


@pytest.mark.parametrize("shift", [0.0, 1e3, -1e3])
def test_a_large_constant_in_the_cost_is_harmless(clouds, shift):
    cost = (clouds(2, 10, 20).float() + shift).double()
    result = sinkhorn(cost.float(), epsilon=0.2)
    expected = sinkhorn(cost, epsilon=0.2, tol=1e-12)
    assert (result.plan - expected.plan).abs().sum((1, 2)).max() / 2 <= 5e-6


@pytest.mark.parametrize("make", [cosine_cost, sqeuclidean_cost])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_inputs_of_any_precision_under_autocast_and_fast_products(make, dtype):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, n, 64, generator=generator).div(8).to(dtype) for n in (20, 50))
    explicit_x, explicit_y = (t.float().requires_grad_() for t in (x, y))
    expected = sinkhorn(make(explicit_x, explicit_y), epsilon=0.2)
    expected_x = torch.autograd.grad(expected.value.sum(), explicit_x)[0]
    exact = make(x.double(), y.double())
    x = x.requires_grad_()
    with low_precision_products(), torch.autocast("cpu", dtype=torch.bfloat16):
        cost = make(x, y)
        result = sinkhorn(cost, epsilon=0.2)
        (gradient,) = torch.autograd.grad(result.value.sum(), x)
    assert cost.dtype == torch.float32
    # A product in bfloat16 would be off by 1e-2, in TensorFloat-32 by 1e-3.
    assert (cost - exact).abs().max() <= 2e-6
    assert (result.value - expected.value).abs().max() <= 1e-5
    assert (result.plan - expected.plan).abs().max() <= 1e-5
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, expected_x.to(dtype), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_cost_is_solved_in_float32(clouds, dtype):
    cost = clouds(2, 10, 20).to(dtype)
    result, expected = sinkhorn(cost, epsilon=0.2), sinkhorn(cost.float(), epsilon=0.2)
    assert result.plan.dtype == torch.float32
    assert torch.equal(result.plan, expected.plan)


def test_coincident_points_far_from_the_origin():
    x = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0)) + 100
    cost = sqeuclidean_cost(x, x)[0]
    exact = sqeuclidean_cost(x.double(), x.double())[0]
    # |x|^2 is 3e5 here and its rounding 0.02; centred it is 32 and its rounding 4e-6, a few of which add up.
    assert (cost - exact).abs().max() <= 1e-4
    assert (cost >= 0).all()


def test_negative_costs(clouds):
    cost = clouds(2, 10, 20)
    below, above = sinkhorn(cost - 5, epsilon=0.2, tol=1e-12), sinkhorn(cost, epsilon=0.2, tol=1e-12)
    torch.testing.assert_close(below.value, above.value - 5)
    assert (below.value < 0).all()
    torch.testing.assert_close(below.plan, above.plan)
