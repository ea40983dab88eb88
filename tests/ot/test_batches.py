"""A problem's result is its own: no bit of it depends on its neighbours. And every diagnostic tells the truth."""

from __future__ import annotations

import pytest
import torch

from mmwa_utils.ot import ConvergenceWarning, SinkhornResult, _torch, cosine_cost, sinkhorn
from mmwa_utils.ot._problem import Problem


def assert_same_bits(result: SinkhornResult, p: int, other: SinkhornResult, q: int) -> None:
    for name in ("value", "transport_cost", "plan", "f", "g", "n_iter", "marginal_error", "duality_gap"):
        assert torch.equal(getattr(result, name)[p], getattr(other, name)[q]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), [(6, 17), (17, 6), (20, 50)])
def test_neighbours_and_their_order_change_no_bit(clouds, dtype, n, m):
    cost = clouds(9, n, m).to(dtype)
    together = sinkhorn(cost, epsilon=0.1)
    backwards = sinkhorn(cost.flip(0), epsilon=0.1)
    for p in range(9):
        assert_same_bits(together, p, sinkhorn(cost[p : p + 1], epsilon=0.1), 0)
        assert_same_bits(together, p, backwards, 8 - p)


def test_bad_neighbours_change_no_bit(clouds):
    cost = clouds(3, 8, 13).float()
    # Problem 0 is easy, 1 and 2 need a hundred iterations and more.
    cost[0] *= 0.01
    alone = sinkhorn(cost[:1], epsilon=0.02)
    with pytest.warns(ConvergenceWarning, match="2 of 3"):
        slow = sinkhorn(cost, epsilon=0.02, max_iter=int(alone.n_iter[0]))
    assert slow.converged.tolist() == [True, False, False]
    assert_same_bits(slow, 0, alone, 0)
    cost[1, 3, 4] = float("nan")
    with pytest.warns(ConvergenceWarning, match="1 of 3"):
        poisoned = sinkhorn(cost, epsilon=0.02)
    assert_same_bits(poisoned, 0, alone, 0)


def test_gradients_do_not_depend_on_the_neighbours(clouds):
    cost = clouds(6, 8, 13).float()

    def gradient(cost: torch.Tensor) -> torch.Tensor:
        cost = cost.clone().requires_grad_()
        result = sinkhorn(cost, epsilon=0.1)
        return torch.autograd.grad((result.value + result.transport_cost).sum(), cost)[0]

    together = gradient(cost)
    for p in range(6):
        assert torch.equal(together[p], gradient(cost[p : p + 1])[0])


def test_threads_change_no_bit(clouds):
    cost, threads = clouds(40, 8, 13).float(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = sinkhorn(cost, epsilon=0.1)
        torch.set_num_threads(3)
        three = sinkhorn(cost, epsilon=0.1)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one.plan, three.plan)


def test_the_plain_back_end_stops_per_problem_too(clouds):
    cost = clouds(4, 6, 9)
    a, b = torch.full((4, 6), 1 / 6, dtype=cost.dtype), torch.full((4, 9), 1 / 9, dtype=cost.dtype)
    together = _torch.solve(Problem(cost, a, b, 0.1, 1e-8, 3000))
    assert len(together.n_iter.unique()) > 1
    for p in range(4):
        one = slice(p, p + 1)
        alone = _torch.solve(Problem(cost[one], a[one], b[one], 0.1, 1e-8, 3000))
        assert torch.equal(alone.f, together.f[one])
        assert torch.equal(alone.n_iter, together.n_iter[one])


def test_one_warning_and_honest_diagnostics(clouds):
    cost = clouds(5, 12, 30)
    with pytest.warns(ConvergenceWarning, match="5 of 5 transport problems did not reach tol=1e-10") as caught:
        cut = sinkhorn(cost, epsilon=0.1, tol=1e-10, max_iter=3)
    assert len(caught) == 1
    assert not cut.converged.any()
    assert cut.n_iter.tolist() == [3] * 5
    done = sinkhorn(cost, epsilon=0.1, tol=1e-10)
    assert done.converged.all()
    assert (done.n_iter > 3).all()
    assert not (cut.failed | cut.empty | done.failed | done.empty).any()
    for result in (cut, done):
        error = (result.plan.sum(2) - result.a).abs().sum(1) + (result.plan.sum(1) - result.b).abs().sum(1)
        # The reported error is that of the returned plan, up to the rounding of sums of some 360 float64 numbers.
        torch.testing.assert_close(result.marginal_error, error, atol=1e-14, rtol=1e-6)
        # The gap bounds what is missing to the optimum from above.
        assert (done.value - result.value <= result.duality_gap + 1e-12).all()
    assert (cut.duality_gap > 1e-4).all()
    assert (done.duality_gap <= 1e-9).all()


def test_costs_do_not_depend_on_the_neighbours():
    x, y = (torch.randn(5, n, 64, generator=torch.Generator().manual_seed(n)) for n in (7, 20))
    together = cosine_cost(x, y)
    for p in range(5):
        torch.testing.assert_close(cosine_cost(x[p : p + 1], y[p : p + 1])[0], together[p], atol=1e-6, rtol=0)


def test_potentials_are_centred(clouds, weights):
    a, b = weights(3, 6), weights(3, 9, seed=1)
    result = sinkhorn(clouds(3, 6, 9), epsilon=0.3, a=a, b=b)
    torch.testing.assert_close((a * result.f).sum(1), (b * result.g).sum(1))
    torch.testing.assert_close((a * result.f).sum(1) + (b * result.g).sum(1), result.value)
