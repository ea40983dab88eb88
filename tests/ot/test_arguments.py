"""Every bad argument is a ValueError that names the argument and what was found."""

from __future__ import annotations

import pytest
import torch

from mmwa_utils.ot import cosine_cost, sinkhorn, sinkhorn_divergence, sqeuclidean_cost

COST = torch.zeros(2, 3, 4)
A, B = torch.full((2, 3), 1 / 3), torch.full((2, 4), 1 / 4)
NAN = float("nan")

pytestmark = pytest.mark.usefixtures("unchecked")

BAD = {
    "epsilon zero": ({"epsilon": 0.0}, "epsilon must be a finite number above 0, found 0.0"),
    "epsilon negative": ({"epsilon": -1.0}, "epsilon .* found -1.0"),
    "epsilon nan": ({"epsilon": NAN}, "epsilon .* found nan"),
    "epsilon infinite": ({"epsilon": float("inf")}, "epsilon .* found inf"),
    "epsilon tensor": ({"epsilon": torch.ones(2)}, "epsilon must be .* number above 0, found tensor"),
    "tol": ({"tol": 0.0}, "tol .* found 0.0"),
    "max_iter": ({"max_iter": 0}, "max_iter .* found 0"),
    "max_iter fraction": ({"max_iter": 1.5}, "max_iter .* found 1.5"),
    "cost axes": ({"cost": COST[0]}, r"cost must be \(batch, n, m\), found shape \(3, 4\)"),
    "cost integers": ({"cost": COST.long()}, "cost must be floating-point, found torch.int64"),
    "cost list": ({"cost": [[0.0]]}, "cost must be a torch.Tensor, found list"),
    "a shape": ({"a": B}, r"a must have shape \(2, 3\) .* found \(2, 4\)"),
    "b shape": ({"b": B[0]}, r"b must have shape \(2, 4\) .* found \(4,\)"),
    "a integers": ({"a": A.int()}, "a must be floating-point, found torch.int32"),
    "a sum": ({"a": A * 3}, "a must sum to 1 .* found 3 in problem 0"),
    "b sum": ({"a": A, "b": B * torch.tensor([[1.0], [0.5]])}, "b must sum to 1 .* found 0.5 in problem 1"),
    "a negative": ({"a": torch.tensor([[1.5, -0.5, 0.0]] * 2)}, "a must be finite and >= 0 .* found -0.5"),
    "b nan": ({"b": B * NAN}, "b must be finite and >= 0"),
    "mask_x shape": ({"mask_x": torch.ones(2, 4, dtype=torch.bool)}, r"mask_x must have shape \(2, 3\) .* \(2, 4\)"),
    "mask_y shape": ({"mask_y": torch.ones(1, 4, dtype=torch.bool)}, r"mask_y must have shape \(2, 4\) .* \(1, 4\)"),
    "mask_x numbers": ({"mask_x": torch.ones(2, 3)}, "mask_x must be a boolean tensor, .* found torch.float32"),
    "device of b": ({"b": B.to("meta")}, "b is on meta but cost is on cpu"),
    "device of mask": ({"mask_x": torch.ones(2, 3, dtype=torch.bool, device="meta")}, "mask_x is on meta"),
}


@pytest.mark.parametrize("case", BAD)
def test_sinkhorn_names_what_is_wrong(case):
    changed, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        sinkhorn(**{"cost": COST, "epsilon": 0.1, **changed})


@pytest.mark.parametrize("make", [cosine_cost, sqeuclidean_cost])
def test_costs_name_what_is_wrong(make):
    x, y = torch.ones(2, 3, 5), torch.ones(2, 4, 5)
    for arguments, message in [
        ((x.long(), y), "x must be floating-point, found torch.int64"),
        ((x, y[0]), r"y must be \(batch, tokens, dim\), found shape \(4, 5\)"),
        ((x, y[:, :, :4]), r"y must have shape \(2, 4, 5\) to go with x, found \(2, 4, 4\)"),
        ((x[:1], y), r"y must have shape \(1, 4, 5\) .* found \(2, 4, 5\)"),
        ((x, y.to("meta")), "y is on meta but x is on cpu"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(*arguments)
    with pytest.raises(ValueError, match=r"mask_y must have shape \(2, 4\) .* found \(2, 3\)"):
        make(x, y, mask_y=torch.ones(2, 3, dtype=torch.bool))


def test_divergence_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"cost_xx must have shape \(2, 3, 3\) .* found \(2, 4, 4\)"):
        sinkhorn_divergence(COST, torch.zeros(2, 4, 4), torch.zeros(2, 4, 4), epsilon=0.1)
    with pytest.raises(ValueError, match=r"cost_yy must be .* found shape"):
        sinkhorn_divergence(COST, torch.zeros(2, 3, 3), torch.zeros(4, 4), epsilon=0.1)


def test_weights_rounded_to_sixteen_bits_are_normalised():
    a = A.to(torch.bfloat16)
    assert a.sum(1)[0] != 1 or a.double().sum(1)[0] != 1
    result = sinkhorn(COST.double(), epsilon=0.1, a=a)
    torch.testing.assert_close(result.a.sum(1), torch.ones(2, dtype=torch.float64))
