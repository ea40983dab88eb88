"""Sharing a batch between threads, and the memory that its results come back to."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mmwa_utils.ot import _host, _numba, cosine_cost, sinkhorn
from mmwa_utils.ot._host import share


@pytest.fixture(params=["PyTorch's threads", "Python's"])
def team(request, monkeypatch) -> None:
    """Three threads of either kind."""
    if request.param == "Python's":
        monkeypatch.setattr(_host, "_openmp", lambda: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


@pytest.mark.skipif(sys.platform != "linux", reason="NO GNU OPENMP HERE: only Python's threads were tested")
def test_this_pytorch_lends_its_threads():
    # Else the tests below would run twice on Python's threads and say nothing of the other way.
    assert _host._openmp() is not None


@pytest.mark.parametrize("batch", [1, 2, 11, 12, 13, 100, 1000])
@pytest.mark.parametrize("most", [1, 32])
def test_every_problem_once(team, batch, most):
    seen = np.zeros(batch, int)
    sizes = []

    def work(start: int, stop: int) -> None:
        seen[start:stop] += 1
        sizes.append(stop - start)

    share(batch, work, most=most, alone=False)
    assert (seen == 1).all()
    assert max(sizes) <= most
    assert len(sizes) >= min(batch, 7)  # turns enough for each of three threads


def test_alone_is_one_call_on_the_calling_thread(team):
    calls = []
    share(50, lambda start, stop: calls.append((start, stop, threading.get_ident())), most=8, alone=True)
    assert calls == [(0, 50, threading.get_ident())]


def test_several_threads_work(team):
    # No thread of the team gets past the barrier before all three are there.
    together = threading.Barrier(3, timeout=20)
    share(3, lambda start, stop: together.wait(), most=1, alone=False)


def test_an_error_reaches_the_caller(team):
    def work(start: int, stop: int) -> None:
        if start == 7:
            raise ZeroDivisionError("problem 7")

    with pytest.raises(ZeroDivisionError, match="problem 7"):
        share(12, work, most=1, alone=False)


def test_inference_mode_holds_on_every_thread(team):
    modes = []
    together = threading.Barrier(3, timeout=20)

    def work(start: int, stop: int) -> None:
        together.wait()
        modes.append(torch.is_inference_mode_enabled())

    with torch.inference_mode():
        share(3, work, most=1, alone=False)
    share(3, work, most=1, alone=False)
    assert modes == [True] * 3 + [False] * 3


def test_engine_in_inference_mode_and_on_several_calling_threads(team, monkeypatch):
    monkeypatch.setattr(_numba, "COSINE_ALONE", 0)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(64, n, 48, generator=generator) for n in (30, 90))

    def solve() -> torch.Tensor:
        with torch.inference_mode():
            return sinkhorn(cosine_cost(x, y), epsilon=0.2).plan

    expected = sinkhorn(cosine_cost(x, y), epsilon=0.2).plan
    with ThreadPoolExecutor(3) as callers:
        found = [caller.result() for caller in [callers.submit(solve) for _ in range(6)]]
    assert all(torch.equal(plan, expected) for plan in found)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of what is tested here
def test_a_forked_child_solves(team):
    cost = torch.rand(64, 40, 60, generator=torch.Generator().manual_seed(0))
    expected = sinkhorn(cost, epsilon=0.5).plan.numpy()  # the parent's threads now exist, and the child lacks them
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout's handler is Python, which may never run
        signal.alarm(60)
        # Compared by NumPy: an operator of PyTorch's waits for the parent's threads forever.
        equal = np.array_equal(sinkhorn(cost, epsilon=0.5).plan.numpy(), expected)
        os._exit(0 if equal else 1)
    assert os.waitpid(child, 0)[1] == 0


class TestMemory:
    SHAPE = (3, 1000, 1000)

    @pytest.fixture(autouse=True)
    def nothing_waits(self) -> None:
        _host._waiting.clear()

    def pages(self, tensor: torch.Tensor) -> range:
        return range(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_tensor_as_asked_for(self, dtype):
        for shape in ((0, 4, 5), (2, 3), self.SHAPE):
            tensor = _host.empty(shape, torch.zeros(1, dtype=dtype))
            assert tensor.shape == shape
            assert tensor.dtype == dtype
            assert tensor.is_contiguous()
            tensor.fill_(1)
        assert tensor.data_ptr() % 64 == 0

    def test_freed_memory_is_used_again(self):
        first = _host.empty(self.SHAPE, torch.zeros(1))
        place = first.data_ptr()
        del first
        smaller = _host.empty((2, 1000, 1000), torch.zeros(1))
        assert smaller.data_ptr() == place
        del smaller
        assert _host.empty((1, 1000, 1000), torch.zeros(1)).data_ptr() != place, "three times too large"

    def test_memory_in_use_is_not_given_twice(self):
        kept = [_host.empty(self.SHAPE, torch.zeros(1)) for _ in range(4)]
        starts = sorted(tensor.data_ptr() for tensor in kept)
        assert all(b - a >= kept[0].nbytes for a, b in itertools.pairwise(starts))

    @pytest.mark.parametrize(
        "user", [lambda t: t[1:2, ::2], lambda t: t.numpy()[2], lambda t: t.detach(), lambda t: t.mT]
    )
    def test_whoever_reads_keeps_it(self, user):
        tensor = _host.empty(self.SHAPE, torch.zeros(1))
        pages, view = self.pages(tensor), user(tensor)
        del tensor
        other = _host.empty(self.SHAPE, torch.zeros(1))
        assert other.data_ptr() not in pages
        del view
        assert _host.empty(self.SHAPE, torch.zeros(1)).data_ptr() in pages

    def test_little_waits(self):
        for _ in range(2):
            several = [_host.empty(self.SHAPE, torch.zeros(1)) for _ in range(3 * _host.KEPT)]
            del several
            assert len(_host._waiting) == _host.KEPT
        small = _host.empty((10, 10), torch.zeros(1))
        del small
        large = _host.empty((_host.LARGEST // 8 + 1,), torch.zeros(1, dtype=torch.float64))
        del large
        assert all(_host.SMALLEST <= len(b) <= _host.LARGEST + _host.ALIGNED for b in _host._waiting)
