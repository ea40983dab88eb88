"""The runs of a chapter: settings fixed or selected, then fusion x alignment x seed; how later chapters find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmwa_utils.parameters import Profile
from mmwa_utils.training.comparison import ARMS, FUSIONS, grid, select, setting_grid, vary
from mmwa_utils.training.config import ConfigError, DatasetName, RunConfig

PAPER_ALPHAS = (0.1, 0.2, 1.0, 5.0)
PAPER_BETAS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 4.0, 10.0)
PAPER_LEARNING_RATES = (1e-3, 5e-4, 1e-4, 5e-5, 1e-5)
"""What the paper says that it searched."""

CHAPTERS: Mapping[DatasetName, str] = {
    "digits": "05_wasserstein_modality_alignment",
    "hateful_memes": "07_hateful_memes",
    "mm_imdb": "08_mm_imdb",
    "ur_funny": "09_ur_funny",
    "cmu_mosei": "10_cmu_mosei",
    "medfuse": "11_medfuse",
}
"""The chapter that trains a dataset's runs; it saves their configurations under the name "runs"."""

SEEDS: Mapping[Profile, tuple[int, ...]] = {
    "smoke": (0, 1),
    "tutorial": (0, 1, 2),
    "study": tuple(range(10)),
    "paper": (0, 1, 2, 3, 4),
}
RIVALS = ("mean_distance", "mmd", "coral", "contrastive", "modality_dropout", "qformer")
"""Alternatives to the Wasserstein alignment that chapter 5 trains beside it."""

_ALPHA, _BETA = 0.1, 0.4
"""Values of the paper's grids, written down before any run existed and never tuned."""

_OPTIONS: Mapping[str, dict[str, int | str]] = {"mm_imdb": {"plot_policy": "all"}}
"""What a chapter's own parameters add to its dataset's configuration."""

_DIGITS = {"options": {"views": 2}, "fusion": "late", "batch_size": 64, "lr": 3e-3, "precision": "fp32"}
_DIGITS_EPOCHS = {"smoke": 1, "tutorial": 4, "study": 30, "paper": 30}


def digits_base(profile: Profile, **changes: Any) -> RunConfig:
    """Return chapter 5's run on the digits: two views, late fusion, aligned with weight 1.

    >>> digits_base("smoke").alignment.beta
    1.0
    """
    numbers = {**_DIGITS, "epochs": _DIGITS_EPOCHS[profile], "alignment": {"name": "wasserstein", "alpha": _ALPHA}}
    return RunConfig.for_profile(profile, dataset="digits", **{**numbers, **changes})


def choose_setting(
    base: RunConfig,
    fusion: str,
    *,
    lr: float | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    pretrained: str | Mapping[str, str] | None = None,
    seed: int = 0,
) -> RunConfig:
    """Return `base` with a fusion and its learning rate, alpha and beta; the test split is not looked at.

    In the paper profile what is None is selected over the paper's grids by the validation metric: the learning rate
    on the *baseline*, so that it favours the baseline if anything, then alpha and beta. In the other profiles it is
    fixed: the profile's rate, alpha 0.1, beta 0.4.

    Args:
        base: the dataset's run, as `RunConfig.for_profile` gives it.
        fusion: "early" or "late".
        lr: learning rate.
        alpha: the paper's alpha.
        beta: the paper's beta.
        pretrained: as in `RunConfig`.
        seed: of the runs that are tried.
    """
    fixed, searched = ((base.lr,), (_ALPHA,), (_BETA,)), (PAPER_LEARNING_RATES, PAPER_ALPHAS, PAPER_BETAS)
    grids = zip((lr, alpha, beta), searched if base.profile == "paper" else fixed, strict=True)
    rates, alphas, betas = (values if given is None else (given,) for given, values in grids)
    plain = vary(base, fusion=fusion, pretrained=pretrained, seed=seed)
    plain = select([vary(plain, lr=rate) for rate in rates])
    aligned = vary(plain, alignment={"name": "wasserstein"})
    return select(setting_grid(aligned, alphas=alphas, betas=betas))


def record(configs: Sequence[RunConfig]) -> dict[str, Any]:
    """Return what a chapter saves of its runs, as `chapter_configs` reads it."""
    return {"configs": [config.model_dump(mode="json") for config in configs]}


def chapter_configs(
    dataset: DatasetName, profile: Profile, *, saved: Mapping[str, Any] | None = None
) -> tuple[RunConfig, ...]:
    """Return the runs of a dataset's chapter: those that it saved, else those that it trains when nothing is changed.

    Args:
        dataset: the dataset.
        profile: the profile in force; runs of another profile that were saved are not used.
        saved: what the chapter saved under "runs", None if it was not run.

    Raises:
        ConfigError: nothing was saved in the paper profile, whose settings the chapter selects.

    >>> [(c.fusion, c.alignment.name) for c in chapter_configs("hateful_memes", "smoke") if c.seed == 0]
    [('early', 'none'), ('early', 'wasserstein'), ('late', 'none'), ('late', 'wasserstein')]
    """
    if saved is not None:
        configs = tuple(RunConfig.model_validate(config) for config in saved["configs"])
        if all(config.profile == profile for config in configs):
            return configs
    if dataset == "digits":
        return grid(digits_base(profile), seeds=SEEDS[profile], fusions=["late"],
                    alignments=[*ARMS, *RIVALS])  # fmt: skip
    if profile == "paper":
        chapter = CHAPTERS[dataset]
        raise ConfigError(
            f"{dataset}: its settings in the paper profile are selected by {chapter}, which was not run; "
            f"run it first: mmwa run notebooks/{chapter}.ipynb -p profile paper -p data_root FOLDER"
        )
    base, seeds = RunConfig.for_profile(profile, dataset=dataset, options=_OPTIONS.get(dataset, {})), SEEDS[profile]
    settled = (choose_setting(base, fusion, seed=seeds[0]) for fusion in FUSIONS)
    return tuple(config for chosen in settled for config in grid(chosen, seeds=seeds, fusions=[chosen.fusion]))


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
        rivals: the alternatives of `RIVALS` too, each with the aligned run's settings and its own loss.
    """
    configs = [c for c in chapter_configs(dataset, profile, saved=saved) if c.fusion in fusions]
    plain, aligned = ([c for c in configs if c.alignment.name == name] for name in ARMS)
    names = RIVALS if rivals else ()
    others = [vary(c, alignment={**c.alignment.model_dump(), "name": name}) for name in names for c in aligned]
    return (*plain, *aligned, *others)
