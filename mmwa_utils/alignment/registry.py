"""Alignments by name, and the one place where the paper's symbols become the literature's."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

from mmwa_utils.alignment.base import Alignment
from mmwa_utils.alignment.dropout import ModalityDropout
from mmwa_utils.alignment.gromov import GromovWasserstein
from mmwa_utils.alignment.qformer import QFormerAlignment
from mmwa_utils.alignment.rivals import CORAL, MMD, Contrastive, MeanDistance, NoAlignment
from mmwa_utils.alignment.wasserstein import WassersteinAlignment

ALIGNMENTS: dict[str, type[Alignment]] = {
    "none": NoAlignment,
    "wasserstein": WassersteinAlignment,
    "mean_distance": MeanDistance,
    "mmd": MMD,
    "coral": CORAL,
    "contrastive": Contrastive,
    "gromov_wasserstein": GromovWasserstein,
    "modality_dropout": ModalityDropout,
    "qformer": QFormerAlignment,
}
AlignmentName = Literal[tuple(ALIGNMENTS)]
"""These names as a type, which a configuration is checked against."""


def build_alignment(name: AlignmentName, **parameters: Any) -> Alignment:
    """The alignment of that name.

    Raises:
        ValueError: an unknown name, or a parameter that this alignment does not have.

    Example:
        >>> build_alignment("wasserstein", epsilon=0.2).epsilon
        0.2
        >>> build_alignment("mmd", epsilon=0.2)
        Traceback (most recent call last):
        ...
        ValueError: alignment 'mmd' has no parameter epsilon: it has layers, special_tokens
    """
    known = alignment_parameters(name)
    unknown = [parameter for parameter in parameters if parameter not in known]
    if unknown:
        raise ValueError(f"alignment {name!r} has no parameter {', '.join(unknown)}: it has {', '.join(known)}")
    return ALIGNMENTS[name](**parameters)


def alignment_parameters(name: AlignmentName) -> tuple[str, ...]:
    """Names of the parameters of an alignment.

    Example:
        >>> alignment_parameters("modality_dropout")
        ('rate', 'seed')
    """
    if name not in ALIGNMENTS:
        raise ValueError(f"alignment {name!r} is unknown: use one of {', '.join(ALIGNMENTS)}")
    return tuple(inspect.signature(ALIGNMENTS[name]).parameters)


@dataclass(frozen=True)
class PaperSetting:
    """The paper's alpha and beta in the literature's words."""

    epsilon: float
    """Strength of the entropic regularisation."""
    weight: float
    """Weight of the alignment loss: total = task + weight * alignment."""


def from_paper(*, alpha: float, beta: float, swapped: bool = False) -> PaperSetting:
    """Read the paper's symbols: alpha is epsilon and beta the weight, or the other way round.

    Example:
        >>> from_paper(alpha=0.1, beta=0.4)
        PaperSetting(epsilon=0.1, weight=0.4)
        >>> from_paper(alpha=0.1, beta=0.4, swapped=True)
        PaperSetting(epsilon=0.4, weight=0.1)
    """
    return PaperSetting(epsilon=beta, weight=alpha) if swapped else PaperSetting(epsilon=alpha, weight=beta)
