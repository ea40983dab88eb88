"""The paper's claims, and what can be said about each: its criteria, joined, in the words that the data allow.

`book/claims.yml` says what is claimed; `criteria` judges. Nothing here knows a verdict: only results on the paper's own
data can be called reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmwa_utils.training.config import DatasetName, RunConfig
from workflow.checked_yaml import BookFileError, Entry, Slug, Words, read_checked
from workflow.criteria import BY_CONSTRUCTION, CRITERIA, Criterion, Direction, Judgement, PaperDataset, join

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


class Claim(Entry):
    """A claim of the paper's and what decides it."""

    id: Slug
    title: Words
    statement: Words
    source: Words
    stand_in: Words
    """What a stand-in can show of it."""
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    beside: tuple[Criterion, ...] = ()
    """Shown with the claim without deciding it."""


class Setting(Entry):
    """A setting that the paper states, and the fact that tells whether it was used."""

    id: Slug
    item: Words
    stated: Words
    fact: Words | None
    expected: tuple[Any, ...] = ()
    rule: Literal["equals", "includes", "mentions"] = "equals"
    how: Words


class Claims(Entry):
    """The whole file."""

    datasets: Mapping[DatasetName, PaperDataset]
    claims: tuple[Claim, ...]
    settings: tuple[Setting, ...]


def read_claims(path: Path) -> Claims:
    """Read and check `book/claims.yml`, or a file like it.

    Raises:
        BookFileError: a field is missing, unknown or malformed, an id occurs twice, or a criterion has no function.
    """
    claims = read_checked(path, Claims)
    asked = {criterion.id for claim in claims.claims for criterion in (*claim.criteria, *claim.beside)}
    if unknown := sorted(asked - set(CRITERIA)):
        raise BookFileError(f"{path}: {unknown[0]}: no such criterion; there are {', '.join(CRITERIA)}")
    return claims


@dataclass(frozen=True)
class Conclusion:
    """What can be said about one claim."""

    claim: Claim
    judgements: tuple[Judgement, ...]
    """Of its criteria, which decide."""
    beside: tuple[Judgement, ...]
    """Of what is shown beside them."""
    direction: Direction
    words: str


def judge(criterion: Criterion, claims: Claims, find: Find) -> Judgement:
    """Read a criterion's result and judge it; a result that is not there, or lacks this part, is missing.

    Args:
        criterion: the question.
        claims: the file, for the paper's datasets.
        find: reads saved results, such as `chapter.find`.

    Raises:
        BookFileError: the result lacks a field that the criterion reads.
    """
    result = find(criterion.chapter, criterion.result)
    if result is None:
        return Judgement(criterion, "missing", reason=f"{criterion.chapter} was not run")
    return CRITERIA[criterion.id](result, criterion, claims.datasets)


def conclude(claims: Claims, find: Find, evidence: Evidence) -> tuple[Conclusion, ...]:
    """Judge every claim: one criterion that contradicts is enough, all must support.

    Args:
        claims: the file.
        find: reads saved results.
        evidence: where the data come from; "reproduced" is said of the paper's own data at its sizes and of nothing
            else.
    """
    concluded = []
    for claim in claims.claims:
        judged, beside = ([judge(k, claims, find) for k in asked] for asked in (claim.criteria, claim.beside))
        measured = [j for j in judged if j.criterion.id not in BY_CONSTRUCTION]
        missing = all(j.direction == "missing" for j in measured or judged)
        direction = "missing" if missing else join(j.direction for j in judged)
        words = _words(direction, evidence, constructed=not measured)
        concluded.append(Conclusion(claim, tuple(judged), tuple(beside), direction, words))
    return tuple(concluded)


def _words(direction: Direction, evidence: Evidence, *, constructed: bool) -> str:
    if direction == "missing":
        return _VERDICTS[direction]
    if constructed:
        return "holds by construction" if direction == "supports" else "does not hold"
    return _VERDICTS[direction] if evidence == "release" else f"{_PLACES[evidence]}: {_POINTS[direction]}"


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
