"""What a run is: every choice that changes its result, in one frozen record."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmwa_utils import datasets
from mmwa_utils.alignment import AlignmentName
from mmwa_utils.fusion import EncoderName
from mmwa_utils.parameters import Profile
from mmwa_utils.types import DatasetSpec

DatasetName = Literal[
    "hateful_memes", "mm_imdb", "ur_funny", "cmu_mosei", "medfuse", "digits", "emoji", "watch", "spoken_digits"
]


REAL_DATA = ("digits", "emoji", "watch", "spoken_digits")
"""Datasets that packages bring: they need no folder and have no stand-in."""


class ConfigError(ValueError):
    """An invalid run configuration; one line per fault, each naming the field."""


class TrainingError(RuntimeError):
    """Training stopped; the message says why, and what was kept."""


class AlignmentConfig(BaseModel):
    """How tokens of different modalities are aligned.

    The names are the paper's: `alpha` and `beta`. They become the literature's `epsilon` and `weight` in
    `mmwa_utils.alignment`, and there alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: AlignmentName = "none"
    alpha: float = Field(0.1, gt=0, le=1e4, allow_inf_nan=False)
    """Strength of the entropic regularisation (our reading of the paper's alpha)."""
    beta: float = Field(1.0, ge=0, le=1e4, allow_inf_nan=False)
    """Weight of the alignment loss (our reading of the paper's beta); 0 is the baseline, bit for bit."""
    swapped: bool = False
    """Read alpha as the weight and beta as the regularisation instead."""
    cost: Literal["cosine", "euclidean", "sqeuclidean"] = "cosine"
    value: Literal["regularised", "transport", "divergence"] = "regularised"
    layers: Literal["input", "last", "all"] = "last"
    negatives: bool = False
    """Mean over matched minus mean over mismatched pairs of a batch, as UNITER and ViLT trained."""
    rate: float = Field(0.3, ge=0, le=1)
    """Share of the samples that lose a modality in training (modality dropout alone)."""
    special_tokens: bool = False
    """Give mass to [CLS] and [SEP] too."""


class RunConfig(BaseModel):
    """All that a run's result depends on, besides its data and the package's source.

    >>> RunConfig.for_profile("tutorial", dataset="digits", alignment={"name": "wasserstein"}).alignment.alpha
    0.1
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetName
    data_root: str | None = None
    """Folder of the release; None writes and reads a stand-in (digits: the real scans that scikit-learn ships)."""
    options: dict[str, int | str] = Field(default_factory=dict)
    """The dataset's own options: `plot_policy` of mm_imdb, `views` (2 or 3) of digits."""
    samples: int = Field(1500, ge=40)
    """Training samples of the stand-in, which has a quarter as many for each other split; of no effect on a release."""
    data_seed: int = Field(0, ge=0)
    """Seed of the stand-in's generator."""
    fusion: Literal["early", "late"] = "early"
    alignment: AlignmentConfig = AlignmentConfig()
    arm_name: str | None = None
    """Arm of the protocol that the run belongs to; None: the one that is called as the alignment is."""
    encoders: dict[str, EncoderName] = Field(default_factory=dict)
    """Late fusion's encoder of a modality by its name; unnamed: text bert, image vit, stream linear."""
    pretrained: str | dict[str, str] | None = None
    """ViLT's local folder or hub name (early), or one per modality (late; early: "tower" too); None: random weights."""
    freeze_encoders: bool = False
    lr: float = Field(1e-3, gt=0, le=1)
    batch_size: int = Field(64, ge=1)
    """Samples per optimiser step, over all devices and accumulation steps."""
    device_batch_size: int | None = Field(None, ge=1)
    """Samples per forward pass on one device; None is `batch_size`."""
    epochs: int = Field(8, ge=1)
    patience: int = Field(5, ge=1)
    """Epochs without a better validation metric before training stops."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps with a linearly rising learning rate; it falls linearly afterwards."""
    weight_decay: float = Field(0.01, ge=0)
    missing_rate: float = Field(0.0, ge=0, le=1)
    """Share of the training samples that lose one modality; validation and test stay whole."""
    seed: int = Field(0, ge=0, lt=2**32)
    profile: Profile = "tutorial"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(0, ge=0)
    """Loader processes; the batches do not depend on their number."""

    @property
    def spec(self) -> DatasetSpec:
        """Return the specification of the dataset, which of all options only the views of digits change."""
        return datasets.spec(self.dataset, **(self.options if self.dataset == "digits" else {}))

    @property
    def arm(self) -> str:
        """Return the name of the run's arm, as tables and figures have it."""
        return self.arm_name or self.alignment.name

    @property
    def is_real(self) -> bool:
        """Return whether the data are a release's or a package's, and not a stand-in that the book writes."""
        return self.data_root is not None or self.dataset in REAL_DATA

    def trained(self) -> RunConfig:
        """Return what is trained: without a name, and without an alignment that does nothing, it is the baseline's run.

        >>> off = RunConfig(dataset="emoji", alignment={"name": "wasserstein", "beta": 0}, arm_name="wasserstein_input")
        >>> off.trained() == RunConfig(dataset="emoji")
        True
        """
        chosen = self.alignment
        idle = (chosen.alpha if chosen.swapped else chosen.beta) == 0
        idle |= chosen.name == "none" or (chosen.name == "modality_dropout" and chosen.rate == 0)
        return self.model_copy(update={"arm_name": None} | ({"alignment": AlignmentConfig()} if idle else {}))

    @classmethod
    def for_profile(cls, profile: Profile, *, dataset: DatasetName, **overrides: Any) -> RunConfig:
        """Return the profile's numbers for a dataset, some of them replaced.

        Raises:
            ConfigError: an unknown field, or a value of the wrong type or range; names each field.
        """
        own = _DATASETS.get(profile, {}).get(dataset, {})
        weights = STARTING_WEIGHTS.get((dataset, overrides.get("fusion", "early")), {})
        numbers = {**_PROFILES[profile], **_ENCODERS.get(dataset, {}), **weights, **own}
        try:
            return cls(**{**numbers, **overrides}, dataset=dataset, profile=profile)
        except ValidationError as error:
            faults = (
                f"{'.'.join(map(str, f['loc'])) or 'config'}: {f['msg']} (got {f['input']!r})" for f in error.errors()
            )
            raise ConfigError("run configuration: " + "; ".join(faults)) from error


def vary(config: RunConfig, **changes: Any) -> RunConfig:
    """Return a run's configuration with some fields changed, checked again.

    >>> vary(RunConfig(dataset="digits"), seed=3).seed
    3
    """
    return RunConfig.model_validate({**config.model_dump(), **changes})


_PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"samples": 160, "epochs": 2, "batch_size": 32, "lr": 1e-3},
    "tutorial": {"samples": 2000, "epochs": 3, "batch_size": 32, "lr": 1e-3},
    "study": {"samples": 8000, "epochs": 2, "batch_size": 32, "lr": 1e-3},
    # What the paper states: learning rates searched up to 1e-3, early stopping with patience 5. Epochs are an
    # upper bound of ours, far above where patience stops.
    "paper": {"epochs": 60, "lr": 1e-4, "device_batch_size": 32, "precision": "bf16", "workers": 8, "patience": 5},
}

_TOWER, _PICTURES = "minilm-l6", "efficientnet-lite0"
STARTING_WEIGHTS: dict[tuple[str, str], dict[str, Any]] = {
    ("emoji", "early"): {"pretrained": {"tower": _TOWER, "image": _PICTURES}, "freeze_encoders": True},
    ("emoji", "late"): {"pretrained": {"text": _TOWER, "image": _PICTURES}, "freeze_encoders": True},
    ("watch", "early"): {"pretrained": {"tower": _TOWER}},
    ("spoken_digits", "early"): {"pretrained": {"tower": _TOWER}},
}
"""The weights, of those that packages bring, from which a dataset's runs start in each fusion. There are none for the
signals of a watch and a microphone: their late fusion starts at random."""

# Our choice, a common one: the paper does not name its unimodal encoders.
_ENCODERS: dict[str, dict[str, Any]] = {"medfuse": {"encoders": {"ehr": "lstm", "xray": "resnet"}}}

# Sizes of the stand-ins: what a processor core trains in some ten seconds a run, in a minute in study, and enough for
# a baseline to learn from random weights, which chapters 7 to 11 assert. Paper: the batch sizes that the paper states
# where they are not 64; MedFuse's is ours (book/assumptions.yml).
_DATASETS: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {"digits": {"samples": 80, "batch_size": 16}, "mm_imdb": {"samples": 100}, "medfuse": {"samples": 200}},
    "tutorial": {
        "digits": {"samples": 1500, "epochs": 8, "batch_size": 64},
        "hateful_memes": {"epochs": 2},
        "mm_imdb": {"samples": 1000, "epochs": 2, "batch_size": 16, "lr": 2e-3},
        "medfuse": {"epochs": 1},
    },
    "study": {"mm_imdb": {"samples": 4000, "batch_size": 16}},
    "paper": {
        "hateful_memes": {"batch_size": 128},
        "ur_funny": {"batch_size": 256},
        "cmu_mosei": {"batch_size": 256},
        "medfuse": {"batch_size": 128},
    },
}
