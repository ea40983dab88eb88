from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmwa_utils.fusion.embeddings import choose_tokens

masks = st.integers(1, 4).flatmap(
    lambda batch: st.integers(1, 12).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=batch, max_size=batch)
    )
)


@settings(deadline=None, max_examples=60)
@given(rows=masks, maximum=st.integers(1, 12))
def test_selects_distinct_real_tokens_in_order_and_as_many_as_allowed(rows, maximum):
    mask = torch.tensor(rows)
    chosen_index, chosen_mask = choose_tokens(mask, maximum=maximum)
    for real, index, kept in zip(mask, chosen_index, chosen_mask, strict=True):
        chosen = index[kept]
        assert real[chosen].all()
        assert (chosen.diff() > 0).all()
        assert len(chosen) == min(int(real.sum()), maximum)
        assert kept[: len(chosen)].all(), "padding comes last"
        if len(chosen) == int(real.sum()):
            assert chosen.tolist() == real.nonzero().flatten().tolist()


def test_spread_covers_the_sequence_evenly():
    index, _ = choose_tokens(torch.ones(1, 100, dtype=torch.bool), maximum=10)
    assert index.tolist() == [list(range(0, 100, 10))]
