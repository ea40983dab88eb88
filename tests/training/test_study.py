"""The study: which runs a chapter trains, and that later chapters find the very same ones."""

from __future__ import annotations

import json

import pytest

from mmwa_utils.training import comparison, study
from mmwa_utils.training.comparison import vary
from mmwa_utils.training.config import ConfigError, RunConfig
from mmwa_utils.training.study import PAPER_ALPHAS, PAPER_BETAS, PAPER_LEARNING_RATES


@pytest.mark.parametrize("dataset", study.CHAPTERS)
def test_a_baseline_and_an_aligned_run_for_each_fusion_and_seed(dataset) -> None:
    configs = study.chapter_configs(dataset, "tutorial")
    for config in configs:
        twin = vary(config, alignment={"name": "none"})
        assert twin in configs, "each aligned run has its baseline: same seed, same everything else"
    assert {config.seed for config in configs} == set(study.SEEDS["tutorial"])


def test_what_a_chapter_saved_is_what_is_found_later() -> None:
    base = RunConfig.for_profile("smoke", dataset="ur_funny", samples=120)
    configs = (study.choose_setting(base, "late", beta=2.0), study.choose_setting(base, "early"))
    saved = json.loads(json.dumps(study.record(configs)))
    assert study.chapter_configs("ur_funny", "smoke", saved=saved) == configs
    assert study.chapter_configs("ur_funny", "tutorial", saved=saved) == study.chapter_configs("ur_funny", "tutorial")


def test_unselected_settings_are_fixed_and_cost_no_run(monkeypatch) -> None:
    monkeypatch.setattr(comparison, "train_all", lambda *_, **__: pytest.fail("nothing is to be selected"))
    chosen = study.choose_setting(RunConfig.for_profile("tutorial", dataset="mm_imdb"), "late")
    assert (chosen.lr, chosen.alignment.alpha, chosen.alignment.beta) == (2e-3, 0.1, 0.4)
    assert study.choose_setting(RunConfig.for_profile("tutorial", dataset="mm_imdb"), "late", lr=1e-4).lr == 1e-4


def test_the_paper_profile_searches_the_grids_rate_first_on_the_baseline(monkeypatch) -> None:
    tried = []

    def select(candidates):
        tried.append(candidates)
        return candidates[-1]

    monkeypatch.setattr(study, "select", select)
    study.choose_setting(RunConfig.for_profile("paper", dataset="hateful_memes"), "early")
    rates, settings = tried
    assert [c.lr for c in rates] == list(PAPER_LEARNING_RATES)
    assert {c.alignment.name for c in rates} == {"none"}
    assert {(c.alignment.alpha, c.alignment.beta) for c in settings} == {
        (a, b) for a in PAPER_ALPHAS for b in PAPER_BETAS
    }
    assert {c.lr for c in settings} == {PAPER_LEARNING_RATES[-1]}


def test_the_paper_profile_does_not_guess_settings_that_were_never_selected() -> None:
    with pytest.raises(ConfigError, match="07_hateful_memes, which was not run"):
        study.chapter_configs("hateful_memes", "paper")


def test_the_runs_are_the_chapters_and_rivals_where_asked_for() -> None:
    plain = study.measured_configs("hateful_memes", "smoke", fusions=["late"])
    assert [(c.alignment.name, c.seed) for c in plain] == [(a, s) for a in ("none", "wasserstein") for s in (0, 1)]
    more = study.measured_configs("hateful_memes", "smoke", fusions=["late"], rivals=True)
    assert [c for c in more if c in plain] == list(plain)
    rivals = {c.alignment.name for c in more} - {"none", "wasserstein"}
    assert rivals == set(study.RIVALS)
    assert {c.alignment.beta for c in more if c not in plain} == {plain[-1].alignment.beta}
    # Chapter 5 has trained the rivals of the digits: the very same runs, none more.
    digits = study.measured_configs("digits", "smoke", rivals=True)
    assert sorted(map(repr, digits)) == sorted(map(repr, study.chapter_configs("digits", "smoke")))
    assert not study.measured_configs("digits", "smoke", fusions=["early"])
