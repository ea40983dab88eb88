"""The run store: one folder per run, addressed by what the run depends on, whole or not there.

A run trains in `<key>.partial/` and is renamed to `<key>/` when everything is written, so a folder without the
suffix is a complete run. The key hashes the configuration, the data's fingerprint and the source of the rooms
that a result depends on: changing a plot trains nothing again, changing a loss does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from mmwa_utils import project
from mmwa_utils.files import atomic_write
from mmwa_utils.training.config import RunConfig

# What a run's result depends on besides its data, whose fingerprint says what they are.
_ROOMS = ("types.py", "ot", "alignment", "fusion", "datasets")
_FILES = ("corruption/_random.py", "corruption/missing.py", "evaluation/metrics.py", "evaluation/statistics.py")
_OWN_FILES = tuple(f"training/{name}.py" for name in ("config", "data", "features", "run", "store", "trainer"))

# Where and how fast a run is computed, not what it is.
_NOT_IN_KEY = {"workers", "data_root", "device"}


@dataclass(frozen=True)
class Predictions:
    """Outputs of a run's best weights on one split."""

    ids: Shaped[np.ndarray, " samples"]
    logits: Float[np.ndarray, "samples outputs"]
    truth: Shaped[np.ndarray, "samples ..."]

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read what `write` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**arrays)

    def write(self, path: Path) -> None:
        """Write an .npz file whole or not at all."""
        with atomic_write(path) as partial:
            np.savez(partial, allow_pickle=False, **vars(self))


@dataclass(frozen=True)
class Run:
    """A complete run: a folder with its configuration, history, metrics, predictions, weights and provenance."""

    folder: Path
    asked: RunConfig | None = None
    """The configuration that was asked for, where another one leads to the same run: see `RunConfig.trained`."""

    @property
    def key(self) -> str:
        """Return the hash that addresses the run."""
        return self.folder.name

    @property
    def config(self) -> RunConfig:
        """Return the run's configuration."""
        return self.asked or RunConfig.model_validate(_read_json(self.folder / "config.json"))

    @property
    def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return split -> metric -> {value, low, high}, with bootstrap 95 % intervals over samples."""
        return _read_json(self.folder / "metrics.json")

    @property
    def provenance(self) -> dict[str, Any]:
        """Return commit, lock, data, device, versions, determinism and wall time."""
        return _read_json(self.folder / "provenance.json")

    @property
    def history(self) -> pd.DataFrame:
        """Return one row per epoch: losses, alignment, learning rate and validation metrics."""
        return pd.read_csv(self.folder / "history.csv")

    @property
    def weights(self) -> Path:
        """Return the best weights, as safetensors."""
        return self.folder / "model.safetensors"

    def predictions(self, split: str) -> Predictions:
        """Return the outputs on a split ("val" or "test")."""
        return Predictions.read(self.folder / f"{split}.npz")


class RunStore:
    """The runs in a folder; `_build/runs` by default.

    >>> import tempfile
    >>> store = RunStore(Path(tempfile.mkdtemp()))
    >>> len(list(store))
    0
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else project.build_folder() / "runs"

    def find(self, key: str) -> Run | None:
        """Return the complete run of this key, or None."""
        return Run(self.folder / key) if (self.folder / key / "provenance.json").is_file() else None

    def partial(self, key: str) -> Path:
        """Return the folder in which the run of this key trains; it may hold an interrupted run's checkpoints."""
        return self.folder / f"{key}.partial"

    def finish(self, key: str) -> None:
        """Turn the partial folder into a complete run, in one rename, after its files have reached the disk."""
        partial = self.partial(key)
        shutil.rmtree(partial / "checkpoints", ignore_errors=True)
        for file in partial.iterdir():
            _sync(file)
        partial.replace(self.folder / key)
        _sync(self.folder)

    def __iter__(self) -> Iterator[Run]:
        folders = sorted(path.parent for path in self.folder.glob("*/provenance.json"))
        return (Run(folder) for folder in folders if folder.suffix != ".partial")

    def table(self) -> pd.DataFrame:
        """Return one row per run: key, configuration (flat) and test metrics."""
        rows = []
        for run in self:
            config = pd.json_normalize(run.config.model_dump()).iloc[0].to_dict()
            test = {f"test_{name}": interval["value"] for name, interval in run.metrics["test"].items()}
            rows.append({"key": run.key, **config, **test})
        return pd.DataFrame(rows)


def run_key(config: RunConfig, fingerprint: str) -> str:
    """Return the address of a run: a hash of its configuration, its data and the source it depends on.

    >>> one, other = RunConfig(dataset="digits"), RunConfig(dataset="digits", seed=1)
    >>> run_key(one, "data") == run_key(one, "data"), run_key(one, "data") == run_key(other, "data")
    (True, False)
    """
    config = config.trained()
    choices = config.model_dump(mode="json", exclude=_NOT_IN_KEY)
    parts = [json.dumps(choices, sort_keys=True), fingerprint, project.source_hash(*_ROOMS, *_FILES, *_OWN_FILES)]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{config.dataset}-{config.fusion}-{config.alignment.name}-{digest[:16]}"


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _sync(path: Path) -> None:
    """Make sure that what was written survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
