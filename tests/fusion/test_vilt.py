"""Early fusion is transformers' ViLT: same weights and patches, same numbers."""

from __future__ import annotations

import pytest
import torch
from transformers import ViltModel

from mmwa_utils.fusion import EarlyFusion, build_model
from mmwa_utils.fusion.early import grow_modality_types, modality_type_rows
from mmwa_utils.types import DatasetSpec, ModalityBatch, ModalitySpec
from tests.fusion.batches import CONFIG, SPEC, make_image, make_stream, make_text

PAIR = DatasetSpec("memes", SPEC.modalities[:2], "binary", 1, ("hateful",), "auroc")
# Both sides do the same float32 arithmetic; the order of the patches, hence of the sums, differs.
TOLERANCE = {"atol": 1e-5, "rtol": 0.0}


@pytest.fixture
def early() -> EarlyFusion:
    torch.manual_seed(0)
    model = build_model(PAIR, fusion="early", config=CONFIG).eval()
    assert isinstance(model, EarlyFusion)
    return model


def pad_grid(image: ModalityBatch) -> ModalityBatch:
    """ViLT draws padding patches from what is there: give it a column of them."""
    values = torch.nn.functional.pad(image.values, (0, 8))
    return ModalityBatch(values, torch.nn.functional.pad(image.mask, (0, 8)))


@pytest.mark.parametrize("sizes", [[(32, 32), (32, 32)], [(32, 24), (16, 32)], [(40, 48), (48, 24)]])
def test_equals_vilt_on_the_same_weights(early, sizes):
    text, image = make_text([9, 5]), pad_grid(make_image(sizes))
    reference = early.vilt(
        input_ids=text.values,
        attention_mask=text.mask.long(),
        pixel_values=image.values,
        pixel_mask=image.mask.long(),
    )
    output = early({"text": text, "image": image})
    last, n_words = output.tokens["last"], text.mask.shape[1]
    torch.testing.assert_close(early.vilt.pooler(last["text"].values), reference.pooler_output, **TOLERANCE)
    words, expected = last["text"].values[text.mask], reference.last_hidden_state[:, :n_words][text.mask]
    torch.testing.assert_close(words, expected, **TOLERANCE)

    # ViLT has permuted the patches at random: as sets they must agree, one to one.
    for row in range(2):
        ours = last["image"].values[row][last["image"].mask[row]]
        distance = torch.cdist(
            ours, reference.last_hidden_state[row, n_words:], compute_mode="donot_use_mm_for_euclid_dist"
        )
        nearest = distance.argmin(dim=1)
        assert nearest.unique().numel() == len(ours) == 1 + sizes[row][0] * sizes[row][1] // 64
        torch.testing.assert_close(ours, reference.last_hidden_state[row, n_words:][nearest], **TOLERANCE)


def test_equals_vilt_on_the_same_patches_in_the_same_order(early):
    text, image = make_text([9, 5]), make_image([(32, 32), (16, 24)])
    output = early({"text": text, "image": image}, output_attentions=True, output_hidden_states=True)
    patches = output.tokens["input"]["image"]
    kind = early.vilt.embeddings.token_type_embeddings.weight[1]
    reference = early.vilt(
        input_ids=text.values,
        attention_mask=text.mask.long(),
        image_embeds=patches.values - kind,
        pixel_mask=patches.mask.long(),
        output_attentions=True,
        output_hidden_states=True,
    )
    mask = output.mask
    last = torch.cat([output.tokens["last"][name].values for name in ("text", "image")], dim=1)
    torch.testing.assert_close(last[mask], reference.last_hidden_state[mask], **TOLERANCE)
    first = torch.cat([output.tokens["layer_1"][name].values for name in ("text", "image")], dim=1)
    torch.testing.assert_close(first[mask], reference.hidden_states[1][mask], **TOLERANCE)
    torch.testing.assert_close(output.attentions[-1], reference.attentions[-1], **TOLERANCE)


def test_vilt_itself_is_not_deterministic_and_we_are(early):
    text, image = make_text([9]), make_image([(32, 32)])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = (early({"text": text, "image": image}).logits for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    early.vilt(input_ids=text.values, pixel_values=image.values, pixel_mask=image.mask.long())
    assert not torch.equal(torch.get_rng_state(), before), "the trap is gone: our own selection may go too"


def test_loads_a_local_folder_and_keeps_its_weights(early, tmp_path):
    early.vilt.save_pretrained(tmp_path)
    loaded = build_model(PAIR, fusion="early", config=CONFIG, pretrained=tmp_path).eval()
    loaded.head.load_state_dict(early.head.state_dict())
    batch = {"text": make_text([9, 5]), "image": make_image([(32, 32), (16, 24)])}
    assert torch.equal(loaded(batch).logits, early(batch).logits)


def test_a_third_modality_grows_the_type_table_by_a_copy_of_row_one(tmp_path):
    torch.manual_seed(0)
    vilt = build_model(PAIR, fusion="early", config=CONFIG).vilt
    before = vilt.embeddings.token_type_embeddings.weight.detach().clone()
    vilt.save_pretrained(tmp_path)
    grown = build_model(SPEC, fusion="early", config=CONFIG, pretrained=tmp_path).vilt
    table = grown.embeddings.token_type_embeddings.weight
    assert torch.equal(table[:2], before)
    assert torch.equal(table[2], before[1])
    assert table.requires_grad
    assert grown.config.modality_type_vocab_size == 3
    grow_modality_types(grown, 2)
    assert len(grown.embeddings.token_type_embeddings.weight) == 3, "never shrunk"
    # and what was grown can be saved and read again
    grown.save_pretrained(tmp_path / "grown")
    assert ViltModel.from_pretrained(tmp_path / "grown").config.modality_type_vocab_size == 3


def test_type_rows_are_distinct_and_two_images_are_one_and_two():
    image = [ModalitySpec(name, "image") for name in ("left", "right")]
    spec = DatasetSpec("nlvr2", (*image, ModalitySpec("text", "text")), "binary", 1, ("true",), "accuracy")
    assert modality_type_rows(spec) == {"left": 1, "right": 2, "text": 0}


def test_a_text_longer_than_the_positions_is_refused_with_a_remedy(early):
    with pytest.raises(ValueError, match=r"41 tokens.*40 positions.*max_text_length=40"):
        early({"text": make_text([41, 10]), "image": make_image([(32, 32)] * 2)})
    assert early({"text": make_text([40, 10]), "image": make_image([(32, 32)] * 2)}).logits.shape == (2, 1)


def test_too_many_patches_are_thinned_evenly(early):
    early.config = early.config.model_copy(update={"max_patches": 8})
    batch = {"text": make_text([9]), "image": make_image([(32, 32)])}
    assert early(batch).positions["image"][0].tolist() == [-1, *range(0, 16, 2)]


def test_ids_of_another_tokenizer_are_refused(early):
    text = make_text([5])
    text.values[0, 1] = 50
    with pytest.raises(ValueError, match="vocab_size"):
        early({"text": text})


def test_streams_alone_make_an_early_model():
    spec = DatasetSpec("mosei", (ModalitySpec("video", "stream", 5, 12),), "regression", 1, ("sentiment",), "mae")
    model = build_model(spec, fusion="early", config=CONFIG)
    assert model({"video": make_stream([4, 7])}).logits.shape == (2, 1)


def test_images_smaller_than_a_patch_are_refused(early):
    with pytest.raises(ValueError, match="smaller than one patch"):
        early({"image": make_image([(4, 4)])})
