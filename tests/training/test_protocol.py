"""The protocol: fair by construction, and the file that the repository and the package share."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mmwa_utils.datasets import names
from mmwa_utils.parameters import KINDS
from mmwa_utils.training.config import RunConfig
from mmwa_utils.training.protocol import BASELINE, FILE, Protocol, protocol, protocol_hash

ROOT = Path(__file__).parents[2]


def test_the_package_reads_the_book_s_file() -> None:
    assert FILE.read_bytes() == (ROOT / "book" / "protocol.yml").read_bytes()
    assert len(protocol_hash()) == 64


@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize("profile", KINDS["Profile"].__args__)
@pytest.mark.parametrize("dataset", names())
def test_every_run_has_a_plan_in_which_all_arms_have_as_many_tries(profile: Any, fusion: Any, dataset: Any) -> None:
    config = RunConfig.for_profile(profile, dataset=dataset, fusion=fusion)
    plan = protocol().plan(config)
    tried = [protocol().candidates(config, arm) for arm in plan.arms]
    assert {len({c.model_dump_json() for c in candidates}) for candidates in tried} == {plan.tries}
    assert {c.arm for c in itertools.chain(*tried)} == set(plan.arms)


def test_an_arm_that_is_left_out_is_the_baseline_s_run_and_keeps_its_name() -> None:
    config = RunConfig.for_profile("study", dataset="emoji", fusion="late")
    for arm in protocol().plan(config).arms[1:]:
        off, *others = protocol().candidates(config, arm)
        assert (off.arm, off.trained()) == (arm, config)
        assert config not in [other.trained() for other in others]


def faulty(change: Any) -> dict[str, Any]:
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["plans"][0].update(betas=[0.4]), "plan smoke, real, late: wasserstein has fewer than 2 tries"),
        (lambda c: c["plans"][0].update(arms=["none", "glue"]), "arms must be none and then some of"),
        (lambda c: c["plans"][0].update(arms=["wasserstein"]), "arms must be none"),
        (lambda c: c.update(selection_seed=1), "selection_seed 1 is a seed of the test too"),
        (lambda c: c["arms"]["divergence"]["alignment"].update(colour="red"), "colour"),
    ],
)
def test_an_unfair_or_misspelt_protocol_is_refused_by_name(change: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Protocol.model_validate(faulty(change))


def test_the_baseline_is_the_first_arm_of_every_plan() -> None:
    assert all(plan.arms[0] == BASELINE for plan in protocol().plans)
