"""What early and late fusion share: one transformer over the tokens of all modalities, and a head on its first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmwa_utils.fusion.output import Block, FusionOutput, additive_mask
from mmwa_utils.types import DatasetSpec, ModalityBatch, Tokens


def n_outputs(spec: DatasetSpec) -> int:
    """Columns of the logits: one for binary tasks and regression, one per label otherwise."""
    return 1 if spec.task in ("binary", "regression") else spec.n_labels


class FusionModel(nn.Module, ABC):
    """A fusion transformer: `model(batch.modalities)` gives a `FusionOutput`.

    Subclasses say how a modality becomes tokens; this class puts them behind one another, runs the transformer
    with the real mask and reads the prediction from slot 0.
    """

    def __init__(self, spec: DatasetSpec, *, dim: int, dropout: float) -> None:
        super().__init__()
        self.spec = spec
        self.dim = dim
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, n_outputs(spec)))

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """The fusion transformer's layers, called and answering as transformers' encoders do."""

    @abstractmethod
    def embed(self, modalities: Mapping[str, ModalityBatch], batch_size: int) -> dict[str, Block]:
        """Tokens of each modality, in sequence order; slot 0 of the first block is what the head reads."""

    @abstractmethod
    def finish(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The last hidden states, normalised, and what the head reads of their slot 0."""

    def forward(
        self,
        modalities: Mapping[str, ModalityBatch],
        *,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> FusionOutput:
        """Predict from any subset of the modalities, each sample having at least one.

        Args:
            modalities: the modalities of a batch; one that is left out is missing from every sample.
            output_attentions: return every layer's attention weights.
            output_hidden_states: return the tokens between the layers too, not only "input" and "last".

        Raises:
            KeyError: a modality that the dataset's spec does not have.
            ValueError: a sample without any modality.
        """
        blocks = self.embed(modalities, self._check(modalities))
        hidden = torch.cat([block.values for block in blocks.values()], dim=1)
        mask = torch.cat([block.mask for block in blocks.values()], dim=1)
        # Slot 0 is the class token: the head reads it in every sample, whatever modality the sample lacks.
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1)

        encoded = self.encoder(
            hidden,
            attention_mask=additive_mask(mask, hidden.dtype),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        last, pooled = self.finish(encoded.last_hidden_state)
        layers = {"input": hidden}
        if output_hidden_states:
            layers |= {f"layer_{i}": state for i, state in enumerate(encoded.hidden_states[1:-1], start=1)}
        layers["last"] = last
        segments, start = {}, 0
        for name, block in blocks.items():
            segments[name] = slice(start, start + block.mask.shape[1])
            start = segments[name].stop
        given = {name: block for name, block in blocks.items() if name in modalities}
        tokens = {
            layer: {name: Tokens(states[:, segments[name]], block.mask, block.special) for name, block in given.items()}
            for layer, states in layers.items()
        }
        return FusionOutput(
            logits=self.head(pooled),
            tokens=tokens,
            positions={name: block.positions for name, block in given.items()},
            segments={name: segments[name] for name in given},
            mask=mask,
            attentions=encoded.attentions if output_attentions else None,
        )

    def _check(self, modalities: Mapping[str, ModalityBatch]) -> int:
        """Every name known, every sample with something to read; returns the batch size."""
        for name in modalities:
            self.spec.modality(name)
        if not modalities:
            raise ValueError(f"the batch has no modality: give at least one of {', '.join(self.spec.modality_names)}")
        present = torch.stack([modality.present for modality in modalities.values()]).any(dim=0)
        if not bool(present.all()):
            lost = (~present).nonzero().flatten().tolist()
            raise ValueError(f"samples {lost} of the batch have no modality at all: each needs at least one")
        return len(present)
