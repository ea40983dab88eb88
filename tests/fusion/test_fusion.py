"""What holds for both fusions: masks, missing modalities, padding, heads, determinism."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmwa_utils.fusion import build_model
from mmwa_utils.types import DatasetSpec, ModalityBatch, ModalitySpec
from tests.fusion.batches import CONFIG, SPEC, blank, make_batch, make_image, make_stream, make_text, pad, row

NAMES = SPEC.modality_names
SUBSETS = [names for n in (1, 2, 3) for names in combinations(NAMES, n)]
# Another shape of the same float32 sums may be blocked differently by the matrix library.
TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}


def test_tokens_carry_the_mask_that_the_transformer_used(model):
    batch = make_batch()
    output = model(batch, output_attentions=True)
    for name, tokens in output.tokens["last"].items():
        segment = output.segments[name]
        assert torch.equal(output.mask[:, segment], tokens.mask)
        for attention in output.attentions:
            assert (attention[..., segment].masked_select(~tokens.mask[:, None, None, :]) == 0).all()
    assert output.attentions[0].sum(dim=-1).allclose(torch.tensor(1.0))
    assert set(output.tokens) == {"input", "last"}
    assert torch.equal(output.tokens["input"]["text"].special, batch["text"].special)


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_any_subset_works_and_leaving_out_is_the_same_as_masking(model, names):
    batch = make_batch()
    left_out = model({name: batch[name] for name in names})
    absent = {name: m if name in names else blank(m, [0, 1, 2]) for name, m in batch.items()}
    masked = model(absent)
    torch.testing.assert_close(left_out.logits, masked.logits, **TOLERANCE)
    assert set(left_out.tokens["last"]) == set(names)
    for name in set(NAMES) - set(names):
        assert not masked.tokens["last"][name].mask.any()


def test_samples_of_one_batch_may_lack_different_modalities(model):
    full = make_batch()
    mixed = {
        "text": blank(full["text"], [0]),
        "image": blank(full["image"], [1]),
        "audio": blank(full["audio"], [1, 2]),
    }
    together = model(mixed).logits
    for sample in range(3):
        alone = {name: row(modality, sample) for name, modality in mixed.items()}
        torch.testing.assert_close(model(alone).logits[0], together[sample], **TOLERANCE)


def test_what_an_absent_modality_holds_does_not_matter(model):
    batch = make_batch()
    batch["image"], batch["audio"] = blank(batch["image"], [0]), blank(batch["audio"], [0])
    before = model(batch).logits
    batch["image"].values[0], batch["audio"].values[0] = 100.0, -100.0
    assert torch.equal(model(batch).logits, before)


def test_appended_padding_changes_no_output(model):
    batch = make_batch()
    padded = {name: pad(modality, 9 if name == "image" else 5) for name, modality in batch.items()}
    plain, output = model(batch), model(padded)
    torch.testing.assert_close(output.logits, plain.logits, **TOLERANCE)
    for name, tokens in plain.tokens["last"].items():
        assert torch.equal(output.tokens["last"][name].mask, tokens.mask)
        assert torch.equal(output.positions[name], plain.positions[name])
        torch.testing.assert_close(
            output.tokens["last"][name].values[tokens.mask], tokens.values[tokens.mask], **TOLERANCE
        )


def test_padding_in_front_changes_no_output(model):
    batch = make_batch()
    flipped = dict(batch)
    for name in ("text", "audio"):
        modality = batch[name]
        shift = modality.mask.shape[1] - modality.mask.sum(dim=1)
        index = (torch.arange(modality.mask.shape[1]) - shift[:, None]) % modality.mask.shape[1]
        rows = torch.arange(3)[:, None]
        special = None if modality.special is None else modality.special[rows, index]
        flipped[name] = ModalityBatch(modality.values[rows, index], modality.mask[rows, index], special)
    assert not flipped["text"].mask[1, 0]
    torch.testing.assert_close(model(flipped).logits, model(batch).logits, **TOLERANCE)


def test_positions_say_where_a_token_stood(model):
    output = model(make_batch())
    assert output.positions["text"][1].tolist() == [0, 1, 2, 3] + [-1] * 8
    assert output.positions["audio"][2].tolist() == [0, 1, 2] + [-1] * 8


def test_a_sample_without_any_modality_is_refused(model):
    batch = {name: blank(modality, [1]) for name, modality in make_batch().items()}
    with pytest.raises(ValueError, match=r"\[1\].*at least one"):
        model(batch)
    with pytest.raises(ValueError, match="no modality"):
        model({})
    with pytest.raises(KeyError, match="smell"):
        model({"smell": make_stream([3])})


def test_every_parameter_of_a_present_modality_learns_and_absent_ones_get_zero(model):
    model.train()
    batch = make_batch()
    model(batch).logits.square().sum().backward()
    tuned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    silent = [name for name, p in tuned.items() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent
    model.zero_grad()
    batch["image"] = blank(batch["image"], [0, 1, 2])
    model(batch).logits.square().sum().backward()
    image_only = [p for name, p in model.named_parameters() if "patch" in name or "resnet" in name]
    assert image_only
    assert all(p.grad is not None and not p.grad.any() for p in image_only), "in the graph, with gradient zero"


@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize(
    ("task", "labels", "columns"),
    [("binary", 1, 1), ("multilabel", 23, 23), ("multiclass", 10, 10), ("regression", 1, 1)],
)
def test_one_head_per_task(fusion, task, labels, columns):
    spec = replace(SPEC, task=task, n_labels=labels)
    model = build_model(spec, fusion=fusion, config=CONFIG)
    batch = make_batch()
    assert model(batch).logits.shape == (3, columns)


def test_the_same_seed_builds_the_same_model_and_evaluation_is_deterministic():
    batch = make_batch()
    outputs = []
    for _ in range(2):
        torch.manual_seed(5)
        model = build_model(SPEC, fusion="late", config=CONFIG).eval()
        outputs += [model(batch).logits, model(batch).logits]
    assert all(torch.equal(outputs[0], other) for other in outputs[1:])


def test_weights_survive_safetensors(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    batch = make_batch()
    before = model(batch).logits
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(model(batch).logits, before)


def test_hidden_states_between_the_layers_on_request(model):
    output = model(make_batch(), output_hidden_states=True)
    assert list(output.tokens) == ["input", "layer_1", "last"]


def test_pretrained_in_the_wrong_form_is_explained():
    with pytest.raises(ValueError, match=r"one folder or hub name.*tower"):
        build_model(SPEC, fusion="early", config=CONFIG, pretrained={"text": "bert"})
    with pytest.raises(ValueError, match="modality name"):
        build_model(SPEC, fusion="late", config=CONFIG, pretrained="vilt")
    with pytest.raises((ValueError, TypeError), match="middle"):  # TypeError: annotations checked as they run
        build_model(SPEC, fusion="middle", config=CONFIG)


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_learns_a_signal_that_either_modality_carries(fusion):
    """Loss falls below half of ln 2, the loss of knowing nothing, within a few dozen steps."""
    spec = DatasetSpec("toy", SPEC.modalities[:2], "binary", 1, ("bright",), "accuracy")
    torch.manual_seed(0)
    model = build_model(spec, fusion=fusion, config=CONFIG)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    labels = torch.tensor([0.0, 1.0]).repeat(16)
    text, image = make_text([6] * 32), make_image([(16, 16)] * 32)
    text.values[:, 2] = 10 + labels.long()
    image.values.add_(labels[:, None, None, None])
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            model({"text": text, "image": image}).logits[:, 0], labels
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.35


def test_streams_longer_than_their_positions_are_thinned():
    spec = DatasetSpec("clips", (ModalitySpec("audio", "stream", 5, 4),), "binary", 1, ("funny",), "accuracy")
    for fusion in ("early", "late"):
        output = build_model(spec, fusion=fusion, config=CONFIG)({"audio": make_stream([8])})
        assert output.positions["audio"].tolist() == [[0, 2, 4, 6]]
