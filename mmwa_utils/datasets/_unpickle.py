"""Read released pickles without running them: NumPy arrays, numbers, text and plain containers, nothing else.

`pickle.load` runs whatever a file names. `load` follows the standard library's advice: `Unpickler.find_class` allows
the few names that a pickled array or container needs and refuses all others before they are looked up. NumPy trusts
what a pickle tells it about memory, so its names stand for functions of ours that check their arguments. The
interpreter is the standard library's one in Python: the one in C can be made to allocate memory that the file does not
hold.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from mmwa_utils.datasets._files import DatasetError

_NDARRAY = "numpy.ndarray"  # occurs only as an argument, so that it need not be a class


class UnsafePickle(DatasetError):
    """A pickle names something other than arrays and plain containers; nothing of it was executed."""


class _Refused(Exception):
    """Raised inside the interpreter; `load` adds the file's name."""


def _require(good: bool, otherwise: str) -> None:
    if not good:
        raise _Refused(otherwise)


def _reconstruct(kind: object, shape: object, typecode: object) -> np.ndarray:
    _require(kind is _NDARRAY and shape in ((0,), [0]), "it builds an array other than NumPy does")
    return np.empty((0,), dtype=np.int8)


def _dtype(spec: object, *flags: object) -> np.dtype:
    plain = isinstance(spec, str) and re.fullmatch(r"[<>|=]?([biufc][0-9]{1,2}|\?|[SUV][0-9]{0,9}|O8?)", spec)
    _require(bool(plain), f"it uses the array type {str(spec)[:40]!r}")
    return np.dtype(str(spec), copy=True)  # a copy: the byte order that follows must not change a shared type


def _scalar(dtype: np.dtype, raw: bytes | str = b"") -> Any:
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(data, dtype).reshape(())[()] if dtype.itemsize else dtype.type()


def _frombuffer(buffer: object, dtype: Any, shape: Any, order: Any = "C", axes: object = None) -> np.ndarray:
    _require(isinstance(buffer, bytes | bytearray), "it builds an array from something other than bytes")
    return np.frombuffer(buffer, dtype).reshape(shape, order=order).copy(order="K")  # type: ignore[call-overload]


def _bytes(content: object = b"", codec: object = "latin1") -> bytes:
    if isinstance(content, str) and codec in ("latin1", "latin-1"):
        return content.encode("latin1")
    # A number would allocate that many bytes.
    _require(isinstance(content, bytes | bytearray), "it makes bytes of a number or in an unknown way")
    return bytes(content)  # type: ignore[call-overload, no-any-return]


_ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": lambda *factory: defaultdict(),
    "_codecs.encode": _bytes,
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _dtype,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _frombuffer,
    **{f"builtins.{kind.__name__}": kind for kind in (list, dict, set, frozenset, tuple)},
    "builtins.bytes": _bytes,
    "builtins.bytearray": lambda *content: bytearray(_bytes(*content)),
}


class _Bounded:
    """A file that refuses to be asked for more than it holds, so that a length in it cannot allocate memory."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.readline = file.readline

    def read(self, n: int) -> bytes:
        if n > self._size:
            raise EOFError("it announces more bytes than it has")
        return self._file.read(n)


class _Restricted(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    read: Callable[[int], bytes]

    def find_class(self, module: str, name: str) -> Any:
        # Python 2 and NumPy 1 had other names for these modules.
        full = f"{module}.{name}".replace("__builtin__.", "builtins.").replace("numpy.core.", "numpy._core.")
        _require(full in _ALLOWED, f"it names {full}")
        return _ALLOWED[full]

    def load_build(self) -> None:
        """Set the state of an array or its type; NumPy would take a wrong one for addresses in memory."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, np.dtype):
            own = target.__reduce__()[2]  # type: ignore[index]
            same = state[1] in tuple("<>|=") and tuple(state[2:8]) == own[2:8]
            _require(same, "an array's type has fields, or an impossible state")
            target.__setstate__((*own[:1], state[1], *own[2:]))  # type: ignore[attr-defined]
            return
        _require(type(target) is np.ndarray, f"it sets the state of a {type(target).__name__}")
        _, shape, dtype, _, raw = state
        good = all(n >= 0 for n in shape) and isinstance(raw, list if dtype.hasobject else bytes | str)
        size = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize)
        _require(good and len(raw) == size, "an array's bytes do not fill its shape")
        target.__setstate__(state)

    def load_bytearray8(self) -> None:
        self.stack.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def load(path: Path | str) -> Any:
    """Return the plain data of a pickle, of any protocol and from Python 2 or 3.

    Args:
        path: A pickle of arrays, numbers, text, bytes, lists, tuples, sets and dictionaries.

    Raises:
        UnsafePickle: When it names anything else (the message says what); nothing of the file has been executed.
        DatasetError: When it is missing, truncated or no pickle.

    >>> import os, pickle, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "good.pkl").write_bytes(pickle.dumps({"train": np.arange(3)}))
    >>> load(folder / "good.pkl")["train"].tolist()
    [0, 1, 2]
    >>> class Bad:
    ...     def __reduce__(self):
    ...         return os.system, ("echo harm",)
    >>> _ = (folder / "bad.pkl").write_bytes(pickle.dumps(Bad()))
    >>> load(folder / "bad.pkl")
    Traceback (most recent call last):
    mmwa_utils.datasets._unpickle.UnsafePickle: ...bad.pkl: was refused, nothing was executed: it names posix.system...
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            bounded = _Bounded(file, path.stat().st_size)
            return _Restricted(bounded, encoding="latin1").load()  # type: ignore[arg-type]
    except _Refused as error:
        remedy = "Expected arrays and plain containers only: fetch the file from the release's authors."
        raise UnsafePickle(path, f"was refused, nothing was executed: {error}.", remedy=remedy) from None
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror}).") from None
    except Exception as error:  # any byte may be wrong, so any error of the interpreter is possible
        reason = "it holds an unknown instruction" if isinstance(error, KeyError) else repr(error)
        raise DatasetError(path, f"is not a whole pickle ({reason}).", remedy="Fetch it again.") from None
