from __future__ import annotations

from itertools import combinations, pairwise
from typing import get_args

import pytest
import torch

from mmwa_utils.alignment import WassersteinAlignment, build_alignment, token_cost
from mmwa_utils.alignment.wasserstein import CostName, _of_next_sample
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


@pytest.mark.parametrize("cost", get_args(CostName))
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
@pytest.mark.parametrize("negatives", [False, True])
def test_pairs_solved_together_are_the_pairs_solved_alone(
    lengths: tuple[int, int, int], value: str, negatives: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = {}
    for name, length in zip(("text", "vision", "audio"), lengths, strict=True):
        mask = torch.rand(5, length, generator=generator) < 0.7
        mask[0] = name != "audio"  # one sample has no sound
        tokens[name] = Tokens(torch.randn(5, length, 8, generator=generator).requires_grad_(), mask)
    leaves = [modality.values for modality in tokens.values()]
    alignment = WassersteinAlignment(epsilon=0.3, value=value, negatives=negatives)
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


def test_the_euclidean_cost_is_cdist_and_differentiable_where_tokens_coincide():
    x, y = make_tokens([5, 3], shift=3.0), make_tokens([4, 6], seed=1)
    both = x.mask[:, :, None] & y.mask[:, None, :]
    expected = torch.cdist(x.values.double(), y.values.double())
    # the squares, below 200, are sums of float32 products: their roots, above 1, are off by far less than 1e-4
    torch.testing.assert_close(token_cost(x, y, "euclidean")[both].double(), expected[both], atol=1e-4, rtol=0)

    wide, narrow = (Tokens(t.values.detach().double().requires_grad_(), t.mask) for t in (x, y))

    def cost(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return token_cost(Tokens(first, wide.mask), Tokens(second, narrow.mask), "euclidean")[both]

    assert torch.autograd.gradcheck(cost, (wide.values, narrow.values))
    for offset in (0.0, 1e-6, 1e-3):  # equal, equal but for rounding, and close
        near = Tokens((x.values.detach() + offset).requires_grad_(), x.mask)
        matrix = token_cost(near, x, "euclidean")
        matrix.diagonal(dim1=1, dim2=2)[x.mask].sum().backward()
        # each entry is 1-Lipschitz; half as much again for the rounding of a small distance
        assert near.values.grad.norm(dim=2).max() < 1.5
        assert matrix[0, 0, 0].item() == pytest.approx(offset * 8**0.5, abs=1e-2)
        assert matrix.isfinite().all()


def sharpness(x: Tokens, y: Tokens, cost: CostName, epsilon: float) -> float:
    """Total variation between the plan and the product of its marginals: 0 where every pair has the same mass."""
    plan = sinkhorn(token_cost(x, y, cost).detach(), epsilon=epsilon, mask_x=x.mask, mask_y=y.mask, max_iter=9999).plan
    return ((plan - 1 / plan[0].numel()).abs().sum() / 2).item()


def test_only_the_euclidean_cost_keeps_the_papers_alphas_apart():
    x, y = make_tokens([20], 64), make_tokens([30], 64, seed=1)
    found = {cost: [sharpness(x, y, cost, alpha) for alpha in (0.1, 0.2, 1.0, 5.0)] for cost in get_args(CostName)}
    apart = {cost: min(a - b for a, b in pairwise(of)) for cost, of in found.items()}
    assert apart["euclidean"] > 0.05
    assert max(found["cosine"][2:]) < 0.1, "from 1 on nothing is left of the cost but its mean"
    assert apart["cosine"] < 0.5 * apart["euclidean"]


def test_the_next_sample_is_the_next_one_that_has_tokens():
    lengths = [2, 0, 1, 0, 0, 3]
    tokens = make_tokens(lengths)
    following = _of_next_sample(tokens)
    assert following.mask.sum(dim=1).tolist() == [1, 1, 3, 3, 3, 2]
    assert (following.values[2] == tokens.values[5]).all()
    assert not _of_next_sample(make_tokens([0, 1])).mask[:, 1:].any()
    # Tensors without values: nothing is read off them, so on a GPU nothing waits.
    assert _of_next_sample(Tokens(tokens.values.to("meta"), tokens.mask.to("meta"))).values.shape == (6, 3, 8)


def take(tokens: Tokens, order: list[int]) -> Tokens:
    return Tokens(tokens.values[order], tokens.mask[order])


@pytest.mark.parametrize("cost", get_args(CostName))
def test_negatives_are_the_mean_over_matched_minus_the_mean_over_mismatched_pairs(cost):
    x, y = make_tokens([5, 3, 4, 2]), make_tokens([4, 6, 1, 3], seed=1)
    matched = aligned({"x": x, "y": y}, cost=cost).loss
    mismatched = aligned({"x": x, "y": take(y, [1, 2, 3, 0])}, cost=cost).loss
    found = aligned({"x": x, "y": y}, cost=cost, negatives=True)
    torch.testing.assert_close(found.loss, matched - mismatched)
    assert found.pairs["x-y"].n_samples == 4
    cycled = {"x": take(x, [2, 3, 0, 1]), "y": take(y, [2, 3, 0, 1])}
    torch.testing.assert_close(aligned(cycled, cost=cost, negatives=True).loss, found.loss)


def test_negatives_say_nothing_where_samples_are_equal_or_alone():
    x, y = make_tokens([5, 5]), make_tokens([4, 4], seed=1)
    collapsed = {"x": take(x, [0, 0, 0]), "y": take(y, [1, 1, 1])}
    assert aligned(collapsed, negatives=True).loss.abs() < 1e-6  # a difference of equal numbers of order 1
    lone = make_tokens([5, 5, 0]), make_tokens([4, 0, 0], seed=1)
    result = aligned(dict(zip("xy", lone, strict=True)), negatives=True)
    assert result.loss == 0
    assert result.pairs["x-y"].n_samples == 1
    result.loss.backward()
    assert lone[0].values.grad.abs().max() < 1e-6


def test_negatives_push_mismatched_pairs_apart():
    x, y = make_tokens([4] * 3), make_tokens([5] * 3, seed=1)
    aligned({"x": x, "y": y}, negatives=True).loss.backward()
    step = {name: Tokens(t.values.detach() - t.values.grad, t.mask) for name, t in (("x", x), ("y", y))}
    others = Tokens(step["y"].values.roll(-1, dims=0), y.mask)
    assert aligned(step).loss < aligned({"x": x, "y": y}).loss
    assert aligned({**step, "y": others}).loss > aligned({"x": x, "y": take(y, [1, 2, 0])}).loss


def test_reach_leaves_tokens_without_counterpart_behind():
    """One of three words means what no patch does: kept in the transport, it alone moves the patches."""
    x = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [-1, -0.2, 0.5]]], requires_grad=True)
    y = torch.tensor([[[1.0, 0.1, 0], [0.1, 1, 0]]], requires_grad=True)
    tokens = {"x": Tokens(x, torch.ones(1, 3, dtype=torch.bool)), "y": Tokens(y, torch.ones(1, 2, dtype=torch.bool))}
    pulled = {}
    for reach in (None, 1e5, 0.1):
        result = aligned(tokens, reach=reach, epsilon=0.02)
        pulled[reach] = torch.autograd.grad(result.loss, x)[0]
    assert pulled[None][0, 2].norm() > 10 * pulled[0.1][0, 2].norm()
    torch.testing.assert_close(pulled[1e5], pulled[None], atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{"reach": 0.0}, {"reach": -1.0}, {"reach": 1.0, "value": "divergence"}])
def test_a_wrong_reach_is_refused(options):
    with pytest.raises(ValueError, match="reach must be positive"):
        WassersteinAlignment(**options)
