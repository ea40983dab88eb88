from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmwa_utils.fusion.embeddings import StreamEmbedding, choose_tokens
from mmwa_utils.types import ModalitySpec
from tests.fusion.batches import blank, make_stream, pad

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


def test_a_patch_of_steps_is_one_token():
    torch.manual_seed(0)
    embedding = StreamEmbedding(ModalitySpec("watch", "stream", 5, 10, patch=4), dim=8, std=0.1)
    stream = make_stream([10, 4, 5])
    block = embedding(stream)
    assert len(embedding.positions) == 3, "ten steps are two patches and a half"
    assert block.mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert block.positions.tolist() == [[0, 1, 2], [0, -1, -1], [0, 1, -1]]
    last = torch.cat([stream.values[0, 8:].flatten(), torch.zeros(10)])
    expected = embedding.norm(embedding.projection(last) + embedding.positions[2])
    torch.testing.assert_close(block.values[0, 2], expected)
    padded = embedding(pad(stream, 3))
    torch.testing.assert_close(padded.values[block.mask], block.values[block.mask])


def test_a_longer_stream_keeps_as_many_steps_as_its_patches_hold():
    embedding = StreamEmbedding(ModalitySpec("watch", "stream", 5, 4, patch=2), dim=8, std=0.1)
    assert embedding(make_stream([8])).positions.tolist() == [[0, 2]]


def test_a_stream_that_every_sample_lacks_has_no_token():
    embedding = StreamEmbedding(ModalitySpec("watch", "stream", 5, 10, patch=4), dim=8, std=0.1)
    assert embedding(blank(make_stream([4, 7]), [0, 1])).values.shape == (2, 0, 8)
