"""Claims and verdicts: a faulty file is refused by name, and a verdict follows from intervals and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from workflow.checked_yaml import BookFileError
from workflow.claims import Evidence, against_target, conclude, judge, read_claims
from workflow.criteria import CRITERIA, Criterion, Direction, pool
from workflow.settings import profile_facts, setting_status

ROOT = Path(__file__).parents[2]
CLAIMS = read_claims(ROOT / "book" / "claims.yml")
SETTINGS = {setting.id: setting for setting in CLAIMS.settings}
ASKED = {k.id: k for c in CLAIMS.claims for k in (*c.criteria, *c.beside)}


def criterion(name: str) -> Criterion:
    return ASKED[name]


def found(results: Mapping[tuple[str, str], Any]) -> Any:
    return lambda chapter, name: results.get((chapter, name))


def average(gain: float, low: float, high: float, datasets: int = 5) -> dict[str, Any]:
    entry = {"gain": gain, "low": low, "high": high, "datasets": datasets}
    return {**entry, "standin": False, "clean": entry}


def everywhere(difference: float, half: float, *, names: tuple[str, ...] = tuple(CLAIMS.datasets)) -> pd.DataFrame:
    """Rows of all datasets and fusions, clean, with the same difference."""
    rows = [
        {"dataset": name, "fusion": fusion, "alignment": "wasserstein", "modality": "clean",
         "metric": CLAIMS.datasets[name].metric, "difference": difference, "low": difference - half,
         "high": difference + half}
        for name in names for fusion in ("early", "late")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write(folder: Path, change: Any) -> Path:
    raw = yaml.safe_load((ROOT / "book" / "claims.yml").read_text(encoding="utf-8"))
    change(raw)
    path = folder / "claims.yml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


class TestTheFile:
    def test_states_what_the_paper_states(self) -> None:
        assert {c.id.removesuffix("-noise").removesuffix("-missing") for c in CLAIMS.claims} == {
            *(f"claim-{number}" for number in range(1, 5)),
            "contrast",
        }
        targets = {k.id: k.target for c in CLAIMS.claims for k in c.criteria if k.target is not None}
        assert targets == {"gain-clean": 0.9, "gain-noise": 2.5, "gain-missing": 2.1}
        assert len(CLAIMS.datasets) == 5

    def test_every_criterion_of_the_code_is_asked(self) -> None:
        assert set(ASKED) == set(CRITERIA)

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda raw: raw["claims"][1]["criteria"][0].update(rule="over"), r"claim-2.criteria.gain-clean.rule"),
            (lambda raw: raw["claims"][0].pop("statement"), r"claim-1.statement: field required"),
            (lambda raw: raw["settings"][0].update(hwo="x"), r"hateful-memes-splits.hwo"),
            (lambda raw: raw["settings"].append(raw["settings"][0]), r"'hateful-memes-splits' occurs more than once"),
            (lambda raw: raw["datasets"].update(imagenet=raw["datasets"]["medfuse"]), r"imagenet"),
            (lambda raw: raw["claims"][1]["criteria"][0].update(id="gain-dirty"), r"gain-dirty: no such criterion"),
        ],
    )
    def test_a_fault_is_named(self, change: Any, named: str, tmp_path: Path) -> None:
        with pytest.raises(BookFileError, match=named):
            read_claims(write(tmp_path, change))

    def test_what_is_no_mapping_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "claims.yml"
        path.write_text("- a list", encoding="utf-8")
        with pytest.raises(BookFileError, match="the file: input should be a valid dictionary"):
            read_claims(path)
        path.write_text("{", encoding="utf-8")
        with pytest.raises(BookFileError, match="not YAML"):
            read_claims(path)


class TestRules:
    @pytest.mark.parametrize(
        ("low", "high", "direction"),
        [(0.1, 2.0, "supports"), (-2.0, -0.1, "contradicts"), (-0.1, 0.1, "inconclusive"), (0.0, 1.0, "inconclusive")],
    )
    def test_an_interval_decides_by_its_side_of_zero(self, low: float, high: float, direction: Direction) -> None:
        results = found({("13_noise", "average"): average((low + high) / 2, low, high)})
        assert judge(criterion("gain-noise"), CLAIMS, results).direction == direction

    @given(st.floats(-5, 5), st.floats(0.01, 5))
    def test_mirrored_results_give_mirrored_directions(self, gain: float, half: float) -> None:
        mirror = {"supports": "contradicts", "contradicts": "supports", "inconclusive": "inconclusive"}
        there, back = (
            judge(criterion("gain-noise"), CLAIMS, found({("13_noise", "average"): average(g, g - half, g + half)}))
            for g in (gain, -gain)
        )
        assert back.direction == mirror[there.direction]

    def test_an_undefined_interval_decides_nothing(self) -> None:
        results = found({("13_noise", "average"): average(1.0, float("nan"), float("nan"))})
        assert judge(criterion("gain-noise"), CLAIMS, results).direction == "inconclusive"

    def test_an_undefined_mean_names_what_has_no_value(self) -> None:
        rows = everywhere(0.1, 0.01)
        rows.loc[(rows["dataset"] == "medfuse") & (rows["fusion"] == "late"), "difference"] = np.nan
        judgement = judge(criterion("everywhere-clean"), CLAIMS, found({("13_noise", "differences"): rows}))
        assert [np.isnan(group.value) for group in judgement.groups].count(True) == 1
        assert judgement.direction == "inconclusive"
        assert judgement.reason == "3 of 4 groups support, 0 contradict; medfuse has no value"

    def test_too_few_datasets_decide_nothing(self) -> None:
        judgement = judge(criterion("gain-noise"), CLAIMS, found({("13_noise", "average"): average(2, 1, 3, 4)}))
        assert judgement.direction == "inconclusive"
        assert judgement.reason == "4 of 5 datasets measured"

    def test_a_result_without_the_field_is_named(self) -> None:
        results = found({("13_noise", "differences"): everywhere(0.1, 0.01).drop(columns="difference")})
        with pytest.raises(BookFileError, match=r"everywhere-clean: 13_noise, differences: no field 'difference'"):
            judge(criterion("everywhere-clean"), CLAIMS, results)

    def test_digits_and_other_metrics_do_not_count(self) -> None:
        rows = everywhere(0.1, 0.01)
        noise = pd.concat([rows, rows.assign(dataset="digits", difference=-9), rows.assign(metric="mae", difference=9)])
        both = [
            judge(criterion("everywhere-clean"), CLAIMS, found({("13_noise", "differences"): t})) for t in (rows, noise)
        ]
        assert both[0].groups == both[1].groups

    def test_what_lies_within_an_entry_is_read_where_it_is(self) -> None:
        entry = {"index": 0.9, "low": 0.8, "high": 1.0}
        excess = {"mean": 0.2, "low": 0.1, "high": 0.3, "reference": 0.7}
        results = {"ur_funny": {**entry, "excess": excess}, "medfuse": {**entry, "excess": None}, "mm_imdb": entry}
        claim1 = found({("12_modality_reliance", "claim1"): {"over_reliance": results}})
        (group,) = judge(criterion("beyond-the-optimum"), CLAIMS, claim1).groups
        assert (group.value, group.low, group.high) == pytest.approx((0.2, 0.1, 0.3))

    def test_every_group_must_support_and_one_is_enough_against(self) -> None:
        rows = everywhere(0.1, 0.01)
        three_late = rows["dataset"].isin(["ur_funny", "cmu_mosei"]) & (rows["fusion"] == "late")
        ends = ["difference", "low", "high"]

        def directed(shift: float) -> Direction:
            changed = rows.copy()
            changed.loc[three_late, ends] += shift
            return judge(criterion("everywhere-clean"), CLAIMS, found({("13_noise", "differences"): changed})).direction

        assert [directed(shift) for shift in (0.0, -0.1, -0.2)] == ["supports", "inconclusive", "contradicts"]

    def test_a_missing_group_decides_nothing(self) -> None:
        rows = everywhere(0.1, 0.01)
        results = {("13_noise", "differences"): rows[rows["fusion"] == "late"]}
        assert judge(criterion("everywhere-clean"), CLAIMS, found(results)).reason == "2 of 4 groups measured"

    def test_intervals_of_several_groups_are_wider(self) -> None:
        judgement = judge(
            criterion("everywhere-clean"), CLAIMS, found({("13_noise", "differences"): everywhere(0, 0.01)})
        )
        # Two independent datasets halve the variance; Bonferroni of four stretches by z(0.99375)/z(0.975) = 1.274.
        three_modal = next(g for g in judgement.groups if g.label == "3 modalities, early")
        assert three_modal.high == pytest.approx(100 * 0.01 / np.sqrt(2) * 1.274, rel=1e-3)


def measured(datasets: list[str], value: float, low: float, high: float) -> pd.DataFrame:
    return pd.DataFrame({"dataset": datasets, "value": value, "low": low, "high": high})


class TestPool:
    def test_one_finding_is_itself(self) -> None:
        pooled = pool(measured(["a"], 0.5, 0.1, 1.2))
        assert (pooled.value, pooled.low, pooled.high) == pytest.approx((0.5, 0.1, 1.2))

    @given(st.integers(1, 6))
    def test_fusions_of_one_dataset_do_not_shorten_the_interval(self, times: int) -> None:
        pooled = pool(measured(["a"] * times, 0.5, 0.0, 1.0))
        assert (pooled.low, pooled.high) == pytest.approx((0.0, 1.0))

    def test_independent_datasets_shorten_it_by_the_root_of_their_number(self) -> None:
        pooled = pool(measured(list("abcd"), 0.0, -1.0, 1.0))
        assert (pooled.low, pooled.high) == pytest.approx((-0.5, 0.5))


def complete(gain: float, half: float) -> Any:
    """Results of all chapters with one gain throughout."""
    rows = everywhere(gain, half)
    entry = average(100 * gain, 100 * (gain - half), 100 * (gain + half))
    reliance = {"index": 0.6, "low": 0.5, "high": 0.7, "dominant": "text", "known": None}
    claim1 = {
        "over_reliance": dict.fromkeys([*CLAIMS.datasets, "digits"], reliance),
        "fragility": {"correlation": 0.5, "low": 0.2, "high": 0.7, "runs": 20},
        "alignment": [],
    }
    return found(
        {
            ("12_modality_reliance", "claim1"): claim1,
            ("13_noise", "average"): entry,
            ("13_noise", "differences"): pd.concat([rows, rows.assign(modality="all")]),
            ("14_missing_modalities", "average"): entry,
            ("14_missing_modalities", "differences"): rows.assign(modality="drawn"),
            ("16_reproduction_report", "parameters"): {"wasserstein": {"parameters": 0}, "qformer": {"parameters": 9}},
        }
    )


class TestConclusions:
    def test_each_direction_has_its_word_on_the_releases(self) -> None:
        empirical = [c.id for c in CLAIMS.claims if c.id not in ("claim-1", "contrast")]
        for gain, word in ((0.1, "reproduced"), (-0.1, "not reproduced"), (0.0, "inconclusive")):
            words = {v.claim.id: v.words for v in conclude(CLAIMS, complete(gain, 0.05), "release")}
            assert {words[name] for name in empirical} == {word}
            assert words["claim-1"] == "reproduced"
            assert words["contrast"] == "holds by construction"

    @pytest.mark.parametrize("evidence", [e for e in get_args(Evidence) if e != "release"])
    @pytest.mark.parametrize("gain", [0.1, 0.0, -0.1])
    def test_nothing_is_reproduced_on_other_data(self, evidence: Evidence, gain: float) -> None:
        words = [v.words for v in conclude(CLAIMS, complete(gain, 0.05), evidence)]
        assert not any("reproduced" in word for word in words)
        assert any("points" in word or "cannot tell" in word for word in words)

    def test_without_results_nothing_was_run(self) -> None:
        assert {v.words for v in conclude(CLAIMS, found({}), "release")} == {"not run on real data"}

    def test_what_holds_by_construction_is_no_measurement(self) -> None:
        results = found({("16_reproduction_report", "parameters"): {"wasserstein": {"parameters": 0}}})
        words = {v.claim.id: v.words for v in conclude(CLAIMS, results, "release")}
        assert words["claim-2"] == "not run on real data"

    def test_half_of_the_results_settle_nothing(self) -> None:
        whole = complete(0.1, 0.05)
        half = conclude(CLAIMS, lambda c, n: None if c.startswith("13") else whole(c, n), "release")
        assert {v.claim.id: v.words for v in half}["claim-4"] == "inconclusive"

    def test_the_printed_gain_is_compared_on_the_releases_only(self) -> None:
        judgement = judge(criterion("gain-clean"), CLAIMS, found({("13_noise", "average"): average(1.0, 0.5, 1.5)}))
        assert against_target(judgement, "release") == "printed: +0.9, inside the interval"
        assert "interval" not in against_target(judgement, "stand-in")


class TestSettings:
    def test_the_paper_profile_uses_what_is_stated_but_for_what_is_known(self) -> None:
        facts = profile_facts(CLAIMS.datasets)
        status = {name: setting_status(setting, facts).status for name, setting in SETTINGS.items()}
        changed = {name for name, value in status.items() if value == "changed"}
        # No release has 25 labels; ViLT's weights are a parameter, since nothing is downloaded by itself.
        assert changed == {"mm-imdb-labels", "early-start"}

    @pytest.mark.parametrize(
        ("name", "values", "status"),
        [
            ("batch-size-mm-imdb", {64}, "used"),
            ("batch-size-mm-imdb", {64, 8}, "changed"),
            ("alpha-grid", {0.1, 0.2, 1.0, 5.0, 7.0}, "used"),
            ("alpha-grid", {0.1}, "changed"),
            ("hardware", {"Tesla V100-SXM2-32GB"}, "used"),
            ("hardware", {"Tesla V100-SXM2-32GB", "CPU"}, "changed"),
            ("mm-imdb-splits", {(32278, 5411, 16120)}, "used"),
        ],
    )
    def test_a_status_follows_from_what_was_found(self, name: str, values: set[Any], status: str) -> None:
        setting = SETTINGS[name]
        assert setting_status(setting, {str(setting.fact): frozenset(values)}).status == status

    def test_what_can_not_be_read_off_says_so(self) -> None:
        assert setting_status(SETTINGS["equations"], {}).status == "not checkable"


def test_a_harder_threshold_supports_no_more() -> None:
    harder = criterion("gain-clean").model_copy(update={"threshold": 0.45})
    results = found({("13_noise", "average"): average(0.5, 0.1, 0.9)})
    assert judge(criterion("gain-clean"), CLAIMS, results).direction == "supports"
    assert judge(harder, CLAIMS, results).direction == "inconclusive"
