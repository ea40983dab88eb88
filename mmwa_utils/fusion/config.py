"""The numbers of a fusion model. A profile sets them; the code path is the same for every profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

EncoderName = Literal["bert", "vit", "resnet", "efficientnet", "lstm", "linear"]
"""The unimodal encoders."""

FusionName = Literal["early", "late"]


class TransformerSize(BaseModel):
    """Size of one transformer: width, depth, attention heads and the width of its feed-forward layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    intermediate: int = Field(gt=0)

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> TransformerSize:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        return self


class ModelConfig(BaseModel):
    """What `build_model` needs beside the dataset's spec. Sizes hold for what is built from scratch.

    A checkpoint brings its own sizes, vocabulary, image and patch size; what remains in force beside it are
    `max_patches`, `tower_layers`, `encoders`, `freeze_encoders`, `dropout` and the size of late fusion.

    Example:
        >>> ModelConfig.for_profile("paper").early.layers
        12
        >>> ModelConfig.for_profile("tutorial", vocab_size=500, cls_token_id=2).vocab_size
        500
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    early: TransformerSize
    """The one transformer of early fusion."""
    late: TransformerSize
    """The fusion transformer of late fusion."""
    tower_layers: int | None = Field(default=None, gt=0)
    """Early fusion that starts from BERT's weights keeps this many of its layers, the first ones; None keeps all."""
    encoder: TransformerSize
    """The text (BERT) and image (ViT) encoders of late fusion."""
    resnet_widths: tuple[int, ...] = Field(min_length=1)
    """Channels of the ResNet's stages, two-convolution blocks."""
    resnet_depths: tuple[int, ...] = Field(min_length=1)
    """Blocks of each of those stages."""
    lstm_dim: int = Field(gt=0)
    """Hidden width of the two-layer LSTM."""
    image_size: int = Field(gt=0)
    """Side, in pixels, of the image whose patches have one learned position each."""
    patch_size: int = Field(gt=0)
    """Side of early fusion's patches in pixels."""
    encoder_patch_size: int = Field(gt=0)
    """Side of the patches of late fusion's image encoder."""
    max_patches: int = Field(gt=0)
    """Patches kept of an image at most, evenly spread over it."""
    dropout: float = Field(ge=0, lt=1)
    initializer_range: float = Field(gt=0)
    """Standard deviation of the initial weights of early fusion and of the BERT and ViT encoders."""
    vocab_size: int = Field(default=30522, gt=0)
    """Number of token ids of the tokenizer; the default is that of `bert-base-uncased`, which ViLT reads too."""
    cls_token_id: int = Field(default=101, ge=0)
    """The tokenizer's [CLS]: early fusion's class token in a sample without text."""
    pad_token_id: int = Field(default=0, ge=0)
    max_text_length: int = Field(default=40, gt=1)
    """Text positions of early fusion."""
    encoders: Mapping[str, EncoderName] = Field(default_factory=dict)
    """Encoder of a modality, by its name; unnamed: that of its installed weights, else text bert, image vit, stream
    linear."""
    freeze_encoders: bool = False
    """Keep pretrained encoders as they were loaded: the model then reads their tokens (`encoders.FeatureReader`)."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if max(self.cls_token_id, self.pad_token_id) >= self.vocab_size:
            raise ValueError(
                f"cls_token_id {self.cls_token_id} and pad_token_id {self.pad_token_id} must be below "
                f"vocab_size {self.vocab_size}: take all three from the same tokenizer"
            )
        for name in ("patch_size", "encoder_patch_size"):
            if self.image_size % getattr(self, name):
                raise ValueError(f"image_size {self.image_size} must be a multiple of {name} {getattr(self, name)}")
        if len(self.resnet_widths) != len(self.resnet_depths):
            raise ValueError("resnet_widths and resnet_depths must have one entry each per stage")
        return self

    def settings(self, size: TransformerSize, **own: Any) -> dict[str, Any]:
        """A transformer of this size in transformers' words; `own` are settings that only this one has."""
        return {
            "hidden_size": size.dim,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "intermediate_size": size.intermediate,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.dropout,
            "initializer_range": self.initializer_range,
            **own,
        }

    @classmethod
    def for_profile(cls, profile: Literal["smoke", "tutorial", "study", "paper"], **overrides: Any) -> ModelConfig:
        """The profile's numbers, some of them replaced.

        Args:
            profile: `paper` is ViLT-B/32, BERT-base, ViT-B/16 and ResNet-34.
            overrides: any field by its name.

        Raises:
            KeyError: an unknown profile.
            pydantic.ValidationError: an unknown or impossible field.
        """
        if profile not in _PROFILES:
            raise KeyError(f"profile {profile!r} is unknown: use one of {', '.join(_PROFILES)}")
        return cls(**{**_PROFILES[profile], **overrides})


def _size(dim: int, layers: int, heads: int) -> TransformerSize:
    return TransformerSize(dim=dim, layers=layers, heads=heads, intermediate=4 * dim)


# fmt: off
_SMALL: dict[str, Any] = {
    "image_size": 32, "patch_size": 8, "encoder_patch_size": 8, "max_patches": 36, "dropout": 0.0,
    "initializer_range": 0.1,
}
_PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        **_SMALL, "tower_layers": 1, "early": _size(32, 2, 4), "late": _size(32, 2, 8), "encoder": _size(32, 1, 4),
        "resnet_widths": (8, 16), "resnet_depths": (1, 1), "lstm_dim": 16,
    },
    "tutorial": {
        **_SMALL, "tower_layers": 1, "early": _size(64, 3, 8), "late": _size(64, 2, 8), "encoder": _size(64, 1, 8),
        "resnet_widths": (16, 32, 64), "resnet_depths": (1, 1, 1), "lstm_dim": 64,
    },
    "paper": {
        "early": _size(768, 12, 12), "late": _size(768, 2, 8), "encoder": _size(768, 12, 12),
        "resnet_widths": (64, 128, 256, 512), "resnet_depths": (3, 4, 6, 3), "lstm_dim": 256,
        "image_size": 384, "patch_size": 32, "encoder_patch_size": 16, "max_patches": 200, "dropout": 0.1,
        "initializer_range": 0.02,
    },
}
# fmt: on
_PROFILES["study"] = {**_PROFILES["tutorial"], "tower_layers": None}
