"""The protocol: which arms are compared, what each may try on validation, and with how many seeds it is tested.

The numbers stand in `protocol.yml` (in the repository it is `book/protocol.yml`), which was committed before the runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmwa_utils.files import sha256
from mmwa_utils.parameters import Profile
from mmwa_utils.training.config import AlignmentConfig, DatasetName, RunConfig, vary

BASELINE = "none"
FILE = Path(__file__).with_name("protocol.yml")


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Arm(_Checked):
    """What is compared: a way of training."""

    title: str
    question: str
    """What the arm is there to answer."""
    alignment: dict[str, Any]
    """What is fixed of the run's alignment."""
    tries: Literal["learning_rates x weight_decays", "alphas x betas", "weights", "rates"]
    """What is tried on validation."""

    @model_validator(mode="after")
    def _known(self) -> Arm:
        AlignmentConfig(**self.alignment)
        return self


class Plan(_Checked):
    """What a profile tries and trains of a kind of data and a fusion."""

    profile: Profile
    data: Literal["real", "stand-in"]
    fusion: Literal["early", "late"]
    leaves_out: tuple[DatasetName, ...] = ()
    """Datasets without runs in this fusion."""
    arms: tuple[str, ...]
    seeds: tuple[int, ...] = Field(min_length=2)
    """Of the test."""
    epochs: int | None
    """None: the dataset's own number."""
    tries: int = Field(ge=1)
    """Settings that each arm may try: the first so many of its grid."""
    learning_rates: tuple[float | None, ...]
    weight_decays: tuple[float, ...]
    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    weights: tuple[float, ...]
    """Betas of an arm without an alpha."""
    rates: tuple[float, ...]
    """Of modality dropout; 0 is the baseline."""

    def settings(self, arm: Arm) -> list[dict[str, Any]]:
        """Return what the arm tries, in order: changes of the alignment, the baseline's of the run (None: none)."""
        if arm.tries == "learning_rates x weight_decays":
            pairs = itertools.product(self.learning_rates, self.weight_decays)
            return [{"lr": rate, "weight_decay": decay} for rate, decay in pairs]
        if arm.tries == "weights":
            return [{"beta": weight} for weight in self.weights]
        if arm.tries == "rates":
            return [{"rate": rate} for rate in self.rates]
        off = [{"beta": 0.0}] if 0 in self.betas else []  # without a weight alpha does not matter: one try, not four
        weights = [beta for beta in self.betas if beta > 0]
        return off + [{"alpha": a, "beta": b} for a, b in itertools.product(self.alphas, weights)]


class Protocol(_Checked):
    """All arms and plans."""

    arms: Mapping[str, Arm]
    plans: tuple[Plan, ...]
    selection_seed: int
    """Of the runs that are tried; no test run has it."""

    @model_validator(mode="after")
    def _fair(self) -> Protocol:
        for plan in self.plans:
            name = f"plan {plan.profile}, {plan.data}, {plan.fusion}"
            if plan.arms[0] != BASELINE or set(plan.arms) - set(self.arms):
                raise ValueError(f"{name}: arms must be {BASELINE} and then some of {', '.join(self.arms)}")
            if self.selection_seed in plan.seeds:
                raise ValueError(f"{name}: selection_seed {self.selection_seed} is a seed of the test too")
            for arm in plan.arms:
                if len(plan.settings(self.arms[arm])) < plan.tries:
                    raise ValueError(f"{name}: {arm} has fewer than {plan.tries} tries; every arm has the same number")
        return self

    def fusions(self, config: RunConfig, among: Sequence[str]) -> list[str]:
        """Return those fusions in which the protocol has runs of a run's dataset.

        >>> protocol().fusions(RunConfig.for_profile("study", dataset="spoken_digits"), ["early", "late"])
        ['early', 'late']
        """
        plans = {fusion: self.plan(vary(config, fusion=fusion)) for fusion in among}
        return [fusion for fusion, plan in plans.items() if config.dataset not in plan.leaves_out]

    def plan(self, config: RunConfig) -> Plan:
        """Return the plan that holds for a run's profile, data and fusion."""
        wanted = (config.profile, "real" if config.is_real else "stand-in", config.fusion)
        return next(plan for plan in self.plans if (plan.profile, plan.data, plan.fusion) == wanted)

    def candidates(self, config: RunConfig, arm: str, **fixed: Any) -> tuple[RunConfig, ...]:
        """Return the runs among which an arm's setting is selected: `config` with each setting that the arm tries.

        Args:
            config: the run; for an arm other than the baseline with the learning rate and weight decay of the baseline.
            arm: name of the arm.
            fixed: settings given by hand, such as `lr` or `beta`; None is not given.

        >>> base = RunConfig.for_profile("tutorial", dataset="emoji", fusion="late")
        >>> [c.alignment.beta for c in protocol().candidates(base, "wasserstein")]
        [0.0, 0.4, 1.0]
        """
        plan, chosen = self.plan(config), self.arms[arm]
        given = {name: value for name, value in fixed.items() if value is not None}
        tried = [setting | {k: v for k, v in given.items() if k in setting} for setting in plan.settings(chosen)]
        tried = [dict(items) for items in dict.fromkeys(tuple(setting.items()) for setting in tried[: plan.tries])]
        if arm == BASELINE:
            own = [{name: value for name, value in setting.items() if value is not None} for setting in tried]
            return tuple(vary(config, alignment=chosen.alignment, **setting) for setting in own)
        named = None if arm == chosen.alignment["name"] else arm
        return tuple(vary(config, arm_name=named, alignment=chosen.alignment | setting) for setting in tried)


@cache
def protocol() -> Protocol:
    """Return the protocol; a mistake in the file is an error that names the plan or the field."""
    return Protocol.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def protocol_hash() -> str:
    """Return the SHA-256 (hex) of the file."""
    return sha256(FILE)
