"""What frozen encoders say of samples: computed once, kept by content, given to models in the inputs' place.

An input is encoded *by itself and without its padding*. In a batch the matrix library sums in another order for
another shape, so a feature would depend in its last bits on the samples it happened to be encoded with, and a run on
what was in the store before it. A corrupted input has another content, hence features of its own.

Features are kept in half precision in one SQLite file per encoder below `_build/features`, which processes and
loader workers share, and in memory up to `MEMORY` bytes per encoder, the oldest making room.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from mmwa_utils import project
from mmwa_utils.fusion import ModelConfig
from mmwa_utils.fusion.encoders import ModalityEncoder, frozen_encoder
from mmwa_utils.types import Batch, ModalityBatch, ModalitySpec, Sample

MEMORY = 2**28
_SOURCE = ("fusion/encoders.py", "fusion/embeddings.py", "fusion/installed.py", "training/features.py")

Feature = tuple[Tensor, Tensor, Tensor]
"""Values (flat, float16), special (bool) and positions (int64) of one input's tokens."""


@dataclass
class FeatureStore:
    """The tokens of one frozen encoder: `store(batch)` gives them for a modality's batch.

    Args:
        modality: what the encoder reads.
        config: of the model.
        pretrained: the encoder's weights, as in `build_model`.
    """

    modality: ModalitySpec
    config: ModelConfig
    pretrained: str | Path
    memory: dict[bytes, Feature] = field(default_factory=dict, repr=False)

    @property
    def encoder(self) -> ModalityEncoder:
        """The encoder, loaded when it is first needed."""
        return frozen_encoder(self.modality, self.config, self.pretrained)

    @property
    def path(self) -> Path:
        """The file of this encoder's features."""
        return (
            project.build_folder() / "features" / f"{type(self.encoder).__name__}-{_digest(self.encoder)[:16]}.sqlite"
        )

    def __getstate__(self) -> dict[str, object]:
        """A loader worker that is started anew has no use for what is in memory."""
        return {"modality": self.modality, "config": self.config, "pretrained": self.pretrained, "memory": {}}

    def __call__(self, modality: ModalityBatch) -> ModalityBatch:
        """The encoder's tokens: `values` float32 (batch, length, dim), absent where the modality is."""
        alone = {row: _alone(modality, row) for row in modality.present.nonzero().flatten().tolist()}
        keys = {row: _key(only) for row, only in alone.items()}
        features = self._features({keys[row]: only for row, only in alone.items()})
        shape = len(modality.mask), max((len(features[key][1]) for key in keys.values()), default=1)
        values, positions = torch.zeros(*shape, self.encoder.dim), torch.full(shape, -1)
        mask, special = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        for row, key in keys.items():
            tokens, added, stood = features[key]
            real = slice(len(added))
            values[row, real], special[row, real] = tokens.view(len(added), -1), added
            positions[row, real], mask[row, real] = stood, True
        return ModalityBatch(values, mask, special, positions)

    def _features(self, inputs: Mapping[bytes, ModalityBatch]) -> dict[bytes, Feature]:
        found = {key: self.memory[key] for key in inputs if key in self.memory}
        missing = [key for key in inputs if key not in found]
        if missing:
            with self._open() as database:
                read = _read(database, missing)
                new = [(key, *self._encode(inputs[key])) for key in missing if key not in read]
                if new:
                    with database:
                        database.executemany("INSERT OR IGNORE INTO features VALUES (?, ?, ?, ?)", new)
                    read |= _read(database, [row[0] for row in new])  # what another process wrote first is what counts
            found |= read
            self.memory |= read
            held = sum(feature[0].nbytes for feature in self.memory.values())
            while held > MEMORY:
                held -= self.memory.pop(next(iter(self.memory)))[0].nbytes
        return found

    def _encode(self, alone: ModalityBatch) -> list[bytes]:
        with torch.inference_mode():
            block = self.encoder(alone)
        parts = (block.values.half(), block.special, block.positions)
        return [part[block.mask].numpy().tobytes() for part in parts]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection per batch: none outlives a fork or wanders between threads.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=60)) as database:
            columns = "key BLOB PRIMARY KEY, tokens BLOB, special BLOB, positions BLOB"
            database.execute(f"CREATE TABLE IF NOT EXISTS features ({columns})")
            yield database


@dataclass(frozen=True)
class FeatureCollator:
    """Collates samples, then puts the tokens of frozen encoders in the place of what they read."""

    collate: Callable[[Sequence[Sample]], Batch]
    stores: Mapping[str, FeatureStore]

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return the batch."""
        batch = self.collate(samples)
        features = {name: store(batch.modalities[name]) for name, store in self.stores.items()}
        return replace(batch, modalities={**batch.modalities, **features})


@lru_cache(maxsize=4)
def _digest(encoder: ModalityEncoder) -> str:
    """Hash an encoder's weights and the code that reads inputs with them."""
    digest = hashlib.sha256(f"{project.source_hash(*_SOURCE)} {torch.__version__}".encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _alone(modality: ModalityBatch, row: int) -> ModalityBatch:
    """Cut one sample out of a batch, without its padding."""
    mask = modality.mask[row]
    if mask.ndim == 1:
        special = None if modality.special is None else modality.special[row, mask][None]
        return ModalityBatch(modality.values[row, mask][None], mask[mask][None], special)
    height, width = int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())
    return ModalityBatch(modality.values[row, :, :height, :width][None].contiguous(), mask[:height, :width][None])


def _key(alone: ModalityBatch) -> bytes:
    shape = f"{alone.values.dtype} {tuple(alone.values.shape)}".encode()
    return hashlib.sha256(shape + alone.values.numpy().tobytes()).digest()


def _read(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Feature]:
    query = "SELECT tokens, special, positions FROM features WHERE key = ?"
    rows = {key: database.execute(query, (key,)).fetchone() for key in keys}
    return {key: _feature(*row) for key, row in rows.items() if row is not None}


def _feature(*parts: bytes) -> Feature:
    types = (torch.float16, torch.bool, torch.int64)
    tokens, special, positions = (torch.frombuffer(bytearray(p), dtype=t) for p, t in zip(parts, types, strict=True))
    return tokens, special, positions
