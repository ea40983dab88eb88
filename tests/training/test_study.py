"""The study: which runs a chapter trains, and that later chapters find the very same ones."""

from __future__ import annotations

import json

import pytest

from mmwa_utils.training import comparison, study
from mmwa_utils.training.config import ConfigError, RunConfig, vary
from mmwa_utils.training.protocol import BASELINE, protocol
from mmwa_utils.training.study import PAPER_ALPHAS, PAPER_BETAS, PAPER_LEARNING_RATES

STAND_INS = [name for name in study.CHAPTERS if not RunConfig(dataset=name).is_real]


@pytest.mark.parametrize("dataset", [*STAND_INS, "digits"])
def test_a_baseline_for_each_run_of_an_arm(dataset: str) -> None:
    configs = study.chapter_configs(dataset, "tutorial")
    for config in configs:
        assert vary(config, alignment={"name": "none"}, arm_name=None) in configs, "same seed, same everything else"
    assert len({config.seed for config in configs}) == 3


def test_what_a_chapter_saved_is_what_is_found_later() -> None:
    base = RunConfig.for_profile("smoke", dataset="ur_funny", samples=120)
    configs = study.arms_and_seeds(study.choose_settings(base, "late", beta=2.0))
    other = RunConfig.for_profile("smoke", dataset="medfuse")
    saved = json.loads(json.dumps(study.record([*configs, other])))
    assert study.chapter_configs("ur_funny", "smoke", saved=saved) == configs
    assert study.chapter_configs("ur_funny", "tutorial", saved=saved) == study.chapter_configs("ur_funny", "tutorial")


def test_a_single_setting_costs_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "train_all", lambda *_, **__: pytest.fail("nothing is to be selected"))
    base = RunConfig.for_profile("tutorial", dataset="mm_imdb")
    chosen = study.choose_settings(base, "late")
    assert {config.lr for config in chosen.values()} == {base.lr}
    given = study.choose_settings(base, "late", lr=1e-4, alpha=0.2, beta=2.0)["wasserstein"]
    assert (given.lr, given.alignment.alpha, given.alignment.beta) == (1e-4, 0.2, 2.0)


def test_the_baseline_selects_its_rate_and_the_others_their_own_over_the_papers_grids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def select(candidates: tuple[RunConfig, ...]) -> RunConfig:
        tried.append(candidates)
        return candidates[-1]

    monkeypatch.setattr(study, "select", select)
    chosen = study.choose_settings(RunConfig.for_profile("paper", dataset="hateful_memes"), "early")
    rates, settings, *_ = tried
    assert {c.lr for c in rates} == set(PAPER_LEARNING_RATES)
    assert {c.arm for c in rates} == {BASELINE}
    grid = {(c.alignment.alpha, c.alignment.beta) for c in settings if c.alignment.beta}
    assert grid == {(a, b) for a in PAPER_ALPHAS for b in PAPER_BETAS}
    assert {(c.lr, c.weight_decay) for arm in tried[1:] for c in arm} == {(rates[-1].lr, rates[-1].weight_decay)}
    assert {len(candidates) + 1 for candidates in tried[1:]} == {len(rates)}, "with 0, as many as the baseline"
    assert {c.seed for candidates in tried for c in candidates} == {protocol().selection_seed}
    assert list(chosen) == list(protocol().plan(rates[0]).arms)


def test_an_arm_is_tested_at_a_setting_that_does_something_and_0_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "select", lambda candidates: candidates[0])  # 0 comes first in each grid
    chosen = study.choose_settings(RunConfig.for_profile("study", dataset="emoji"), "late")
    assert all(config.trained().alignment == config.alignment for config in chosen.values())
    assert [study.left_out(chosen, arm) for arm in chosen] == [None, *[True] * (len(chosen) - 1)]
    monkeypatch.setattr(study, "select", lambda candidates: candidates[-1])
    assert study.left_out(chosen, "wasserstein") is False
    practice = study.choose_settings(RunConfig.for_profile("tutorial", dataset="ur_funny"), "late")
    assert study.left_out(practice, "wasserstein") is None, "a single setting: nothing was selected"


def test_real_data_start_from_the_weights_that_packages_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "select", lambda candidates: candidates[0])
    base = RunConfig.for_profile("tutorial", dataset="emoji")
    assert study.choose_settings(base, "late")["wasserstein"].pretrained == {
        "text": "minilm-l6",
        "image": "efficientnet-lite0",
    }
    given = study.choose_settings(base, "early", pretrained="/weights/vilt")[BASELINE]
    assert (given.pretrained, given.freeze_encoders) == ("/weights/vilt", False)


def test_the_paper_profile_does_not_guess_settings_that_were_never_selected() -> None:
    with pytest.raises(ConfigError, match="07_hateful_memes, which was not run"):
        study.chapter_configs("hateful_memes", "paper")


def test_other_arms_are_measured_where_asked_for() -> None:
    plain = study.measured_configs("hateful_memes", "smoke", fusions=["late"])
    assert [(c.arm, c.seed) for c in plain] == [(a, s) for a in ("none", "wasserstein") for s in (0, 1)]
    # Chapter 5 has trained the rivals of the digits: the very same runs, none more.
    digits = study.measured_configs("digits", "smoke", rivals=True)
    assert sorted(map(repr, digits)) == sorted(map(repr, study.chapter_configs("digits", "smoke")))
    assert {c.arm for c in digits} == {"none", "wasserstein", *study.RIVALS}
    assert not study.measured_configs("digits", "smoke", fusions=["early"])


def test_settings_are_selected_for_the_fusions_alone_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(study, "select", lambda candidates: tried.append(candidates) or candidates[0])
    assert {c.fusion for c in study.chapter_configs("emoji", "smoke", fusions=["late"])} == {"late"}
    assert {c.fusion for some in tried for c in some} == {"late"}
