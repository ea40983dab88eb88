"""Early fusion from a text encoder's weights; what holds for every fusion is in `test_fusion.py`."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertModel

from mmwa_utils.fusion import TowerFusion, build_model
from mmwa_utils.types import DatasetSpec, ModalityBatch, ModalitySpec
from tests.fusion.batches import CONFIG, SPEC, blank, make_image, make_stream, make_text

WHOLE = CONFIG.model_copy(update={"tower_layers": None})


def tower(weights, spec=SPEC, config=WHOLE, **pretrained) -> TowerFusion:
    torch.manual_seed(0)
    model = build_model(spec, fusion="early", config=config, pretrained={"tower": weights["text"], **pretrained})
    assert isinstance(model, TowerFusion)
    return model.eval()


def test_words_alone_are_read_as_bert_reads_them(weights):
    text = make_text([9, 4, 12])
    bert = BertModel.from_pretrained(weights["text"]).eval()
    expected = bert(text.values, attention_mask=text.mask.long(), output_hidden_states=True)
    output = tower(weights)({"text": text}, output_hidden_states=True)
    for layer, states in zip(("input", "layer_1", "last"), expected.hidden_states, strict=True):
        # Another attention kernel: the same float32 sums in another order.
        torch.testing.assert_close(
            output.tokens[layer]["text"].values[text.mask], states[text.mask], atol=1e-5, rtol=1e-4
        )


def test_attention_weights_are_those_of_the_layers_on_request(weights):
    model = tower(weights)
    batch = {"text": make_text([5, 9]), "audio": make_stream([4, 2])}
    assert model(batch).attentions is None
    attentions = model(batch, output_attentions=True).attentions
    assert [tuple(weights.shape) for weights in attentions] == [(2, 4, 13, 13)] * 2


def test_the_first_layers_of_the_checkpoint_are_kept(weights):
    stored = load_file(f"{weights['text']}/model.safetensors")
    for layers, config in ((2, WHOLE), (1, CONFIG)):
        model = tower(weights, config=config)
        assert len(model.encoder.encoder.layer) == layers
        ours = model.bert.state_dict()
        assert {name.split(".")[2] for name in ours if name.startswith("encoder")} == {*map(str, range(layers))}
        segments = ours.pop("embeddings.token_type_embeddings.weight")
        assert all(torch.equal(ours[name], stored[name]) for name in ours)
        assert torch.equal(segments[:2], stored["embeddings.token_type_embeddings.weight"])
        assert torch.equal(segments[2], segments[1]), "the stream's segment starts as the picture's"
    tuned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {n for n, _ in model.named_parameters()} - tuned == {"bert.embeddings.word_embeddings.weight"}


def test_streams_alone_follow_a_bare_class_token(weights):
    streams = (ModalitySpec("left", "stream", 5, 12, patch=4), ModalitySpec("right", "stream", 5, 12, patch=4))
    model = tower(weights, DatasetSpec("watch", streams, "multiclass", 7, tuple("abcdefg"), "accuracy"))
    output = model({"left": make_stream([12, 9]), "right": make_stream([3, 12])})
    assert output.logits.shape == (2, 7)
    assert set(output.tokens["last"]) == {"left", "right"}
    assert output.mask.tolist() == [[True] * 4 + [True, False, False], [True] * 7]


def test_a_sample_without_text_has_the_same_class_token_as_a_batch_without(weights):
    model = tower(weights)
    text, audio = make_text([5, 9]), make_stream([4, 2])
    without = model({"audio": ModalityBatch(audio.values[1:], audio.mask[1:])}).logits
    torch.testing.assert_close(model({"text": blank(text, [1]), "audio": audio}).logits[1:], without)


def test_pictures_without_an_encoder_are_linear_patches(weights):
    model = tower(weights)
    image = make_image([(64, 96), (32, 64)])
    output = model({"image": image})
    assert output.positions["image"].tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, -1, -1, -1, -1]]
    block = model.encoders["image"](image)
    assert torch.equal(block.values[0, 4], image.values[0, :, 32:, 32:64].flatten()), "second row, second column"
    output.logits.sum().backward()
    assert model.streams["image"].projection.weight.grad.any()


def test_a_frozen_picture_encoder_is_no_part_of_the_tower_and_a_tuned_one_learns(weights):
    frozen = tower(weights, config=CONFIG.model_copy(update={"freeze_encoders": True}), image=weights["image"])
    assert not list(frozen.encoders.parameters())
    tuned = tower(weights, image=weights["image"])
    tuned({"image": make_image([(32, 32)])}).logits.sum().backward()
    assert tuned.encoders["image"].vit.layers[0].mlp.fc1.weight.grad.any()


def test_dropout_is_the_configuration_s(weights):
    model = tower(weights, config=CONFIG.model_copy(update={"dropout": 0.1})).train()
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.1}


def test_weights_for_what_the_tower_reads_itself_are_refused(weights):
    with pytest.raises(ValueError, match=r"'text'.*reads text itself"):
        tower(weights, text=weights["text"])
    with pytest.raises(KeyError, match="smell"):
        tower(weights, smell=weights["image"])


def test_the_installed_tower_is_minilm():
    model = build_model(SPEC, fusion="early", config=CONFIG, pretrained="minilm-l6")
    assert isinstance(model, TowerFusion)
    assert (model.dim, model.bert.config.num_attention_heads) == (384, 12)
