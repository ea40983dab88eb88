"""A loss on the engine, compiled without a break: `test_backends` runs this in an interpreter of its own."""

from __future__ import annotations

import torch

from mmwa_utils.ot import cosine_cost, sinkhorn


def loss(x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """All that a result holds, in one number."""
    result = sinkhorn(cosine_cost(x, y, mask_x=mask), epsilon=0.2, mask_x=mask)
    return result.value.sum() + result.transport_cost.sum() + (result.plan**2).sum()


def main() -> None:
    """Compare the compiled loss and its gradients with those of plain PyTorch."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3, n, 8, generator=generator).requires_grad_() for n in (5, 7))
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    # "aot_eager" traces forward and backward as the default compiler does, and skips the slow generation of C++.
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    value, expected = compiled(x, y, mask), loss(x, y, mask)
    torch.testing.assert_close(value, expected)
    for got, want in zip(torch.autograd.grad(value, (x, y)), torch.autograd.grad(expected, (x, y)), strict=True):
        torch.testing.assert_close(got, want)
    follow_changes()
    export_any_batch()


def follow_changes() -> None:
    """Without a break in the graph while epsilon and the shapes change, diagnostics included."""

    def diagnosed(cost: torch.Tensor, epsilon: float) -> torch.Tensor:
        result = sinkhorn(cost, epsilon=epsilon)
        return result.value + result.duality_gap + result.converged

    for dynamic in (None, True):
        compiled = torch.compile(diagnosed, fullgraph=True, backend="aot_eager", dynamic=dynamic)
        for k, epsilon in enumerate((0.5, 0.4, 0.3)):
            cost = torch.rand(2 + k, 4, 5 + k)
            torch.testing.assert_close(compiled(cost, epsilon), diagnosed(cost, epsilon))


def export_any_batch() -> None:
    """An exported program serves batches of another size than its example's."""

    class Values(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return sinkhorn(cosine_cost(x, y), epsilon=0.2).value

    batch = torch.export.Dim("batch", min=2, max=64)
    example = torch.rand(3, 4, 8), torch.rand(3, 5, 8)
    exported = torch.export.export(Values(), example, dynamic_shapes=({0: batch}, {0: batch})).module()
    x, y = torch.rand(7, 4, 8), torch.rand(7, 5, 8)
    torch.testing.assert_close(exported(x, y), Values()(x, y))


if __name__ == "__main__":
    main()
