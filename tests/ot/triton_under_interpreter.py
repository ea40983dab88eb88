"""Tests of the GPU kernels on CPU tensors by Triton's interpreter; `test_triton.py` runs them in their own process.

The interpreter must be chosen before Triton is first imported, and other tests import Triton compiled.
"""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from mmwa_utils.ot import _numba_kernels, _triton, reference
from mmwa_utils.ot._problem import Problem
from mmwa_utils.ot._triton_kernels import steer, unrelaxed


def problem(n, m, *, batch=3, seed=0, clusters=3):
    """Clustered cosine-like costs in [0, 2], the kind that converges slowly, with random positive weights."""
    rng = np.random.default_rng([seed, n, m])
    topics = rng.normal(size=(clusters, 8))
    x, y = (topics[rng.integers(clusters, size=(batch, k))] + 0.4 * rng.normal(size=(batch, k, 8)) for k in (n, m))
    x, y = (z / np.linalg.norm(z, axis=-1, keepdims=True) for z in (x, y))
    weights = [torch.tensor(rng.dirichlet(np.full(k, 5.0), size=batch), dtype=torch.float32) for k in (n, m)]
    a, b = (w / w.double().sum(1, keepdim=True) for w in weights)
    return torch.tensor(1 - x @ y.swapaxes(1, 2), dtype=torch.float32), a.float(), b.float()


def uniform(cost):
    batch, n, m = cost.shape
    return torch.full((batch, n), 1 / n), torch.full((batch, m), 1 / m)


def reference_plan(cost, a, b, epsilon):
    a, b = (w.double().numpy() / w.double().sum().item() for w in (a, b))
    return torch.from_numpy(reference.sinkhorn(cost.double().numpy(), a, b, epsilon=epsilon, tol=1e-9).plan)


def solved(cost, a, b, *, epsilon, tol=1e-6, max_iter=5000):
    return _triton.solve(Problem(cost, a, b, epsilon, tol, max_iter))


@triton.jit
def follow_kernel(errors_ptr, states_ptr, n, goal):
    """Steer by the errors of `n` sweeps, and keep each state."""
    omega, last_error, rate, start, window, mark, settle, retry, unswollen = unrelaxed()
    finishing = n < 0
    for k in range(n):
        error = tl.load(errors_ptr + k)
        omega, finishing, last_error, rate, start, window, mark, settle, retry, unswollen = steer(
            omega, finishing, last_error, rate, start, window, mark, settle, retry, unswollen, k + 1, error, goal
        )
        at = states_ptr + 7 * k
        tl.store(at, omega)
        tl.store(at + 1, tl.where(finishing, 1.0, 0.0))
        tl.store(at + 2, start + 0.0)
        tl.store(at + 3, window + 0.0)
        tl.store(at + 4, settle + 0.0)
        tl.store(at + 5, retry + 0.0)
        tl.store(at + 6, mark)


def decays():
    """Errors of every kind of decay: steady and quickening, slow and fast, swinging, growing, resting on a plateau."""
    k, draw = np.arange(150), np.random.default_rng(0)
    yield from (0.9 * rate**k for rate in (0.3, 0.7, 0.9, 0.99))
    yield 0.9 * 0.98**k * (1 + 0.3 * np.sin(k / 3))
    yield np.where(k < 30, 0.5, 0.5 * 0.9 ** (k - 30)) * (1 + 1e-3 * draw.uniform(size=150))
    yield 0.2 * 0.95**k * np.exp(0.2 * draw.normal(size=150))
    yield 0.1 * 0.97**k * np.where((k > 60) & (k < 90), 1.06 ** (k - 60), 1)


@pytest.mark.parametrize("goal", [1e-2, 1e-4])
@pytest.mark.parametrize("errors", list(decays()))
def test_both_engines_steer_alike_step_by_step(errors, goal):
    errors = errors[errors > 1e-8].astype(np.float32)
    found = torch.empty(len(errors), 7)
    follow_kernel[(1,)](torch.from_numpy(errors), found, len(errors), goal)
    state, omegas = _numba_kernels.UNRELAXED, []
    for k, error in enumerate(errors):
        state = _numba_kernels.steer(state, k + 1, float(error), goal)
        omegas.append(state.omega)
        steps = state.finishing, state.start, state.window, state.settle, state.retry
        assert tuple(found[k, 1:6].tolist()) == steps, k
        # The kernel's logarithms of float32 errors are good to 1e-6, and the root magnifies that where omega is small.
        assert found[k, 0].item() == pytest.approx(state.omega, abs=1e-3)
        assert found[k, 6].item() == pytest.approx(min(state.mark, 3e38), rel=1e-6)
    assert max(omegas) > 0 or len(errors) < 20, "a decay that is never relaxed tests little"


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (5, 3), (17, 33), (20, 50), (50, 65)])
@pytest.mark.parametrize("epsilon", [0.05, 0.1, 1.0, 10.0])
def test_plan_is_the_references(n, m, epsilon):
    cost, a, b = problem(n, m, batch=2)
    solution = solved(cost, a, b, epsilon=epsilon)
    plan = solution.plan
    assert (solution.marginal_error <= 1e-6).all()
    for k in range(2):
        # 1e-5 in total: the tolerance of 1e-6 times the condition of the hardest of these problems.
        assert (plan[k].double() - reference_plan(cost[k], a[k], b[k], epsilon)).abs().sum() <= 1e-5


@pytest.mark.parametrize("epsilon", [0.02, 0.005])
def test_beyond_the_kernel_range_epsilon_scaling_takes_over(epsilon):
    cost, a, b = problem(9, 12, batch=2, clusters=2)
    assert (cost.max() - cost.min()) / epsilon > 40
    solution = solved(cost, a, b, epsilon=epsilon, tol=1e-5)
    plan = solution.plan
    assert (solution.marginal_error <= 1e-5).all()
    for k in range(2):
        # The marginal error of 1e-5 is amplified by 1 / (1 - rho), which is about 100 here.
        assert (plan[k].double() - reference_plan(cost[k], a[k], b[k], epsilon)).abs().sum() <= 1e-3


def test_reported_error_is_that_of_the_returned_potentials():
    cost, a, b = problem(20, 30)
    solution = solved(cost, a, b, epsilon=0.1, tol=1e-5)
    plan = solution.plan
    exact = plan.double()
    measured = (exact.sum(2) - a.double()).abs().sum(1) + (exact.sum(1) - b.double()).abs().sum(1)
    # Both sum some hundred float32 terms: 1e-7 each way.
    torch.testing.assert_close(solution.marginal_error, measured, atol=5e-7, rtol=0)


def test_padding_anywhere_and_whatever_it_holds_changes_nothing():
    cost, a, b = problem(6, 11)
    padded = torch.full((3, 8, 14), float("nan"))
    rows, columns = torch.tensor([0, 2, 3, 4, 6, 7]), torch.tensor([0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 13])
    padded[:, 1], padded[:, 5] = float("inf"), -float("inf")
    padded[:, rows[:, None], columns] = cost
    wide_a, wide_b = torch.zeros(3, 8), torch.zeros(3, 14)
    wide_a[:, rows], wide_b[:, columns] = a, b
    plain = solved(cost, a, b, epsilon=0.1)
    plan = plain.plan
    solution = solved(padded, wide_a, wide_b, epsilon=0.1)
    wide = solution.plan
    torch.testing.assert_close(wide[:, rows[:, None], columns], plan, atol=1e-6, rtol=0)
    torch.testing.assert_close(solution.f[:, rows], plain.f, atol=1e-6, rtol=0)
    wide[:, rows[:, None], columns] = 0
    assert (wide == 0).all()
    assert (solution.f[:, [1, 5]] == 0).all()
    assert (solution.g[:, [3, 7, 12]] == 0).all()


def test_a_problem_does_not_depend_on_its_neighbours():
    cost, a, b = problem(10, 12, batch=5)
    alone = [solved(cost[k : k + 1], a[k : k + 1], b[k : k + 1], epsilon=0.05) for k in range(5)]
    cost[3, 2, 2] = float("nan")
    order = torch.tensor([4, 3, 0, 2, 1])
    together = solved(cost[order].contiguous(), a[order], b[order], epsilon=0.05)
    for position, k in enumerate(order.tolist()):
        if k != 3:
            assert torch.equal(together.f[position], alone[k].f[0])
            assert torch.equal(together.g[position], alone[k].g[0])
            assert together.n_iter[position] == alone[k].n_iter[0]
    assert together.marginal_error[1].isnan()


@pytest.mark.parametrize("bad", [float("nan"), -float("inf")])
def test_failed_and_empty_problems_are_flagged(bad):
    cost, a, b = problem(4, 5)
    cost[0, 1, 1] = bad
    a[1] = 0
    solution = solved(cost, a, b, epsilon=0.1)
    assert solution.marginal_error[0].isnan()
    assert solution.marginal_error[1] == 0
    assert solution.n_iter[:2].tolist() == [0, 0]
    assert (solution.f[:2] == 0).all()
    assert (solution.g[:2] == 0).all()
    assert (solution.plan[:2] == 0).all()
    assert solution.marginal_error[2] <= 1e-6


def test_stops_after_max_iter_and_says_how_far_it_came():
    cost, a, b = problem(10, 12)
    few, many = (solved(cost, a, b, epsilon=0.05, tol=1e-7, max_iter=k) for k in (3, 60))
    assert few.n_iter.tolist() == [3, 3, 3]
    assert (few.marginal_error > 1e-7).all()
    assert (many.marginal_error < few.marginal_error).all()


@pytest.mark.parametrize(("epsilon", "tol"), [(0.05, 1e-5), (0.1, 1e-4), (0.4, 1e-5)])
def test_never_more_iterations_than_plain_sinkhorn(epsilon, tol):
    cost, _, _ = problem(12, 20, batch=8)
    a, b = uniform(cost)
    solution = solved(cost, a, b, epsilon=epsilon, tol=tol)
    marginals = a[0].double().numpy(), b[0].double().numpy()
    # float32 sums round, so the kernel aims this much below the tolerance, at most.
    aim = {"epsilon": epsilon, "tol": tol - 4e-7}
    plain = [reference.sinkhorn(c.double().numpy(), *marginals, **aim).n_iter for c in cost]
    assert all(ours <= theirs for ours, theirs in zip(solution.n_iter.tolist(), plain, strict=True))
    if max(plain) > 40:
        assert solution.n_iter.sum() < sum(plain) / 2


def test_supports_what_fits_on_chip():
    assert _triton.supports(torch.empty(1, 50, 240))
    assert not _triton.supports(torch.empty(1, 50, 240, dtype=torch.float64))
    assert not _triton.supports(torch.empty(1, 300, 300))


@pytest.mark.parametrize("large", [1e31, float("inf")])
def test_forbidden_pairs_get_no_mass(large):
    cost, a, b = problem(6, 9)
    cost[:, 2, :3] = large
    solution = solved(cost, a, b, epsilon=0.1)
    assert (solution.marginal_error <= 1e-6).all()
    assert (solution.plan[:, 2, :3] == 0).all()
    for p in range(3):
        expected = reference_plan(cost[p].clamp(max=1e4), a[p], b[p], 0.1)
        np.testing.assert_allclose(solution.plan[p], expected, atol=2e-6)
