from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from mmwa_utils.fusion import FusionModel, build_model
from tests.fusion.batches import CONFIG, SPEC

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | Path]:
    """Local folders as `from_pretrained` reads them, of a BERT and a ViT of another width than the fusion's."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    BertModel(BertConfig(**SMALL, vocab_size=50)).save_pretrained(folder / "bert")
    ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(folder / "vit")
    return {"text": str(folder / "bert"), "image": str(folder / "vit")}


@pytest.fixture(params=["early", "early-tower", "late", "late-convolution-lstm"])
def model(request: pytest.FixtureRequest, weights: dict[str, str | Path]) -> FusionModel:
    torch.manual_seed(0)
    config, pretrained = CONFIG.model_copy(update={"tower_layers": 2}), None
    if request.param == "late-convolution-lstm":
        config = config.model_copy(update={"encoders": {"image": "resnet", "audio": "lstm"}})
    if request.param == "early-tower":
        pretrained = {"tower": weights["text"], "image": weights["image"]}
    return build_model(SPEC, fusion=request.param.split("-")[0], config=config, pretrained=pretrained).eval()
