"""Predictions of trained runs under conditions, computed once and kept.

All runs of a dataset read the very same changed batches, and a sample is decoded once for several conditions.
Predictions are stored by run and condition, so a grid that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmwa_utils import project
from mmwa_utils.evaluation.conditions import Condition, SplitView
from mmwa_utils.evaluation.metrics import trivial_logits
from mmwa_utils.training.data import RunData, open_data
from mmwa_utils.training.run import load_model
from mmwa_utils.training.store import Predictions, Run
from mmwa_utils.types import Sample

CONDITIONS_AT_ONCE = 6
"""Conditions for which a sample is decoded once; their batches are in memory together."""
BATCH_SIZE = 64


def evaluate(
    runs: Sequence[Run],
    conditions: Iterable[Condition],
    *,
    split: str = "test",
    folder: Path | None = None,
    progress: bool | None = None,
) -> dict[tuple[str, Condition], Predictions]:
    """Return predictions by run key and condition, computed or found; the weights are each run's best.

    Args:
        runs: of one dataset; their models are in memory together, but for those of the paper's size.
        conditions: what is done to the split.
        split: "val" or "test".
        folder: where predictions are kept; by default `_build/evaluations`.
        progress: show a bar; None shows it unless the graph runs the notebook.

    Raises:
        ValueError: runs of several datasets.
    """
    conditions = list(dict.fromkeys(conditions))
    folder = folder if folder is not None else project.build_folder() / "evaluations"
    if len({run.key.split("-")[0] for run in runs}) > 1:
        raise ValueError("runs: of several datasets; evaluate each dataset's runs by themselves")
    found = {(r.key, c): _read(folder, r, c, split) for r in runs for c in conditions}
    lacking = [r for r in runs if any(found[r.key, c] is None for c in conditions)]
    shown = project.BUILD_VARIABLE not in os.environ if progress is None else progress
    wanted = sum(value is None for value in found.values())
    with tqdm(total=wanted, desc="evaluations", unit="evaluation", disable=not (shown and wanted)) as bar:
        for together in _together(lacking):
            data = open_data(together[0].config)
            for part in _parts([c for c in conditions if any(found[r.key, c] is None for r in together)]):
                for key, predictions in _predict(together, part, data, split):
                    if found[key] is None:
                        _write(folder, key, split, predictions)
                        found[key] = predictions
                        bar.update()
    return {key: value for key, value in found.items() if value is not None}


def _together(runs: Sequence[Run]) -> Iterator[Sequence[Run]]:
    """Split runs into those whose models are held in memory together."""
    many = runs and runs[0].config.profile == "paper"
    yield from ([run] for run in runs) if many else ([runs] if runs else [])


def _parts(conditions: Sequence[Condition]) -> Iterator[Sequence[Condition]]:
    for start in range(0, len(conditions), CONDITIONS_AT_ONCE):
        yield conditions[start : start + CONDITIONS_AT_ONCE]


class _Changed(Dataset[tuple[int, list[Sample | None]]]):
    """A sample under several conditions, decoded once."""

    def __init__(self, view: SplitView, conditions: Sequence[Condition]) -> None:
        self.view, self.conditions = view, conditions

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, index: int) -> tuple[int, list[Sample | None]]:
        return index, [condition.change(self.view, index) for condition in self.conditions]


def _predict(
    runs: Sequence[Run], conditions: Sequence[Condition], data: RunData, split: str
) -> Iterator[tuple[tuple[str, Condition], Predictions]]:
    """Yield the predictions of each run under each of a few conditions."""
    chosen = data.splits[split]
    truth, ids = np.asarray(chosen.labels()), np.array(chosen.ids())
    prior = trivial_logits(data.spec, np.asarray(data.splits["train"].labels()), len(ids)).astype(np.float32)
    device = project.default_device()
    models = {run.key: load_model(run, data).to(device) for run in runs}
    logits = {(run.key, condition): prior.copy() for run in runs for condition in conditions}

    def collate(items: list[tuple[int, list[Sample | None]]]) -> list[tuple[list[int], Any]]:
        columns = []
        for position in range(len(conditions)):
            left = [(index, s) for index, changed in items if (s := changed[position]) is not None]
            columns.append(([index for index, _ in left], data.collate([s for _, s in left]) if left else None))
        return columns

    batches: DataLoader[Any] = DataLoader(
        _Changed(SplitView(chosen), conditions),
        batch_size=min(BATCH_SIZE, runs[0].config.device_batch_size or BATCH_SIZE),
        num_workers=runs[0].config.workers,
        collate_fn=collate,
    )
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(runs[0].config.precision)
    for columns in batches:
        for condition, (rows, batch) in zip(conditions, columns, strict=True):
            if batch is None:
                continue
            moved = batch.to(device)
            for key, model in models.items():
                with torch.inference_mode(), torch.autocast(device.type, dtype=half, enabled=half is not None):
                    logits[key, condition][rows] = model(moved.modalities).logits.float().cpu().numpy()
    for pair, values in logits.items():
        yield pair, Predictions(ids, values, truth)


def _path(folder: Path, key: str, condition: Condition, split: str) -> Path:
    return folder / key / f"{split}-{condition.digest}.npz"


def _read(folder: Path, run: Run, condition: Condition, split: str) -> Predictions | None:
    path = _path(folder, run.key, condition, split)
    return Predictions.read(path) if path.is_file() else None


def _write(folder: Path, key: tuple[str, Condition], split: str, predictions: Predictions) -> None:
    """Write predictions whole or not at all."""
    predictions.write(_path(folder, *key, split))
