"""How many iterations the engine needs, beside plain alternating Sinkhorn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmwa_utils.ot import sinkhorn

BATCH, MAX_ITER = 48, 3000


def random_costs(kind: str, n: int, m: int) -> Float[Tensor, "batch n m"]:
    """Costs on which over-relaxation is tempted to err.

    Blocks rest on a plateau, then fall fast to a small slow error; points on a line and squared distances come close
    to an assignment; independent entries are solved before a relaxation could pay.
    """
    draw = torch.Generator().manual_seed(n)
    uniform = torch.rand(BATCH, n, m, generator=draw, dtype=torch.float64)
    rows, columns = (torch.rand(BATCH, k, 2, generator=draw, dtype=torch.float64) for k in (n, m))
    match kind:
        case "independent":
            return uniform
        case "blocks":
            return 0.1 * uniform + ((3 * rows[:, :, :1]).floor() != (3 * columns[:, :, :1].mT).floor())
        case "line":
            return (rows[:, :, :1] - columns[:, :, :1].mT ** 2).abs()
        case _:
            return torch.cdist(rows, columns) ** 2


def plain_iterations(cost: Float[Tensor, "batch n m"], epsilon: float, tol: float) -> Int[Tensor, " batch"]:
    """Of u = a / K v, v = b / K^T u in float64, until the error that is seen after u is at most `tol`."""
    kernel = torch.exp(-cost / epsilon)
    n, m = kernel.shape[1:]
    v = kernel.new_full((len(kernel), m), 1 / m)
    count = torch.zeros(len(kernel), dtype=torch.int32)
    running = torch.ones(len(kernel), dtype=torch.bool)
    while running.any() and count.max() < MAX_ITER:
        count[running] += 1
        u = 1 / n / (kernel @ v[:, :, None])
        product = (u * kernel).sum(1)
        running &= (v * product - 1 / m).abs().sum(1) > tol
        v = 1 / m / product
    return count


@pytest.mark.filterwarnings("ignore::mmwa_utils.ot.ConvergenceWarning")  # `MAX_ITER` may be too few, for both
@pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("epsilon", [0.03, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["independent", "blocks", "line", "squared"])
def test_never_more_than_plain_sinkhorn_whatever_the_start(kind, epsilon, tol):
    cost = random_costs(kind, 20, 50)
    result = sinkhorn(cost, epsilon=epsilon, tol=tol, max_iter=MAX_ITER)
    plain = plain_iterations(cost, epsilon, tol)
    assert (result.n_iter <= plain).all()
    if plain.sum() > 50 * BATCH and plain.max() < MAX_ITER:
        assert result.n_iter.sum() < plain.sum() / 2


@pytest.mark.filterwarnings("ignore::mmwa_utils.ot.ConvergenceWarning")  # one problem in twenty may take longer
def test_relaxation_goes_on_where_potentials_absorb_the_scalings():
    """Costs close to an assignment, which a relaxation that began anew at each absorption would hardly speed up."""
    cost = random_costs("squared", 20, 50)
    epsilon = float(cost.max() - cost.min()) / 800
    result = sinkhorn(cost, epsilon=epsilon, tol=1e-6, max_iter=2000)
    assert result.converged.sum() >= 0.95 * BATCH


@pytest.mark.parametrize("tol", [1e-5, 1e-6, 1e-9])
@pytest.mark.parametrize(("n", "m"), [(20, 50), (32, 128)])
def test_at_most_half_of_plain_sinkhorns_where_that_is_slow(clouds, solve_reference, n, m, tol):
    slow = 0
    for spread in (0.2, 0.3, 1.5):
        for epsilon in (0.1, 0.2, 1.0):
            result = sinkhorn(clouds(4, n, m, spread=spread), epsilon=epsilon, tol=tol)
            for p in range(4):
                plain = solve_reference(result, p, tol=tol)
                assert int(result.n_iter[p]) <= plain.n_iter
                scaled = plain.plan / np.sqrt(np.outer(plain.plan.sum(1), plain.plan.sum(0)))
                rate = np.linalg.svd(scaled, compute_uv=False)[1] ** 2
                if rate >= 0.9:
                    slow += 1
                    assert int(result.n_iter[p]) <= plain.n_iter / 2
    assert slow >= 3, "the grid must contain slow problems for the test to mean anything"
