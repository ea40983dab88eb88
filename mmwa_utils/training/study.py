"""The runs of a chapter: settings selected by the protocol, then arms x seeds; how later chapters find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmwa_utils.parameters import Profile
from mmwa_utils.training.comparison import ARMS, FUSIONS, grid, select
from mmwa_utils.training.config import STARTING_WEIGHTS, ConfigError, DatasetName, RunConfig, vary
from mmwa_utils.training.protocol import BASELINE, protocol

PAPER_ALPHAS = (0.1, 0.2, 1.0, 5.0)
PAPER_BETAS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 4.0, 10.0)
PAPER_LEARNING_RATES = (1e-3, 5e-4, 1e-4, 5e-5, 1e-5)
"""What the paper says that it searched."""

CHAPTERS: Mapping[DatasetName, str] = {
    "digits": "05_wasserstein_modality_alignment",
    "emoji": "06_real_data",
    "watch": "06_real_data",
    "spoken_digits": "06_real_data",
    "hateful_memes": "07_hateful_memes",
    "mm_imdb": "08_mm_imdb",
    "ur_funny": "09_ur_funny",
    "cmu_mosei": "10_cmu_mosei",
    "medfuse": "11_medfuse",
}
"""The chapter that trains a dataset's runs; it saves their configurations under the name "runs"."""

RIVALS = ("mean_distance", "mmd", "coral", "contrastive", "modality_dropout", "qformer")
"""Alternatives to the Wasserstein alignment that chapter 5 trains beside it."""

_OPTIONS: Mapping[str, dict[str, int | str]] = {"mm_imdb": {"plot_policy": "all"}}
"""What a chapter's own parameters add to its dataset's configuration."""

_DIGITS = {"options": {"views": 2}, "fusion": "late", "batch_size": 64, "lr": 3e-3, "precision": "fp32"}
_DIGITS_EPOCHS = {"smoke": 1, "tutorial": 4, "study": 30, "paper": 30}
_DIGITS_SEEDS = {"smoke": (0, 1), "tutorial": (0, 1, 2), "study": tuple(range(10)), "paper": tuple(range(10))}


def digits_base(profile: Profile, **changes: Any) -> RunConfig:
    """Return chapter 5's run on the digits: two views, late fusion, aligned with weight 1.

    >>> digits_base("smoke").alignment.beta
    1.0
    """
    numbers = {**_DIGITS, "epochs": _DIGITS_EPOCHS[profile], "alignment": {"name": "wasserstein", "alpha": 0.1}}
    return RunConfig.for_profile(profile, dataset="digits", **{**numbers, **changes})


def choose_settings(
    base: RunConfig,
    fusion: str,
    *,
    pretrained: str | Mapping[str, str] | None = None,
    epochs: int | None = None,
    **fixed: float | None,
) -> dict[str, RunConfig]:
    """Return for each arm of the protocol `base` with the setting that it selects; the test split is not looked at.

    The baseline selects its learning rate and weight decay; each other arm takes these and selects what is its own,
    among as many settings, 0 being one of them; the best that does something is returned, and `left_out` says whether 0
    would have been better. An arm with a single setting is not trained for it.

    Args:
        base: the dataset's run, as `RunConfig.for_profile` gives it.
        fusion: "early" or "late".
        pretrained: as in `RunConfig`, tuned and not frozen; None is what `STARTING_WEIGHTS` has.
        epochs: epochs at most; None is what the protocol or `base` has.
        fixed: `lr`, `weight_decay`, `alpha`, `beta` or `rate` that is not to be selected.
    """
    own = STARTING_WEIGHTS.get((base.dataset, fusion), {}) if pretrained is None else {"pretrained": pretrained}
    blank = {"pretrained": None, "freeze_encoders": False}
    start = vary(base, fusion=fusion, seed=protocol().selection_seed, **{**blank, **own})
    plan = protocol().plan(start)
    start = vary(start, epochs=epochs or plan.epochs or base.epochs)
    chosen = {BASELINE: select(protocol().candidates(start, BASELINE, **fixed))}
    for arm in plan.arms[1:]:
        tried = protocol().candidates(chosen[BASELINE], arm, **fixed)
        chosen[arm] = select([config for config in tried if config.trained().alignment == config.alignment] or tried)
    return chosen


def left_out(chosen: Mapping[str, RunConfig], arm: str) -> bool | None:
    """Return whether validation would rather have left an arm out; None where there was nothing to select."""
    if arm == BASELINE or protocol().plan(chosen[arm]).tries == 1:
        return None
    return select([chosen[BASELINE], chosen[arm]]) == chosen[BASELINE]


def arms_and_seeds(chosen: Mapping[str, RunConfig], seeds: Sequence[int] | None = None) -> tuple[RunConfig, ...]:
    """Return the runs of the test: each arm's selected setting with each seed, the protocol's if None."""
    return tuple(
        vary(config, seed=seed) for config in chosen.values() for seed in seeds or protocol().plan(config).seeds
    )


def record(configs: Sequence[RunConfig]) -> dict[str, Any]:
    """Return what a chapter saves of its runs, as `chapter_configs` reads it."""
    return {"configs": [config.model_dump(mode="json") for config in configs]}


def chapter_configs(
    dataset: DatasetName,
    profile: Profile,
    *,
    saved: Mapping[str, Any] | None = None,
    fusions: Sequence[str] = FUSIONS,
) -> tuple[RunConfig, ...]:
    """Return the runs of a dataset's chapter: those that it saved, else those that it trains when nothing is changed.

    Args:
        dataset: the dataset.
        profile: the profile in force; runs of another profile that were saved are not used.
        saved: what the chapter saved under "runs", None if it was not run.
        fusions: which of the chapter's fusions.

    Raises:
        ConfigError: nothing was saved in the paper profile, whose settings take days to select.

    >>> [(c.fusion, c.arm) for c in chapter_configs("hateful_memes", "smoke") if c.seed == 0]
    [('early', 'none'), ('early', 'wasserstein'), ('late', 'none'), ('late', 'wasserstein')]
    """
    if saved is not None:
        configs = tuple(RunConfig.model_validate(config) for config in saved["configs"])
        if all(config.profile == profile for config in configs):
            return tuple(config for config in configs if config.dataset == dataset and config.fusion in fusions)
    if dataset == "digits":
        late, names = [fusion for fusion in fusions if fusion == "late"], [*ARMS, *RIVALS]
        return grid(digits_base(profile), seeds=_DIGITS_SEEDS[profile], fusions=late, alignments=names)
    if profile == "paper":
        chapter = CHAPTERS[dataset]
        raise ConfigError(
            f"{dataset}: its settings in the paper profile are selected by {chapter}, which was not run; "
            f"run it first: mmwa run notebooks/{chapter}.ipynb -p profile paper -p data_root FOLDER"
        )
    base = RunConfig.for_profile(profile, dataset=dataset, options=_OPTIONS.get(dataset, {}))
    fusions = protocol().fusions(base, fusions)
    return tuple(config for fusion in fusions for config in arms_and_seeds(choose_settings(base, fusion)))


def measured_configs(
    dataset: DatasetName,
    profile: Profile,
    *,
    saved: Mapping[str, Any] | None = None,
    fusions: Sequence[str] = FUSIONS,
    rivals: bool = False,
) -> tuple[RunConfig, ...]:
    """Return the runs whose robustness is measured: baseline and aligned ones of a dataset's chapter.

    Args:
        dataset: the dataset.
        profile: the profile in force.
        saved: as in `chapter_configs`.
        fusions: which of the chapter's fusions.
        rivals: the chapter's other arms too.
    """
    configs = chapter_configs(dataset, profile, saved=saved, fusions=fusions)
    arms = dict.fromkeys([*ARMS, *(c.arm for c in configs)]) if rivals else ARMS
    return tuple(c for arm in arms for c in configs if c.arm == arm)
