from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from transformers import BertModel, ViTModel

from mmwa_utils.fusion import ModelConfig, build_model
from mmwa_utils.types import DatasetSpec, ModalityBatch, ModalitySpec
from tests.fusion.batches import CONFIG, SPEC, blank, make_batch, make_image, make_text


def test_encoders_are_those_of_transformers(weights):
    model = build_model(SPEC, fusion="late", config=CONFIG, pretrained=weights).eval()
    text, image = make_text([9, 4]), make_image([(32, 32), (32, 32)])
    bert = BertModel.from_pretrained(weights["text"], add_pooling_layer=False).eval()
    expected = bert(text.values, attention_mask=text.mask.long()).last_hidden_state
    torch.testing.assert_close(model.encoders["text"](text).values[text.mask], expected[text.mask])
    vit = ViTModel.from_pretrained(weights["image"], add_pooling_layer=False).eval()
    expected = vit(image.values).last_hidden_state
    # 1e-5: an all-zero additive mask takes another attention kernel than no mask.
    torch.testing.assert_close(model.encoders["image"](image).values, expected, atol=1e-5, rtol=1e-4)


def test_other_image_sizes_are_interpolated_as_vit_does_it(weights):
    model = build_model(SPEC, fusion="late", config=CONFIG, pretrained=weights).eval()
    image = make_image([(48, 40)])
    vit = ViTModel.from_pretrained(weights["image"], add_pooling_layer=False).eval()
    expected = vit(image.values, interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(model.encoders["image"](image).values, expected, atol=1e-5, rtol=1e-4)


def test_a_frozen_encoder_is_no_part_of_the_model_which_reads_its_tokens(weights):
    frozen = CONFIG.model_copy(update={"freeze_encoders": True})
    model = build_model(SPEC, fusion="late", config=frozen, pretrained=weights)
    assert {name.split(".")[1] for name in model.state_dict() if name.startswith("encoders")} == {"audio"}
    tuned = build_model(SPEC, fusion="late", config=CONFIG, pretrained=weights).eval()
    model.load_state_dict({name: value for name, value in tuned.state_dict().items() if name in model.state_dict()})
    batch = make_batch()
    blocks = {name: tuned.encoders[name](batch[name]) for name in ("text", "image")}
    features = {n: ModalityBatch(b.values, b.mask, b.special, b.positions) for n, b in blocks.items()}
    output, expected = model.eval()({**batch, **features}), tuned(batch)
    torch.testing.assert_close(output.logits, expected.logits)
    for name in batch:
        assert torch.equal(output.positions[name], expected.positions[name])
        assert torch.equal(output.tokens["last"][name].special, expected.tokens["last"][name].special)


def test_a_model_of_frozen_encoders_refuses_what_they_would_read(weights):
    config = CONFIG.model_copy(update={"freeze_encoders": True})
    model = build_model(SPEC, fusion="late", config=config, pretrained=weights)
    with pytest.raises(ValueError, match=r"length, 24.*open_data"):
        model(make_batch())


def test_loading_a_frozen_encoder_draws_nothing_from_the_generator(weights):
    config = CONFIG.model_copy(update={"freeze_encoders": True, "max_patches": 35})  # loaded by no other test
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        build_model(SPEC, fusion="late", config=config, pretrained=weights)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_freezing_random_weights_is_refused():
    with pytest.raises(ValueError, match="freeze_encoders"):
        build_model(SPEC, fusion="late", config=CONFIG.model_copy(update={"freeze_encoders": True}))


def test_an_encoder_that_cannot_read_its_modality_is_refused():
    config = CONFIG.model_copy(update={"encoders": {"audio": "resnet"}})
    with pytest.raises(ValueError, match=r"audio.*use linear or lstm"):
        build_model(SPEC, fusion="late", config=config)
    with pytest.raises(KeyError, match="smell"):
        build_model(SPEC, fusion="late", config=CONFIG.model_copy(update={"encoders": {"smell": "lstm"}}))
    with pytest.raises(ValueError, match="no pretrained weights"):
        build_model(SPEC, fusion="late", config=CONFIG, pretrained={"audio": "somewhere"})


def test_absent_images_stay_out_of_the_batch_statistics():
    spec = DatasetSpec(
        "icu", (ModalitySpec("xray", "image"), ModalitySpec("ehr", "stream", 5, 12)), "binary", 1, ("died",), "auroc"
    )
    config = CONFIG.model_copy(update={"encoders": {"xray": "resnet", "ehr": "lstm"}})
    statistics = []
    for absent in ([], [2]):
        torch.manual_seed(0)
        model = build_model(spec, fusion="late", config=config).train()
        image = make_image([(32, 32)] * 2)
        if absent:
            image = blank(
                ModalityBatch(
                    torch.cat([image.values, torch.full((1, 3, 32, 32), 9.0)]), torch.cat([image.mask, image.mask[:1]])
                ),
                absent,
            )
        stream = ModalityBatch(torch.ones(len(image.mask), 3, 5), torch.ones(len(image.mask), 3, dtype=torch.bool))
        model({"xray": image, "ehr": stream})
        statistics.append(
            torch.cat([buffer.flatten().float() for name, buffer in model.named_buffers() if "running" in name])
        )
    torch.testing.assert_close(*statistics)


def test_a_modality_absent_from_the_whole_batch_keeps_its_encoder_in_the_graph():
    model = build_model(SPEC, fusion="late", config=CONFIG).train()
    batch = make_batch()
    batch["text"] = blank(batch["text"], [0, 1, 2])
    model(batch).logits.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.encoders["text"].parameters())


@pytest.mark.parametrize(
    ("field", "value"),
    [("vocab_size", 2), ("image_size", 33), ("resnet_depths", (1,)), ("dropout", 1.5), ("max_patch", 3)],
)
def test_impossible_numbers_are_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        ModelConfig.for_profile("smoke", **{field: value})


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValidationError, match="multiple of heads"):
        ModelConfig.for_profile("smoke", early={"dim": 30, "layers": 1, "heads": 4, "intermediate": 8})
    with pytest.raises((KeyError, TypeError), match="laptop"):  # TypeError: annotations checked as they run
        ModelConfig.for_profile("laptop")


def test_the_paper_profile_has_the_stated_sizes():
    config = ModelConfig.for_profile("paper")
    assert (config.early.layers, config.early.heads, config.early.dim) == (12, 12, 768)
    assert (config.late.layers, config.late.heads) == (2, 8)
