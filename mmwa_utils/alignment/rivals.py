"""Alternatives to transport with the same call: distances between sets of tokens, without parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mmwa_utils.alignment.base import Alignment, AlignmentResult, Layers, LayerTokens, PairValues, masked_mean
from mmwa_utils.alignment.wasserstein import CostName, check_cost, token_cost
from mmwa_utils.ot import sqeuclidean_cost
from mmwa_utils.types import Tokens


class NoAlignment(Alignment):
    """The baseline: a loss of zero."""

    def forward(self, tokens: Mapping[str, Tokens] | LayerTokens) -> AlignmentResult:
        """Zero, and no pair compared."""
        layer = self._chosen_layers(tokens)[0]
        return AlignmentResult(next(iter(layer.values())).values.new_zeros((), dtype=torch.float32), {})

    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """Zero for each sample."""
        return PairValues(x.values.new_zeros(len(x.values), dtype=torch.float32))


class MeanDistance(Alignment):
    """Distance between the mean tokens of the two modalities: what transport gives for an infinite epsilon,
    were the cost linear.

    Args:
        cost: "cosine", "euclidean" or "sqeuclidean", as in `token_cost`.
        layers: see `Alignment`.
        special_tokens: see `Alignment`.
    """

    def __init__(self, *, cost: CostName = "cosine", layers: Layers = "last", special_tokens: bool = False) -> None:
        super().__init__(layers=layers, special_tokens=special_tokens)
        check_cost(cost)
        self.cost = cost

    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """cost(mean of x, mean of y)."""
        there = torch.ones(len(x.mask), 1, dtype=torch.bool, device=x.mask.device)
        means = [Tokens(masked_mean(tokens.values, tokens.mask)[:, None], there) for tokens in (x, y)]
        return PairValues(token_cost(means[0], means[1], self.cost).flatten())


class MMD(Alignment):
    """Squared maximum mean discrepancy between two sets of tokens (Gretton et al. 2012), the biased estimate.

        MMD^2 = sum a_i a_j k(x_i, x_j) + sum b_i b_j k(y_i, y_j) - 2 sum a_i b_j k(x_i, y_j)

    with `k(x, y)` the mean over s in 1/2, 1, 2 of `exp(-|x - y|^2 / (s h))` and h the mean squared distance between
    the two sets of that sample, held fixed. Between 0 and 2.
    """

    scales = (0.5, 1.0, 2.0)

    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """MMD^2 of each sample."""
        between = sqeuclidean_cost(x.values, y.values, mask_x=x.mask, mask_y=y.mask)
        pairs = x.mask[:, :, None] & y.mask[:, None, :]
        width = between.detach().masked_fill(~pairs, 0.0).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)
        width = width.clamp(min=torch.finfo(width.dtype).tiny)[:, None, None]

        def mean_kernel(distance: Tensor, mask_x: Tensor, mask_y: Tensor) -> Tensor:
            allowed = mask_x[:, :, None] & mask_y[:, None, :]
            kernel = torch.stack([torch.exp(-distance / (scale * width)) for scale in self.scales]).mean(dim=0)
            return kernel.masked_fill(~allowed, 0.0).sum(dim=(1, 2)) / allowed.sum(dim=(1, 2)).clamp(min=1)

        within_x = sqeuclidean_cost(x.values, x.values, mask_x=x.mask, mask_y=x.mask)
        within_y = sqeuclidean_cost(y.values, y.values, mask_x=y.mask, mask_y=y.mask)
        value = mean_kernel(within_x, x.mask, x.mask) + mean_kernel(within_y, y.mask, y.mask)
        return PairValues(value - 2 * mean_kernel(between, x.mask, y.mask))


class CORAL(Alignment):
    """Distance between the covariances of two sets of tokens (Sun and Saenko 2016), sample by sample.

        `|C_x - C_y|_F^2 / (4 dim^2)`,   C the unbiased covariance of a sample's tokens (0 for a single token)

    With `A = X_c / sqrt(n - 1)` the centred tokens, `|A^T A - B^T B|_F^2 = |A A^T|^2 + |B B^T|^2 - 2 |A B^T|^2`
    needs only matrices as large as the number of tokens.
    """

    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """The covariance distance of each sample."""
        a, b = _centred(x), _centred(y)

        def squared(left: Tensor, right: Tensor) -> Tensor:
            return (left @ right.transpose(1, 2)).square().sum(dim=(1, 2))

        # In float32 the difference of nearly equal numbers can fall below zero by rounding.
        distance = (squared(a, a) + squared(b, b) - 2 * squared(a, b)).clamp(min=0.0)
        return PairValues(distance / (4 * x.values.shape[-1] ** 2))


def _centred(tokens: Tokens) -> Float[Tensor, "batch length dim"]:
    centred = tokens.values.float() - masked_mean(tokens.values, tokens.mask)[:, None]
    freedom = (tokens.mask.sum(dim=1) - 1).clamp(min=1)[:, None, None]
    return centred.masked_fill(~tokens.mask[..., None], 0.0) / freedom.sqrt()


class Contrastive(Alignment):
    """InfoNCE between the mean tokens of the two modalities (van den Oord et al. 2018; symmetric as in CLIP).

        value_k = -(log softmax_l(s_kl)[k] + log softmax_l(s_lk)[k]) / 2,   s_kl = cos(x_k, y_l) / temperature

    The other samples of the batch that have both modalities are the negatives, so unlike the others this value
    depends on the batch; it is 0 where there is no negative.
    """

    temperature = 0.1

    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """The symmetric InfoNCE loss of each sample."""
        first = functional.normalize(masked_mean(x.values, x.mask), dim=-1)
        second = functional.normalize(masked_mean(y.values, y.mask), dim=-1)
        both = x.mask.any(dim=1) & y.mask.any(dim=1)
        return PairValues(info_nce(first @ second.T / self.temperature, both))


def info_nce(similarity: Float[Tensor, "batch batch"], both: Bool[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Symmetric cross-entropy of matching sample k of one modality with sample k of the other.

    Samples outside `both` are no negatives; their own value is 0.

    Example:
        >>> info_nce(torch.zeros(3, 3), torch.tensor([True, True, False])).exp()
        tensor([2., 2., 1.])
    """
    usable = both[:, None] & both[None, :]
    # Rows that take no part keep their diagonal, so that no softmax is taken of nothing.
    usable = usable | torch.eye(len(both), dtype=torch.bool, device=both.device)
    similarity = similarity.masked_fill(~usable, -torch.inf)
    match = torch.arange(len(both), device=both.device)
    there = functional.cross_entropy(similarity, match, reduction="none")
    back = functional.cross_entropy(similarity.T, match, reduction="none")
    return (there + back) / 2
