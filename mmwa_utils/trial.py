"""What the chapters about a dataset do alike: train models without and with alignment, and show how they compare.

Chapters 6 and 7 explain each step where they take it; chapters 8 to 11 only take it, and explain what is their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from mmwa_utils.evaluation.collapse import run_effective_rank
from mmwa_utils.notebook import Chapter
from mmwa_utils.plots import arms as draw
from mmwa_utils.plots import figure
from mmwa_utils.training import Run, RunConfig, RunData, load_model, open_data, study
from mmwa_utils.training import comparison as compare
from mmwa_utils.training.estimate import SUSTAINED, estimate_epoch
from mmwa_utils.training.protocol import protocol
from mmwa_utils.types import Sample


@dataclass
class Trial:
    """One dataset, its runs without and with alignment, and the tables and figures that compare them.

    The parameters that the chapters about a dataset have in common are read from the chapter.
    """

    chapter: Chapter
    base: RunConfig
    data: RunData
    fusions: Sequence[str]
    configs: list[RunConfig] = field(default_factory=list)
    runs: Sequence[Run] = ()
    gate: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Which arms learned, as `comparison.gate` says."""

    @classmethod
    def open(cls, chapter: Chapter, dataset: Any, **options: Any) -> Trial:
        """Open the release at the chapter's `data_root`, or a stand-in, which the page then says it is.

        Args:
            chapter: the running chapter.
            dataset: name of the dataset.
            options: the dataset's own options; one that is None is left out.
        """
        given = chapter.parameters
        names = ("data_root", "missing_rate", "samples", "epochs", "batch_size", "precision")
        own = {name: given[name] for name in names if given.get(name) is not None}
        own["options"] = {name: value for name, value in options.items() if value is not None}
        base = RunConfig.for_profile(given["profile"], dataset=dataset, data_seed=given["seed"], **own)
        data = open_data(base)
        for name, split in data.splits.items():
            chapter.uses(f"{dataset} {name}", split.fingerprint[:16])
        if data.standin:
            chapter.standin_banner()
        return cls(chapter, base, data, protocol().fusions(base, given["fusions"]))

    @property
    def title(self) -> str:
        """Return what a table calls the dataset."""
        return self.data.spec.name.replace("_", " ")

    def show(self, table: pd.DataFrame, caption: str, *, digits: int = 3) -> None:
        """Render a table of this dataset; a stand-in's says that it is one."""
        self.chapter.show(table, caption=caption, digits=digits, standin=self.data.standin)

    def choose(self, **pretrained: Any) -> None:
        """Select each arm's setting by the protocol; show them, and the time that the runs will take.

        Args:
            pretrained: each fusion's pretrained weights, as in `RunConfig`.
        """
        given, rows, self.configs = self.chapter.parameters, [], []
        numbers = {name: given.get(name) for name in ("lr", "alpha", "beta", "epochs")}
        for fusion in self.fusions:
            chosen = study.choose_settings(self.base, fusion, pretrained=pretrained.get(fusion), **numbers)
            for arm, config in chosen.items():
                own = config.alignment
                used = [own.alpha if own.name == "wasserstein" else None, own.beta if arm != compare.BASELINE else None]
                used += [own.rate if own.name == "modality_dropout" else None, config.lr, config.weight_decay]
                configs = study.arms_and_seeds({arm: config}, given["seeds"])
                out = {True: "yes", False: "no", None: "–"}[study.left_out(chosen, arm)]
                rows.append([fusion, draw.arm_name(arm), *used, out, *vars(compare.forecast(configs)).values()])
                self.configs += configs
        columns = ["fusion", "model", "alpha", "beta", "rate", "learning rate", "weight decay", "0 is better"]
        columns += ["runs", "in the store", "seconds for the others"]
        self.show(
            pd.DataFrame(rows, columns=columns), f"{self.title}: selected settings, and what the runs take", digits=4
        )

    def train(self) -> pd.DataFrame:
        """Train the chosen runs or find them; save and return their test metrics, one row per run and metric."""
        self.runs = compare.train_all(self.configs)
        self.gate = compare.gate(self.runs, self.data)
        table = compare.run_table(self.runs)
        self.chapter.save("results", table)
        self.chapter.save("runs", study.record(self.configs))
        return table

    def arm(self, fusion: str, alignment: str) -> list[Run]:
        """Return the runs of a fusion and an alignment, one per seed."""
        return [run for run in self.runs if (run.config.fusion, run.config.arm) == (fusion, alignment)]

    def histories(self, fusion: str, alignment: str) -> list[pd.DataFrame]:
        """Return the training histories of a fusion and an alignment, one per seed."""
        return [run.history for run in self.arm(fusion, alignment)]

    def draw_curves(self, *, loss: str, score: str) -> None:
        """Draw the training loss and the validation metric by epoch, a row of panels per fusion.

        Args:
            loss: label of the task loss, with its unit.
            score: label of the validation metric.
        """
        rows, standin = len(self.fusions), self.data.standin
        _, axes = figure(rows, 2, width=8, height=2.9 * rows, standin=standin, squeeze=False)
        for (left, right), fusion in zip(axes, self.fusions, strict=True):
            both = {alignment: self.histories(fusion, alignment) for alignment in compare.ARMS}
            draw.learning_curves(left, both, "task_loss", label=loss, title=f"{fusion} fusion")
            draw.learning_curves(right, both, f"val_{self.data.spec.metric}", label=score, title=f"{fusion} fusion")

    def draw_alignment(self) -> None:
        """Draw by epoch what the alignment pulls: its loss, and the share of transport problems that converged."""
        _, (left, right) = figure(1, 2, width=8, height=2.9, standin=self.data.standin)
        pulled = {fusion: self.histories(fusion, "wasserstein") for fusion in self.fusions}
        draw.learning_curves(left, pulled, "alignment_loss", label="alignment loss (cost)", title="What is pulled")
        draw.learning_curves(right, pulled, "converged_share", label="share of problems", title="Converged")

    def show_curves(self) -> None:
        """Show where the curves begin and end: the means over seeds in the first and the last epoch."""
        columns = ["task_loss", f"val_{self.data.spec.metric}", "alignment_loss", "converged_share"]
        ends = []
        for run in self.runs:
            arm = {"fusion": run.config.fusion, "model": draw.arm_name(run.config.arm)}
            two = run.history.reindex(columns=columns).iloc[[0, -1]]
            ends.append(two.assign(**arm, epoch=["first", "last"]))
        means = pd.concat(ends).groupby([*arm, "epoch"], sort=False).mean()
        self.show(means.reset_index(), "The first and the last epoch, mean over seeds")

    def draw_means(self, table: pd.DataFrame, scores: pd.DataFrame) -> None:
        """Draw the dataset's metric: each seed, the mean of each arm with its interval, and the references.

        Args:
            table: as `train` returns it.
            scores: as `comparison.references` returns them; the worthless one, the best possible one, and the best
                possible one from the first modality alone are drawn.
        """
        spec = self.data.spec
        known = scores[spec.metric].reindex(["trivial", "best possible", f"best from {spec.modality_names[0]} alone"])
        _, axes = figure(width=8, height=3.6, standin=self.data.standin)
        summary, lines = compare.summarise(table), known.dropna().to_dict()
        draw.seed_dots(axes, table, summary, metric=spec.metric, references=lines)

    def show_gate(self) -> pd.DataFrame:
        """Show, save and return which arms learned: the metric against the trivial one, and the tokens' effective rank.

        The rank is the mean over modalities and seeds of the last layer's tokens. Tokens that have become alike have 1.
        """
        ranks = pd.DataFrame(
            [{"fusion": run.config.fusion, "alignment": run.config.arm, "effective rank": np.mean(list(found.values()))}
             for run in self.runs for found in [run_effective_rank(run, open_data(run.config))]]
        )  # fmt: skip
        arms = ["fusion", "alignment"]
        table = self.gate.merge(ranks.groupby(arms, sort=False).mean().reset_index(), on=arms)
        self.chapter.save("gate", table)
        shown = table.assign(alignment=table["alignment"].map(draw.arm_name)).rename(columns={"alignment": "model"})
        self.show(shown, f"{self.title}: test metric over seeds against a constant's, and whether the arm learned")
        return table

    def show_way(self, table: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
        """Show and return which share of the way from the trivial to the best possible score the runs have gone.

        Args:
            table: as `train` returns it.
            scores: as `comparison.references` returns them for a stand-in; of a release the best is not known.

        Returns:
            For each fusion and alignment the lowest, mean and highest share over seeds.
        """
        tests, known = table[table["metric"] == self.data.spec.metric], scores[self.data.spec.metric]
        way = (tests["value"] - known["trivial"]) / (known["best possible"] - known["trivial"])
        arms = way.groupby([tests["fusion"], tests["alignment"]], sort=False)
        shares = arms.agg(lowest="min", mean="mean", highest="max")
        shown = shares.rename(index=draw.arm_name, level="alignment").rename_axis(index={"alignment": "model"})
        title = "Share of the way from the trivial to the best possible score, over seeds"
        self.show(shown.reset_index(), title, digits=2)
        return shares

    def show_differences(self, metrics: Sequence[str], cluster: Callable[[str], str] = str) -> pd.DataFrame:
        """Show, save and return aligned - baseline of each fusion and metric with its interval and verdict.

        Args:
            metrics: names of the metrics.
            cluster: from a sample's id to what is independent of the others, such as the film of several plots.
        """
        options: dict[str, Any] = {"cluster": cluster, "seed": self.chapter.parameters["seed"]}
        options["draws"] = self.chapter.pick(smoke=100, tutorial=1000, paper=1000)
        lost = self.gate[~self.gate["trained"]]
        options["untrained"] = set(zip(lost["fusion"], lost["alignment"], strict=True))
        differences = compare.paired_differences(self.runs, metrics=metrics, **options)
        self.chapter.save("differences", differences)
        shown = differences.assign(alignment=differences["alignment"].map(draw.arm_name)).drop(columns="dataset")
        self.show(shown.rename(columns={"alignment": "model"}), f"{self.title}: arm - baseline, 95 % interval")
        return differences

    def draw_differences(self, differences: pd.DataFrame) -> None:
        """Draw the differences with their intervals and verdicts."""
        _, axes = figure(width=7.2, height=1.6 + 0.3 * len(differences), standin=self.data.standin)
        draw.difference_bars(axes, differences, title="What alignment changes")

    def outputs(self, run: Run, samples: Sequence[Sample]) -> Float[np.ndarray, "samples outputs"]:
        """Return what a run's model says of samples, which need not be a split's; in batches of 100."""
        data = open_data(run.config)  # fusions may read the samples differently
        model = load_model(run, data).to(self.chapter.device)
        parts = [list(samples[start : start + 100]) for start in range(0, len(samples), 100)]
        with torch.inference_mode():
            batches = (data.collate(part).to(self.chapter.device) for part in parts)
            return torch.cat([model(batch.modalities).logits for batch in batches]).float().cpu().numpy()

    def show_cost(self, samples: int, tokens: Mapping[str, Mapping[str, int]], *, others: float = 0) -> pd.DataFrame:
        """Show and return what training would take at the paper's size, one row per fusion.

        Args:
            samples: samples of the release's training split.
            tokens: fusion -> modality -> number of tokens.
            others: operations per sample, in late fusion, of encoders that are no transformers.
        """
        rows = {}
        for fusion, lengths in tokens.items():
            config = RunConfig.for_profile("paper", dataset=self.base.dataset, fusion=fusion)
            rows[fusion] = estimate_epoch(config, samples=samples, tokens=lengths, others=others)
        table = pd.DataFrame(rows).T.rename_axis("fusion").reset_index()
        self.chapter.show(table, caption=f"Computed from shapes at an assumed {SUSTAINED / 1e12:.0f} TFLOP/s")
        return table
