"""The criteria of the paper's claims: each a function from a saved result to a judgement.

`book/claims.yml` says which saved result each criterion reads and what its threshold is. How the result is read stands
here, one function per criterion, named like the criterion's id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.stats import norm

from mmwa_utils.training.config import DatasetName
from workflow.checked_yaml import BookFileError, Entry, Slug, Words

Direction = Literal["supports", "contradicts", "inconclusive", "missing"]


class PaperDataset(Entry):
    """One of the paper's datasets, as the report needs it."""

    name: Words
    metric: Words
    """The metric in which a gain counts: higher is better and 1 is the most."""
    modalities: int = Field(ge=2)


class Criterion(Entry):
    """A question that one saved result answers: by the side of a threshold on which its interval lies."""

    id: Slug
    question: Words
    chapter: Words
    result: Words
    """Name under which the chapter saved it."""
    rule: Literal["above", "below", "at_most"]
    threshold: float
    unit: Words
    target: float | None = None
    """The gain that the workshop abstract prints."""


@dataclass(frozen=True)
class Finding:
    """A measured value with its 95 % interval."""

    label: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the value and its interval, as a table shows them.

        >>> str(Finding("", 67392.0, 67392.0, 67392.0)), str(Finding("", float("nan"), 0.0, 0.0))
        ('67,392', 'undefined')
        """
        if np.isnan(self.value):
            return "undefined"
        if self.low == self.high:
            return f"{self.value:,.0f}" if self.value == round(self.value) else f"{self.value:.3g}"
        words = f"{self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"
        return words.replace("-", "−").replace(" ", "\N{NO-BREAK SPACE}")


@dataclass(frozen=True)
class Judgement:
    """What a result says about one criterion."""

    criterion: Criterion
    direction: Direction
    groups: tuple[Finding, ...] = ()
    """What was compared with the threshold, in the criterion's unit; intervals are widened for their number."""
    reason: str = ""

    def __str__(self) -> str:
        """Return what was found, and why it is not more."""
        if self.direction == "missing":
            return "not run"
        found = str(self.groups[0]) if len(self.groups) == 1 else ""
        return "; ".join(part for part in (found, self.reason) if part)


# The criteria. Each gets what its chapter saved, the criterion, and the paper's datasets.

Paper = Mapping[DatasetName, PaperDataset]


def over_reliance(claim1: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """Imbalance index of the baseline: its mean over the paper's datasets, all of which must have been measured."""
    rows = _by_dataset(claim1.get("over_reliance", {}), paper)
    return compare(ask, rows, "index", needs=len(paper))


def beyond_the_optimum(claim1: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """The index less the best possible predictor's, where that is known: on stand-ins."""
    entries = claim1.get("over_reliance", {})
    known = {name: entry["excess"] for name, entry in entries.items() if entry.get("excess")}
    return compare(ask, _by_dataset(known, paper), "mean")


def fragility(claim1: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """Correlation, over runs on the paper's datasets, of leaning on one modality with what noise on it costs."""
    return compare(ask, pd.DataFrame([claim1.get("fragility", {})]), "correlation")


def reliance_under_alignment(claim1: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """Change of the index by the Wasserstein alignment: its mean over datasets and fusions."""
    entries = [entry for entry in claim1.get("alignment", []) if entry["alignment"] == "wasserstein"]
    rows = pd.DataFrame([entry for entry in entries if entry["dataset"] in paper])
    return compare(ask, rows, "difference", by=["alignment"])


def gain_clean(average: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """Gain of alignment on clean data: its mean over the paper's datasets and both fusions."""
    return compare(ask, pd.DataFrame([average.get("clean", {})]), "gain", needs=len(paper))


def gain_noise(average: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """The same under noise, and over its levels."""
    return compare(ask, pd.DataFrame([average]), "gain", needs=len(paper))


def gain_missing(average: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """The same with missing modalities, and over their shares."""
    return compare(ask, pd.DataFrame([average]), "gain", needs=len(paper))


def everywhere_clean(differences: pd.DataFrame, ask: Criterion, paper: Paper) -> Judgement:
    """Gain on clean data in each of the four groups: two and three modalities, early and late fusion."""
    return _everywhere(differences[differences["modality"] == "clean"], ask, paper)


def everywhere_noise(differences: pd.DataFrame, ask: Criterion, paper: Paper) -> Judgement:
    """The same under noise on all modalities."""
    return _everywhere(differences[differences["modality"] == "all"], ask, paper)


def everywhere_missing(differences: pd.DataFrame, ask: Criterion, paper: Paper) -> Judgement:
    """The same with one modality, drawn for each sample, missing."""
    return _everywhere(differences[differences["modality"] == "drawn"], ask, paper)


def parameters_ours(counts: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """Trainable parameters of the Wasserstein alignment."""
    return compare(ask, pd.DataFrame([counts.get("wasserstein", {})]), "parameters")


def parameters_adapter(counts: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """Trainable parameters of the Q-Former adapter."""
    return compare(ask, pd.DataFrame([counts.get("qformer", {})]), "parameters")


def ours_against_adapter(contrast: Mapping[str, Any], ask: Criterion, paper: Paper) -> Judgement:
    """Accuracy on the digits, in points: ours less the adapter's."""
    return compare(ask, pd.DataFrame([contrast]), "difference", scale=100)


CRITERIA: Mapping[str, Callable[[Any, Criterion, Paper], Judgement]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        over_reliance, beyond_the_optimum, fragility, reliance_under_alignment,
        gain_clean, gain_noise, gain_missing,
        everywhere_clean, everywhere_noise, everywhere_missing,
        parameters_ours, parameters_adapter, ours_against_adapter,
    )
}  # fmt: skip
BY_CONSTRUCTION = {"parameters-ours", "parameters-adapter"}
"""Criteria whose answer follows from the method and not from data."""


def _everywhere(rows: pd.DataFrame, ask: Criterion, paper: Paper) -> Judgement:
    """Judge the differences of the Wasserstein alignment, each dataset's in its own metric, in the four groups."""
    metric = rows["dataset"].map({name: dataset.metric for name, dataset in paper.items()})  # NaN: not of the paper
    modalities = rows["dataset"].map({name: f"{dataset.modalities} modalities" for name, dataset in paper.items()})
    rows = rows.assign(modalities=modalities)[(rows["alignment"] == "wasserstein") & (rows["metric"] == metric)]
    return compare(ask, rows, "difference", by=["modalities", "fusion"], groups=4, needs=len(paper), scale=100)


def _by_dataset(entries: Mapping[str, Mapping[str, Any]], paper: Paper) -> pd.DataFrame:
    """Return one row per dataset of the paper in a mapping from datasets to entries."""
    return pd.DataFrame([{"dataset": name, **entry} for name, entry in entries.items() if name in paper])


def compare(
    ask: Criterion,
    rows: pd.DataFrame,
    value: str,
    *,
    by: Sequence[str] = (),
    groups: int = 1,
    needs: int = 0,
    scale: float = 1.0,
) -> Judgement:
    """Pool the rows of each group and compare the groups' intervals with the criterion's threshold.

    All groups must support, and one that contradicts is enough to contradict. Intervals are widened for the number of
    groups (Bonferroni).

    Args:
        ask: the criterion.
        rows: one row per measurement: the column `value`, with `low` and `high` where it has an interval; `dataset`,
            or the number of `datasets` that are in it already.
        value: the column that is judged.
        by: columns whose equal values make a group.
        groups: groups there must be, or the answer is inconclusive.
        needs: datasets that must have been measured, likewise.
        scale: from the rows' unit to the criterion's.

    Raises:
        BookFileError: the rows lack the column.
    """
    if rows.empty:
        return Judgement(ask, "missing", reason=f"{ask.chapter} was not run")
    if value not in rows:
        there = f"no field {value!r}; there are {', '.join(rows.columns)}"
        raise BookFileError(f"{ask.id}: {ask.chapter}, {ask.result}: {there}")
    ends = {end: scale * rows[end if end in rows else value].astype(float) for end in ("low", "high")}
    measured = int(rows["datasets"].max()) if "datasets" in rows else rows.get("dataset", pd.Series()).nunique()
    if "dataset" not in rows:
        rows = rows.assign(dataset="a result")
    label = rows[list(by)].agg(", ".join, axis=1) if by else ""
    rows = rows.assign(value=scale * rows[value].astype(float), **ends, label=label)
    factor = float(norm.ppf(1 - 0.025 / rows["label"].nunique()) / norm.ppf(0.975))
    found = tuple(pool(members, str(label), factor) for label, members in rows.groupby("label", sort=False))
    if measured < needs:
        return Judgement(ask, "inconclusive", found, f"{measured} of {needs} datasets measured")
    if len(found) < groups:
        return Judgement(ask, "inconclusive", found, f"{len(found)} of {groups} groups measured")
    sides = Counter(side(finding, ask) for finding in found)
    reasons = [f"{name} has no value" for name in sorted(set(rows.loc[rows["value"].isna(), "dataset"]))]
    if len(found) > 1:
        reasons = [f"{sides['supports']} of {len(found)} groups support, {sides['contradicts']} contradict", *reasons]
    return Judgement(ask, join(sides), found, "; ".join(reasons))


def pool(rows: pd.DataFrame, label: str = "", factor: float = 1.0) -> Finding:
    """Return the mean of several measurements with an interval from theirs.

    Datasets are independent: the half lengths h_d of their n intervals give sqrt(sum h_d^2) / n, each side for
    itself. Measurements on one dataset share its test samples, so their half lengths are averaged, which is the most
    that they can come to.

    Args:
        rows: columns dataset, value, low and high.
        label: of the finding.
        factor: by which the interval is stretched.

    >>> pool(pd.DataFrame({"dataset": ["a", "b"], "value": [1.0, 3.0], "low": [-2.0, -1.0], "high": [4.0, 7.0]}))
    Finding(label='', value=2.0, low=-0.5, high=4.5)
    """
    parts = np.stack([rows["value"], rows["value"] - rows["low"], rows["high"] - rows["value"]], axis=1)
    each = np.array([parts[rows["dataset"] == name].mean(axis=0) for name in rows["dataset"].unique()])
    value = float(each[:, 0].mean())
    below, above = factor * np.sqrt((each[:, 1:] ** 2).sum(axis=0)) / len(each)
    return Finding(label, value, value - float(below), value + float(above))


def side(finding: Finding, criterion: Criterion) -> Direction:
    """Compare one interval with the threshold; one that is not a number decides nothing."""
    threshold = criterion.threshold
    if criterion.rule == "at_most":
        return "supports" if finding.value <= threshold else "contradicts"
    above, below = finding.low > threshold, finding.high < threshold  # NaN is neither
    if not (above or below):
        return "inconclusive"
    return "supports" if above == (criterion.rule == "above") else "contradicts"


def join(sides: Iterable[Direction]) -> Direction:
    """Join directions: one that contradicts is enough, all must support."""
    found = set(sides)
    if "contradicts" in found:
        return "contradicts"
    return "supports" if found == {"supports"} else "inconclusive"
