"""The one reader of the book's YAML files: each field is checked, and a fault is named by the entry that has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

T = TypeVar("T")
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class BookFileError(ValueError):
    """A file of the book that can't be used; names the entry and the field, and says what was expected."""


class Entry(BaseModel):
    """A mapping in a file of the book; an unknown field is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_checked(path: Path, shape: type[T]) -> T:
    """Read a YAML file and check that it has a shape; every `id` in it must occur once.

    Args:
        path: the file.
        shape: an `Entry`, or a list of entries, such as `list[Assumption]`.

    Raises:
        BookFileError: not YAML, a field is missing, unknown or malformed, or an id occurs twice.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BookFileError(f"{path}: not YAML: {error}") from error
    try:
        content = TypeAdapter(shape).validate_python(raw)
    except ValidationError as error:
        raise BookFileError("\n".join(f"{path}: {_describe(fault, raw)}" for fault in error.errors())) from error
    doubled = [name for name, count in Counter(_ids(raw)).items() if count > 1]
    if doubled:
        raise BookFileError(f"{path}: id {doubled[0]!r} occurs more than once; each entry needs its own")
    return content


def _ids(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "id" in node:
            yield node["id"]
        node = list(node.values())
    for part in node if isinstance(node, list) else ():
        yield from _ids(part)


def _describe(fault: Any, raw: Any) -> str:
    """Say which entry is at fault, by its id or else by its position, and which field."""
    words: list[str] = []
    for part in fault["loc"]:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            raw = None
        named = raw.get("id") if isinstance(part, int) and isinstance(raw, Mapping) else None
        words.append(str(named or (f"entry {part + 1}" if isinstance(part, int) else part)))
    return f"{'.'.join(words) or 'the file'}: {fault['msg'].lower()}"
