"""The fast paths against the readable reference, over shapes; and the operator that torch.compile sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmwa_utils.ot import _autograd, _numba, _numba_cosine, _numba_kernels, _problem, _torch, reference, sinkhorn

SHAPES = [(1, 1), (1, 9), (9, 1), (2, 3), (4, 16), (5, 17), (16, 4), (20, 50), (31, 33), (50, 20), (33, 129)]


@pytest.mark.parametrize("backend", [_numba, _torch])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_equal_to_the_reference(clouds, weights, backend: _problem.Backend, dtype, n, m):
    cost, a, b = clouds(2, n, m).to(dtype), weights(2, n).to(dtype), weights(2, m, seed=1).to(dtype)
    for epsilon in (0.1, 1.0):
        found = backend.solve(_problem.Problem(cost, a, b, epsilon, 1e-6, 5000))
        assert found.f.dtype == found.g.dtype == found.marginal_error.dtype == torch.float64
        assert found.n_iter.dtype == torch.int32
        assert found.plan.dtype == dtype
        for p in range(2):
            ap, bp = (w[p].double().numpy() / w[p].double().sum().item() for w in (a, b))
            expected = reference.sinkhorn(cost[p].double().numpy(), ap, bp, epsilon=epsilon)
            np.testing.assert_allclose(found.plan[p].double(), expected.plan, atol=1e-5, rtol=0)
            # The contract: the dual value may be read off the potentials, since the plan's mass is 1.
            value = float((a[p] * found.f[p]).sum() + (b[p] * found.g[p]).sum())
            assert value == pytest.approx(expected.value, abs=1e-5)
            assert found.marginal_error[p] <= 1e-6


def test_inputs_in_any_layout(clouds):
    cost = clouds(3, 20, 14)
    expected = sinkhorn(cost[:, ::2, ::2].contiguous(), epsilon=0.2)
    for view in (cost[:, ::2, ::2], cost[:, ::2, ::2].mT.contiguous().mT):
        assert not view.is_contiguous()
        assert torch.equal(sinkhorn(view, epsilon=0.2).plan, expected.plan)
    stretched = cost[:1].expand(3, -1, -1)
    assert torch.equal(sinkhorn(stretched, epsilon=0.2).plan[2], sinkhorn(cost[:1], epsilon=0.2).plan[0])


def test_each_problem_goes_to_the_back_end_that_is_made_for_it():
    assert _problem.choose(torch.zeros(1, 50, 240)) is _numba
    assert _problem.choose(torch.zeros(1, 1, 1).expand(1, 2000, 2000)) is _numba
    assert _problem.choose(torch.zeros(1, 5, 5, device="meta")) is _torch


def test_an_operator_that_compiles_whole():
    # In a process of its own: what checks annotations while the tests run cannot be traced.
    script = Path(__file__).with_name("compiled_whole.py")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=script.parents[2], check=False)
    assert run.returncode == 0, run.stderr


def test_the_operator_describes_itself(clouds, weights):
    cost, a, b = clouds(2, 4, 6), weights(2, 4), weights(2, 6)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(_autograd.solve_operator, (cost, a, b, 0.3, 1e-9, 100), test_utils=checks)


def test_compiled_functions_call_none_of_another_file() -> None:
    """Numba's cache watches a function's own file: a kernel elsewhere could change, and its callers run the old one."""
    for module, expected in (
        (_numba_kernels, {"solve_range"}),
        (_numba_cosine, {"norm_range", "distance_range", "turn_range"}),
    ):
        compiled = {name: value for name, value in vars(module).items() if hasattr(value, "py_func")}
        assert expected <= compiled.keys()
        assert {value.py_func.__code__.co_filename for value in compiled.values()} == {module.__file__}
