"""Costs and epsilons of any size: the value is right, or what the result says of itself is no better than the truth."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from mmwa_utils.ot import ConvergenceWarning, _large, _numba, _torch, reference, sinkhorn
from mmwa_utils.ot._problem import Problem

LARGEST = torch.finfo(torch.float32).max


@pytest.fixture
def by_rows(monkeypatch) -> None:
    """Every problem is taken for a large one, in tiles of a few rows."""
    monkeypatch.setattr(_numba, "LARGEST", 0)
    monkeypatch.setattr(_large, "TILE", 64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [1.0, 30.0, 1e3, 1e6, 1e12, 1e30])
def test_value_at_large_epsilon_tends_to_the_independent_plans(clouds, dtype, epsilon):
    cost = clouds(3, 12, 17).to(dtype)
    result = sinkhorn(cost, epsilon=epsilon)
    # V = E C - (variance of what rows and columns do not explain) / (2 epsilon) + ..., which lies below E C.
    exact = cost.double()
    rest = exact - exact.mean(1, keepdim=True) - exact.mean(2, keepdim=True) + exact.mean((1, 2), keepdim=True)
    expected = exact.mean((1, 2)) - rest.square().mean((1, 2)) / (2 * epsilon)
    # The next term is of third order in the range, 2 at the most, over epsilon.
    assert ((result.value - expected).abs() <= 1 / epsilon**2 + (1e-6 if dtype == torch.float32 else 1e-9)).all()
    assert result.converged.all()
    mask = torch.arange(12) < 9
    part = sinkhorn(cost, epsilon=epsilon, mask_x=mask.expand(3, -1))
    torch.testing.assert_close(part.value, sinkhorn(cost[:, :9].contiguous(), epsilon=epsilon).value)
    assert (part.plan[:, 9:] == 0).all()


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("huge", [1e4, 1e9, 1e12, 1e16, 1e18, LARGEST, math.inf])
def test_a_forbidden_pair_may_cost_anything(clouds, weights, request, huge, rows):
    if rows:
        request.getfixturevalue("by_rows")
    base = clouds(2, 12, 14)
    forbidden = torch.rand(2, 12, 14, generator=torch.Generator().manual_seed(1)) < 0.4
    forbidden[:, range(12), range(12)] = False
    forbidden[:, 0, 12:] = False
    cost, a, b = base.float().masked_fill(forbidden, huge), weights(2, 12).float(), weights(2, 14, seed=1).float()
    result = sinkhorn(cost, epsilon=0.1, a=a, b=b, tol=1e-6, max_iter=20_000)
    assert result.converged.all()
    assert not result.infeasible.any()
    assert (result.plan[forbidden] == 0).all()
    for p in range(2):
        wide = base[p].float().double().masked_fill(forbidden[p], 1e4).numpy()
        ap, bp = (w[p].double().numpy() / w[p].double().sum().item() for w in (a, b))
        expected = reference.sinkhorn(wide, ap, bp, epsilon=0.1, tol=1e-10)
        assert float(result.value[p]) == pytest.approx(expected.value, abs=2e-6)
        np.testing.assert_allclose(result.plan[p], expected.plan, atol=2e-6, rtol=0)
    cost.requires_grad_()
    solved = sinkhorn(cost, epsilon=0.1, a=a, b=b, max_iter=20_000)
    (gradient,) = torch.autograd.grad((solved.value + solved.transport_cost).sum(), cost)
    assert gradient.isfinite().all()
    assert (gradient[forbidden] == 0).all()


@pytest.mark.parametrize("backend", [_numba, _torch])
def test_an_infeasible_problem_is_flagged_alone(clouds, backend, monkeypatch):
    monkeypatch.setattr("mmwa_utils.ot._autograd.choose", lambda cost: backend)
    cost = clouds(4, 6, 7).float()
    cost[1, 2] = math.inf  # a token that may go nowhere
    cost[2, :4, 2:] = math.inf  # four of six tokens that share two of seven
    cost[3, 0, 1:] = math.inf  # one that fits into none alone, with the others beside it
    with pytest.warns(ConvergenceWarning, match="3 of 4 .*3 of them because no plan avoids the pairs of infinite cost"):
        result = sinkhorn(cost, epsilon=0.2, max_iter=500)
    assert result.infeasible.tolist() == [False, True, True, True]
    assert result.converged.tolist() == [True, False, False, False]
    assert result.plan.isfinite().all()
    assert (result.duality_gap[1:] == math.inf).all()


@pytest.mark.parametrize("epsilon", [1e-30, 1e-300])
def test_an_epsilon_beyond_float64_is_named_as_the_reason(clouds, epsilon):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = sinkhorn(clouds(1, 5, 6), epsilon=epsilon)
    if result.converged:
        assert float(result.value) == pytest.approx(float(sinkhorn(result.cost, epsilon=1e-3).transport_cost), abs=0.1)
    else:
        assert f"cannot tell epsilon={epsilon:g} from 0" in str(caught[-1].message) or not result.failed
        assert "NaN" not in str(caught[-1].message)


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 1e3, 1e6])
def test_the_gap_is_never_better_than_the_truth(clouds, epsilon):
    cost = clouds(4, 20, 30).float()
    truth = sinkhorn(cost.double(), epsilon=epsilon, tol=1e-12, max_iter=50_000)
    for tol in (1e-2, 1e-4, 1e-6):
        result = sinkhorn(cost, epsilon=epsilon, tol=tol)
        off = (result.value.double() - truth.value).abs()
        assert (off <= result.duality_gap + truth.duality_gap + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), [(9, 17), (17, 9), (40, 33)])
@pytest.mark.parametrize("epsilon", [0.002, 0.02, 0.2, 50.0])
def test_rows_shared_by_threads_give_what_one_thread_does(clouds, weights, request, dtype, n, m, epsilon):
    cost, a, b = clouds(2, n, m).to(dtype), weights(2, n).to(dtype), weights(2, m, seed=1).to(dtype)
    a[0, 3] = 0
    a /= a.sum(1, keepdim=True)
    options = {"epsilon": epsilon, "a": a, "b": b, "tol": 1e-6, "max_iter": 20_000}
    whole = sinkhorn(cost, **options)
    request.getfixturevalue("by_rows")
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(sinkhorn(cost, **options))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0].plan, found[1].plan)
    assert found[0].converged.all()
    torch.testing.assert_close(found[0].plan, whole.plan, atol=2e-6, rtol=0)
    torch.testing.assert_close(found[0].value, whole.value, atol=2e-6, rtol=0)
    torch.testing.assert_close(found[0].f, whole.f, atol=1e-4, rtol=0)


def test_rows_shared_by_threads_stop_where_one_thread_does(clouds, by_rows):
    cost = clouds(1, 40, 33)
    cost[0, 3, 4] = math.nan
    with pytest.warns(ConvergenceWarning, match="NaN or -inf"):
        assert sinkhorn(cost, epsilon=0.1).failed
    with pytest.warns(ConvergenceWarning, match="1 of 1"):
        cut = sinkhorn(clouds(1, 40, 33), epsilon=1e-3, max_iter=3)
    assert cut.marginal_error == math.inf
    assert cut.plan.isfinite().all()
    empty = sinkhorn(clouds(1, 40, 33), epsilon=0.1, mask_x=torch.zeros(1, 40, dtype=torch.bool))
    assert empty.empty
    assert (empty.plan == 0).all()


def test_one_token_more_than_one_thread_takes_is_no_cliff(monkeypatch):
    """Both sides of the switch do the same work: they stop after the same number of sweeps."""
    cost = torch.rand(1, 200, 200, generator=torch.Generator().manual_seed(0))
    before = sinkhorn(cost, epsilon=0.05, tol=1e-5)
    monkeypatch.setattr(_numba, "LARGEST", 200 * 200 - 1)
    after = sinkhorn(cost, epsilon=0.05, tol=1e-5)
    assert (after.n_iter - before.n_iter).abs() <= 1


def test_the_plain_back_end_knows_forbidden_pairs(clouds, weights):
    cost = clouds(2, 6, 8)
    cost[:, 1, 2] = math.inf
    a, b = weights(2, 6), weights(2, 8)
    found = _torch.solve(Problem(cost, a, b, 0.1, 1e-9, 5000))
    torch.testing.assert_close(found.plan, sinkhorn(cost, epsilon=0.1, a=a, b=b).plan, atol=1e-8, rtol=0)
