"""The settings that the paper states, and facts read off the runs that tell whether each was used or changed."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mmwa_utils import datasets
from mmwa_utils.fusion import ModelConfig
from mmwa_utils.training.config import DatasetName, RunConfig
from mmwa_utils.training.data import open_data
from mmwa_utils.training.store import Run
from mmwa_utils.training.study import PAPER_ALPHAS, PAPER_BETAS, PAPER_LEARNING_RATES
from workflow.claims import Setting

Facts = Mapping[str, frozenset[Hashable]]
"""Name of a fact -> all the values that were found."""
Status = Literal["used", "changed", "not run", "not checkable"]


@dataclass(frozen=True)
class SettingStatus:
    """Whether a stated setting was used."""

    setting: Setting
    status: Status
    found: str = ""
    """The values that were found, in words."""

    def __str__(self) -> str:
        """Return the status, with the values where there are any."""
        return f"{self.status}: {self.found}" if self.found else self.status


def run_facts(runs: Iterable[Run], paper: Collection[DatasetName]) -> Facts:
    """Return the facts of runs of the paper's datasets; runs on other data are left out.

    Sizes of splits are those of the data that the runs name: a folder that has moved is an error of `open_data`.
    """
    chosen = [run for run in runs if run.config.dataset in paper]
    facts = [_config_facts(run.config) | {"device": {run.provenance["device"]}} for run in chosen]
    by_data = {(run.config.dataset, run.config.data_root, run.config.samples): run.config for run in chosen}
    for (dataset, _, _), config in by_data.items():
        whole = open_data(config.model_copy(update={"missing_rate": 0.0})).splits
        facts.append({f"{dataset}.split_sizes": {tuple(len(whole[name]) for name in ("train", "val", "test"))}})
    return _union(facts)


def profile_facts(paper: Collection[DatasetName]) -> Facts:
    """Return the facts of the profile `paper` when nothing is overridden: its numbers and the grids it searches.

    >>> sorted(profile_facts(["hateful_memes"])["hateful_memes.batch_size"])
    [128]
    """
    facts = [
        _config_facts(RunConfig.for_profile("paper", dataset=name, fusion=fusion))
        for name in paper
        for fusion in ("early", "late")
    ]
    grids = {"lr": set(PAPER_LEARNING_RATES), "alpha": set(PAPER_ALPHAS), "beta": set(PAPER_BETAS)}
    return _union([*facts, grids])


def _config_facts(config: RunConfig) -> dict[str, set[Any]]:
    """Return what a configuration settles."""
    size = getattr(ModelConfig.for_profile(config.profile), config.fusion)
    spec = datasets.spec(config.dataset)
    # Pretrained weights of late fusion are its unimodal encoders': its fusion transformer always starts at random.
    start = "pretrained" if config.fusion == "early" and config.pretrained else "random"
    facts: dict[str, set[Any]] = {
        f"{config.dataset}.batch_size": {config.batch_size},
        f"{config.dataset}.task": {spec.task, *spec.modality_names},
        f"{config.dataset}.labels": {spec.n_labels},
        f"{config.fusion}.size": {(size.layers, size.heads)},
        f"{config.fusion}.start": {start},
        "lr": {config.lr},
        "patience": {config.patience},
        "schedule": {"linear decay with warm-up" if config.warmup else "linear decay"},
    }
    if config.alignment.name == "wasserstein":
        facts |= {"alpha": {config.alignment.alpha}, "beta": {config.alignment.beta}}
    return facts


def _union(facts: Iterable[Mapping[str, set[Any]]]) -> Facts:
    joined: dict[str, set[Any]] = {}
    for part in facts:
        for name, values in part.items():
            joined.setdefault(name, set()).update(values)
    return {name: frozenset(values) for name, values in joined.items()}


def setting_status(setting: Setting, facts: Facts) -> SettingStatus:
    """Compare a stated setting with the facts.

    >>> stated = Setting(id="patience", item="patience", stated="5", fact="patience", expected=(5,), how="As stated.")
    >>> setting_status(stated, {"patience": frozenset({5})}).status, setting_status(stated, {}).status
    ('used', 'not run')
    """
    if setting.fact is None:
        return SettingStatus(setting, "not checkable")
    if setting.fact not in facts:
        return SettingStatus(setting, "not run")
    found = facts[setting.fact]
    expected = {tuple(value) if isinstance(value, list) else value for value in setting.expected}
    holds = {
        "equals": found == expected,
        "includes": found >= expected,
        "mentions": all(any(str(word) in str(value) for word in expected) for value in found),
    }[setting.rule]
    return SettingStatus(setting, "used" if holds else "changed", _said(found))


def _said(found: Iterable[Hashable]) -> str:
    """Write values the way a table shows them.

    >>> _said({(12, 12)}), _said({0.5, 0.25})
    ('12 / 12', '0.25, 0.5')
    """
    values = sorted(found, key=lambda value: (isinstance(value, str), value))  # type: ignore[type-var]
    return ", ".join(" / ".join(map(str, v)) if isinstance(v, tuple) else f"{v:g}" if isinstance(v, float) else str(v)
                     for v in values)  # fmt: skip
