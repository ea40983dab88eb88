"""The CPU back end: one problem per thread, its kernel matrix in cache, one sweep over it per iteration.

Four ideas make it fast; `_numba_kernels` and `_numba_cosine` hold the loops.

1. *A problem at a time.* The valid rows and columns are gathered, so padding costs nothing, and the kernel of 32 x 128
   tokens (16 KiB) stays in the first-level cache for all iterations. A batch-wide loop would fetch it from memory twice
   per iteration, and would run until its hardest problem is done.
2. *One sweep.* Row `i` of the kernel gives `u_i = a_i / <K_i, v>`, and while it is still at hand adds `u_i K_i` to
   `w = K^T u`; then `v = b / w`.
3. *Over-relaxation* at a rate that is measured.
4. *Each exponential once.* The plan `u_i K_ij v_j` is written while the kernel is still in cache.

Up to `KERNEL_RANGE[float32]` the kernel of a float32 cost is float32; above, and for smaller tolerances than float32
sums can show, it is float64; above `KERNEL_RANGE[float64]` epsilon is scaled and the scalings are absorbed into the
potentials, which is the log domain at the price of the kernel domain. Potentials and exponents are always float64.

The cosine and its gradient go the same way. In PyTorch's operators they are a dozen passes over the batch, whose
traffic costs as much as the products where tokens are long, and whose calls cost more where tokens are short: in the
benchmark, solve and gradient would take 1.13 times as long (geometric mean of the 24 cases, two threads).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import _large
from ._host import empty, share
from ._numba_cosine import distance_range, norm_range, turn_range
from ._numba_flat import flat_range
from ._numba_kernels import LEFT, solve_range
from ._problem import Problem, Solution, unsolved

# Entries of the largest problem that one thread takes by itself: a larger kernel leaves the cache.
LARGEST = 1 << 20
# Most problems a thread takes at a time: a hard one takes as long as a hundred easy ones.
CHUNK = 32
# Entries of a batch below which the calling thread works alone.
ALONE = 1 << 17
# The same for the cosine, in entries of tokens and costs.
COSINE_CHUNK, COSINE_ALONE = 1 << 19, 1 << 21


def solve(problem: Problem) -> Solution:
    """See `Backend.solve`."""
    cost, a, b, *options = problem
    found = unsolved(cost, plan=empty(tuple(cost.shape), cost))
    arrays = cost.numpy(), a.numpy(), b.numpy(), *options, *(out.numpy() for out in found)
    if cost[0].numel() > LARGEST:
        for p in range(len(cost)):
            one = Problem(cost[p], a[p], b[p], *problem[3:])
            found.n_iter[p], found.marginal_error[p] = _large.solve(one, found.f[p], found.g[p], found.plan[p])
    else:
        share(len(cost), lambda *some: solve_range(*some, *arrays), most=CHUNK, alone=cost.numel() < ALONE)
    if (found.n_iter == LEFT).any():
        share(len(cost), lambda *some: flat_range(*some, *arrays), most=CHUNK, alone=cost.numel() < ALONE)
    return found


def cosine(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`1 - <x, y> / (|x| |y|)`, and `1 / |x|` and `1 / |y|`."""
    x, y = x.detach().contiguous(), y.detach().contiguous()
    cost = empty((*x.shape[:2], y.shape[1]), x)
    inverse_x, inverse_y = x.new_empty(x.shape[:2]), y.new_empty(y.shape[:2])
    arrays = [tensor.numpy() for tensor in (x, inverse_x, y, inverse_y, cost)]

    def work(start: int, stop: int) -> None:
        norm_range(start, stop, *arrays[:2])  # first, since it fetches the tokens faster than a product does
        norm_range(start, stop, *arrays[2:4])
        torch.bmm(x[start:stop], y[start:stop].mT, out=cost[start:stop])
        distance_range(start, stop, arrays[4], arrays[1], arrays[3])

    _share_tokens(x, y, work)
    return cost, inverse_x, inverse_y


def cosine_gradient(grad: Tensor, *saved: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients with respect to `x` and `y`, from these and what `cosine` found: see `costs._Cosine.backward`."""
    x, y, cost, inverse_x, inverse_y = (tensor.detach().contiguous() for tensor in saved)
    grad_x, grad_y = empty(tuple(x.shape), x), empty(tuple(y.shape), y)
    turn_x, turn_y = torch.empty_like(inverse_x), torch.empty_like(inverse_y)
    inputs = [tensor.numpy() for tensor in (grad.contiguous(), cost, inverse_x, inverse_y)]
    turns = turn_x.numpy(), turn_y.numpy()

    def work(start: int, stop: int) -> None:
        some = slice(start, stop)
        weights = empty((stop - start, *cost.shape[1:]), cost)
        turn_range(start, stop, *inputs, weights.numpy(), *turns)
        torch.mul(x[some], turn_x[some, :, None], out=grad_x[some]).baddbmm_(weights, y[some])
        torch.mul(y[some], turn_y[some, :, None], out=grad_y[some]).baddbmm_(weights.mT, x[some])

    _share_tokens(x, y, work)
    return grad_x, grad_y


def _share_tokens(x: Tensor, y: Tensor, work: Callable[[int, int], None]) -> None:
    entries = (x.shape[1] + y.shape[1]) * x.shape[2] + x.shape[1] * y.shape[1]
    share(len(x), work, most=min(CHUNK, -(-COSINE_CHUNK // entries)), alone=len(x) * entries < COSINE_ALONE)
