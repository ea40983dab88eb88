"""The typed parameters of a notebook: what each accepts, and a clear error when it is given something else.

A notebook declares its parameters in one cell, tagged `parameters`, with lines of the form

    epsilon: "Epsilon" = 0.1  # strength of the entropic regularisation

The quoted word is one of `KINDS` below (or `Optional[...]`, `list[...]` of one), so that papermill, the `mmwa`
runner and the notebook itself read the same declaration. Nothing is evaluated before it is checked.
"""

from __future__ import annotations

import ast
import difflib
import io
import tokenize
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import nbformat
import yaml
from pydantic import Field, TypeAdapter, ValidationError


def _number(**bounds: Any) -> Any:
    return Annotated[float, Field(allow_inf_nan=False, description="a number", **bounds)]


def _whole(**bounds: Any) -> Any:
    return Annotated[int, Field(description="a whole number", **bounds)]


Profile = Literal["smoke", "tutorial", "study", "paper"]
KINDS: dict[str, Any] = {
    "Profile": Profile,
    "Number": _number(),
    "Positive": _number(gt=0),
    "Epsilon": _number(gt=0, le=1e4),
    "Weight": _number(ge=0, le=1e4),
    "Fraction": _number(ge=0, le=1),
    "LearningRate": _number(gt=0, le=1),
    "Count": _whole(ge=1, le=10**9),
    "Seed": _whole(ge=0, lt=2**32),
    "Flag": Annotated[bool, Field(description="true or false")],
    "Text": Annotated[str, Field(min_length=1, description="a text")],
    "Folder": Annotated[str, Field(min_length=1, description="the path of a folder")],
}
"""The words a parameters cell may use for a type."""

_NAMESPACE = {"__builtins__": {}, "Optional": Optional, "Literal": Literal, "list": list, **KINDS}
_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


class ParameterError(ValueError):
    """A parameter that is unknown, of the wrong type or out of its range; says what would be accepted."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell."""

    name: str
    kind: str
    default: Any
    meaning: str

    def check(self, value: Any) -> Any:
        """Return `value` as the declared type; a text is read as YAML where that fits, so "1e-3" becomes 0.001.

        Raises:
            ParameterError: the value is of another type or outside the range.

        >>> Parameter("epsilon", "Epsilon", 0.1, "regularisation").check("1e-3")
        0.001
        >>> Parameter("levels", "list[Fraction]", [0.25], "noise levels").check("[0.25, 5e-1]")
        [0.25, 0.5]
        """
        if isinstance(value, str):
            with suppress(ParameterError, yaml.YAMLError):
                return self._typed(yaml.safe_load(value))
        return self._typed(value)

    def _typed(self, value: Any) -> Any:
        annotation = resolve_kind(self.kind)
        try:
            items = value if isinstance(value, list) else [value]
            if "Flag" not in self.kind and any(isinstance(item, bool) for item in items):
                raise ValueError("true and false are not numbers")
            return TypeAdapter(annotation).validate_python(value)
        except (ValidationError, ValueError) as error:
            raise ParameterError(
                f"parameter {self.name!r} got {value!r}; it accepts {describe_kind(annotation)} ({self.meaning})"
            ) from error


def resolve_kind(kind: str) -> Any:
    """Return the type that the word(s) of a parameters cell stand for.

    Raises:
        ParameterError: the word is not in `KINDS`.
    """
    try:
        return eval(kind, _NAMESPACE)  # words of our own table; builtins are shut out
    except Exception as error:
        known = ", ".join((*KINDS, "Optional[...]", "list[...]"))
        raise ParameterError(f"unknown parameter type {kind!r}; use one of {known}") from error


def describe_kind(annotation: Any) -> str:
    """Say in words what a type accepts.

    >>> describe_kind(resolve_kind("Optional[Epsilon]"))
    'a number > 0 and <= 10000, or none'
    """
    return _describe(TypeAdapter(annotation).json_schema())


def _describe(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return ", ".join(_describe(part) for part in schema["anyOf"])
    if schema.get("type") == "null":
        return "or none"
    if "items" in schema:
        return f"a list, each item {_describe(schema['items'])}"
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return "one of " + ", ".join(map(repr, choices))
    bounds = " and ".join(f"{word} {schema[key]:.10g}" for key, word in _BOUNDS.items() if key in schema)
    return f"{schema['description']} {bounds}".rstrip()


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Read the parameters cell of a notebook, without running anything.

    Raises:
        ParameterError: the file is no notebook, or its parameters cell is missing, doubled or malformed.
    """
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except Exception as error:
        raise ParameterError(f"{notebook}: not readable as a notebook ({error})") from error
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{notebook}: {len(tagged)} cells are tagged `parameters`; there must be exactly one")
    try:
        return parse_cell(tagged[0].source)
    except (ParameterError, SyntaxError, ValueError) as error:
        raise ParameterError(f"{notebook}: parameters cell: {error}") from error


def parse_cell(source: str) -> dict[str, Parameter]:
    """Parse the source of a parameters cell: lines `name: "Kind" = literal  # meaning`."""
    tree = ast.parse(source)
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    declared = {}
    for node in tree.body:
        line = source.splitlines()[node.lineno - 1]
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise ParameterError(f'line {node.lineno} is {line!r}; write  name: "Kind" = value  # meaning')
        if not (isinstance(node.annotation, ast.Constant) and isinstance(node.annotation.value, str)):
            raise ParameterError(f'line {node.lineno} is {line!r}; put the type in quotes, as in  "Epsilon"')
        meaning = comments.get(node.end_lineno or node.lineno, "")
        if not meaning:
            raise ParameterError(
                f"line {node.lineno} is {line!r}; say what {node.target.id} means in a comment behind it"
            )
        parameter = Parameter(node.target.id, node.annotation.value, ast.literal_eval(node.value), meaning)
        parameter.check(parameter.default)
        declared[parameter.name] = parameter
    return declared


def check_all(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check all given values against the declaration; values that are text are read as YAML would read them.

    Raises:
        ParameterError: one line for each fault, all at once; an unknown name is told the nearest known one.
    """
    checked, faults, names = {}, [], list(declared)
    for name, value in given.items():
        try:
            if name not in declared:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ParameterError(f"unknown parameter {name!r}; {hint}the notebook has {', '.join(names)}")
            checked[name] = declared[name].check(value)
        except ParameterError as error:
            faults.append(str(error))
    if faults:
        raise ParameterError("\n".join(faults))
    return checked
