"""Evaluation on a changed split: the same weights, the declared change and no other, nothing computed twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmwa_utils.evaluation import prediction
from mmwa_utils.evaluation.conditions import Clean, Condition, Noise, Shuffled, SplitView, Without
from mmwa_utils.evaluation.metrics import trivial_logits
from mmwa_utils.evaluation.prediction import evaluate
from mmwa_utils.project import BUILD_VARIABLE
from mmwa_utils.training import Predictions, Run, open_data
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample
from tests.training.tiny import tiny_run

SPEC = DatasetSpec(
    "demo", (ModalitySpec("a", "stream", width=2), ModalitySpec("b", "stream", width=2)), "binary", 1, ("yes",), "auroc"
)
MANY: list[Condition] = [Clean(), *(Noise(level, seed) for level in (0.25, 0.5, 0.75) for seed in range(3))]


class Listed:
    """A split in memory, of which every third sample lacks `b`."""

    name, spec, standin, fingerprint = "test", SPEC, True, "none"

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng(0)
        values = rng.normal(size=(number, 2, 5, 2)).astype(np.float32)
        whole = [Sample(f"s{i}", i % 2, {"a": a, "b": b}) for i, (a, b) in enumerate(values)]
        self.samples = [sample.without("b") if i % 3 == 0 else sample for i, sample in enumerate(whole)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def labels(self) -> np.ndarray:
        return np.array([sample.label for sample in self.samples])

    def ids(self) -> list[str]:
        return [sample.id for sample in self.samples]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("runs"), epochs=1)


@pytest.fixture(autouse=True)
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations are kept in a folder of each test's own."""
    monkeypatch.setenv(BUILD_VARIABLE, str(tmp_path))


def asked_of(monkeypatch: pytest.MonkeyPatch) -> list[Condition]:
    """Return a list that fills with the conditions that are computed and not found."""
    asked: list[Condition] = []
    predict = prediction._predict

    def recorded(runs: Any, conditions: Any, data: Any) -> Any:
        asked.extend(conditions)
        return predict(runs, conditions, data)

    monkeypatch.setattr(prediction, "_predict", recorded)
    return asked


def test_clean_is_what_the_run_itself_stored(run: Run) -> None:
    found = evaluate([run], [Clean()])[run.key, Clean()]
    stored = run.predictions("test")
    assert found.ids.tolist() == stored.ids.tolist()
    np.testing.assert_array_equal(found.truth, stored.truth)
    # float32 in batches of another size: sums are taken in another order.
    np.testing.assert_allclose(found.logits, stored.logits, atol=1e-4)


def test_noise_of_level_0_is_clean_and_every_other_condition_is_not(run: Run) -> None:
    others: list[Condition] = [Noise(0.5), Without(("left",)), Without(("left",), "dummy"), Shuffled("right")]
    found = evaluate([run], [Clean(), Noise(0.0), *others])
    clean = found[run.key, Clean()].logits
    np.testing.assert_array_equal(found[run.key, Noise(0.0)].logits, clean)
    for condition in others:
        assert np.abs(found[run.key, condition].logits - clean).max() > 1e-3, condition


@pytest.mark.parametrize("condition", [Noise(0.5, modalities=("b",)), Without(("b",)), Without(("b",), "dummy"),
                                       Shuffled("b")], ids=str)  # fmt: skip
def test_a_condition_touches_what_it_names_and_nothing_else(condition: Condition) -> None:
    split = Listed(20)
    view = SplitView(split)
    changed = 0
    for index, before in enumerate(split):
        after = condition.change(view, index)
        assert after is not None
        assert (after.id, after.label) == (before.id, before.label)
        np.testing.assert_array_equal(after.modalities["a"], before.modalities["a"])
        if "b" not in before.modalities:
            assert "b" not in after.modalities
        elif "b" in after.modalities:
            changed += not np.array_equal(after.modalities["b"], before.modalities["b"])
        else:
            changed += 1
    assert changed == sum("b" in sample.modalities for sample in split)


def test_the_view_keeps_few_samples_and_gives_the_same_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Listed(12)
    monkeypatch.setattr("mmwa_utils.evaluation.conditions.KEPT", 3)
    view = SplitView(split)
    for index in (0, 1, 2, 5, 0, 11):
        assert view[index] is split[index]
    assert view._decoded.cache_info().currsize <= 3


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_is_a_derangement_of_those_that_have_the_modality(seed: int) -> None:
    view = SplitView(Listed(31))
    having = [i for i in range(31) if "b" in view[i].modalities]
    partners = [view.partner(index, "b", seed) for index in having]
    assert sorted(partners) == having
    assert all(partner != index for partner, index in zip(partners, having, strict=True))


def test_a_sample_of_which_nothing_is_left_gets_the_training_prior(run: Run) -> None:
    condition = Without(("left", "right"))
    logits = evaluate([run], [condition])[run.key, condition].logits
    data = open_data(run.config)
    prior = trivial_logits(data.spec, np.asarray(data.splits["train"].labels()), len(logits))
    np.testing.assert_allclose(logits, prior, rtol=1e-6)


def test_predictions_depend_neither_on_the_batch_nor_on_what_is_asked_beside(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Noise(0.5, 1)
    together = evaluate([run], MANY)[run.key, wanted]
    monkeypatch.setenv(BUILD_VARIABLE, str(tmp_path / "alone"))
    monkeypatch.setattr(prediction, "BATCH_SIZE", 7)
    alone = evaluate([run], [wanted])[run.key, wanted]
    # The corruption is the same to the bit; a batch of another size sums float32 in another order.
    np.testing.assert_allclose(together.logits, alone.logits, atol=1e-4)


def test_a_grid_that_was_killed_goes_on_where_it_stopped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate([run], MANY)
    monkeypatch.setenv(BUILD_VARIABLE, str(tmp_path / "killed"))
    write, written = Predictions.write, []

    def killed(predictions: Predictions, path: Path) -> None:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path.stem)
        write(predictions, path)

    monkeypatch.setattr(Predictions, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate([run], MANY)
    monkeypatch.setattr(Predictions, "write", write)
    asked = asked_of(monkeypatch)
    resumed = evaluate([run], MANY)
    assert set(asked) == {condition for condition in MANY if f"test-{condition.digest}" not in written}
    for key, predictions in whole.items():
        np.testing.assert_allclose(resumed[key].logits, predictions.logits, atol=1e-4)


def test_a_finished_grid_computes_nothing_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate([run], MANY[:3])
    asked = asked_of(monkeypatch)
    again = evaluate([run], MANY[:3])
    assert not asked
    for key, predictions in first.items():
        np.testing.assert_array_equal(again[key].logits, predictions.logits)


def test_a_file_torn_while_it_is_written_is_not_taken(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(file: Path, **arrays: Any) -> None:
        file.write_bytes(b"PK half of a file")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(prediction.np, "savez", torn)
        with pytest.raises(OSError, match="no space"):
            evaluate([run], [Clean()])
    assert not list(tmp_path.rglob("*.npz"))
    found = evaluate([run], [Clean()])
    np.testing.assert_allclose(found[run.key, Clean()].logits, run.predictions("test").logits, atol=1e-4)


def test_every_choice_of_a_condition_has_a_file_of_its_own() -> None:
    conditions = [
        *MANY,
        Noise(0.25, 0, ("left",)),
        Noise(0.25, 0, None, "multibench"),
        Without(("left",)),
        Without(("right",)),
        Without(("left",), "dummy"),
        Shuffled("left"),
        Shuffled("left", 1),
    ]
    assert len({condition.digest for condition in conditions}) == len(conditions)
    assert Noise(0.25).digest == Noise(0.25).digest


def test_runs_of_several_datasets_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="several datasets"):
        evaluate([run, Run(Path("medfuse-late-none-0"))], [Clean()])
