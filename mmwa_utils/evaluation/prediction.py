"""Predictions of trained runs under conditions, computed once and kept.

Runs that read a dataset alike read the very same changed batches, and a sample is decoded once for several conditions.
Predictions are stored by run and condition, so a grid that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from mmwa_utils import project
from mmwa_utils.evaluation.conditions import Condition, SplitView
from mmwa_utils.evaluation.metrics import trivial_logits
from mmwa_utils.training.data import RunData, open_data, reading
from mmwa_utils.training.run import load_model
from mmwa_utils.training.store import Predictions, Run

T = TypeVar("T")
CONDITIONS_AT_ONCE = 6
"""Conditions for which a sample is decoded once; their batches are in memory together."""
BATCH_SIZE = 64


def evaluate(runs: Sequence[Run], conditions: Iterable[Condition]) -> dict[tuple[str, Condition], Predictions]:
    """Return predictions of the test split by run key and condition, computed or found in `_build/evaluations`.

    Args:
        runs: of one dataset; their best weights are in memory together, those of the paper's size one at a time.
        conditions: what is done to the split.

    Raises:
        ValueError: runs of several datasets.
    """
    conditions = list(dict.fromkeys(conditions))
    if len({run.key.split("-")[0] for run in runs}) > 1:
        raise ValueError("runs: of several datasets; evaluate each dataset's runs by themselves")
    folder = project.build_folder() / "evaluations"
    paths = {(run.key, c): folder / run.key / f"test-{c.digest}.npz" for run in runs for c in conditions}
    found = {at: Predictions.read(path) for at, path in paths.items() if path.is_file()}
    lacking = [run for run in runs if any((run.key, c) not in found for c in conditions)]
    models_at_once = 1 if lacking and lacking[0].config.profile == "paper" else len(runs)
    hidden = project.BUILD_VARIABLE in os.environ or not lacking
    with tqdm(total=len(paths) - len(found), desc="evaluations", unit="evaluation", disable=hidden) as bar:
        lacking.sort(key=lambda run: reading(run.config))
        alike = [list(some) for _, some in groupby(lacking, key=lambda run: reading(run.config))]
        for together in chain.from_iterable(_parts(some, models_at_once) for some in alike):
            data = open_data(together[0].config)
            wanted = [c for c in conditions if any((run.key, c) not in found for run in together)]
            for part in _parts(wanted, CONDITIONS_AT_ONCE):
                for at, predictions in _predict(together, part, data).items():
                    if at not in found:
                        predictions.write(paths[at])
                        found[at] = predictions
                        bar.update()
    return {at: found[at] for at in paths}


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), max(size, 1)))


def _predict(
    runs: Sequence[Run], conditions: Sequence[Condition], data: RunData
) -> dict[tuple[str, Condition], Predictions]:
    """Return the predictions of each run under each of a few conditions."""
    split = data.splits["test"]
    view, truth, ids = SplitView(split), np.asarray(split.labels()), np.array(split.ids())
    prior = trivial_logits(data.spec, np.asarray(data.splits["train"].labels()), len(ids)).astype(np.float32)
    device = project.default_device()
    models = {run.key: load_model(run, data).to(device) for run in runs}
    logits = {(run.key, condition): prior.copy() for run in runs for condition in conditions}

    def collate(indices: list[int]) -> list[tuple[Condition, list[int], Any]]:
        changed = []
        for condition in conditions:  # the view keeps what it decoded, so a sample is decoded once for all of them
            left = {index: s for index in indices if (s := condition.change(view, index)) is not None}
            if left:
                changed.append((condition, list(left), data.collate(list(left.values()))))
        return changed

    batches: DataLoader[Any] = DataLoader(
        range(len(ids)),  # type: ignore[arg-type]
        batch_size=min(BATCH_SIZE, runs[0].config.device_batch_size or BATCH_SIZE),
        num_workers=runs[0].config.workers,
        collate_fn=collate,
    )
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(runs[0].config.precision)
    for changed in batches:
        for condition, rows, batch in changed:
            moved = batch.to(device)
            for key, model in models.items():
                with torch.inference_mode(), torch.autocast(device.type, dtype=half, enabled=half is not None):
                    logits[key, condition][rows] = model(moved.modalities).logits.float().cpu().numpy()
    return {at: Predictions(ids, values, truth) for at, values in logits.items()}
