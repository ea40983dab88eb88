"""The engine inside PyTorch: its transforms, checkpoints, tracers and process-wide settings."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from mmwa_utils.ot import cosine_cost, sinkhorn, sqeuclidean_cost

# What checks annotations while the tests run cannot see through a transform's tensors.
pytestmark = pytest.mark.usefixtures("unchecked")

COSTS = [cosine_cost, sqeuclidean_cost]


@pytest.fixture
def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    """Four problems of 5 and 7 tokens."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, n, 8, generator=generator, dtype=torch.float64) for n in (5, 7))
    return x, y


def values(x: torch.Tensor, y: torch.Tensor, make=cosine_cost) -> torch.Tensor:
    result = sinkhorn(make(x, y), epsilon=0.5, tol=1e-11)
    return result.value + result.transport_cost


@pytest.mark.parametrize("make", COSTS)
def test_func_grad_is_the_plain_gradient(tokens, make):
    x, y = tokens
    plain = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(values(plain, y, make).sum(), plain)
    torch.testing.assert_close(torch.func.grad(lambda x: values(x, y, make).sum())(x), expected)
    _, pull = torch.func.vjp(lambda x: values(x, y, make).sum(), x)
    torch.testing.assert_close(pull(torch.ones((), dtype=x.dtype))[0], expected)


@pytest.mark.parametrize("make", COSTS)
@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, 0)])
def test_vmap_over_problems_and_over_one_side(tokens, make, in_dims):
    x, y = tokens
    moved = [t[0] if d is None else t.movedim(0, d) for t, d in zip((x, y), in_dims, strict=True)]
    full = [t[:1].expand_as(t) if d is None else t for t, d in zip((x, y), in_dims, strict=True)]
    mapped = torch.vmap(lambda x, y: values(x[None], y[None], make)[0], in_dims=in_dims)(*moved)
    torch.testing.assert_close(mapped, values(*full, make))


def test_gradients_per_problem(tokens):
    x, y = tokens
    each = torch.vmap(torch.func.grad(lambda x, y: values(x[None], y[None]).sum()))(x, y)
    torch.testing.assert_close(each, torch.func.grad(lambda x: values(x, y).sum())(x))


@pytest.mark.parametrize("vectorize", [False, True])
def test_jacobian(tokens, vectorize):
    x, y = tokens
    whole = torch.autograd.functional.jacobian(lambda x: values(x, y), x, vectorize=vectorize)
    expected = torch.func.grad(lambda x: values(x, y).sum())(x)
    torch.testing.assert_close(whole[range(4), range(4)], expected)
    whole[range(4), range(4)] = 0
    assert (whole == 0).all()


def test_weights_and_masks_under_vmap(tokens):
    x, y = tokens
    cost, a, mask = cosine_cost(x, y), torch.full((4, 5), 0.2, dtype=x.dtype), torch.arange(7) < torch.tensor([[5]] * 4)

    def value(cost: torch.Tensor, a: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return sinkhorn(cost[None], epsilon=0.3, a=a[None], mask_y=mask[None]).value[0]

    torch.testing.assert_close(torch.vmap(value)(cost, a, mask), sinkhorn(cost, epsilon=0.3, a=a, mask_y=mask).value)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("make", COSTS)
def test_checkpoints(tokens, make, reentrant):
    x, y = tokens
    x.requires_grad_()
    (expected,) = torch.autograd.grad(values(x, y, make).sum(), x)
    checkpoint(lambda x, y: values(x, y, make).sum(), x, y, use_reentrant=reentrant).backward()
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
@pytest.mark.parametrize("function", [lambda x, y: sinkhorn(x @ y.mT, epsilon=0.2).plan, cosine_cost, sqeuclidean_cost])
def test_a_trace_is_refused_and_never_frozen(tokens, function):
    with pytest.raises(RuntimeError, match="keep the numbers of its example"):
        torch.jit.trace(function, tokens)


def test_another_default_device_changes_nothing(tokens):
    x, y = tokens
    expected = values(x, y)
    torch.set_default_device("meta")
    try:
        x.requires_grad_()
        found = values(x, y)
        (gradient,) = torch.autograd.grad(found.sum(), x)
    finally:
        torch.set_default_device(None)
    assert gradient.device.type == "cpu"
    assert torch.equal(found.detach(), expected)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_settings_of_the_process_are_left_alone(tokens, precision):
    """Also while others look: what is never written cannot be restored wrongly, nor pinned."""
    x, y = (t.float() for t in tokens)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    matmul = torch.backends.mkldnn.matmul
    try:
        setting, seen, stop = matmul.fp32_precision, set(), threading.Event()

        def watch() -> None:
            while not stop.is_set():
                seen.add(matmul.fp32_precision)

        watcher = threading.Thread(target=watch)
        watcher.start()
        workers = [threading.Thread(target=lambda: [cosine_cost(x, y) for _ in range(50)]) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        stop.set()
        watcher.join()
        assert seen == {setting}
        torch.testing.assert_close(cosine_cost(x, y), cosine_cost(x.double(), y.double()).float(), atol=1e-6, rtol=0)
    finally:
        torch.set_float32_matmul_precision(before)
