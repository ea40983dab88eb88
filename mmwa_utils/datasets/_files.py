"""Reading files that strangers wrote: paths that stay inside a folder, JSON with line numbers, images with limits."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image

MAX_PIXELS = 50_000_000
"""Largest picture that is decoded; the releases' largest has about 10 million pixels."""

MAX_LINE = 10_000_000
"""Longest line of a text file that is read, in bytes: a line of a release has a few hundred."""


MARKER = "standin.json"
"""The file that only a stand-in's folder has."""


class DatasetError(ValueError):
    """A file of a dataset cannot be used; the message names the file, the line or key, and how to mend it.

    Made from one argument, it is that message: so torch raises again what was raised in a loader's worker.
    """

    def __init__(
        self, path: Path | str, problem: str | None = None, *, at: str | None = None, remedy: str | None = None
    ) -> None:
        where = f"{path}" if at is None else f"{path}, {at}"
        super().__init__(where if problem is None else f"{where}: {problem}" + ("" if remedy is None else f" {remedy}"))


def inside(root: Path, relative: str, *, named_in: Path | None = None, at: str | None = None) -> Path:
    """Return the path of a file named in a dataset, which must lie in the dataset's folder.

    Args:
        root: the dataset's folder.
        relative: a value read from a file, with forward slashes.
        named_in: that file, for the error; without it the error names the folder.
        at: where in that file.

    Raises:
        DatasetError: for an absolute path, a `..`, a drive or a NUL, and for a link that leads out of the folder.

    >>> inside(Path("/data/memes"), "img/02345.png").as_posix()
    '/data/memes/img/02345.png'
    >>> inside(Path("/data/memes"), "../../etc/passwd")
    Traceback (most recent call last):
    mmwa_utils.datasets._files.DatasetError: /data/memes: the path '../../etc/passwd' leaves the dataset's folder...
    """
    pure = PurePosixPath(relative)
    remedy, source = "Expected a relative path without '..', such as 'img/02345.png'.", named_in or root
    if not relative or pure.is_absolute() or ".." in pure.parts or any(c in relative for c in "\0\\:"):
        raise DatasetError(source, f"the path {relative[:80]!r} leaves the dataset's folder.", at=at, remedy=remedy)
    if not relative.isprintable() or any(len(part.encode()) > 255 for part in pure.parts) or len(relative) > 1000:
        raise DatasetError(source, f"the path {relative[:80]!r} is no name of a file.", at=at, remedy=remedy)
    path = root / pure
    # A folder that is itself a link is the user's choice; a link inside it that leads elsewhere is not.
    if any(part.is_symlink() for part in (path, *path.parents[: len(pure.parts) - 1])):
        real = path.resolve()
        if not real.is_relative_to(root.resolve()):
            problem = f"the link {relative!r} leads to {real}, outside the folder."
            raise DatasetError(source, problem, at=at, remedy=remedy)
    return path


def stat_bytes(path: Path | None) -> bytes:
    """Return name and size of a file: they stand for its contents in a fingerprint, as reading gigabytes is slow."""
    if path is None:
        return b"absent"
    return f"{path.name}/{path.stat().st_size if path.exists() else -1}".encode()


MissingImages = Literal["error", "absent"]
"""What to do about a sample whose picture is not there: stop, or read the sample without it."""


def check_missing(policy: MissingImages, missing: Sequence[str], path: Path, of_what: str) -> None:
    """Raise if pictures are missing that must not be."""
    if missing and policy == "error":
        problem = f"{len(missing)} {of_what} are missing, first {missing[0]}."
        remedy = "Complete the folder, or pass missing_images='absent' to read them as absent."
        raise DatasetError(path, problem, remedy=remedy)


def is_standin(root: Path) -> bool:
    """Return whether a folder holds a stand-in, and not a release."""
    return (root / MARKER).is_file()


def parse_json(text: bytes, path: Path, *, at: str | None = None) -> Any:
    """Return the JSON value of UTF-8 bytes; an error names file and place. NaN and repeated keys are errors."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) != len(items):
            raise ValueError("a key occurs twice")
        return value

    try:
        value = json.loads(text.decode("utf-8-sig"), parse_constant=refuse, object_pairs_hook=pairs)
        if b"\\ud" in text.lower():  # half of a surrogate pair can be written as an escape, and is no text
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeError as error:
        raise DatasetError(path, f"is not UTF-8 ({error}).", at=at, remedy="Convert it to UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(path, f"is not JSON ({error}).", at=at, remedy="Fetch the file again.") from None


def read_bytes(path: Path, *, remedy: str | None = None, limit: int = 2_000_000_000) -> bytes:
    """Return the bytes of a small index file; a missing, oversized or unreadable one is an error that names it."""
    try:
        if path.stat().st_size > limit:
            raise DatasetError(path, f"has more than {limit} bytes.", remedy=remedy)
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror}).", remedy=remedy) from None


def read_json_lines(path: Path, *, remedy: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON-lines file; empty lines are skipped."""
    for number, line in enumerate(read_bytes(path, remedy=remedy).split(b"\n"), start=1):
        if len(line) > MAX_LINE:
            raise DatasetError(path, f"a line of {len(line)} bytes.", at=f"line {number}", remedy="Fetch it again.")
        if not line.strip():
            continue
        value = parse_json(line, path, at=f"line {number}")
        if not isinstance(value, dict):
            raise DatasetError(path, f"expected an object, found {type(value).__name__}.", at=f"line {number}")
        yield number, value


def read_image(path: Path) -> Image.Image:
    """Decode one picture to RGB.

    Transparent pixels are shown on white, 16-bit and 32-bit greys are scaled to 8 bits, CMYK and palettes are
    converted, so that every picture has the same meaning: 8 bits of red, green and blue.

    Raises:
        DatasetError: for a missing, empty, truncated or unknown file, and for one of more than `MAX_PIXELS` pixels,
            which is refused before it is decoded.
    """
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty: zero bytes")
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # Pillow warns at its own limit; ours is the one below
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS}")
            return _to_rgb(image)
    except Exception as error:  # any byte may be wrong, so any error of a decoder is possible
        raise DatasetError(path, f"is not a readable image ({error}).", remedy="Fetch the file again.") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # Pillow would clip 16 bits to 255 instead of scaling them
        import numpy as np

        grey = np.asarray(image, dtype=np.float64)
        scale = 255.0 / 65535.0 if grey.max(initial=0.0) > 255.0 else 1.0
        return Image.fromarray((grey * scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or ("transparency" in image.info and image.mode != "RGB"):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
