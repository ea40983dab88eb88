"""Paths stay inside, JSON errors name lines, and pictures of every kind become 8-bit RGB or an error."""

import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmwa_utils.datasets._files import DatasetError, inside, parse_json, read_image, read_json_lines

quiet = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "../x.png", "img/../../x.png", "", "a\0b", "img\\..\\x", "C:/x.png", "file:x"]
)
def test_a_path_that_could_leave_the_folder_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(DatasetError, match="leaves the dataset's folder"):
        inside(tmp_path, value)


@pytest.mark.parametrize("value", ["x" * 300, "a\ud800", "a\nb", "x/" * 600])
def test_a_path_that_no_file_has_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(DatasetError, match="is no name of a file"):
        inside(tmp_path, value)


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "img").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"x")
    (root / "img" / "1.png").symlink_to(outside / "secret.png")
    (root / "away").symlink_to(outside)
    (root / "near").symlink_to(root / "img")
    for value in ("img/1.png", "away/secret.png"):
        with pytest.raises(DatasetError, match="outside the folder"):
            inside(root, value)
    assert inside(root, "near/2.png") == root / "near" / "2.png"


def test_a_root_that_is_itself_a_link_is_the_users_choice(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert inside(tmp_path / "root", "x.png").name == "x.png"


@given(value=st.text())
@quiet
def test_whatever_the_text_the_path_is_inside_or_refused(tmp_path: Path, value: str) -> None:
    try:
        path = inside(tmp_path, value)
    except DatasetError:
        return
    path.exists()  # a name that the file system refuses would raise
    assert path.resolve().is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": 1', "is not JSON"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b"[1]", "expected an object, found list"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 1, "a": 2}', "a key occurs twice"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": "\\uD800"}', "surrogates not allowed"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"fine": 1}\n\n' + line + b"\n")
    with pytest.raises(DatasetError, match=rf"x\.jsonl, line 3: .*{message}"):
        list(read_json_lines(path))


@given(content=st.binary(max_size=200))
@quiet
def test_any_bytes_as_json_give_a_value_or_an_error(data_or_error: Callable, content: bytes) -> None:
    with data_or_error("x.json"):
        parse_json(content, Path("x.json"))


def test_an_error_survives_the_way_from_a_worker() -> None:
    error = DatasetError(Path("a.png"), "is empty.", at="line 3", remedy="Fetch it.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def _save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_modes_keep_their_meaning(tmp_path: Path) -> None:
    """A mid grey stays a mid grey whatever the mode; transparency is shown on white."""
    grey16 = Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16))
    files = [
        _save(tmp_path / "l.png", Image.new("L", (4, 4), 128)),
        _save(tmp_path / "i16.png", grey16),
        _save(tmp_path / "rgba.png", Image.new("RGBA", (4, 4), (128, 128, 128, 255))),
        _save(tmp_path / "la.png", Image.new("LA", (4, 4), (128, 255))),
        _save(
            tmp_path / "p.png", Image.new("RGB", (4, 4), (128, 128, 128)).convert("P", palette=Image.Palette.ADAPTIVE)
        ),
        _save(tmp_path / "cmyk.jpg", Image.new("CMYK", (4, 4), (0, 0, 0, 127)), quality=95),
        _save(tmp_path / "half.png", Image.new("RGBA", (4, 4), (1, 1, 1, 128))),
    ]
    for file in files:
        image = read_image(file)
        assert image.mode == "RGB"
        # one or two grey levels of rounding; JPEG adds one or two
        assert abs(int(np.asarray(image).mean()) - 128) <= 4, file.name


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGBA", "LA"])
def test_every_mode_of_a_png_is_read(tmp_path: Path, mode: str) -> None:
    assert read_image(_save(tmp_path / "x.png", Image.new(mode, (3, 2)))).size == (3, 2)


def _bomb(width: int, height: int) -> bytes:
    """A PNG that announces a huge picture; its header is all there is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (_jpeg()[:600], "is not a readable image"),
        (b"not a picture", "is not a readable image"),
        (_bomb(30_000, 30_000), "30000 x 30000|exceeds limit"),
        (_bomb(8_000, 8_000), "8000 x 8000 pixels are more than the limit"),
        (_bomb(60, 60), "is not a readable image"),
    ],
)
def test_a_bad_picture_is_an_error_with_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"bad.png.*({message})"):
        read_image(path)


@given(position=st.integers(0, 800), byte=st.integers(0, 255))
@quiet
def test_a_damaged_jpeg_is_read_or_refused(tmp_path: Path, data_or_error: Callable, position: int, byte: int) -> None:
    content = bytearray(_jpeg())
    content[position % len(content)] = byte
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with data_or_error("x.jpg"):
        assert read_image(path).mode == "RGB"


def test_a_line_number_counts_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n" + json.dumps({"a": 1}) + "\r\n\n" + json.dumps({"a": 2}))
    assert [number for number, _ in read_json_lines(path)] == [2, 4]
