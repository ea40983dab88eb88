"""Collapse: how many directions a model's tokens use, beside every score. Chapter 5 explains it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mmwa_utils.training.data import RunData
from mmwa_utils.training.run import load_model
from mmwa_utils.training.store import Run


def effective_rank(
    tokens: Float[Tensor, "*batch length dim"], mask: Bool[Tensor, "*batch length"] | None = None
) -> Float[Tensor, "*batch"]:
    """Return the effective rank of each matrix of tokens (Roy and Vetterli 2007).

        exp(-sum_k p_k log p_k),   p_k = sigma_k / sum_l sigma_l

    with sigma_k the singular values of the tokens, each scaled to length one. It is 1 where all tokens are parallel,
    r where they use r orthogonal directions equally, and NaN where there is no token.

    Args:
        tokens: of any unit; they are not centred, so that equal tokens have rank 1.
        mask: True where there is a token; None means everywhere.

    >>> effective_rank(torch.tensor([[3.0, 0.0], [0.0, 1.0], [5.0, 5.0]]), torch.tensor([True, True, False]))
    tensor(2.)
    """
    directions = functional.normalize(tokens.float(), dim=-1)
    if mask is not None:  # a row of zeros adds a singular value of zero, which has no part in the sum
        directions = directions.masked_fill(~mask[..., None], 0.0)
    sigma = torch.linalg.svdvals(directions)
    return torch.special.entr(sigma / sigma.sum(dim=-1, keepdim=True)).sum(dim=-1).exp()


def run_effective_rank(run: Run, data: RunData, *, samples: int = 64) -> dict[str, float]:
    """Return the mean effective rank of each modality's content tokens in a run's last layer.

    Args:
        run: its best weights are loaded, and read the samples once.
        data: of the run.
        samples: how many, from the start of the test split; those that lack a modality have no part in its mean.
    """
    test = data.splits["test"]
    batch = data.collate([test[index] for index in range(min(samples, len(test)))])
    with torch.inference_mode():
        last = load_model(run, data)(batch.modalities).tokens["last"]
    found = {}
    for name, tokens in last.items():
        content = tokens.mask if tokens.special is None else tokens.mask & ~tokens.special
        found[name] = effective_rank(tokens.values, content).nanmean().item()
    return found
