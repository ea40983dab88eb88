"""Robustness: compositions equal direct evaluations, summaries obey their definitions, intervals their symmetries."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmwa_utils.corruption import choose_missing, lose
from mmwa_utils.evaluation import grids
from mmwa_utils.evaluation import robustness as rb
from mmwa_utils.evaluation.conditions import Condition, Noise, SplitView
from mmwa_utils.evaluation.grids import ALL, CLEAN, DRAWN, PAPER_LEVELS, Grid, missing_grid, noise_grid
from mmwa_utils.evaluation.metrics import headline
from mmwa_utils.evaluation.prediction import evaluate
from mmwa_utils.project import BUILD_VARIABLE
from mmwa_utils.training import Predictions, Run, RunConfig, open_data
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample, Task
from tests.training.tiny import tiny_run

LEVELS = PAPER_LEVELS
MODALITIES = (ModalitySpec("a", "stream", width=2), ModalitySpec("b", "stream", width=2))


def spec(name: str = "demo", task: Task = "binary", metric: str = "accuracy") -> DatasetSpec:
    return DatasetSpec(name, MODALITIES, task, 1, ("yes",), metric, higher_is_better=metric != "mae")


@dataclass(frozen=True)
class Lost(Condition):
    """What a missing grid composes, evaluated directly: each sample loses what it is listed with."""

    lost: tuple[tuple[str, str], ...]

    def change(self, samples: SplitView, index: int) -> Sample:
        sample = samples[index]
        name = dict(self.lost).get(sample.id)
        return sample if name is None else lose(sample, name, samples.spec)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("runs"), epochs=1)


def fake_run(folder: Path, alignment: str, seed: int, fusion: str = "late") -> Run:
    """A run of which only the configuration is there."""
    made = folder / f"demo-{fusion}-{alignment}-{seed}"
    made.mkdir(parents=True)
    config = RunConfig(dataset="digits", fusion=fusion, seed=seed, alignment={"name": alignment})  # type: ignore[arg-type]
    (made / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    return Run(made)


def fake_grid(
    folder: Path,
    *,
    skill: dict[str, float],
    of: DatasetSpec | None = None,
    fusions: tuple[str, ...] = ("late",),
    seeds: int = 3,
    levels: tuple[float, ...] = LEVELS,
    samples: int = 60,
) -> Grid:
    """Logits = skill x truth + fixed noise that grows with the level; an alignment is better by its skill."""
    rng = np.random.default_rng(5)
    truth = (np.arange(samples) % 2).astype(float)
    ids = np.array([f"s{i}" for i in range(samples)])
    runs = [fake_run(folder, a, s, f) for f in fusions for a in skill for s in range(seeds)]
    points = [(m, level, s) for m in (ALL, "a") for level in (0.0, *levels) for s in range(2)]
    shared = {point: rng.normal(size=samples) for point in points}
    own = {(run.config.fusion, run.config.seed): rng.normal(size=samples) for run in runs}

    def predict(run: Run, noise: Any) -> Predictions:
        config = run.config
        logits = skill[config.arm] * (2 * truth - 1) + own[config.fusion, config.seed] + noise
        return Predictions(ids, logits[:, None], truth)

    predictions = {(run.key, *at): predict(run, 4 * at[1] * shared[at]) for run in runs for at in points}
    trivial = Predictions(ids, np.zeros((samples, 1)), truth)
    return Grid(of or spec(), "corrected", tuple(runs), (ALL, "a"), (0.0, *levels), (0, 1), predictions, trivial, ids)


class TestGrids:
    @pytest.fixture(autouse=True)
    def build(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Evaluations are kept in a folder of each test's own."""
        monkeypatch.setenv(BUILD_VARIABLE, str(tmp_path))

    def test_a_composition_equals_the_direct_evaluation(self, run: Run) -> None:
        grid = missing_grid([run], shares=(0.5,), seeds=(3,))
        split = open_data(run.config).splits["test"]
        for modality in (DRAWN, "left"):
            only = None if modality == DRAWN else modality
            lost = choose_missing(split, split.spec, rate=0.5, seed=3, modality=only)
            direct = Lost(tuple(lost.items()))
            expected = evaluate([run], [direct])[run.key, direct]
            composed = grid.predictions[run.key, modality, 0.5, 3]
            assert composed.ids.tolist() == expected.ids.tolist()
            # A batch in which nobody lost anything sums float32 in another order.
            np.testing.assert_allclose(composed.logits, expected.logits, atol=1e-4)

    def test_exactly_the_share_changes_and_more_of_it_at_a_higher_one(self, run: Run) -> None:
        grid = missing_grid([run], modalities=["right"], seeds=(0,))
        clean = grid.clean(run.key).logits
        changed = [np.any(grid.predictions[run.key, "right", s, 0].logits != clean, axis=1) for s in LEVELS]
        assert [rows.sum() for rows in changed] == [round(share * len(clean)) for share in LEVELS]
        assert all(np.all(less <= more) for less, more in itertools.pairwise(changed))

    def test_a_noise_grid_is_the_evaluation_of_its_points(self, run: Run) -> None:
        grid = noise_grid([run], levels=(0.0, 0.5), seeds=(1,))
        assert grid.levels == (0.0, 0.5)
        assert grid.modalities == (ALL, "left", "right")
        condition = Noise(0.5, 1, ("left",))
        found = evaluate([run], [condition])[run.key, condition]
        np.testing.assert_array_equal(grid.predictions[run.key, "left", 0.5, 1].logits, found.logits)

    def test_all_plots_of_a_film_lose_the_same_and_natural_gaps_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        films = [Sample(f"{f}/{p}", 1, {"a": 0, "b": 0}, group=f"f{f}") for f in range(20) for p in range(2)]
        films = [s.without("b") if s.group in ("f0", "f1", "f2", "f3") else s for s in films]
        logits = {"clean": 0.0, "a": 1.0, "b": 2.0}

        def constant(name: str) -> Predictions:
            return Predictions(np.array([s.id for s in films]), np.full((40, 1), logits[name]), np.ones(40))

        class Split(list):  # type: ignore[type-arg]
            name, spec, standin, fingerprint = "test", spec(), True, "none"

            def labels(self) -> np.ndarray:
                return np.ones(len(self))

            def ids(self) -> list[str]:
                return [sample.id for sample in self]

        def evaluated(runs: Any, conditions: Any, **options: Any) -> Any:
            return {("k", c): constant(c.modalities[0] if hasattr(c, "modalities") else "clean") for c in conditions}

        monkeypatch.setattr(grids, "_opened", lambda runs: (Split(films), np.ones(40)))
        monkeypatch.setattr(grids, "evaluate", evaluated)
        grid = missing_grid([Run(Path("k"))], modalities=["b"], shares=(0.5,))
        lost = grid.predictions["k", "b", 0.5, 0].logits[:, 0].reshape(20, 2)
        assert (lost[:, 0] == lost[:, 1]).all()
        assert (lost[:4] == 0).all()  # these lack it already and take no part
        assert (lost[:, 0] == 2.0).sum() == 8  # half of the sixteen films that can lose it
        assert len(set(grid.clusters)) == 20

    def test_no_runs_are_refused(self) -> None:
        with pytest.raises(ValueError, match="there are none"):
            noise_grid([])


class TestSummaries:
    @pytest.fixture
    def scores(self, tmp_path: Path) -> rb.Scores:
        return rb.score(fake_grid(tmp_path, skill={"none": 0.8, "wasserstein": 0.8}), "accuracy", draws=200)

    def test_the_tidy_table_begins_at_the_clean_metric_and_its_mean_is_the_mean(self, scores: rb.Scores) -> None:
        tidy, means = rb.table(scores), rb.means(scores)
        assert len(tidy) == 6 * (2 * 3 * 2 + 2 * 2)
        for key in (run.key for run in scores.grid.runs):
            predictions = scores.grid.clean(key)
            right = np.mean((predictions.logits[:, 0] > 0) == predictions.truth)
            assert np.allclose(tidy[(tidy["run"] == key) & (tidy["level"] == 0)]["value"], right)
        assert ((tidy["low"] <= tidy["value"]) & (tidy["value"] <= tidy["high"])).all()
        by_arm = tidy[tidy["level"] > 0].groupby(["alignment", "modality"])["value"].mean()
        for row in means.itertuples():
            assert by_arm[row.alignment, row.modality] == pytest.approx(row.mean)
            assert row.drop == pytest.approx(row.clean - row.mean)

    def test_the_mean_is_over_the_papers_levels_and_the_area_over_all(self, tmp_path: Path) -> None:
        four = rb.score(fake_grid(tmp_path / "4", skill={"none": 1.0}, levels=(*LEVELS, 1.0)), "accuracy", draws=20)
        curve = four.curves[0, 0]
        np.testing.assert_allclose(four.summary()[0, 0], curve[1:4].mean(axis=0))
        by_hand = (curve[:-1] + curve[1:]).sum(axis=0) / 8  # four trapezoids of width 1/4
        np.testing.assert_allclose(four.summary("area")[0, 0], by_hand)

    def test_a_missing_level_of_the_paper_is_named(self, tmp_path: Path) -> None:
        scores = rb.score(fake_grid(tmp_path, skill={"none": 1.0}, levels=(0.5,)), "accuracy", draws=10)
        with pytest.raises(ValueError, match=r"paper's \(0.25, 0.5, 0.75\)"):
            rb.means(scores)

    def test_a_drop_is_positive_where_an_error_grew(self, tmp_path: Path) -> None:
        grid = fake_grid(tmp_path, skill={"none": 0.8}, of=spec("demo", "regression", "mae"))
        row = rb.means(rb.score(grid, "mae", draws=20)).iloc[0]
        assert row["mean"] > row["clean"]
        assert row["drop"] == pytest.approx(row["mean"] - row["clean"])

    def test_the_headline_is_higher_where_better(self) -> None:
        assert headline(spec(metric="auroc")) == "auroc"
        assert headline(spec("cmu_mosei", "regression", "mae")) == "accuracy_2"


class TestDifferences:
    def test_equal_models_do_not_differ_and_a_better_one_helps(self, tmp_path: Path) -> None:
        skill = {"none": 0.5, "wasserstein": 0.5, "coral": 3.0}
        table = rb.differences(rb.score(fake_grid(tmp_path, skill=skill), "accuracy", draws=200))
        same, better = (table[table["alignment"] == name] for name in ("wasserstein", "coral"))
        assert (same[["difference", "low", "high"]] == 0).all(axis=None)
        assert set(same["verdict"]) == {"no difference"}
        assert set(better["verdict"]) == {"helps"}
        assert set(table["modality"]) == {ALL, "a", CLEAN}

    def test_the_sign_turns_with_the_roles_and_with_the_metric(self, tmp_path: Path) -> None:
        weak, strong = {"none": 0.5, "wasserstein": 2.0}, {"none": 2.0, "wasserstein": 0.5}
        one, other = (
            rb.differences(rb.score(fake_grid(tmp_path / str(i), skill=s), "accuracy", draws=100))
            for i, s in enumerate((weak, strong))
        )
        np.testing.assert_allclose(one["difference"], -other["difference"])
        assert set(other["verdict"]) == {"hurts"}
        grid = replace(fake_grid(tmp_path / "mae", skill=weak), spec=spec("demo", "regression", "mae"))
        errors = rb.differences(rb.score(grid, "mae", draws=100))
        # A strong model overshoots a truth of 0 and 1, so its error is larger: a positive difference that hurts.
        assert (errors["difference"] > 0).all()
        assert "helps" not in set(errors["verdict"])

    def test_what_belongs_together_is_drawn_together(self, tmp_path: Path) -> None:
        grid = fake_grid(tmp_path, skill={"none": 0.5, "wasserstein": 0.8})

        def twice(p: Predictions) -> Predictions:
            return Predictions(*(np.repeat(a, 2, axis=0) for a in (p.ids, p.logits, p.truth)))

        doubled = replace(
            grid,
            predictions={k: twice(p) for k, p in grid.predictions.items()},
            trivial=twice(grid.trivial),
            clusters=np.repeat(grid.clusters, 2),
        )
        loose = replace(doubled, clusters=np.array([f"{i}" for i in range(120)]))
        kept, same, narrow = (rb.differences(rb.score(g, "accuracy", draws=300)) for g in (grid, doubled, loose))
        kept, same = (t.select_dtypes("number") for t in (kept, same))
        pd.testing.assert_frame_equal(kept, same)
        assert (narrow["high"] - narrow["low"]).mean() < (same["high"] - same["low"]).mean()

    def test_what_did_not_learn_enters_no_verdict_and_no_average(self, tmp_path: Path) -> None:
        skill = {"none": 1.0, "wasserstein": 2.0, "coral": 0.0}
        lost, kept = (rb.score(fake_grid(tmp_path / n, skill=skill), "accuracy", draws=100) for n in "ab")
        assert lost.untrained >= {(fusion, "coral") for fusion, _ in lost.arms}
        table = rb.differences(lost)
        assert set(table[table["alignment"] == "coral"]["verdict"]) == {"not trained"}
        assert "not trained" not in set(table[table["alignment"] == "wasserstein"]["verdict"])
        blind = rb.score(fake_grid(tmp_path / "c", skill={"none": 1.0, "wasserstein": 0.0}), "accuracy", draws=100)
        assert rb.average_gain([kept, blind], modality=ALL).value == rb.average_gain([kept], modality=ALL).value
        assert np.isnan(rb.average_gain([blind], modality=ALL).value)

    def test_against_a_control_it_is_the_difference_of_two_differences(self, tmp_path: Path) -> None:
        skill = {"none": 0.5, "wasserstein": 2.0, "coral": 0.9}
        scores = rb.score(fake_grid(tmp_path, skill=skill, fusions=("early", "late")), "accuracy", draws=100)
        keys = ["fusion", "alignment", "modality"]
        plain = rb.differences(scores).set_index(keys)["difference"].unstack("alignment")
        against = rb.differences(scores, against="coral").set_index(keys)["difference"].unstack("alignment")
        np.testing.assert_allclose(against["wasserstein"], plain["wasserstein"] - plain["coral"], atol=1e-12)
        np.testing.assert_allclose(against["none"], -plain["coral"])
        assert rb.differences(scores, against="mmd").empty, "a control that was not trained"
        lost = rb.score(fake_grid(tmp_path / "lost", skill={**skill, "coral": 0.0}), "accuracy", draws=100)
        assert set(rb.differences(lost, against="coral")["verdict"]) == {"not trained"}

    def test_two_grids_are_compared_run_by_run(self, tmp_path: Path) -> None:
        first = rb.score(fake_grid(tmp_path / "1", skill={"none": 0.5, "coral": 0.5}), "accuracy", draws=100)
        second = rb.score(fake_grid(tmp_path / "2", skill={"none": 2.0}), "accuracy", draws=100)
        table = rb.between(first, second)
        assert set(table["alignment"]) == {"none"}
        assert set(table["verdict"]) == {"helps"}
        expected = rb.means(second)["mean"] - rb.means(first).query("alignment == 'none'")["mean"]
        np.testing.assert_allclose(table["difference"], expected)
        assert (rb.between(first, first)[["difference", "low", "high"]] == 0).all(axis=None)
        with pytest.raises(ValueError, match="the same metric"):
            rb.between(first, rb.score(second.grid, "auroc", draws=100))
        with pytest.raises(ValueError, match="not the same test samples"):
            rb.between(first, rb.score(fake_grid(tmp_path / "3", skill={"none": 2.0}, samples=40), "accuracy"))

    def test_one_seed_and_a_lacking_baseline_are_refused(self, tmp_path: Path) -> None:
        grid = fake_grid(tmp_path / "one", skill={"none": 0.5, "wasserstein": 0.8}, seeds=1)
        with pytest.raises(ValueError, match="two or more"):
            rb.differences(rb.score(grid, "accuracy", draws=10))
        grid = fake_grid(tmp_path / "none", skill={"wasserstein": 0.8})
        with pytest.raises(ValueError, match="no baseline"):
            rb.differences(rb.score(grid, "accuracy", draws=10))


class TestAverage:
    def scores(self, folder: Path, name: str) -> rb.Scores:
        skill = {"none": 0.5, "wasserstein": 0.9}
        grid = fake_grid(folder / name, skill=skill, of=spec(name), fusions=("early", "late"))
        return rb.score(grid, "accuracy", draws=400)

    def test_of_one_dataset_is_the_mean_over_its_fusions_in_points(self, tmp_path: Path) -> None:
        one = self.scores(tmp_path, "demo")
        rows = rb.differences(one).query("modality == 'all'")
        gain = rb.average_gain([one], modality=ALL)
        assert gain.value == pytest.approx(100 * rows["difference"].mean())
        assert gain.low < gain.value < gain.high
        early = rb.average_gain([one], modality=ALL, fusions=["early"])
        assert early.value == pytest.approx(100 * rows[rows["fusion"] == "early"]["difference"].mean())
        assert np.isnan(rb.average_gain([one], modality=ALL, fusions=[]).value)

    def test_independent_datasets_narrow_the_interval(self, tmp_path: Path) -> None:
        four = [self.scores(tmp_path, name) for name in ("demo", "demo2", "demo3", "demo4")]
        widths = [g.high - g.low for g in (rb.average_gain(four[:n], modality=ALL) for n in (1, 4))]
        # Four with the same spread, drawn apart: half the width. Tails of Student's t with three seeds average to
        # thinner ones, so somewhat less is possible; order 1 would mean that the draws are not independent.
        assert 0.3 < widths[1] / widths[0] < 0.6

    def test_an_error_is_not_averaged_with_accuracies(self, tmp_path: Path) -> None:
        grid = fake_grid(tmp_path, skill={"none": 0.5, "wasserstein": 0.9}, of=spec("demo", "regression", "mae"))
        with pytest.raises(ValueError, match="headline"):
            rb.average_gain([rb.score(grid, "mae", draws=10)], modality=ALL)


@pytest.mark.parametrize(
    ("task", "logits", "truth", "expected"),
    [
        ("binary", [[0.1], [-0.1]], [1, 1], [[True], [False]]),
        ("multiclass", [[0.1, 0.3], [0.9, 0.3]], [1, 1], [[True], [False]]),
        ("multilabel", [[0.1, 0.3], [-0.9, 0.3]], [[1.0, 1.0], [1.0, 0.0]], [[True, True], [False, False]]),
        ("regression", [[0.0], [-0.1]], [0.4, 2.0], [[True], [False]]),
    ],
)
def test_decisions_are_right_on_the_right_side(task: Task, logits: Any, truth: Any, expected: Any) -> None:
    found = rb.right(task, Predictions(np.array(["a", "b"]), np.array(logits), np.array(truth)))
    assert found.tolist() == expected


def test_draws_are_the_same_each_time(tmp_path: Path) -> None:
    grid = fake_grid(tmp_path, skill={"none": 0.5, "wasserstein": 0.8})
    first, second, other = (rb.differences(rb.score(grid, "accuracy", draws=50, seed=s)) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, second)
    assert not np.allclose(first["low"], other["low"])
    rows = rb.curves(rb.score(grid, "accuracy", draws=50))
    assert rows.groupby(["alignment", "modality"]).size().eq(4).all()


def test_intervals_of_a_metric_end_where_the_metric_does(tmp_path: Path) -> None:
    scores = rb.score(fake_grid(tmp_path, skill={"none": -2.0, "wasserstein": 2.0}, seeds=2), "accuracy", draws=50)
    rows = pd.concat([rb.curves(scores), rb.means(scores)])
    assert rows["low"].min() == 0, "two seeds have long intervals"
    assert rows["high"].max() == 1
