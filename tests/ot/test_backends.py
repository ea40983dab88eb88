"""The fast paths against the readable reference, over shapes; and the operator that torch.compile sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmwa_utils.ot import _backend, _numba_costs, _numba_kernels, _operators, reference, sinkhorn

SHAPES = [(1, 1), (1, 9), (9, 1), (2, 3), (4, 16), (5, 17), (16, 4), (20, 50), (31, 33), (50, 20), (33, 129)]


@pytest.mark.parametrize("name", ["_numba", "_torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_equal_to_the_reference(clouds, weights, name, dtype, n, m):
    backend = _backend.load(name)
    cost, a, b = clouds(2, n, m).to(dtype), weights(2, n).to(dtype), weights(2, m, seed=1).to(dtype)
    assert backend.supports(cost)
    for epsilon in (0.1, 1.0):
        found = backend.solve(cost, a, b, epsilon, 1e-6, 5000)
        plan = backend.plan(cost, found.f, found.g, a, b, epsilon)
        assert found.f.dtype == found.g.dtype == found.marginal_error.dtype == torch.float64
        assert found.n_iter.dtype == torch.int32
        assert plan.dtype == dtype
        for p in range(2):
            ap, bp = (w[p].double().numpy() / w[p].double().sum().item() for w in (a, b))
            expected = reference.sinkhorn(cost[p].double().numpy(), ap, bp, epsilon=epsilon)
            np.testing.assert_allclose(plan[p].double(), expected.plan, atol=1e-5, rtol=0)
            # The contract: the dual value may be read off the potentials, since the plan's mass is 1.
            value = float((a[p] * found.f[p]).sum() + (b[p] * found.g[p]).sum())
            assert value == pytest.approx(expected.value, abs=1e-5)
            assert found.marginal_error[p] <= 1e-6


@pytest.mark.parametrize("name", ["_numba", "_torch"])
def test_plans_of_scaled_weights(clouds, weights, name):
    backend = _backend.load(name)
    cost, a, b = clouds(2, 5, 9), weights(2, 5), weights(2, 9, seed=1)
    found = backend.solve(cost, a, b, 0.3, 1e-9, 5000)
    scale = torch.tensor([[-2.0], [0.0]], dtype=cost.dtype)
    plan = backend.plan(cost, found.f, found.g, a, b, 0.3)
    torch.testing.assert_close(backend.plan(cost, found.f, found.g, a * scale, b, 0.3), plan * scale[:, :, None])


def test_inputs_in_any_layout(clouds):
    cost = clouds(3, 20, 14)
    expected = sinkhorn(cost[:, ::2, ::2].contiguous(), epsilon=0.2)
    for view in (cost[:, ::2, ::2], cost[:, ::2, ::2].mT.contiguous().mT):
        assert not view.is_contiguous()
        assert torch.equal(sinkhorn(view, epsilon=0.2).plan, expected.plan)
    stretched = cost[:1].expand(3, -1, -1)
    assert torch.equal(sinkhorn(stretched, epsilon=0.2).plan[2], sinkhorn(cost[:1], epsilon=0.2).plan[0])


def test_large_problems_are_left_to_matrix_code():
    assert _backend.choose(torch.zeros(1, 50, 240)) is _backend.load("_numba")
    assert _backend.choose(torch.zeros(1, 1, 1).expand(1, 2000, 2000)) is _backend.load("_torch")
    assert _backend.choose(torch.zeros(1, 5, 5, device="meta")) is _backend.load("_torch")


def test_an_operator_that_compiles_whole():
    # In a process of its own: what checks annotations while the tests run cannot be traced.
    script = Path(__file__).with_name("compiled_whole.py")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=script.parents[2], check=False)
    assert run.returncode == 0, run.stderr


def test_the_operators_describe_themselves(clouds, weights):
    cost, a, b = clouds(2, 4, 6), weights(2, 4), weights(2, 6)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(_operators.solve_operator, (cost, a, b, 0.3, 1e-9, 100), test_utils=checks)
    f, g, _, _, _ = _operators.solve(cost, a, b, 0.3, 1e-9, 100)
    torch.library.opcheck(_operators.make_plan, (cost, f, g, a, b, 0.3), test_utils=checks)


@pytest.mark.parametrize(
    ("module", "called"),
    [
        (_numba_kernels, {"solve_range", "plan_range"}),
        (_numba_costs, {"_norm_range", "_distance_range", "_turn_range", "_scale_range"}),
    ],
)
def test_compiled_functions_call_none_of_another_file(module, called) -> None:
    """Numba's cache watches a function's own file: a kernel elsewhere could change, and its callers run the old one."""
    compiled = {name: value for name, value in vars(module).items() if hasattr(value, "py_func")}
    assert called <= compiled.keys()
    assert {value.py_func.__code__.co_filename for value in compiled.values()} == {module.__file__}
