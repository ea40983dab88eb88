"""Features of frozen encoders: computed once, the same whatever else is in the batch, others for other inputs."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel

from mmwa_utils import project
from mmwa_utils.evaluation.conditions import Clean, Noise
from mmwa_utils.evaluation.prediction import evaluate
from mmwa_utils.fusion import ModelConfig
from mmwa_utils.fusion.encoders import EfficientNetEncoder, TextEncoder
from mmwa_utils.training import RunConfig, RunStore, features, load_model, open_data, train
from mmwa_utils.training.features import FeatureStore
from mmwa_utils.types import ModalityBatch, ModalitySpec
from tests.fusion.batches import blank, make_image, make_text, pad, row

BOTH = {"text": "minilm-l6", "image": "efficientnet-lite0"}
TEXT, IMAGE = ModalitySpec("text", "text"), ModalitySpec("image", "image")
CONFIG = ModelConfig.for_profile("smoke", vocab_size=50, cls_token_id=2, freeze_encoders=True)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    BertModel(BertConfig(**size, vocab_size=50), add_pooling_layer=False).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(project.BUILD_VARIABLE, str(tmp_path))
    return tmp_path / "features"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that encoders see."""
    calls: list[int] = []
    for encoder in (TextEncoder, EfficientNetEncoder):
        honest = encoder.forward

        def counted(self: Any, modality: ModalityBatch, honest: Any = honest) -> Any:
            calls.append(len(modality.mask))
            return honest(self, modality)

        monkeypatch.setattr(encoder, "forward", counted)
    return calls


def pictures(*sides: int) -> ModalityBatch:
    return make_image([(64, side) for side in sides])


def test_each_input_is_encoded_once_and_by_itself(bert: str, encoded: list[int], folder: Path) -> None:
    text = make_text([9, 4, 12, 4])
    text.values[3] = text.values[1]
    store = FeatureStore(TEXT, CONFIG, bert)
    first = store(text)
    assert encoded == [1, 1, 1], "two of the four are alike"
    again, in_another_process = store(text), FeatureStore(TEXT, CONFIG, bert)(text)
    assert len(encoded) == 3
    for other in (again, in_another_process):
        assert torch.equal(other.values, first.values)
        assert torch.equal(other.positions, first.positions)
    assert first.values.dtype == torch.float32
    assert torch.equal(first.mask, text.mask)
    assert torch.equal(first.special, text.special)
    assert not first.values[~first.mask].any()
    assert len(list(folder.iterdir())) == 1


def test_features_are_the_encoder_s_to_half_precision(bert: str) -> None:
    store, text = FeatureStore(TEXT, CONFIG, bert), make_text([9, 4])
    with torch.no_grad():
        expected = store.encoder(text)
    # Half precision has 11 bits: values of layer-normalised tokens are off by up to 2^-11 of themselves.
    torch.testing.assert_close(store(text).values[text.mask], expected.values[text.mask], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("place", ["bert", "efficientnet-lite0"])
def test_a_feature_does_not_depend_on_the_batch(place: str, bert: str, folder: Path) -> None:
    modality = make_text([9, 4, 12]) if place == "bert" else pictures(64, 96, 64)
    store = (TEXT, CONFIG, bert) if place == "bert" else (IMAGE, CONFIG, place)
    together = FeatureStore(*store)(modality)
    for index in range(3):
        for path in folder.iterdir():
            path.unlink()
        alone = FeatureStore(*store)(pad(row(modality, index), 32))
        length = int(alone.mask.sum())
        assert torch.equal(alone.values[0, :length], together.values[index, :length])
        assert int(together.mask[index].sum()) == length


def test_what_is_absent_stays_absent(bert: str, encoded: list[int]) -> None:
    text = make_text([9, 4, 12])
    store = FeatureStore(TEXT, CONFIG, bert)
    found = store(blank(text, [1]))
    assert found.present.tolist() == [True, False, True]
    assert len(encoded) == 2
    nothing = store(blank(text, [0, 1, 2]))
    assert nothing.values.shape == (3, 1, 24)
    assert not nothing.mask.any()


def test_another_input_or_another_encoder_has_features_of_its_own(bert: str, folder: Path) -> None:
    text = make_text([9])
    store = FeatureStore(TEXT, CONFIG, bert)
    before = store(text).values
    text.values[0, 3] = 4 + (text.values[0, 3] - 3) % 46
    assert not torch.equal(store(text).values, before)
    other = store.encoder.state_dict()["bert.embeddings.word_embeddings.weight"]
    digest = features._digest.__wrapped__(store.encoder)
    other[0, 0] += 1
    assert features._digest.__wrapped__(store.encoder) != digest
    other[0, 0] -= 1


def test_memory_is_bounded_and_what_left_it_is_read_again(
    bert: str, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, text = FeatureStore(TEXT, CONFIG, bert), make_text([12] * 6)
    monkeypatch.setattr(features, "MEMORY", 3 * 12 * 24 * 2)  # three texts of 12 tokens, width 24, 2 bytes
    first = store(text).values
    assert len(store.memory) == 3
    assert torch.equal(store(text).values, first)
    assert len(encoded) == 6


def _write(bert: str) -> list[Any]:
    torch.manual_seed(0)
    store = FeatureStore(TEXT, CONFIG, bert)
    return [store(make_text([5, 8, 3])).values.numpy() for _ in range(6)]


def test_processes_share_a_file(bert: str, folder: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        theirs = pool.apply_async(_write, (bert,))
        mine = _write(bert)
        assert all((one == other).all() for one, other in zip(mine, theirs.get(timeout=240), strict=True))
    assert len(list(folder.glob("*.sqlite"))) == 1


def run_config(**own: Any) -> RunConfig:
    numbers = {"fusion": "late", "pretrained": BOTH, "freeze_encoders": True, "samples": 40, "epochs": 1}
    return RunConfig.for_profile("smoke", dataset="hateful_memes", device="cpu", **{**numbers, **own})


def test_a_run_encodes_once_stores_little_and_is_found_again(tmp_path: Path, encoded: list[int]) -> None:
    run = train(run_config(), store=RunStore(tmp_path / "one"), progress=False)
    data = open_data(run.config)
    samples = sum(len(split) for split in data.splits.values())
    assert 0 < len(encoded) <= 2 * samples
    assert run.weights.stat().st_size < 1e6, "two layers and two projections, no encoder"
    before = len(encoded)
    again = train(run_config(), store=RunStore(tmp_path / "other"), progress=False)
    model, split = load_model(run, data), data.splits["test"]
    with torch.no_grad():
        logits = model(data.collate([split[index] for index in range(len(split))]).modalities).logits
    assert len(encoded) == before
    assert (again.predictions("test").logits == run.predictions("test").logits).all()
    assert torch.allclose(torch.from_numpy(run.predictions("test").logits), logits, atol=1e-5)


def test_loader_workers_and_copies_give_the_same_batches() -> None:
    data = open_data(run_config())
    loaders = (
        DataLoader(data.splits["val"], 4, collate_fn=collate, num_workers=workers)  # type: ignore[arg-type]
        for collate, workers in ((data.collate, 2), (data.collate, 0), (pickle.loads(pickle.dumps(data.collate)), 0))
    )
    for batches in zip(*loaders, strict=True):
        for name in BOTH:
            first, *others = (batch.modalities[name].values for batch in batches)
            assert all(torch.equal(first, other) for other in others)


def test_installed_weights_bring_their_processor_and_folders_their_tokenizer(tmp_path: Path, bert: str) -> None:
    processor = open_data(run_config()).processor
    assert processor is not None
    assert (processor.vocabulary_size, processor.shortest_edge, processor.size_divisor) == (30522, 128, 32)
    beside = open_data(run_config(pretrained={"text": bert}, freeze_encoders=False)).processor
    assert beside is not None
    assert beside.vocabulary_size < 30522, "a folder's weights leave the stand-in's own processor in place"


def test_runs_that_read_differently_are_evaluated_each_by_its_own_reading(tmp_path: Path) -> None:
    tower = {"fusion": "early", "pretrained": {"tower": "minilm-l6", "image": "efficientnet-lite0"}}
    aligned = {"name": "wasserstein", "beta": 0.4, "layers": "all"}
    configs = [run_config(), run_config(**tower, alignment=aligned), run_config(pretrained=None, freeze_encoders=False)]
    runs = [train(config, store=RunStore(tmp_path / "runs"), progress=False) for config in configs]
    found = evaluate(runs, [Clean(), Noise(1.0)])
    for run in runs:
        expected = torch.from_numpy(run.predictions("test").logits)
        torch.testing.assert_close(torch.from_numpy(found[run.key, Clean()].logits), expected, atol=1e-4, rtol=1e-4)
        assert (found[run.key, Noise(1.0)].logits != found[run.key, Clean()].logits).any()
    assert runs[1].history["alignment_loss"].gt(0).all()
