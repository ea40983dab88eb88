"""Convert a released pickle once: arrays to safetensors, everything else to JSON in its header, with the SHA-256.

The copy is read without unpickling and array by array, row by row, straight from the disk: `open_tree` prefers it
wherever it lies beside its pickle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mmwa_utils.datasets._files import DatasetError, parse_json
from mmwa_utils.datasets._unpickle import load
from mmwa_utils.files import sha256

SUFFIX = ".safetensors"
_FORMAT = "mmwa tree 1"
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class LazyArray:
    """An array that stays on the disk: `array[i]` or `array[i:j]` reads those rows, `numpy.asarray(array)` all.

    Survives pickling (a loader worker opens the file itself).
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            with safe_open(self.path, "numpy") as file:
                return file.get_slice(self.key)[start : max(start, stop)][::step]
        position = int(rows) + len(self) if rows < 0 else int(rows)
        if not 0 <= position < len(self):
            raise IndexError(f"row {rows} of {self.key}, which has {len(self)}")
        with safe_open(self.path, "numpy") as file:
            return file.get_slice(self.key)[position : position + 1][0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        with safe_open(self.path, "numpy") as file:
            array = file.get_tensor(self.key)
        return array if dtype is None else array.astype(dtype)


def convert(path: Path | str, target: Path | str | None = None) -> Path:
    """Write the safe copy of a pickle and return its path (default: the pickle's with `.safetensors` appended).

    The header records the pickle's name, size and SHA-256. The copy appears whole or not at all.

    Raises
    ------
    DatasetError
        When the pickle is refused, or holds something that neither NumPy nor JSON can.
    """
    path = Path(path)
    target = path.with_name(path.name + SUFFIX) if target is None else Path(target)
    arrays: dict[str, np.ndarray] = {}
    tree = _encode(load(path), arrays, path, "")
    metadata = {
        "format": _FORMAT,
        "source": path.name,
        "source_bytes": str(path.stat().st_size),
        "source_sha256": sha256(path),
        "tree": json.dumps(tree, allow_nan=True, separators=(",", ":")),
    }
    partial = target.with_name(target.name + ".partial")
    save_file(arrays or {"": np.zeros(0, dtype=np.uint8)}, partial, metadata=metadata)
    partial.replace(target)
    return target


def open_tree(path: Path | str) -> Any:
    """The plain data of a pickle, from its safe copy beside it if there is one (arrays are then `LazyArray`s).

    `path` is the pickle's; the pickle itself may be gone once it has been converted.

    Raises
    ------
    DatasetError
        When neither file exists, or the copy was made from another pickle than the one beside it.
    """
    path = Path(path)
    copy = path.with_name(path.name + SUFFIX)
    if not copy.exists():
        return load(path)
    try:
        with safe_open(copy, "numpy") as file:
            metadata = file.metadata() or {}
            shapes = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 — a file, not a dictionary
            arrays = {
                key: LazyArray(copy, key, tuple(part.get_shape()), _DTYPES[part.get_dtype()])
                for key, part in shapes.items()
            }
    except (SafetensorError, OSError, KeyError) as error:
        raise DatasetError(copy, f"is not a safe copy ({error}).", remedy="Remove it and convert again.") from None
    if metadata.get("format") != _FORMAT or "tree" not in metadata:
        raise DatasetError(copy, "was not written by `mmwa data convert`.", remedy="Remove it and convert again.")
    if path.exists() and metadata.get("source_bytes") != str(path.stat().st_size):
        raise DatasetError(copy, f"was made from another {path.name}.", remedy="Remove it and convert again.")
    tree = json.loads(metadata["tree"]) if metadata["tree"] else parse_json(b"", copy)
    return _decode(tree, arrays, copy)


def recorded_sha256(path: Path | str) -> str | None:
    """SHA-256 of the pickle that the safe copy beside `path` was made from; None where there is no copy."""
    copy = Path(path).with_name(Path(path).name + SUFFIX)
    if not copy.exists():
        return None
    with safe_open(copy, "numpy") as file:
        return (file.metadata() or {}).get("source_sha256")


_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("f8"),
    "F32": np.dtype("f4"),
    "F16": np.dtype("f2"),
    "I64": np.dtype("i8"),
    "I32": np.dtype("i4"),
    "I16": np.dtype("i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("u8"),
    "U32": np.dtype("u4"),
    "U16": np.dtype("u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def _encode(value: Any, arrays: dict[str, np.ndarray], path: Path, at: str) -> Any:
    """JSON of plain data: a list stays a list, all else that is not a JSON scalar becomes {kind: content}."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.dtype in _DTYPES.values():
        key = at or "/"
        arrays[key] = np.ascontiguousarray(value).reshape(value.shape)
        return {"array": key}
    if isinstance(value, np.ndarray):
        return {
            "objects": [_encode(item, arrays, path, f"{at}/{i}") for i, item in enumerate(value.ravel().tolist())],
            "shape": list(value.shape),
        }
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.decode("latin1")}
    if isinstance(value, Mapping):
        items = enumerate(value.items())
        pairs = [
            [_encode(key, arrays, path, f"{at}/key{i}"), _encode(item, arrays, path, f"{at}/{i}:{str(key)[:40]}")]
            for i, (key, item) in items
        ]
        return {"dict": pairs}
    if isinstance(value, list | tuple | set | frozenset):
        encoded = [_encode(item, arrays, path, f"{at}/{i}") for i, item in enumerate(value)]
        return encoded if isinstance(value, list) else {"tuple": encoded}
    raise DatasetError(path, f"cannot be converted: it holds a {type(value).__name__}.", at=at)


def _decode(value: Any, arrays: Mapping[str, LazyArray], path: Path) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays, path) for item in value]
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()))
    if kind == "array":
        return arrays[content]
    if kind == "objects":
        objects = np.empty(len(content), dtype=object)
        objects[:] = [_decode(item, arrays, path) for item in content]
        return objects.reshape(value["shape"])
    if kind == "bytes":
        return content.encode("latin1")
    if kind == "dict":
        return {_decode(key, arrays, path): _decode(item, arrays, path) for key, item in content}
    return tuple(_decode(item, arrays, path) for item in content)
