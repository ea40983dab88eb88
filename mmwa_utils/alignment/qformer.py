"""The parametric contrast: an adapter with learned queries, as BLIP-2's Q-Former."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from mmwa_utils.alignment.base import Alignment, Layers, PairValues
from mmwa_utils.alignment.rivals import info_nce
from mmwa_utils.types import Tokens


class QFormerAlignment(Alignment):
    """Explicit, parametric alignment (Li et al. 2023): learned queries read each modality by cross-attention.

    Query k of one modality is matched with query k of the other: s = mean over k of cos(q_k(x), q_k(y)) /
    temperature, and the loss is the symmetric InfoNCE over the batch, as in BLIP-2's first stage. The adapter
    (transformers' `Blip2QFormerModel`, shared by all modalities) is trained along with the model, which makes
    this the only alignment with parameters.

    Args:
        dim: width of the tokens, a multiple of the number of attention heads.
        seed: of the initial weights, which are drawn without touching the global generator.
        layers: see `Alignment`.
        special_tokens: see `Alignment`.
    """

    n_queries, n_heads, temperature = 8, 8, 0.1

    def __init__(self, *, dim: int, seed: int = 0, layers: Layers = "last", special_tokens: bool = False) -> None:
        super().__init__(layers=layers, special_tokens=special_tokens)
        config = Blip2QFormerConfig(
            hidden_size=dim,
            encoder_hidden_size=dim,
            num_hidden_layers=1,
            num_attention_heads=self.n_heads,
            intermediate_size=4 * dim,
            cross_attention_frequency=1,
            initializer_range=dim**-0.5,  # the default, made for 768, would leave a narrow adapter blind at first
            hidden_dropout_prob=0.0,  # dropout would draw from the global generator
            attention_probs_dropout_prob=0.0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.adapter = Blip2QFormerModel(config)
            self.queries = nn.Parameter(torch.randn(1, self.n_queries, dim) * dim**-0.5)

    def compare(self, x: Tokens, y: Tokens) -> PairValues:
        """The matching loss of each sample."""
        both = x.mask.any(dim=1) & y.mask.any(dim=1)
        first, second = (functional.normalize(self._read(tokens), dim=-1) for tokens in (x, y))
        similarity = torch.einsum("iqd,jqd->ij", first, second) / first.shape[1]
        return PairValues(info_nce(similarity / self.temperature, both))

    def _read(self, tokens: Tokens) -> torch.Tensor:
        # A sample without tokens attends to a padding slot; its result is masked out afterwards.
        mask = tokens.mask.clone()
        mask[:, 0] |= ~mask.any(dim=1)
        values = tokens.values.float().masked_fill(~tokens.mask[..., None], 0.0)
        read = self.adapter(
            query_embeds=self.queries.expand(len(mask), -1, -1),
            encoder_hidden_states=values,
            encoder_attention_mask=mask.long(),
        )
        return read.last_hidden_state.float()
