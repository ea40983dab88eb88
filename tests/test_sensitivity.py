"""Sensitivity: an effect is a difference of gains; what leaves a model alone has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmwa_utils import sensitivity as sense
from mmwa_utils.training import RunStore
from mmwa_utils.training.comparison import train_all
from mmwa_utils.training.study import digits_base
from workflow.ledger import read_ledger

ROOT = Path(__file__).parents[1]
BASE = digits_base("smoke")
ALL = sense.variants(BASE, alphas=[0.1, 5.0], betas=[1.0, 10.0], rates=[3e-3, 1e-3])


def test_every_variant_changes_exactly_its_switch() -> None:
    for variant in (*ALL, sense.SPECIAL_TOKENS):
        before, after = BASE.model_dump(), variant.apply(BASE).model_dump()
        inner = {name for name in before["alignment"] if before["alignment"][name] != after["alignment"][name]}
        outer = {name for name in before if name != "alignment" and before[name] != after[name]}
        assert {*outer, *(f"alignment.{name}" for name in inner)} == {variant.switch}


def test_values_of_the_default_are_no_variants_and_names_are_unique() -> None:
    names = [variant.name for variant in ALL]
    assert len(set(names)) == len(names)
    assert not {"alpha = 0.1", "beta = 1", "layers = last", "cost = cosine", "lr = 0.003"} & set(names)


def test_every_assumption_is_a_row_of_the_ledger() -> None:
    rows = {row.id: row.switch for row in read_ledger(ROOT / "book" / "assumptions.yml")}
    for variant in (*ALL, sense.SPECIAL_TOKENS):
        if variant.assumption != "learning-rate":
            assert rows[variant.assumption] == variant.switch


def test_a_switch_of_the_alignment_leaves_the_baseline_and_a_rate_does_not() -> None:
    default = sense.configs(BASE, sense.DEFAULT, [0, 1])
    for variant in ALL:
        changed = sense.configs(BASE, variant, [0, 1])
        same = [old[0] == new[0] for old, new in zip(default, changed, strict=True)]
        assert all(same) != (variant.switch == "lr")
        assert all(old[1] != new[1] for old, new in zip(default, changed, strict=True))


class TestEffect:
    def test_is_antisymmetric(self) -> None:
        rng = np.random.default_rng(0)
        one, other = rng.normal(size=(2, 500, 3))
        there = sense.effect(sense.DEFAULT, one, other, what="clean", metric="accuracy")
        back = sense.effect(sense.DEFAULT, other, one, what="clean", metric="accuracy")
        assert there["difference"] == -back["difference"]
        # The same draws of Student's t on both sides: symmetric up to what 50 000 draws leave of a tail.
        assert there["low"] == pytest.approx(-back["high"], rel=0.1)

    def test_one_seed_has_no_interval(self) -> None:
        row = sense.effect(sense.DEFAULT, np.ones((5, 1)), np.zeros((5, 1)), what="noise", metric="accuracy")
        assert row["difference"] == 1
        assert np.isnan(row["low"])
        assert np.isnan(row["high"])
        assert row["n_seeds"] == 1

    def test_a_constant_shift_is_found_exactly(self) -> None:
        gain = np.random.default_rng(1).normal(size=(100, 4))
        row = sense.effect(sense.DEFAULT, gain + 0.25, gain, what="missing", metric="accuracy")
        assert [row[k] for k in ("difference", "low", "high")] == pytest.approx([0.25] * 3)


def test_ranking_goes_by_the_largest_effect_in_any_condition() -> None:
    def row(value: str, what: str, difference: float, half: float) -> dict[str, object]:
        ends = {"low": difference - half, "high": difference + half}
        return {"assumption": "a", "switch": "s", "value": value, "what": what, "difference": difference} | ends

    table = pd.DataFrame([row("small", "clean", 0.1, 0.01), row("large", "clean", 0.0, 1.0),
                          row("large", "noise", -0.5, 1.0)])  # fmt: skip
    ranked = sense.rank(table)
    assert ranked["value"].tolist() == ["large", "small"]
    assert ranked["what"].tolist() == ["noise", "clean"]
    assert ranked["excludes"].tolist() == ["", "clean"]
    assert ranked["bound"].tolist() == pytest.approx([1.5, 0.11])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Baseline and aligned runs of one seed, at the default and with the special tokens that the digits lack."""
    store = RunStore(tmp_path_factory.mktemp("runs"))
    chosen = {"default": sense.DEFAULT, "special": sense.SPECIAL_TOKENS}
    return {
        name: [train_all(pair, store=store, progress=False) for pair in sense.configs(BASE, variant, [0])]
        for name, variant in chosen.items()
    }


def test_outcomes_are_the_runs_own_metrics_and_a_switch_without_effect_has_none(
    pairs: dict[str, list], tmp_path: Path
) -> None:
    runs = {run.key: run for found in pairs.values() for pair in found for run in pair}
    measured = sense.outcomes(list(runs.values()), draws=20, folder=tmp_path)
    assert len(measured) == len(runs) * 3
    for key, run in runs.items():
        assert measured[key, "clean"][0] == pytest.approx(run.metrics["test"]["accuracy"]["value"])
        assert measured[key, "noise"].shape == (21,)
    for what in sense.WHATS:
        before, after = (sense.gains(pairs[name], measured, what) for name in ("default", "special"))
        row = sense.effect(sense.SPECIAL_TOKENS, after, before, what=what, metric="accuracy")
        assert row["difference"] == 0, "no modality of the digits has special tokens"
