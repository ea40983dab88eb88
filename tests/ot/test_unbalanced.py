"""Marginals that may be missed: against other solvers, in the limits, and by finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmwa_utils.ot import ConvergenceWarning, UnbalancedResult, sinkhorn, sinkhorn_unbalanced

RHO = [0.05, 1.0, 30.0, (0.3, 2.0), (math.inf, 0.5), (0.5, math.inf)]


def by_plain_iterations(cost: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float, rho) -> np.ndarray:
    """The plan by the scaling iterations of Chizat et al. 2018 in float64, without any of the engine's ideas."""
    power_x, power_y = (1.0 if r == math.inf else r / (r + epsilon) for r in rho)
    kernel = a[:, None] * b * np.exp(-cost / epsilon)
    u, v = np.ones(len(a)), np.ones(len(b))
    for _ in range(20_000):
        u = (a / (kernel @ v)) ** power_x
        v = (b / (kernel.T @ u)) ** power_y
    return u[:, None] * kernel * v


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rho", RHO)
def test_equal_to_plain_iterations(clouds, weights, rho, dtype):
    cost, a, b = clouds(3, 8, 11).to(dtype), weights(3, 8).to(dtype), weights(3, 11, seed=1).to(dtype)
    result = sinkhorn_unbalanced(cost, epsilon=0.1, rho=rho, a=a, b=b)
    assert result.converged.all()
    pair = rho if isinstance(rho, tuple) else (rho, rho)
    for p in range(3):
        expected = by_plain_iterations(*(t[p].double().numpy() for t in (cost, result.a, result.b)), 0.1, pair)
        np.testing.assert_allclose(result.plan[p], expected, atol=2e-6 if dtype == torch.float32 else 1e-8, rtol=0)
    assert (result.duality_gap >= 0).all()
    assert (result.duality_gap <= (1e-5 if dtype == torch.float32 else 1e-8)).all()


@pytest.mark.parametrize("rho", [0.1, 2.0])
def test_equal_to_pot(clouds, weights, rho):
    ot = pytest.importorskip("ot", reason="POT IS NOT INSTALLED: the plans were compared with plain iterations only")
    cost, a, b = clouds(2, 8, 11), weights(2, 8), weights(2, 11, seed=1)
    result = sinkhorn_unbalanced(cost, epsilon=0.1, rho=rho, a=a, b=b)
    for p in range(2):
        options = {"reg_type": "kl", "numItermax": 20_000, "stopThr": 1e-14}
        expected = ot.unbalanced.sinkhorn_unbalanced(*(t[p].numpy() for t in (a, b, cost)), 0.1, rho, **options)
        np.testing.assert_allclose(result.plan[p], expected, atol=1e-7, rtol=0)


def test_many_iterations_less_by_moving_the_constant(clouds):
    """Plain iterations shrink the constant's error by (rho / (rho + epsilon))^2 each: here a thousand of them."""
    result = sinkhorn_unbalanced(clouds(4, 10, 12), epsilon=0.1, rho=200.0)
    assert result.converged.all()
    assert (result.n_iter < 500).all()


def test_tends_to_the_balanced_problem(clouds):
    cost = clouds(2, 8, 11)
    far = sinkhorn_unbalanced(cost, epsilon=0.2, rho=1e7)
    expected = sinkhorn(cost, epsilon=0.2)
    torch.testing.assert_close(far.plan, expected.plan, atol=1e-6, rtol=0)
    torch.testing.assert_close(far.value, expected.value, atol=1e-6, rtol=0)


def test_a_token_without_counterpart_is_left_behind():
    cost = torch.zeros(1, 3, 3, dtype=torch.float64)
    cost[0, 2] = 50.0
    result = sinkhorn_unbalanced(cost, epsilon=0.05, rho=0.5)
    assert result.plan[0, 2].sum() < 1e-12
    assert result.plan[0, :2].sum() > 0.5
    forbidden = cost.masked_fill(cost > 1, math.inf)
    torch.testing.assert_close(sinkhorn_unbalanced(forbidden, epsilon=0.05, rho=0.5).plan, result.plan)


def test_one_pair_of_tokens_in_closed_form():
    """For one token a side the plan p solves C + (epsilon + rho_x + rho_y) log p = 0."""
    cost = torch.tensor([[[0.7]]], dtype=torch.float64)
    result = sinkhorn_unbalanced(cost, epsilon=0.1, rho=(0.4, 1.5), tol=1e-12)
    p = math.exp(-0.7 / 2.0)
    assert float(result.plan) == pytest.approx(p, abs=1e-10)
    assert float(result.value) == pytest.approx(2.0 * (1 - p), abs=1e-10)


@pytest.mark.parametrize("rho", [0.3, (0.5, math.inf)])
@pytest.mark.parametrize("what", ["value", "transport_cost", "plan"])
def test_gradients_are_exact(clouds, weights, what, rho):
    cost, a, b = clouds(2, 4, 5), weights(2, 4), weights(2, 5, seed=1)
    mask = torch.ones(2, 4, dtype=torch.bool)
    mask[0, 3] = False

    def function(cost: torch.Tensor, log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
        options = {"epsilon": 0.3, "rho": rho, "tol": 1e-13, "mask_x": mask}
        a = log_a.masked_fill(~mask, -math.inf).softmax(1)
        return getattr(sinkhorn_unbalanced(cost, a=a, b=log_b.softmax(1), **options), what)

    inputs = [t.requires_grad_() for t in (cost, a.log(), b.log())]
    assert torch.autograd.gradcheck(function, inputs, atol=1e-6)
    if what == "value":
        assert torch.autograd.gradgradcheck(function, inputs, atol=1e-5)


def test_gradient_of_the_value_is_the_plan(clouds):
    cost = clouds(2, 6, 7).requires_grad_()
    result = sinkhorn_unbalanced(cost, epsilon=0.2, rho=0.5)
    torch.testing.assert_close(torch.autograd.grad(result.value.sum(), cost)[0], result.plan, atol=1e-8, rtol=0)


def test_padding_and_neighbours_change_nothing(clouds):
    cost = clouds(4, 6, 7)
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[1, 4:], mask[2] = False, False
    cost[1, 4:], cost[3, 1, 1] = math.nan, math.nan

    def solve(p: slice) -> UnbalancedResult:
        return sinkhorn_unbalanced(cost[p], epsilon=0.2, rho=0.5, mask_x=mask[p])

    with pytest.warns(ConvergenceWarning, match="1 of 4"):
        whole = solve(slice(None))
    assert whole.failed.tolist() == [False, False, False, True]
    assert whole.value.isnan().tolist() == [False, False, False, True]
    assert (whole.plan[1, 4:] == 0).all()
    assert whole.value[2] == 0
    torch.testing.assert_close(whole.plan[:1], solve(slice(0, 1)).plan, atol=1e-14, rtol=0)
    alone = sinkhorn_unbalanced(cost[1:2, :4], epsilon=0.2, rho=0.5)
    torch.testing.assert_close(whole.plan[1:2, :4], alone.plan, atol=1e-12, rtol=0)


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan, math.inf, (1.0,), (0.0, 1.0), (math.inf, math.inf)])
@pytest.mark.usefixtures("unchecked")
def test_a_wrong_price_is_refused(clouds, rho):
    with pytest.raises(ValueError, match="rho must be one or two numbers above 0, at most one of them infinite"):
        sinkhorn_unbalanced(clouds(1, 2, 3), epsilon=0.1, rho=rho)


@pytest.mark.parametrize(("name", "value"), [("tol", 0.0), ("max_iter", 0), ("epsilon", -1.0), ("rho", 0.0)])
def test_a_number_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    numbers = {"epsilon": 0.1, "rho": 1.0} | {name: value}
    with pytest.raises(ValueError, match=name):
        sinkhorn_unbalanced(torch.rand(1, 2, 3), **numbers)
