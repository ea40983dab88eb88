"""The restricted unpickler reads arrays of every kind and executes nothing."""

import builtins
import datetime
import os
import pickle
import pickletools
import subprocess
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmwa_utils.datasets._files import DatasetError
from mmwa_utils.datasets._unpickle import UnsafePickle, load

quiet = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _write(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def _plain() -> dict:
    rng = np.random.default_rng(0)
    return {
        "float": rng.standard_normal((3, 4)).astype("f4"),
        "fortran": np.asfortranarray(rng.standard_normal((3, 4))),
        "sliced": rng.standard_normal((4, 4))[::2],
        "empty": np.zeros((0, 3)),
        "text": np.array(["x", "yy"]),
        "bytes": np.array([b"ab", b"c"]),
        "objects": np.array(["a", None, 3, np.zeros(2)], dtype=object),
        "bool": np.array([True, False]),
        "scalar": np.float32(3.5),
        "word": np.str_("abc"),
        "ordered": OrderedDict(a=1),
        "default": defaultdict(list, {1: [2]}),
        "set": {1, 2},
        "frozen": frozenset({1}),
        "raw": b"abc\xff",
        "array": bytearray(b"xx"),
        "tuple": (1, 2.5, None, True, 10**30),
    }


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    value = _plain()
    found = load(_write(tmp_path / "x.pkl", value, protocol))
    assert found.keys() == value.keys()
    for key, expected in value.items():
        assert type(found[key]) is type(expected), key
        if key == "objects":
            assert found[key][:3].tolist() == expected[:3].tolist()
        elif isinstance(expected, np.ndarray):
            assert found[key].dtype == expected.dtype, key
            np.testing.assert_array_equal(found[key], expected)
        else:
            assert found[key] == expected


def test_a_pickle_of_python_2_and_numpy_1_is_read(tmp_path: Path) -> None:
    """Protocol 2 as Python 2 wrote it: byte strings, and NumPy under its old name."""
    content = pickle.dumps(np.arange(3, dtype="<i4"), protocol=2)
    content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path = tmp_path / "old.pkl"
    path.write_bytes(content)
    np.testing.assert_array_equal(load(path), [0, 1, 2])
    path.write_bytes(b"\x80\x02}U\x03keyU\x02\xc3\xa9s.")
    assert load(path) == {"key": "Ã©"}  # Latin-1, as NumPy needs: no byte is lost


class _Calls:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


class _Innocent:
    pass


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_create_a_file_does_not(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "created"
    attacks = [
        _Calls(os.system, f"touch {target}"),
        _Calls(subprocess.getoutput, f"touch {target}"),
        _Calls(eval, f"open({str(target)!r}, 'w')"),
        _Calls(exec, f"open({str(target)!r}, 'w')"),
        _Calls(builtins.open, str(target), "w"),
        _Calls(Path.touch, target),
        _Calls(np.save, str(target), 1),
    ]
    for attack in attacks:
        path = _write(tmp_path / "attack.pkl", {"train": [attack]}, protocol)
        with pytest.raises(UnsafePickle, match=r"attack\.pkl: was refused, nothing was executed: it names \w+"):
            load(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (_Innocent(), "_Innocent"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (getattr, "builtins.getattr"),
        (np.load, "numpy.load"),
        (np.random.default_rng, "numpy.random"),
        (range(3), "builtins.range"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, value: object, named: str) -> None:
    with pytest.raises(UnsafePickle, match=named):
        load(_write(tmp_path / "x.pkl", value))


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb.",  # objects freed as if they were numbers
        b"cnumpy\ndtype\n(S'f8'\nI00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI63\ntb.",  # numbers freed as if objects
        b"cnumpy\ndtype\n(S'i4,i4'\nI00\nI01\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000000\ntS'b'\ntR.",
        b"c__builtin__\nbytearray\n(I100000000000\ntR.",
        b"c_codecs\nencode\n(Vx\nVzip\ntR.",
        b"ccollections\nOrderedDict\n(tR}Vmove_to_end\nI1\nsb.",
        b"c__builtin__\nlist\n}V_function\nI1\nsb.",
        b"r\xff\xff\xff\x7f.",
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f" + b".",
        b"\x80\x05\x96" + b"\xff\xff\xff\xff\x0f\0\0\0" + b".",
        b"(i__main__\nX\n.",
        b"cnumpy\nndarray\n)\x81.",
        b"cnumpy\nndarray\n(I1000000000000\ntR.",
        b"(ibuiltins\nbytearray\n(I100000000000\no.",
        b"\x82\x01.",
        b"Pident\n.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    ],
)
def test_crafted_opcodes_are_refused_without_memory_or_effect(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "crafted.pkl"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"crafted\.pkl"):
        load(path)


@given(content=st.binary(max_size=120))
@quiet
def test_any_bytes_give_data_or_an_error(tmp_path: Path, data_or_error: Callable, content: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with data_or_error("x.pkl"):
        load(path)


_OPCODES = st.sampled_from([opcode.code.encode("latin1") for opcode in pickletools.opcodes])


@given(parts=st.lists(st.one_of(_OPCODES, st.binary(min_size=1, max_size=4)), max_size=30))
@quiet
def test_any_opcodes_give_data_or_an_error(tmp_path: Path, data_or_error: Callable, parts: list[bytes]) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"cnumpy\ndtype\n" + b"".join(parts) + b".")
    with data_or_error("x.pkl"):
        load(path)


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
@quiet
def test_a_damaged_pickle_gives_data_or_an_error(
    tmp_path: Path, data_or_error: Callable, position: int, byte: int
) -> None:
    content = bytearray(pickle.dumps(_plain(), protocol=4))
    content[position % len(content)] = byte
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with data_or_error("x.pkl"):
        load(path)


def test_a_truncated_pickle_is_an_error(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.pkl", _plain())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match="is not a whole pickle"):
        load(path)
