"""What holds for the Wasserstein alignment and for every rival alike."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import ot
import pytest
import torch
from torch.nn import functional

from mmwa_utils.alignment import Alignment, ModalityDropout, alignment_parameters, build_alignment, from_paper
from mmwa_utils.alignment.registry import ALIGNMENTS
from mmwa_utils.types import ModalityBatch, Tokens
from tests.alignment.test_wasserstein import make_tokens

DIM = 8
COMPARING = [name for name in ALIGNMENTS if name not in ("none", "modality_dropout")]


def build(name: str, **parameters) -> Alignment:
    given = {"dim": DIM, **parameters}
    return build_alignment(name, **{key: given[key] for key in given if key in alignment_parameters(name)})


def three(seed: int = 0) -> dict[str, Tokens]:
    return {
        "text": make_tokens([5, 3, 4, 2], DIM, seed=seed),
        "image": make_tokens([6, 6, 4, 6], DIM, seed=seed + 1),
        "audio": make_tokens([2, 3, 7, 1], DIM, seed=seed + 2),
    }


def without(tokens: Tokens, rows: list[int]) -> Tokens:
    mask = tokens.mask.clone()
    mask[rows] = False
    return Tokens(tokens.values, mask, tokens.special)


@pytest.fixture(params=COMPARING)
def alignment(request: pytest.FixtureRequest) -> Alignment:
    return build(request.param)


def test_the_loss_is_the_mean_over_the_pairs(alignment):
    tokens = three()
    result = alignment(tokens)
    assert list(result.pairs) == ["text-image", "text-audio", "image-audio"]
    apart = [alignment({x: tokens[x], y: tokens[y]}).loss for x, y in combinations(tokens, 2)]
    torch.testing.assert_close(result.loss, torch.stack(apart).mean())
    assert all(pair.n_samples == 4 and pair.n_skipped == 0 for pair in result.pairs.values())


def test_samples_without_a_modality_contribute_nothing_and_are_counted(alignment):
    tokens = three()
    tokens["image"] = without(tokens["image"], [0, 2])
    result = alignment(tokens)
    kept = {n: Tokens(t.values[[1, 3]], t.mask[[1, 3]]) for n, t in tokens.items()}
    torch.testing.assert_close(result.pairs["text-image"].value, alignment(kept).pairs["text-image"].value)
    assert (result.pairs["text-image"].n_samples, result.pairs["text-image"].n_skipped) == (2, 2)
    assert result.pairs["text-audio"].n_samples == 4
    alignment({"text": tokens["text"], "image": tokens["image"]}).loss.backward()
    assert not tokens["text"].values.grad[[0, 2]].any()
    assert tokens["text"].values.grad[[1, 3]].any()


def test_a_pair_that_no_sample_has_leaves_the_mean_to_the_others(alignment):
    tokens = three()
    expected = alignment({name: tokens[name] for name in ("text", "audio")}).loss
    tokens["image"] = without(tokens["image"], [0, 1, 2, 3])
    result = alignment(tokens)
    torch.testing.assert_close(result.loss, expected)
    result.loss.backward()
    assert all(t.values.grad is None or t.values.grad.isfinite().all() for t in tokens.values())
    nothing = alignment({name: without(t, [0, 1, 2, 3]) for name, t in tokens.items()})
    assert nothing.loss == 0


def test_padding_and_special_tokens_have_no_say(alignment):
    tokens = three()
    before = alignment(tokens)
    filled = {n: Tokens(t.values.detach().masked_fill(~t.mask[..., None], 1e3), t.mask) for n, t in tokens.items()}
    torch.testing.assert_close(alignment(filled).loss, before.loss)

    def crown(tokens: Tokens) -> Tokens:  # a class token in front of each sample
        mask = functional.pad(tokens.mask, (1, 0), value=True)
        special = torch.zeros_like(mask)
        special[:, 0] = True
        return Tokens(functional.pad(tokens.values, (0, 0, 1, 0), value=3.0), mask, special)

    crowned = {name: crown(t) for name, t in tokens.items()}
    torch.testing.assert_close(alignment(crowned).loss, before.loss)
    alignment.special_tokens = True
    assert not torch.isclose(alignment(crowned).loss, before.loss)


def test_gradients_are_finite_and_reach_every_real_token(alignment):
    tokens = three()
    alignment(tokens).loss.backward()
    for modality in tokens.values():
        gradient = modality.values.grad
        assert gradient.isfinite().all()
        assert not gradient[~modality.mask].any()
    assert tokens["image"].values.grad[tokens["image"].mask].any()


def test_no_global_generator_is_touched(alignment):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 the global one is the point
    build(next(name for name, kind in ALIGNMENTS.items() if type(alignment) is kind))(three())
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_one_modality_has_nothing_to_align(alignment):
    result = alignment({"text": make_tokens([3], DIM)})
    assert result.loss == 0
    assert not result.pairs
    assert result.converged_share.isnan()


def test_widths_that_differ_are_refused(alignment):
    with pytest.raises(ValueError, match=r"text \(1, 8\)"):
        alignment({"text": make_tokens([3], 8), "image": make_tokens([3], 9)})


def test_only_the_parametric_contrast_has_parameters():
    for name in ALIGNMENTS:
        assert (sum(p.numel() for p in build(name).parameters()) > 0) == (name == "qformer"), name


def test_the_baseline_and_modality_dropout_cost_nothing():
    for name in ("none", "modality_dropout"):
        result = build(name)({"last": three()})
        assert result.loss == 0
        assert not result.loss.requires_grad


@pytest.mark.parametrize("name", ["mmd", "coral", "gromov_wasserstein"])
def test_set_distances_vanish_between_equal_sets(name):
    tokens = make_tokens([5, 3], DIM)
    permuted = Tokens(torch.cat([tokens.values[:, [2, 0, 1]], tokens.values[:, 3:]], dim=1), tokens.mask)
    # squared distances of size 1e0 cancel in float32
    assert build(name)({"x": tokens, "y": permuted}).loss.abs() < 1e-5
    assert build(name)({"x": tokens, "y": make_tokens([5, 3], DIM, seed=9)}).loss > 1e-4


def test_gromov_wasserstein_ignores_rotations_where_transport_does_not():
    x = make_tokens([6], DIM)
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0))).Q
    turned = Tokens(x.values @ rotation, x.mask)
    assert build("gromov_wasserstein")({"x": x, "y": turned}).loss.abs() < 1e-5
    assert build("wasserstein", epsilon=0.05)({"x": x, "y": turned}).loss > 0.1


def test_gromov_wasserstein_is_pots_value():
    x, y = make_tokens([5], DIM), make_tokens([4], DIM, seed=1)
    d, e = (1 - functional.normalize(t.values[0], dim=-1) @ functional.normalize(t.values[0], dim=-1).T for t in (x, y))
    expected = ot.gromov.gromov_wasserstein2(d.detach().double().numpy(), e.detach().double().numpy(), symmetric=True)
    assert build("gromov_wasserstein")({"x": x, "y": y}).loss.item() == pytest.approx(float(expected), abs=1e-5)


def test_coral_is_the_distance_of_numpys_covariances():
    x, y = make_tokens([5], DIM), make_tokens([7], DIM, seed=1)
    covariances = [np.cov(t.values[0].detach().numpy(), rowvar=False) for t in (x, y)]
    expected = np.square(covariances[0] - covariances[1]).sum() / (4 * DIM**2)
    assert build("coral")({"x": x, "y": y}).loss.item() == pytest.approx(expected, rel=1e-4)


def test_mean_distance_sees_only_the_means():
    x = make_tokens([2], DIM)
    doubled = Tokens(
        torch.stack([2 * x.values[:, 0] - x.values[:, 1], 2 * x.values[:, 1] - x.values[:, 0]], dim=1), x.mask
    )
    assert build("mean_distance", cost="sqeuclidean")({"x": x, "y": doubled}).loss.abs() < 1e-6
    expected = (x.values[0].mean(0) - 0).square().mean()
    zero = Tokens(torch.zeros_like(x.values), x.mask)
    torch.testing.assert_close(build("mean_distance", cost="sqeuclidean")({"x": x, "y": zero}).loss, expected)
    length = x.values[0].mean(0).norm()
    torch.testing.assert_close(build("mean_distance", cost="euclidean")({"x": x, "y": zero}).loss, length)


def test_contrastive_prefers_the_right_partner():
    x = make_tokens([4] * 6, DIM)
    right = build("contrastive")({"x": x, "y": Tokens(x.values, x.mask)}).loss
    wrong = build("contrastive")({"x": x, "y": Tokens(x.values.roll(1, dims=0), x.mask)}).loss
    assert right < 0.5 < torch.tensor(6.0).log() < wrong


def test_the_query_adapter_learns_to_match():
    torch.manual_seed(0)
    x, y = make_tokens([4] * 8, DIM), make_tokens([5] * 8, DIM, seed=1)
    adapter = build("qformer")
    optimiser = torch.optim.Adam(adapter.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = adapter({"x": x, "y": y}).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def present(*lengths: int) -> ModalityBatch:
    mask = torch.arange(2) < torch.tensor(lengths)[:, None]
    return ModalityBatch(torch.ones(len(lengths), 2, 1), mask, torch.zeros_like(mask))


def test_modality_dropout_takes_one_at_its_rate_and_never_the_last():
    n = 2000
    batch = {"a": present(*[2] * n), "b": present(*[2] * n), "c": present(*[0] * n)}
    dropped = ModalityDropout(0.3).prepare(batch)
    lost = torch.stack([batch[name].present & ~dropped[name].present for name in batch]).sum(dim=1)
    # 600 expected in all, 300 each; five standard deviations are 102 and 80
    assert abs(int(lost.sum()) - 600) < 102
    assert abs(int(lost[0]) - 300) < 80
    assert lost[2] == 0
    single = ModalityDropout(1.0).prepare({"a": present(2, 2), "b": present(0, 2)})
    assert single["a"].present[0]
    assert int(single["a"].present[1]) + int(single["b"].present[1]) == 1


def test_modality_dropout_goes_on_after_a_resume_and_leaves_evaluation_alone():
    batch = {"a": present(*[2] * 50), "b": present(*[2] * 50)}
    first, resumed = ModalityDropout(0.5), ModalityDropout(0.5)
    first.prepare(batch)
    resumed.load_state_dict(first.state_dict())
    second = first.prepare(batch)["a"].mask
    assert torch.equal(second, resumed.prepare(batch)["a"].mask)
    assert not torch.equal(second, first.prepare(batch)["a"].mask), "each batch has a draw of its own"
    assert first.eval().prepare(batch) is batch


def test_alpha_and_beta_have_one_reading_and_its_swap():
    assert from_paper(alpha=0.2, beta=4.0).epsilon == from_paper(alpha=4.0, beta=0.2, swapped=True).epsilon == 0.2
    assert from_paper(alpha=0.2, beta=4.0).weight == from_paper(alpha=4.0, beta=0.2, swapped=True).weight == 4.0


def test_unknown_names_list_the_known_ones():
    with pytest.raises((ValueError, TypeError), match="wassertein"):  # TypeError: annotations checked as they run
        build_alignment("wassertein")
    with pytest.raises(ValueError, match="special_tokens"):
        build_alignment("contrastive", epsilon=0.1)
