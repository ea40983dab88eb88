"""What the chapters about a dataset share, on one small stand-in: late fusion, two seeds, one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mmwa_utils.notebook import Chapter
from mmwa_utils.project import BUILD_VARIABLE
from mmwa_utils.training import study
from mmwa_utils.trial import Trial

PARAMETERS: dict[str, Any] = {
    **dict.fromkeys(("data_root", "seeds", "alpha", "lr", "batch_size", "precision")),
    **{
        "profile": "smoke",
        "fusions": ["late"],
        "beta": 2.0,
        "epochs": 1,
        "samples": 80,
        "missing_rate": 0.0,
        "seed": 0,
    },
}


class Page(Chapter):
    """A chapter whose tables can be looked at."""

    def show(self, table: pd.DataFrame, *, caption: str, digits: int = 3, standin: bool = False) -> None:
        self.data[f"standin {caption}"] = str(standin)
        self.parameters["shown"].append(table)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BUILD_VARIABLE, str(tmp_path_factory.mktemp("build")))
        opened = Trial.open(Page("07_hateful_memes", {**PARAMETERS, "shown": []}), "hateful_memes", unused=None)
        opened.choose()
        opened.train()
        yield opened
    plt.close("all")


def shown(trial: Trial) -> pd.DataFrame:
    return trial.chapter.parameters["shown"][-1]


def test_a_chapter_s_parameters_reach_its_runs_and_the_page_names_its_data(trial: Trial) -> None:
    assert {(c.samples, c.epochs, c.fusion) for c in trial.configs} == {(80, 1, "late")}
    assert {c.alignment.beta for c in trial.configs if c.arm == "wasserstein"} == {2.0}
    assert trial.base.options == {}
    assert {f"hateful_memes {split}" for split in ("train", "val", "test")} <= trial.chapter.data.keys()


def test_later_chapters_find_the_runs_that_were_trained(trial: Trial) -> None:
    saved = trial.chapter.find("07_hateful_memes", "runs")
    assert list(study.chapter_configs("hateful_memes", "smoke", saved=saved)) == list(trial.configs)
    assert [run.config for run in trial.runs] == list(trial.configs)


def test_every_table_of_a_stand_in_says_that_it_is_one(trial: Trial) -> None:
    said = {name: value for name, value in trial.chapter.data.items() if name.startswith("standin ")}
    assert said
    assert set(said.values()) == {"True"}


@pytest.mark.parametrize(("trivial", "best"), [(0.5, 0.9), (1.2, 0.4)])  # such as an AUROC and an MAE
def test_the_way_runs_from_the_trivial_to_the_best_possible_score(trial: Trial, trivial: float, best: float) -> None:
    scores = pd.DataFrame({"auroc": {"trivial": trivial, "best possible": best}})
    values = [trivial, (trivial + best) / 2, best, best]
    arms = {"fusion": "late", "alignment": ["none", "none", "wasserstein", "wasserstein"]}
    table = pd.DataFrame({**arms, "metric": ["auroc"] * 3 + ["accuracy"], "value": values})
    way = trial.show_way(table, scores)
    assert np.allclose(way.loc[("late", "none")], [0, 0.25, 0.5])
    assert np.allclose(way.loc[("late", "wasserstein")], 1)
    assert shown(trial)["model"].tolist() == ["baseline", "aligned"]


def test_differences_are_aligned_minus_baseline_seed_by_seed(trial: Trial) -> None:
    table = pd.DataFrame(trial.chapter.find("07_hateful_memes", "results"))
    wide = table[table["metric"] == "auroc"].pivot(index="seed", columns="alignment", values="value")
    differences = trial.show_differences(["auroc"])
    assert np.isclose(differences["difference"].item(), (wide["wasserstein"] - wide["none"]).mean())
    assert trial.chapter.find("07_hateful_memes", "differences").shape == differences.shape


def test_the_table_of_curves_has_the_ends_of_the_histories(trial: Trial) -> None:
    trial.show_curves()
    last = shown(trial).query("model == 'aligned' and epoch == 'last'")["alignment_loss"].item()
    assert np.isclose(last, np.mean([h["alignment_loss"].iloc[-1] for h in trial.histories("late", "wasserstein")]))
    assert shown(trial).query("model == 'baseline'")["alignment_loss"].isna().all()


def test_outputs_are_the_stored_predictions_whatever_the_batches(trial: Trial) -> None:
    run = trial.arm("late", "none")[0]
    assert np.allclose(trial.outputs(run, list(trial.data.splits["test"])), run.predictions("test").logits, atol=1e-3)


def test_a_cost_grows_with_what_is_counted(trial: Trial) -> None:
    tokens = {fusion: {"text": 40, "image": 145} for fusion in ("early", "late")}
    plain, more = trial.show_cost(1000, tokens), trial.show_cost(1000, tokens, others=1e9)
    assert more["PFLOP an epoch"].sub(plain["PFLOP an epoch"]).tolist() == pytest.approx([0, 3e-3])
    assert np.allclose(plain.filter(like="hours").to_numpy(), trial.show_cost(500, tokens).filter(like="hours") * 2)
