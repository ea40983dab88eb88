from __future__ import annotations

from itertools import combinations

import pytest
import torch

from mmwa_utils.alignment import WassersteinAlignment, build_alignment, token_cost
from mmwa_utils.ot import sinkhorn
from mmwa_utils.types import Tokens


def make_tokens(lengths: list[int], dim: int = 8, *, seed: int = 0, shift: float = 0.0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    values = torch.randn(*mask.shape, dim, generator=generator) + shift
    return Tokens(values.requires_grad_(), mask)


def aligned(tokens: dict[str, Tokens], **parameters):
    # 1e-6, the solver's own default: far below what these tests tell apart
    return WassersteinAlignment(**{"epsilon": 0.1, "tol": 1e-6, "max_iter": 5000, **parameters})(tokens)


def test_the_gradient_with_respect_to_the_cost_is_the_plan():
    """By the envelope theorem: push a fixed plan through the cost by hand."""
    x, y = make_tokens([5, 3]), make_tokens([4, 6], seed=1)
    aligned({"x": x, "y": y}).loss.backward()
    by_loss = x.values.grad.clone()
    x.values.grad = None
    cost = token_cost(x, y, "cosine")
    plan = sinkhorn(cost.detach(), epsilon=0.1, mask_x=x.mask, mask_y=y.mask).plan
    (plan * cost).sum(dim=(1, 2)).mean().backward()
    # the marginals are met to 1e-6 in total mass, the costs are below 2
    torch.testing.assert_close(by_loss, x.values.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("value", ["regularised", "transport"])
def test_a_large_epsilon_gives_the_mean_cost(value):
    x, y = make_tokens([5, 3]), make_tokens([4, 6], seed=1)
    mean = [token_cost(x, y, "cosine")[i, :n, :m].mean() for i, (n, m) in enumerate([(5, 4), (3, 6)])]
    # the plan differs from a b^T by O(cost / epsilon) = 2e-4
    torch.testing.assert_close(
        aligned({"x": x, "y": y}, epsilon=1e4, value=value).loss, sum(mean) / 2, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("cost", ["cosine", "sqeuclidean"])
def test_the_divergence_vanishes_between_equal_sets_and_not_between_others(cost):
    x, y = make_tokens([5, 3]), make_tokens([5, 3])
    same = aligned({"x": x, "y": y}, value="divergence", cost=cost, epsilon=0.5).loss
    assert same.abs() < 1e-5
    far = aligned({"x": x, "y": make_tokens([5, 3], shift=2.0)}, value="divergence", cost=cost, epsilon=0.5).loss
    assert far > 0.1


def test_the_order_of_tokens_and_of_modalities_does_not_matter():
    x, y = make_tokens([5, 5]), make_tokens([6, 6], seed=1)
    shuffled = Tokens(x.values[:, [3, 0, 4, 1, 2]], x.mask)
    value = aligned({"x": x, "y": y}).loss
    torch.testing.assert_close(aligned({"x": shuffled, "y": y}).loss, value)
    torch.testing.assert_close(aligned({"y": y, "x": x}).loss, value)


def test_descent_brings_the_modalities_together():
    x, y = make_tokens([6]), make_tokens([6], seed=1)
    alignment = WassersteinAlignment(0.1)
    values = x.values.detach().clone().requires_grad_()
    optimiser = torch.optim.SGD([values], lr=5.0)
    losses = []
    for _ in range(30):
        loss = alignment({"x": Tokens(values, x.mask), "y": y}).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_choice_of_layers():
    layers = {
        name: {"x": make_tokens([4], seed=seed), "y": make_tokens([5], seed=seed + 1)}
        for seed, name in enumerate(["input", "layer_1", "last"])
    }
    single = {name: aligned(layer).loss for name, layer in layers.items()}
    assert aligned(layers).loss == single["last"]
    assert aligned(layers, layers="input").loss == single["input"]
    torch.testing.assert_close(aligned(layers, layers="all").loss, sum(single.values()) / 3)
    with pytest.raises(ValueError, match="last"):
        aligned({"input": layers["input"]})


def test_convergence_is_reported_and_not_assumed():
    tokens = {"x": make_tokens([12, 12], shift=1.0), "y": make_tokens([12, 12], seed=1, shift=1.0)}
    assert aligned(tokens).converged_share == 1
    with pytest.warns(UserWarning, match="did not reach"):
        assert aligned(tokens, epsilon=1e-3, max_iter=1).converged_share < 1


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"cost": "manhattan"}, "cost"),
        ({"value": "dual"}, "value"),
        ({"layers": "7"}, "layers"),
    ],
)
def test_impossible_parameters_are_named(parameters, named):
    # TypeError: where annotations are checked as they run
    with pytest.raises((ValueError, TypeError), match=named):
        build_alignment("wasserstein", **parameters)


def test_half_precision_tokens_are_widened():
    tokens = {"x": make_tokens([4, 6]), "y": make_tokens([5, 3], seed=1)}
    half = {name: Tokens(t.values.detach().bfloat16(), t.mask) for name, t in tokens.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = aligned(half).loss
    assert loss.dtype == torch.float32
    widened = {name: Tokens(t.values.float(), t.mask) for name, t in half.items()}
    assert loss == aligned(widened).loss


@pytest.mark.parametrize("lengths", [(6, 6, 6), (4, 6, 6), (4, 5, 6)])
@pytest.mark.parametrize("value", ["regularised", "transport", "divergence"])
def test_pairs_solved_together_are_the_pairs_solved_alone(lengths: tuple[int, int, int], value: str) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = {}
    for name, length in zip(("text", "vision", "audio"), lengths, strict=True):
        mask = torch.rand(5, length, generator=generator) < 0.7
        mask[0] = name != "audio"  # one sample has no sound
        tokens[name] = Tokens(torch.randn(5, length, 8, generator=generator).requires_grad_(), mask)
    leaves = [modality.values for modality in tokens.values()]
    alignment = WassersteinAlignment(epsilon=0.3, value=value)
    result = alignment(tokens)
    alone = [alignment({x: tokens[x], y: tokens[y]}) for x, y in combinations(tokens, 2)]
    assert list(result.pairs) == [name for each in alone for name in each.pairs]
    for (name, pair), each in zip(result.pairs.items(), alone, strict=True):
        for field, expected in vars(each.pairs[name]).items():
            torch.testing.assert_close(getattr(pair, field), expected, msg=f"{name}.{field}")
    gradients = torch.autograd.grad(result.loss, leaves)
    expected = torch.autograd.grad(torch.stack([each.loss for each in alone]).mean(), leaves)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
