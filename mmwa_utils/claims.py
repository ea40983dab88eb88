"""The paper's claims and settings, and the function that turns results into verdicts by thresholds fixed beforehand.

`book/claims.yml` says what is claimed, which saved result decides it and by which rule. Nothing here knows a verdict:
`judge` reads intervals, `settle` joins them, and only results on the paper's own data can be called reproduced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.stats import norm

from mmwa_utils.ledger import Slug, Words
from mmwa_utils.training.config import DatasetName, RunConfig

Direction = Literal["supports", "contradicts", "inconclusive", "missing"]
Evidence = Literal["release", "reduced", "stand-in"]
"""Where the data come from, weakest last: releases at the paper's sizes, releases at smaller ones, generated files."""
Find = Callable[[str, str], Any]
"""(chapter, name) -> the saved result, a table or a mapping; None where the chapter was not run."""

_VERDICTS: Mapping[Direction, str] = {
    "supports": "reproduced",
    "contradicts": "not reproduced",
    "inconclusive": "inconclusive",
    "missing": "not run on real data",
}
_POINTS: Mapping[Direction, str] = {
    "supports": "points the same way",
    "contradicts": "points the other way",
    "inconclusive": "cannot tell",
}
_PLACES: Mapping[Evidence, str] = {"reduced": "on real data, reduced sizes", "stand-in": "on stand-ins"}


class ClaimsError(ValueError):
    """Claims that can't be read, or a result that lacks what a criterion needs; names the entry and the field."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PaperDataset(_Frozen):
    """One of the paper's datasets, as the report needs it."""

    name: Words
    metric: Words
    """The metric in which a gain counts: higher is better and 1 is the most."""
    modalities: int = Field(ge=2)
    chapter: Words
    section: Words
    """Label of the section that shows its results."""


class Source(_Frozen):
    """Where a result stands: what a chapter saved, and the field that is judged beside `low` and `high`."""

    chapter: Words
    name: Words
    at: tuple[Words, ...] = ()
    """Keys on the way into a mapping."""
    within: Words | None = None
    """Field of each entry that holds the value and its interval; entries without it are left out."""
    value: Words


class Criterion(_Frozen):
    """A question that one saved result answers by a rule."""

    id: Slug
    question: Words
    result: Source
    rule: Literal["above", "below", "at_most"]
    threshold: float
    unit: Words
    where: Mapping[Words, Words] = Field(default_factory=dict)
    """Columns and the values that rows must have; the metric `headline` is each dataset's own."""
    by: tuple[Words, ...] = ()
    groups: int = Field(0, ge=0)
    needs: int = Field(0, ge=0)
    target: float | None = None
    scale: float = Field(1.0, gt=0)
    decides: bool = True
    by_construction: bool = False
    """The answer follows from the method and not from data."""


class Claim(_Frozen):
    """A claim of the paper's and what decides it."""

    id: Slug
    title: Words
    statement: Words
    source: Words
    stand_in: Words
    """What a stand-in can show of it."""
    criteria: tuple[Criterion, ...] = Field(min_length=1)


class Setting(_Frozen):
    """A setting that the paper states, and the fact that tells whether it was used."""

    id: Slug
    item: Words
    stated: Words
    fact: Words | None
    expected: tuple[Any, ...] = ()
    rule: Literal["equals", "includes", "mentions"] = "equals"
    how: Words


class Claims(_Frozen):
    """The whole file."""

    datasets: Mapping[DatasetName, PaperDataset]
    claims: tuple[Claim, ...]
    settings: tuple[Setting, ...]


def read_claims(path: Path) -> Claims:
    """Read and validate claims in YAML: `datasets`, `claims` and `settings` with the fields above.

    Raises:
        ClaimsError: not YAML, a field is missing, unknown or malformed, or an id occurs twice.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ClaimsError(f"{path}: not YAML: {error}") from error
    if not isinstance(raw, Mapping):
        raise ClaimsError(f"{path}: expected the keys datasets, claims and settings")
    try:
        claims = Claims.model_validate(raw)
    except ValidationError as error:
        raise ClaimsError("\n".join(f"{path}: {_describe(fault, raw)}" for fault in error.errors())) from error
    ids = [c.id for c in claims.claims] + [k.id for c in claims.claims for k in c.criteria]
    doubled = [name for name, count in Counter(ids + [s.id for s in claims.settings]).items() if count > 1]
    if doubled:
        raise ClaimsError(f"{path}: id {doubled[0]!r} occurs more than once; each entry needs its own")
    return claims


def _describe(fault: Any, raw: Any) -> str:
    """Say which entry is at fault by its id, where it has one, and which field."""
    words: list[str] = []
    for part in fault["loc"]:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            raw = None
        named = isinstance(part, int) and isinstance(raw, Mapping) and "id" in raw
        words.append(str(raw["id"]) if named else str(part))  # type: ignore[index]
    return f"{'.'.join(words)}: {fault['msg'].lower()}"


@dataclass(frozen=True)
class Finding:
    """A measured value with its 95 % interval."""

    label: str
    value: float
    low: float
    high: float
    datasets: frozenset[str] = frozenset()
    """Names of the datasets in it, where the result says them."""
    columns: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Judgement:
    """What the results say about one criterion."""

    criterion: Criterion
    direction: Direction
    groups: tuple[Finding, ...]
    """What was compared with the threshold, in the criterion's unit; intervals are widened for their number."""
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What can be said about one claim."""

    claim: Claim
    judgements: tuple[Judgement, ...]
    direction: Direction
    words: str


def judge(criterion: Criterion, claims: Claims, find: Find) -> Judgement:
    """Read a criterion's result and compare it with the threshold.

    Args:
        criterion: the question.
        claims: whose datasets give the metrics and the numbers of modalities.
        find: reads saved results, such as `chapter.find`.

    Raises:
        ClaimsError: the result lacks a field that the criterion names.
    """
    rows = _rows(criterion, claims, find)
    if not rows:
        return Judgement(criterion, "missing", (), f"{criterion.result.chapter} was not run")
    counted = max(int(row.get("datasets", 0)) for row in rows)
    findings = [_finding(row, criterion) for row in rows]
    groups = _grouped(findings, criterion.by)
    names = frozenset().union(*(finding.datasets for finding in findings))
    if max(counted, len(names)) < criterion.needs:
        reason = f"{max(counted, len(names))} of {criterion.needs} datasets measured"
        return Judgement(criterion, "inconclusive", groups, reason)
    if len(groups) < criterion.groups:
        return Judgement(criterion, "inconclusive", groups, f"{len(groups)} of {criterion.groups} groups measured")
    sides = Counter(side(finding, criterion) for finding in groups)
    direction: Direction = "inconclusive"
    if sides["contradicts"]:
        direction = "contradicts"
    elif sides["supports"] == len(groups):
        direction = "supports"
    undefined = sorted({finding.label or "a result" for finding in findings if np.isnan(finding.value)})
    return Judgement(criterion, direction, groups, _reason(sides, len(groups), undefined))


def _reason(sides: Mapping[Direction, int], groups: int, undefined: Sequence[str]) -> str:
    counts = f"{sides['supports']} of {groups} groups support, {sides['contradicts']} contradict"
    missing = [f"{name} has no value" for name in undefined]
    return "; ".join([counts, *missing] if groups > 1 else missing)


def side(finding: Finding, criterion: Criterion) -> Direction:
    """Compare one interval with the threshold; one that is not a number decides nothing."""
    threshold = criterion.threshold
    if criterion.rule == "at_most":
        return "supports" if finding.value <= threshold else "contradicts"
    above, below = finding.low > threshold, finding.high < threshold  # NaN is neither
    if not (above or below):
        return "inconclusive"
    return "supports" if above == (criterion.rule == "above") else "contradicts"


def _rows(criterion: Criterion, claims: Claims, find: Find) -> list[dict[str, Any]]:
    """Return the rows of a result that the criterion is about, each with its columns."""
    source = criterion.result
    result = find(source.chapter, source.name)
    if result is None:
        return []
    if isinstance(result, pd.DataFrame):
        rows = result.to_dict("records")
    else:
        for key in source.at:
            result = result.get(key) or {}
        rows = _entries(result, source.value)
    if source.within is not None:
        rows = [row | row[source.within] for row in rows if row.get(source.within)]
    for row in rows:
        known = claims.datasets.get(row.get("dataset"))
        row |= {"modalities": f"{known.modalities} modalities"} if known else {}
    wanted = {column: value for column, value in criterion.where.items() if value != "headline"}
    rows = [row for row in rows if all(row.get(column) == value for column, value in wanted.items())]
    if criterion.where.get("metric") == "headline":
        metrics = {name: dataset.metric for name, dataset in claims.datasets.items()}
        rows = [row for row in rows if row["metric"] == metrics.get(row["dataset"])]
    return [row for row in rows if "dataset" not in row or row["dataset"] in claims.datasets]


def _entries(node: Any, value: str) -> list[dict[str, Any]]:
    """Return a mapping's own entry, its entries by dataset, or a list's."""
    if isinstance(node, Sequence):
        return [dict(entry) for entry in node]
    if value in node:
        return [dict(node)]
    return [{"dataset": name, **entry} for name, entry in node.items() if isinstance(entry, Mapping)]


def _finding(row: Mapping[str, Any], criterion: Criterion) -> Finding:
    source = criterion.result
    if source.value not in row:
        place = f"{source.chapter}, {source.name}"
        raise ClaimsError(f"{criterion.id}: {place}: no field {source.value!r}; there are {', '.join(map(str, row))}")
    value = _number(row[source.value])
    low, high = (_number(row.get(end, value)) for end in ("low", "high"))
    names = frozenset({row["dataset"]} if "dataset" in row else ())
    scale = criterion.scale
    return Finding(str(row.get("dataset", "")), scale * value, scale * low, scale * high, names, row)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _grouped(findings: Sequence[Finding], by: Sequence[str]) -> tuple[Finding, ...]:
    """Pool the findings of each group and widen the intervals for the number of groups (Bonferroni)."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(", ".join(str((finding.columns or {}).get(c)) for c in by), []).append(finding)
    factor = float(norm.ppf(1 - 0.025 / len(groups)) / norm.ppf(0.975))
    return tuple(_widen(pool(members, label), factor) for label, members in groups.items())


def _widen(finding: Finding, factor: float) -> Finding:
    value = finding.value
    low, high = value - factor * (value - finding.low), value + factor * (finding.high - value)
    return Finding(finding.label, value, low, high, finding.datasets)


def pool(findings: Sequence[Finding], label: str = "") -> Finding:
    """Return the mean of several findings with an interval from theirs.

    Datasets are independent: the half lengths h_d of their n intervals give sqrt(sum h_d^2) / n, each side for
    itself. Findings of one dataset share their test samples, so their half lengths are averaged, which is the most
    that they can come to.

    >>> both = pool([Finding("a", 1.0, -2.0, 4.0, frozenset("a")), Finding("b", 3.0, -1.0, 7.0, frozenset("b"))])
    >>> both.value, both.low, both.high
    (2.0, -0.5, 4.5)
    """
    by_dataset: dict[frozenset[str], list[Finding]] = {}
    for finding in findings:
        by_dataset.setdefault(finding.datasets, []).append(finding)
    each = np.array(
        [
            np.mean([(f.value, f.value - f.low, f.high - f.value) for f in members], axis=0)
            for members in by_dataset.values()
        ]
    )
    value = float(each[:, 0].mean())
    below, above = np.sqrt((each[:, 1:] ** 2).sum(axis=0)) / len(each)
    names = frozenset().union(*by_dataset)
    return Finding(label, value, value - float(below), value + float(above), names)


def settle(claim: Claim, judgements: Sequence[Judgement], evidence: Evidence) -> Verdict:
    """Join a claim's judgements to a verdict: one that contradicts is enough, all must support.

    Args:
        claim: the claim.
        judgements: of its criteria.
        evidence: where the data come from; "reproduced" is said of the paper's own data at its sizes and of nothing
            else.
    """
    deciding = [judgement for judgement in judgements if judgement.criterion.decides]
    measured = [judgement for judgement in deciding if not judgement.criterion.by_construction]
    found = {judgement.direction for judgement in deciding}
    direction: Direction = "inconclusive"
    if all(judgement.direction == "missing" for judgement in measured or deciding):
        direction = "missing"
    elif "contradicts" in found:
        direction = "contradicts"
    elif found == {"supports"}:
        direction = "supports"
    return Verdict(claim, tuple(judgements), direction, _words(direction, evidence, constructed=not measured))


def _words(direction: Direction, evidence: Evidence, *, constructed: bool) -> str:
    if direction == "missing":
        return _VERDICTS[direction]
    if constructed:
        return "holds by construction" if direction == "supports" else "does not hold"
    return _VERDICTS[direction] if evidence == "release" else f"{_PLACES[evidence]}: {_POINTS[direction]}"


def verdicts(claims: Claims, find: Find, evidence: Evidence) -> tuple[Verdict, ...]:
    """Judge all claims."""
    return tuple(settle(c, [judge(k, claims, find) for k in c.criteria], evidence) for c in claims.claims)


def evidence_of(configs: Iterable[RunConfig]) -> Evidence:
    """Return the weakest evidence among runs of the paper's datasets; nothing at all counts as stand-ins.

    >>> run = RunConfig(dataset="medfuse", data_root="/data/medfuse", profile="paper")
    >>> evidence_of([run]), evidence_of([run, RunConfig(dataset="mm_imdb")]), evidence_of([])
    ('release', 'stand-in', 'stand-in')
    """
    configs = list(configs)
    if not configs or any(config.data_root is None for config in configs):
        return "stand-in"
    return "release" if all(config.profile == "paper" for config in configs) else "reduced"


def against_target(judgement: Judgement, evidence: Evidence) -> str:
    """Say where the printed gain lies; a stand-in's interval is not compared with it."""
    target = judgement.criterion.target
    if target is None:
        return ""
    if evidence != "release" or not judgement.groups:
        return f"printed: {target:+g}; not comparable" if judgement.groups else f"printed: {target:+g}"
    low, high = judgement.groups[0].low, judgement.groups[0].high
    place = "inside" if low <= target <= high else "above" if target > high else "below"
    return f"printed: {target:+g}, {place} the interval"
