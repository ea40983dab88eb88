"""The GPU back end: its logic by the interpreter, its code by the compiler, and both on a GPU where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmwa_utils import ot
from mmwa_utils.ot import _problem

triton = pytest.importorskip("triton", reason="TRITON IS NOT INSTALLED: the GPU kernels were not tested at all")


def test_kernels_under_the_interpreter():
    """Every property in `triton_under_interpreter.py`, in a process where Triton interprets."""
    file = Path(__file__).with_name("triton_under_interpreter.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout


@pytest.mark.parametrize(
    ("capability", "n", "m"), [(70, 50, 240), (80, 20, 20), (90, 50, 240)], ids=["V100", "A100", "H100"]
)
def test_kernels_compile_for_real_gpus(capability, n, m, tmp_path, monkeypatch):
    """Triton brings the assembler along, so machine code is made without a GPU; only running it needs one."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mmwa_utils.ot import _triton
    from mmwa_utils.ot._triton_kernels import solve_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    rows, columns = _triton.tile(n, m)
    fixed = {"REACH": 40.0, "N": rows, "M": columns}
    pointers = {"cost": "fp32", "a": "fp32", "b": "fp32", "f": "fp64", "g": "fp64"}
    pointers |= {"plan": "fp32", "count": "i32", "error": "fp64"}
    signature = {f"{name}_ptr": f"*{kind}" for name, kind in pointers.items()}
    signature |= {"n": "i32", "m": "i32", "epsilon": "fp64", "tol": "fp64", "max_iter": "i32"}
    signature |= dict.fromkeys(fixed, "constexpr")
    source = ASTSource(solve_kernel, signature, {(list(signature).index(k),): value for k, value in fixed.items()})
    options = {"num_warps": _triton.warps(rows * columns)}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.asm["cubin"]
    # What every multiprocessor since the V100 offers a program without asking.
    assert compiled.metadata.shared <= 48 * 1024


@pytest.mark.gpu
def test_on_a_gpu():
    """The same batch on the GPU and on the CPU, gradients included."""
    if not torch.cuda.is_available():
        pytest.skip("NO GPU HERE: the Triton kernels were interpreted and compiled, but never run on a device")
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 40, 64, generator=generator), torch.randn(32, 145, 64, generator=generator)
    mask = torch.arange(145) < torch.randint(1, 146, (32, 1), generator=generator)
    found = {}
    for device in ("cpu", "cuda"):
        tokens = [z.to(device).requires_grad_() for z in (x, y)]
        cost = ot.cosine_cost(*tokens, mask_y=mask.to(device))
        if device == "cuda":
            assert _problem.choose(cost).__name__.endswith("_triton")
        result = ot.sinkhorn(cost, epsilon=0.1, mask_y=mask.to(device), tol=1e-6)
        gradients = torch.autograd.grad(result.value.sum(), tokens)
        assert bool(result.converged.all())
        found[device] = [t.detach().cpu() for t in (result.plan, result.value, *gradients)]
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        # Both are within their tolerance of 1e-6 of the solution; gradients sum a hundred of them.
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
