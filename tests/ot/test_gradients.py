"""The three gradients, each exact and each different, and what autograd may do with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmwa_utils.ot import SinkhornResult, cosine_cost, sinkhorn, sinkhorn_divergence, sqeuclidean_cost

Functional = Callable[[SinkhornResult], Tensor]


def entropy(result: SinkhornResult) -> Tensor:
    return torch.special.entr(result.plan).sum((1, 2))


FUNCTIONALS: dict[str, Functional] = {
    "value": lambda result: result.value,
    "transport_cost": lambda result: result.transport_cost,
    "plan": lambda result: result.plan,
    "plan_squared": lambda result: (result.plan**2).sum((1, 2)),
    "potential_f": lambda result: result.f,
    "potential_g": lambda result: result.g,
}


@pytest.fixture
def problem(clouds, weights) -> tuple[Tensor, Tensor, Tensor]:
    """Two problems of 4 x 6 tokens, the logarithms of their weights as free parameters."""
    cost, a, b = clouds(2, 4, 6), weights(2, 4).log(), weights(2, 6, seed=1).log()
    return tuple(tensor.requires_grad_() for tensor in (cost, a, b))  # type: ignore[return-value]


def solve(cost: Tensor, log_a: Tensor, log_b: Tensor) -> SinkhornResult:
    return sinkhorn(cost, epsilon=0.3, a=log_a.softmax(1), b=log_b.softmax(1), tol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONALS)
def test_gradcheck(problem, name):
    assert torch.autograd.gradcheck(lambda *p: FUNCTIONALS[name](solve(*p)), problem, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["value", "transport_cost", "plan_squared"])
def test_double_backward(problem, name):
    # Differences of a gradient that is solved to 1e-13, over steps of 1e-6: good to about 1e-6.
    assert torch.autograd.gradgradcheck(lambda *p: FUNCTIONALS[name](solve(*p)), problem, atol=1e-5, rtol=1e-5)


def test_tall_problems_eliminate_the_other_side(clouds):
    cost = clouds(2, 6, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: sinkhorn(c, epsilon=0.3, tol=1e-13).transport_cost, (cost,), atol=1e-6)


def test_gradient_of_the_value_is_the_plan(problem):
    cost = problem[0]
    result = solve(*problem)
    (gradient,) = torch.autograd.grad(result.value.sum(), cost)
    torch.testing.assert_close(gradient, result.plan, atol=1e-15, rtol=1e-12)


def test_the_plan_is_not_the_gradient_of_the_transport_cost(clouds):
    cost = clouds(1, 7, 11).requires_grad_()
    result = sinkhorn(cost, epsilon=0.1, tol=1e-12)
    (gradient,) = torch.autograd.grad(result.transport_cost.sum(), cost)
    plan = result.plan.detach()
    # Both say that a constant added to all costs is paid once, and else differ by far more than any numerical error.
    torch.testing.assert_close(gradient.sum(), plan.sum())
    assert (gradient - plan).norm() >= 0.1 * plan.norm()


def test_closed_form_of_a_function_of_the_plan(clouds):
    # The formula in the text of chapter 2, with one entry of alpha fixed to 0 and no other shortcut.
    epsilon, cost = 0.2, clouds(1, 5, 8)[0]
    result = sinkhorn(cost[None].requires_grad_(), epsilon=epsilon, tol=1e-13)
    (gradient,) = torch.autograd.grad((result.plan**3).sum(), result.cost)
    P, a, b = result.plan[0].detach(), result.a[0], result.b[0]
    G = 3 * P**2
    r, c = (P * G).sum(1), (P * G).sum(0)
    M, right = a.diag() - P @ (P.mT / b[:, None]), r - P @ (c / b)
    alpha = torch.zeros_like(a)
    alpha[1:] = torch.linalg.solve(M[1:, 1:], right[1:])
    beta = (c - P.mT @ alpha) / b
    expected = -(P / epsilon) * (G - alpha[:, None] - beta)
    torch.testing.assert_close(gradient[0], expected, atol=1e-12, rtol=1e-9)


def test_entropy_of_a_masked_plan_has_a_finite_gradient(clouds):
    cost = clouds(2, 4, 6).requires_grad_()
    mask = torch.tensor([[True, True, False, True], [True] * 4])
    (gradient,) = torch.autograd.grad(entropy(sinkhorn(cost, epsilon=0.3, mask_x=mask)).sum(), cost)
    assert gradient.isfinite().all()
    assert (gradient[0, 2] == 0).all()


def test_divergence(clouds):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, n, 2, generator=generator, dtype=torch.float64).requires_grad_() for n in (3, 4))

    def divergence(x: Tensor, y: Tensor) -> Tensor:
        costs = (sqeuclidean_cost(*pair) for pair in ((x, y), (x, x), (y, y)))
        return sinkhorn_divergence(*costs, epsilon=2.0, tol=1e-12).value

    assert torch.autograd.gradcheck(divergence, (x, y), atol=1e-6)


@pytest.mark.parametrize("cost", [cosine_cost, sqeuclidean_cost])
def test_costs(cost):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, n, 3, generator=generator, dtype=torch.float64).requires_grad_() for n in (4, 5))
    mask = torch.tensor([[True, False, True, True], [True] * 4])
    assert torch.autograd.gradcheck(lambda x, y: cost(x, y, mask_x=mask), (x, y), atol=1e-6)
    assert torch.autograd.gradgradcheck(lambda x, y: cost(x, y, mask_x=mask), (x, y), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 70), (40, 50, 90), (3, 700, 600)])
def test_the_compiled_cosine_is_the_differentiable_one(shape):
    # Sizes for one thread and for several, of one problem and of many, and with gradients of several MiB.
    generator = torch.Generator().manual_seed(0)
    batch, n, m = shape
    x, y = (torch.randn(batch, length, 768, generator=generator).requires_grad_() for length in (n, m))
    pull = torch.randn(shape, generator=generator)
    compiled = torch.autograd.grad(cosine_cost(x, y), (x, y), pull)
    recorded = torch.autograd.grad(cosine_cost(x, y), (x, y), pull, create_graph=True)
    unit = (torch.nn.functional.normalize(tokens.double(), dim=2) for tokens in (x, y))
    torch.testing.assert_close(cosine_cost(x, y).double(), 1 - next(unit) @ next(unit).mT, atol=1e-6, rtol=0)
    for fast, slow in zip(compiled, recorded, strict=True):
        assert (fast.requires_grad, slow.requires_grad) == (False, True), "both ways were meant to be taken"
        torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cost", [cosine_cost, sqeuclidean_cost])
def test_costs_at_zero_vectors_and_coincident_points(cost):
    x = torch.tensor([[[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]], requires_grad=True)
    value = cost(x, x).square().sum() + cost(x, x).sum()
    (gradient,) = torch.autograd.grad(value, x)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-40, 1e-30, 1e-21, 1e-18])
@pytest.mark.parametrize("recorded", [False, True])
def test_the_cosine_of_the_shortest_vectors(size, recorded):
    x, y = torch.full((1, 2, 1), size, requires_grad=True), torch.ones(1, 3, 1, requires_grad=True)
    cost = cosine_cost(x, y)
    gradients = torch.autograd.grad(cost, (x, y), torch.ones(1, 2, 3), create_graph=recorded)
    torch.testing.assert_close(cost.detach(), torch.full((1, 2, 3), 1.0 if size < 1e-19 else 0.0))
    assert all(gradient.isfinite().all() for gradient in gradients)
    if size < 1e-19:
        assert not gradients[0].any()


def test_a_gradient_is_not_kept_where_none_is_asked(clouds):
    result = sinkhorn(clouds(2, 4, 6), epsilon=0.3)
    assert not any(tensor.requires_grad for tensor in (result.f, result.plan, result.value))
    with torch.no_grad():
        assert not sinkhorn(clouds(2, 4, 6).requires_grad_(), epsilon=0.3).value.requires_grad


def test_a_plan_first_read_without_gradient_still_has_one() -> None:
    cost = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    looked_at = sinkhorn(cost, epsilon=0.5)
    with torch.no_grad():
        assert not looked_at.plan.requires_grad
    (found,) = torch.autograd.grad((looked_at.plan**2).sum(), cost)
    (expected,) = torch.autograd.grad((sinkhorn(cost, epsilon=0.5).plan ** 2).sum(), cost)
    assert expected.abs().max() > 0
    assert torch.equal(found, expected)
