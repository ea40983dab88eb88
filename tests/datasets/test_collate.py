"""Batches: masks say what is real, absence is seen, nothing depends on workers; the processor is transformers' own."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, ViltImageProcessorPil

from mmwa_utils import datasets
from mmwa_utils.corruption import lose
from mmwa_utils.datasets import DatasetError
from mmwa_utils.datasets.collate import Collator, label_tensor
from mmwa_utils.datasets.processing import Processor, load_processor
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample
from standins.processor import write_processor

STREAMS = DatasetSpec(
    "toy",
    (ModalitySpec("a", "stream", width=2, max_length=9), ModalitySpec("b", "stream", width=3)),
    "regression",
    1,
    ("y",),
    "mae",
)
PAIR = datasets.spec("hateful_memes")
IMAGE = replace(PAIR, modalities=PAIR.modalities[1:])


def _pair(identifier: str, text: str | None, size: tuple[int, int] | None) -> Sample:
    modalities: dict[str, object] = {} if text is None else {"text": text}
    if size is not None:
        modalities["image"] = Image.new("RGB", size, (255, 0, 0))
    return Sample(identifier, 1, modalities, frozenset({"text", "image"} - set(modalities)))


@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_streams_come_back_where_the_mask_is_true(lengths: list[int]) -> None:
    rng = np.random.default_rng(0)
    samples = [
        Sample(str(n), 0.5, {"a": rng.standard_normal((length, 2)).astype("f4")} if length else {})
        for n, length in enumerate(lengths)
    ]
    batch = Collator(STREAMS)(samples)
    part = batch.modalities["a"]
    assert part.values.shape[:2] == part.mask.shape
    for row, sample in enumerate(samples):
        expected = sample.modalities.get("a", np.zeros((0, 2), "f4"))[:9]  # longer streams keep their first steps
        np.testing.assert_array_equal(part.values[row][part.mask[row]], expected)
        assert not part.values[row][~part.mask[row]].any()
    assert part.present.tolist() == [length > 0 for length in lengths]
    assert not batch.modalities["b"].present.any()
    assert batch.modalities["b"].values.shape == (len(lengths), 1, 3)


def test_a_stream_of_another_width_is_an_error_that_names_the_sample() -> None:
    with pytest.raises(ValueError, match=r"sample x7: a has shape \(4, 5\), expected \(steps, 2\)"):
        Collator(STREAMS)([Sample("x7", 0.0, {"a": np.zeros((4, 5), "f4")})])
    with pytest.raises(ValueError, match="at least one sample"):
        Collator(STREAMS)([])


def test_text_has_ids_mask_and_special_tokens(processor: Processor) -> None:
    batch = Collator(PAIR, processor)([_pair("1", "red circle", None), _pair("2", "the old triangle at top", None)])
    text = batch.modalities["text"]
    assert text.values.dtype == torch.int64
    tokens = [processor.tokenizer.convert_ids_to_tokens(row) for row in text.values]
    assert tokens[0] == ["[CLS]", "red", "circle", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert text.mask.int().tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7]
    assert text.special is not None
    assert text.special.int().tolist() == [[1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize("limit", [3, 8, 40])
def test_long_text_is_cut_to_the_limit(memes: Path, limit: int) -> None:
    limited = load_processor(memes / "processor", max_text_length=limit)
    text = Collator(PAIR, limited)([_pair("1", "red " * 200, None)]).modalities["text"]
    assert text.values.shape == (1, limit)
    assert text.values[0, -1] == limited.tokenizer.sep_token_id
    with pytest.raises(ValueError, match="max_text_length = 2"):
        load_processor(memes / "processor", max_text_length=2)


def test_pictures_are_padded_at_the_right_and_the_bottom(processor: Processor) -> None:
    batch = Collator(PAIR, processor)(
        [_pair("1", "x", (64, 64)), _pair("2", "x", (128, 64)), _pair("3", "x", (64, 96))]
    )
    image = batch.modalities["image"]
    assert image.values.shape == (3, 3, 48, 48)  # the longer side is at most 53, rounded down to 48
    areas = [(32, 32), (24, 48), (48, 32)]
    for row, (height, width) in enumerate(areas):
        assert image.mask[row].sum() == height * width
        assert image.mask[row, :height, :width].all()
        assert (image.values[row, :, :height, :width].amax(dim=(1, 2)) == torch.tensor([1.0, -1.0, -1.0])).all()
        assert not image.values[row][:, ~image.mask[row]].any()


def test_absent_modalities_have_a_mask_that_is_false_throughout(processor: Processor) -> None:
    samples = [_pair("1", None, (64, 64)), _pair("2", "red", None), _pair("3", None, None)]
    batch = Collator(PAIR, processor)(samples)
    assert batch.modalities["text"].present.tolist() == [False, True, False]
    assert batch.modalities["image"].present.tolist() == [True, False, False]
    assert not batch.modalities["text"].special[[0, 2]].any()
    assert (batch.modalities["text"].values[0] == processor.tokenizer.pad_token_id).all()
    nothing = Collator(PAIR, processor)([_pair("3", None, None)])
    assert nothing.modalities["image"].values.shape == (1, 3, processor.size_divisor, processor.size_divisor)
    assert not nothing.modalities["text"].mask.any()


def test_a_dummy_is_read_like_any_other_input(processor: Processor) -> None:
    whole = _pair("a", "red", (40, 40))
    before = Collator(PAIR, processor)([whole]).modalities
    text, image = (
        Collator(PAIR, processor)([lose(whole, name, PAIR, representation="dummy")]).modalities[name]
        for name in ("text", "image")
    )
    assert processor.tokenizer.convert_ids_to_tokens(text.values[0]) == ["[CLS]", "[SEP]"]
    assert text.mask.all()
    assert (image.mask == before["image"].mask).all()
    assert (image.values == 1).all(), "white is 1 after ViLT's normalisation"


def test_the_order_of_modalities_is_the_specifications(processor: Processor) -> None:
    assert tuple(Collator(PAIR, processor)([_pair("1", "x", (8, 8))]).modalities) == PAIR.modality_names
    with pytest.raises(ValueError, match="pass a processor"):
        Collator(PAIR)


def test_labels_have_the_type_of_the_loss() -> None:
    assert label_tensor([1, 0], "binary").dtype == torch.int64
    assert label_tensor([3, 9], "multiclass").tolist() == [3, 9]
    assert label_tensor([0.5, -1.0], "regression").dtype == torch.float32
    several = label_tensor([np.array([1, 0]), np.array([1, 1])], "multilabel")
    assert (several.dtype, several.shape) == (torch.float32, (2, 2))


def test_content_does_not_depend_on_workers(memes: Path, processor: Processor) -> None:
    split = datasets.open_split("hateful_memes", memes, "train")
    alone, helped = (
        list(DataLoader(split, 50, collate_fn=Collator(split.spec, processor), num_workers=workers))
        for workers in (0, 2)
    )
    assert [i for batch in alone for i in batch.ids] == split.ids()
    for one, other in zip(alone, helped, strict=True):
        assert one.ids == other.ids
        for name, modality in one.modalities.items():
            assert torch.equal(modality.values, other.modalities[name].values)
            assert torch.equal(modality.mask, other.modalities[name].mask)


def test_an_error_in_a_worker_names_the_file(memes: Path, processor: Processor, tmp_path: Path) -> None:
    root = Path(shutil.copytree(memes, tmp_path / "copy"))
    split = datasets.open_split("hateful_memes", root, "val")
    (root / "img" / f"{split.ids()[3]}.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=rf"{split.ids()[3]}\.png: .*is empty"):
        list(DataLoader(split, 4, collate_fn=Collator(split.spec, processor), num_workers=1))


def test_processing_is_what_transformers_does(memes: Path, processor: Processor) -> None:
    """The same folder read by transformers alone gives the same ids and the same pixels."""
    split = datasets.open_split("hateful_memes", memes, "val")
    sample = split[0]
    batch = Collator(split.spec, processor)([sample])
    tokenizer = AutoTokenizer.from_pretrained(memes / "processor")
    images = ViltImageProcessorPil.from_pretrained(memes / "processor")
    assert tokenizer(sample.modalities["text"])["input_ids"] == batch.modalities["text"].values[0].tolist()
    pixels = images(sample.modalities["image"], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(batch.modalities["image"].values, pixels, rtol=0, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize("size", [(64, 64), (41, 97), (301, 200), (30, 20)])
def test_any_size_gives_the_pixels_of_transformers(processor: Processor, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    expected = processor.images(Image.fromarray(noise), do_pad=False, return_tensors="pt")["pixel_values"]
    found = Collator(IMAGE, processor)([Sample("1", 0, {"image": Image.fromarray(noise)})]).modalities["image"]
    torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-6)  # float32 rounding


def test_no_word_of_the_standin_is_unknown(memes: Path, films: Path) -> None:
    for name, root in (("hateful_memes", memes), ("mm_imdb", films)):
        tokenizer = load_processor(root / "processor").tokenizer
        for sample in datasets.open_split(name, root, "test"):
            pieces = tokenizer.tokenize(sample.modalities["text"])
            assert pieces == sample.modalities["text"].split()


def test_offsets_point_into_the_text(processor: Processor) -> None:
    text = "the red circle , old"
    encoded = processor.encode([text, "red"])
    words = [text[start:end] for start, end in encoded.offsets[0][~encoded.special[0]]]
    assert words == text.split()
    assert not encoded.offsets[1][~encoded.mask[1]].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3000, 2), (7, 9), (500, 64)])
def test_pictures_of_any_shape_become_whole_patches(processor: Processor, size: tuple[int, int]) -> None:
    samples = [Sample("1", 0, {"image": Image.new("RGB", size, "white")})]
    pixels = Collator(IMAGE, processor)(samples).modalities["image"].values
    assert pixels.dtype == torch.float32
    assert min(pixels.shape[2:]) >= processor.size_divisor
    assert all(side % processor.size_divisor == 0 for side in pixels.shape[2:])
    torch.testing.assert_close(pixels, torch.ones_like(pixels), rtol=0, atol=1e-6)


def test_a_folder_without_a_processor_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no processor"):
        load_processor(tmp_path)
    write_processor(tmp_path / "p", words=["a"], shortest_edge=16)
    assert load_processor(tmp_path / "p").shortest_edge == 16
