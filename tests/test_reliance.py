"""Reliance: the axioms of a division, answers known exactly, and models whose dominant modality is known."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import standins
from mmwa_utils import datasets, project
from mmwa_utils import reliance as rel
from mmwa_utils.evaluation import Clean, Shuffled, Without, evaluate
from mmwa_utils.shapley import coalition_values, imbalance, optimal, shapley, shares, subsets
from mmwa_utils.training import Predictions, Run, RunConfig, RunStore, load_model, open_data, train
from mmwa_utils.training.resampling import draw_counts

STANDINS = [name for name in datasets.names() if name != "digits"]
SUBSETS = [subsets("abcd"[:size]) for size in (2, 3, 4)]
NUMBERS = st.floats(-10, 10, allow_subnormal=False)


@st.composite
def games(draw: Any) -> dict[frozenset[str], float]:
    """Any value for any subset of two to four modalities."""
    return {some: draw(NUMBERS) for some in draw(st.sampled_from(SUBSETS))}


class TestShapley:
    @given(games())
    def test_is_the_mean_contribution_over_all_orders_of_arrival(self, v: dict[frozenset[str], float]) -> None:
        names = sorted(max(v, key=len))
        orders = list(permutations(names))
        for name, value in shapley(v).items():
            before = [frozenset(order[: order.index(name)]) for order in orders]
            # Sums of at most 24 terms of size 20 in double precision.
            assert value == pytest.approx(np.mean([v[some | {name}] - v[some] for some in before]), abs=1e-11)

    @given(games())
    def test_adds_up_to_what_all_gain_over_none(self, v: dict[frozenset[str], float]) -> None:
        assert sum(shapley(v).values()) == pytest.approx(v[max(v, key=len)] - v[frozenset()], abs=1e-11)

    @given(games(), NUMBERS)
    def test_one_that_adds_the_same_to_everyone_gets_just_that(
        self, v: dict[frozenset[str], float], worth: float
    ) -> None:
        joined = v | {some | {"z"}: value + worth for some, value in v.items()}
        phi = shapley(joined)
        assert phi.pop("z") == pytest.approx(worth, abs=1e-10)
        assert phi == pytest.approx(shapley(v), abs=1e-10)

    def test_refuses_a_game_with_a_hole(self) -> None:
        with pytest.raises(ValueError, match="no value of the subsets"):
            shapley({frozenset(): 0.0, frozenset("ab"): 1.0, frozenset("a"): 0.5})


class TestIndex:
    @given(st.lists(NUMBERS, min_size=2, max_size=4))
    def test_lies_between_0_and_1_wherever_something_was_gained_and_is_undefined_elsewhere(
        self, values: list[float]
    ) -> None:
        phi = dict(zip("abcd", values, strict=False))
        index = float(imbalance(phi))
        assert np.isnan(index) == (not np.sum(values) > 0)
        assert np.isnan(index) or -1e-12 <= index <= 1 + 1e-12
        assert np.isnan(index) or sum(shares(phi).values()) == pytest.approx(1)

    @given(st.lists(st.floats(1e-3, 10), min_size=2, max_size=4), st.floats(1e-3, 1e3))
    def test_does_not_depend_on_the_units_and_rises_when_the_largest_does(
        self, values: list[float], unit: float
    ) -> None:
        phi = dict(zip("abcd", values, strict=False))
        assert imbalance({m: unit * v for m, v in phi.items()}) == pytest.approx(float(imbalance(phi)), abs=1e-9)
        largest = max(phi, key=lambda m: phi[m])
        assert imbalance(phi | {largest: phi[largest] + 1}) > imbalance(phi)

    def test_of_one_modality_there_is_none(self) -> None:
        with pytest.raises(ValueError, match="two or more"):
            imbalance({"text": 1.0})


class TestKnownAnswers:
    def test_of_an_additive_truth_read_part_by_part(self) -> None:
        # y = a + b with a = +-3, b = +-1. Who knows only part of it is off by exactly the other part; who knows
        # nothing and says 0 is off by 3 on average. v = -MAE, so phi_a = ((3 - 1) + 3) / 2 and phi_b = (0 + 1) / 2.
        a, b = np.tile([3.0, 3.0, -3.0, -3.0], 25), np.tile([1.0, -1.0], 50)
        seen = {"a": a, "b": b}
        made = {
            some: Predictions(np.arange(100), np.sum([0 * a, *(seen[m] for m in some)], axis=0)[:, None], a + b)
            for some in subsets("ab")
        }
        counts = np.concatenate([np.ones((1, 100), int), draw_counts(100, 50)])
        v = coalition_values("regression", "mae", made, counts)
        phi = shapley(v)
        assert {m: value[0] for m, value in phi.items()} == pytest.approx({"a": 2.5, "b": 0.5})
        assert imbalance(phi)[0] == pytest.approx(2 * 2.5 / 3 - 1)
        # The same resample for all subsets: the parts add up in every one of them, not just on average.
        np.testing.assert_allclose(phi["a"] + phi["b"], v[frozenset("ab")] - v[frozenset()], atol=1e-12)

    def test_a_model_that_says_the_same_of_all_samples_gains_nothing_even_where_it_beats_the_prior(self) -> None:
        # Two labels, each true of every other film. The prior is just below one half and names none: F1 0. A model that
        # always names both has F1 2/3 with any modality, and reads none.
        truth, ids = np.tile([[0, 1], [1, 0]], (20, 1)), np.arange(40)
        always, never = (Predictions(ids, np.full((40, 2), logit), truth) for logit in (1.0, -0.01))
        made = {some: always if some else never for some in subsets("ab")}
        v = coalition_values("multilabel", "f1_macro", made, np.ones((1, 40), int))
        assert v[frozenset("ab")][0] == pytest.approx(2 / 3)
        assert all(value == 0 for value in shapley(v).values())
        assert np.isnan(imbalance(shapley(v))).all()

    @pytest.mark.parametrize("dataset", STANDINS)
    def test_of_the_best_predictor_the_dominant_modality_is_that_of_the_story(self, dataset: str) -> None:
        story, spec = standins.story(dataset), datasets.spec(dataset)
        sign = 1 if spec.higher_is_better else -1
        alone = {m: sign * story.scores((m,))[spec.metric] for m in story.modalities}
        phi = optimal(dataset, spec.metric)
        assert max(phi, key=lambda m: phi[m]) == max(alone, key=lambda m: alone[m]) == story.dominant
        whole = sign * (story.scores()[spec.metric] - story.scores(())[spec.metric])
        assert sum(phi.values()) == pytest.approx(whole)
        assert float(imbalance(phi)) > 0

    def test_of_the_best_predictor_in_the_two_classes_of_sentiment(self) -> None:
        scores = standins.story("cmu_mosei").scores
        assert sum(optimal("cmu_mosei", "accuracy_2").values()) == pytest.approx(scores()["acc2"] - scores(())["acc2"])


@pytest.fixture(scope="module", autouse=True)
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Stand-ins, runs and evaluations of this file go to a folder of their own; one thread, for the same bits."""
    threads, patch = torch.get_num_threads(), pytest.MonkeyPatch()
    torch.set_num_threads(1)
    patch.setenv(project.BUILD_VARIABLE, str(tmp_path_factory.mktemp("build")))
    yield project.build_folder()
    patch.undo()
    torch.set_num_threads(threads)


def trained(dataset: str, **numbers: Any) -> Run:
    config = RunConfig.for_profile("smoke", dataset=dataset, device="cpu", **numbers)
    return train(config, store=RunStore(project.build_folder() / "runs"), progress=False)


@pytest.fixture(scope="module")
def digits(build: Path) -> tuple[Run, ...]:
    """Early and late fusion of a narrow left and a wide right view."""
    numbers: Any = {"epochs": 2, "lr": 3e-3, "batch_size": 64}
    return tuple(trained("digits", fusion=fusion, seed=1, **numbers) for fusion in ("early", "late"))


@pytest.fixture(scope="module")
def clips(build: Path) -> tuple[Run, ...]:
    """Three modalities, and a metric of which less is better."""
    return (trained("cmu_mosei", fusion="late", epochs=4, samples=400, batch_size=16, lr=2e-3),)


@pytest.fixture(scope="module")
def measured(digits: tuple[Run, ...], clips: tuple[Run, ...]) -> dict[str, tuple[rel.Reliance, ...]]:
    return {"digits": rel.measure(digits, draws=100), "cmu_mosei": rel.measure(clips, draws=100)}


class TestTrained:
    def test_the_index_finds_the_wider_view_and_the_dominant_modality_of_the_story(self, measured: Any) -> None:
        known = {"digits": "right", "cmu_mosei": standins.story("cmu_mosei").dominant}
        for dataset, found in measured.items():
            for row in rel.index_table(found).itertuples():
                assert row.dominant == known[dataset]
                assert 0 < row.low <= row.index <= row.high <= 1

    def test_shapley_values_add_up_in_every_resample(self, measured: Any) -> None:
        for one in (*measured["digits"], *measured["cmu_mosei"]):
            total = np.sum(list(one.measures["shapley"].values()), axis=0)
            np.testing.assert_allclose(total, one.gain, atol=1e-12)
            assert one.gain[0] > 0

    def test_drop_and_permute_are_what_the_evaluation_says(self, measured: Any, digits: Any) -> None:
        changes = {"drop": Without(("right",)), "permute": Shuffled("right", 0)}
        values = evaluate(digits, [Clean(), *changes.values()], progress=False)

        def accuracy(run: Run, condition: Any) -> float:
            found = values[run.key, condition]
            return float(np.mean(found.logits.argmax(1) == found.truth))

        one_shuffle = rel.measure(digits, seeds=[0], draws=1)
        for run, one in zip(digits, one_shuffle, strict=True):
            for measure, condition in changes.items():
                lost = accuracy(run, Clean()) - accuracy(run, condition)
                assert one.measures[measure]["right"][0] == pytest.approx(lost)
        for one, again in zip(measured["digits"], one_shuffle, strict=True):
            assert one.measures["drop"]["right"][0] == again.measures["drop"]["right"][0]

    def test_less_error_counts_as_more_value_and_the_better_constant_is_what_is_gained_upon(
        self, measured: Any, clips: Any
    ) -> None:
        nothing = Without(("text", "vision", "audio"))
        found = evaluate(clips, [Clean(), nothing], progress=False)
        whole, prior = (found[clips[0].key, condition] for condition in (Clean(), nothing))
        constants = prior.logits[0, 0], whole.logits.mean()
        least = min(np.abs(whole.truth - constant).mean() for constant in constants)
        error = np.abs(whole.truth - whole.logits[:, 0]).mean()
        assert measured["cmu_mosei"][0].gain[0] == pytest.approx(least - error, abs=1e-5)  # single precision

    def test_shares_of_the_inside_add_up_and_the_table_has_a_row_a_number(self, measured: Any) -> None:
        table = rel.table(measured["digits"])
        assert len(table) == 2 * 2 * len(rel.MEASURES)
        assert set(table["measure"]) == set(rel.MEASURES)
        inside = table[table["measure"].isin(["attention", "gradient"])]
        sums = inside.groupby(["fusion", "measure"])["value"].sum()
        assert sums.to_numpy() == pytest.approx(1, abs=1e-5)  # single precision
        assert (table["low"] <= table["value"] + 1e-9).all()
        assert (table["value"] <= table["high"] + 1e-9).all()

    def test_noise_of_level_0_costs_nothing_and_halves_share_no_sample(self, digits: Any, measured: Any) -> None:
        fragile = rel.fragility(digits, level=0.0, seeds=[0])
        assert (fragile["noise"] == 0).all()
        # The two halves of 360 scans are 180 each: their mean loss is that of the whole where both agree on who leads.
        assert set(fragile["dominant"]) == {"right"}
        lost = fragile.groupby("fusion")["loss"].mean()
        for one in measured["digits"]:
            assert lost[one.config.fusion] == pytest.approx(one.measures["drop"]["right"][0])


class TestInside:
    def test_an_absent_modality_has_no_share(self, digits: Any) -> None:
        data = open_data(digits[0].config)
        whole = data.splits["test"][0]
        batch = data.collate([whole, whole.without("left")])
        for run in digits:
            for by_modality in rel.inner_shares(load_model(run, data), batch, data.spec).values():
                assert by_modality["left"][1] == 0
                assert by_modality["right"][1] == pytest.approx(1)
                assert 0 < by_modality["left"][0] < 1

    def test_with_one_output_the_gradient_of_the_loss_and_of_the_output_share_alike(self, clips: Any) -> None:
        data = open_data(clips[0].config)
        batch = data.collate([data.splits["test"][i] for i in range(4)])
        model = load_model(clips[0], data)
        kept: list[torch.Tensor] = []
        handle = model.encoder.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        output = model(batch)
        handle.remove()
        (gradient,) = torch.autograd.grad(output.logits.sum(), kept[0])
        norms = {m: gradient[:, cut].flatten(1).norm(dim=1) for m, cut in output.segments.items()}
        total = sum(norms.values(), torch.zeros(4))
        found = rel.inner_shares(model, batch, data.spec)["gradient"]
        for name, norm in norms.items():
            torch.testing.assert_close(found[name], norm / total, rtol=1e-4, atol=1e-6)  # single precision, two routes


def made(fusion: str, alignment: str, seed: int, text: float, image: float, spread: float = 0.0) -> rel.Reliance:
    """A run with given Shapley values, the text's the more uncertain the larger `spread`."""
    config = RunConfig.for_profile("smoke", dataset="hateful_memes", fusion=fusion, seed=seed,
                                   alignment={"name": alignment})  # fmt: skip
    wave = spread * np.sin(np.arange(201))
    phi = {"text": text + wave, "image": np.full(201, image)}
    return rel.Reliance(config, "auroc", {"shapley": phi}, phi["text"] + phi["image"])


class TestSummaries:
    def test_differences_of_the_index_are_paired_and_leave_undefined_pairs_out(self) -> None:
        # Index 0.5 against 0, for seeds of very different gain: the difference is the same for all of them.
        sizes = [0.01, 0.1, 1.0]
        runs = [made("late", "none", s, 3 * g, g) for s, g in enumerate(sizes)]
        runs += [made("late", "wasserstein", s, g, g) for s, g in enumerate(sizes)]
        runs += [made("late", "none", 9, -1, 0), made("late", "wasserstein", 9, 1, 1)]
        (row,) = rel.index_differences(runs).itertuples()
        assert (row.seeds, row.verdict) == (3, "helps")
        assert (row.difference, row.low, row.high) == pytest.approx((-0.5, -0.5, -0.5))

    def test_with_nothing_defined_nothing_is_said(self) -> None:
        runs = [made("late", arm, seed, -1, -1) for arm in ("none", "wasserstein") for seed in (0, 1)]
        assert set(rel.index_differences(runs)["verdict"]) == {"cannot tell"}
        assert rel.arm_means(runs, lambda one: one.index)["mean"].isna().all()
        assert rel.index_table(runs)[["index", "low", "high"]].isna().all(axis=None)

    def test_a_seed_counts_once_however_many_fusions_it_has(self) -> None:
        runs = [made(fusion, "none", seed, 2 + seed, 1) for fusion in ("early", "late") for seed in (0, 1)]
        together = rel.arm_means(runs, lambda one: one.gain, by=["dataset"])
        alone = rel.arm_means(runs[2:], lambda one: one.gain, by=["dataset"])
        assert together["seeds"].item() == 2
        pd.testing.assert_frame_equal(together, alone)

    def test_the_interval_of_a_mean_is_wider_where_samples_are_less_sure(self) -> None:
        widths = []
        for spread in (0.0, 0.5):
            runs = [made("late", "none", seed, 2 + 0.1 * seed, 1, spread) for seed in (0, 1, 2)]
            (row,) = rel.arm_means(runs, lambda one: one.gain).itertuples()
            widths.append(row.high - row.low)
        assert 0 < widths[0] < widths[1]


def fragile(dataset: str, index: np.ndarray, loss: np.ndarray) -> pd.DataFrame:
    rows = [(dataset, "late", "none", s, half, i, x) for s, (i, x) in enumerate(zip(index, loss, strict=True))
            for half in (0, 1)]  # fmt: skip
    return pd.DataFrame(rows, columns=["dataset", "fusion", "alignment", "seed", "half", "index", "loss"])


class TestRankCorrelation:
    def test_is_one_for_any_rising_relation_and_minus_one_for_a_falling_one(self) -> None:
        x = np.linspace(0, 1, 8)
        assert rel.rank_correlation(fragile("one", x, np.exp(5 * x)), "loss").value == pytest.approx(1)
        assert rel.rank_correlation(fragile("one", x, -(x**3)), "loss").value == pytest.approx(-1)

    def test_ignores_what_is_between_datasets(self) -> None:
        rng = np.random.default_rng(0)
        tables = [fragile(name, rng.random(6), rng.random(6)) for name in ("one", "other")]
        before = rel.rank_correlation(pd.concat(tables), "loss")
        tables[1]["index"] += 10
        tables[1]["loss"] += 10
        assert rel.rank_correlation(pd.concat(tables), "loss") == before
        assert before.low < before.value < before.high

    def test_of_undefined_runs_alone_it_is_undefined(self) -> None:
        empty = fragile("one", np.full(4, np.nan), np.arange(4.0))
        assert np.isnan(rel.rank_correlation(empty, "loss").value)
