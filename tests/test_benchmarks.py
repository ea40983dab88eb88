"""The benchmark's own rules: what "equally accurate" means, and that nobody is left out without a word."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import _contender, _measure
from benchmarks._accuracy import TARGET, marginal_error, plain_sinkhorn
from benchmarks._clouds import Case, Shape
from mmwa_utils.ot import reference

PEERS = ("POT sinkhorn", "POT log_sinkhorn", "GeomLoss", "OTT-JAX", "torch loop")
NO_SOLVER = "floor"
CASE = Case(Shape(batch=3, n=6, m=9, dim=8), epsilon=0.1)


@pytest.fixture
def problem():
    return _contender.Problem.draw(CASE, seed=0, device=torch.device("cpu"))


def test_marginal_error_is_of_the_worst_problem_and_infinite_for_nan():
    product = torch.full((2, 4, 5), 1 / 20)
    assert marginal_error(product) < 1e-7
    spoiled = product.clone()
    spoiled[1, 0, 0] += 0.01
    assert marginal_error(spoiled) == pytest.approx(0.02, rel=1e-5)
    spoiled[0, 0, 0] = float("nan")
    assert marginal_error(spoiled) == float("inf")


def test_plain_counts_are_the_references(problem):
    uniform = np.full(CASE.shape.n, 1 / CASE.shape.n), np.full(CASE.shape.m, 1 / CASE.shape.m)
    plain = plain_sinkhorn(problem.cost, epsilon=CASE.epsilon)
    for cost, n_iter in zip(problem.cost.double().numpy(), plain.n_iter.tolist(), strict=True):
        assert reference.sinkhorn(cost, *uniform, epsilon=CASE.epsilon, tol=TARGET).n_iter == n_iter


@pytest.mark.parametrize("hint", [1, 30, 64, 500])
def test_search_finds_the_fewest_iterations_from_any_hint(hint):
    # Below fifty a resolution of 2 % is one iteration: the answer is exact.
    assert _contender.fewest_iterations(lambda count: 0.0 if count >= 37 else 1.0, hint=hint) == 37


def test_search_gives_up_on_what_never_converges():
    with pytest.raises(_contender.CannotReachTargetError, match=r"after 100 iterations"):
        _contender.fewest_iterations(lambda count: 1.0, hint=10, limit=100)


def test_search_gives_up_on_who_keeps_everybody_waiting(monkeypatch):
    seconds, tried = [0.0], []
    monkeypatch.setattr(_contender, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))

    def error_after(count: int) -> float:
        tried.append(count)
        seconds[0] += 0.05 * count
        return 1.0

    with pytest.raises(_contender.TooSlowError, match=r"TOO SLOW: 80 iterations take 4 s \(marginal error 1e\+00\)"):
        _contender.fewest_iterations(error_after, hint=10)
    assert tried == [10, 20, 40, 80]


def test_every_contender_solves_the_same_problem_as_accurately(problem):
    """All gradients agree, so nobody is timed on another problem or convention."""
    taking_part, absent = _measure.contenders()
    assert set(taking_part) | set(absent) == {"mmwa_utils", *PEERS, NO_SOLVER}
    assert all("NOT MEASURED" in reason for reason in absent.values())
    entries, unable = _measure.tune(problem, taking_part)
    assert not unable
    (expected,) = (entry.gradient()[0] for entry in entries if entry.name == "mmwa_utils")
    for entry in (entry for entry in entries if entry.name != NO_SOLVER):
        assert entry.error <= TARGET
        gradient = entry.gradient()[0]
        # Plans within 1e-5 of the marginals differ by a small multiple of that, relative to gradients of size 0.1.
        assert (gradient - expected).abs().max() <= 1e-3 * expected.abs().max()
