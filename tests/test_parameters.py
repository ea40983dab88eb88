"""A notebook's parameters: every wrong value is an error that names the parameter and what it accepts."""

from __future__ import annotations

import contextlib
from pathlib import Path

import nbformat
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmwa_utils.parameters import (
    KINDS,
    Parameter,
    ParameterError,
    check_all,
    describe_kind,
    read_parameters,
    resolve_kind,
)
from tests.notebooks.small import PARAMETERS, write_notebook


@pytest.fixture
def declared(tmp_path: Path) -> dict[str, Parameter]:
    return read_parameters(write_notebook(tmp_path / "01_small.ipynb"))


def test_yaml_scientific_notation_becomes_a_number(declared: dict[str, Parameter]) -> None:
    from_yaml = yaml.safe_load("epsilon: 1e-3")
    assert isinstance(from_yaml["epsilon"], str), "YAML 1.1 reads 1e-3 as a text: the reason for this test"
    assert check_all(declared, from_yaml) == {"epsilon": 0.001}


@pytest.mark.parametrize(
    ("name", "value", "accepts"),
    [
        ("epsilon", -1, "> 0"),
        ("epsilon", float("nan"), "a number"),
        ("epsilon", True, "a number"),
        ("epsilon", "a lot", "a number"),
        ("size", 0, ">= 1"),
        ("size", 1.5, "a whole number"),
        ("profile", "turbo", "'smoke', 'tutorial', 'study', 'paper'"),
        ("levels", [0.5, 1.5], "each item a number >= 0 and <= 1"),
        ("levels", 0.5, "a list"),
    ],
)
def test_a_wrong_value_names_the_parameter_and_what_it_accepts(
    declared: dict[str, Parameter], name: str, value: object, accepts: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        check_all(declared, {name: value})
    message = str(caught.value)
    assert repr(name) in message
    assert accepts in message
    assert declared[name].meaning in message


def test_an_unknown_parameter_names_the_nearest(declared: dict[str, Parameter]) -> None:
    with pytest.raises(ParameterError, match="unknown parameter 'epsilom'; did you mean 'epsilon'"):
        check_all(declared, {"epsilom": 0.1})


def test_all_faults_are_reported_at_once(declared: dict[str, Parameter]) -> None:
    with pytest.raises(ParameterError) as caught:
        check_all(declared, {"epsilon": 0, "sise": 3})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_describes_itself(kind: str) -> None:
    assert describe_kind(resolve_kind(kind))
    assert describe_kind(resolve_kind(f"Optional[{kind}]")).endswith("or none")


@given(st.floats(min_value=1e-300, max_value=1e4))
def test_any_number_in_range_survives_a_command_line(value: float) -> None:
    parameter = Parameter("epsilon", "Epsilon", 0.1, "strength")
    assert parameter.check(repr(value)) == value


@given(st.text())
def test_any_text_is_a_value_or_a_parameter_error(text: str) -> None:
    parameter = Parameter("epsilon", "Epsilon", 0.1, "strength")
    with contextlib.suppress(ParameterError):
        assert 0 < parameter.check(text) <= 1e4


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("epsilon = 0.1  # strength", "write  name"),
        ('epsilon: "Epsilon" = 0.1', "say what epsilon means"),
        ("epsilon: float = 0.1  # strength", "put the type in quotes"),
        ('epsilon: "Epsylon" = 0.1  # strength', "unknown parameter type"),
        ('epsilon: "Epsilon" = -1.0  # strength', "> 0"),
        ("epsilon: (", "parameters cell"),
    ],
)
def test_a_malformed_declaration_says_how_to_write_it(tmp_path: Path, cell: str, fault: str) -> None:
    with pytest.raises(ParameterError, match=fault):
        read_parameters(write_notebook(tmp_path / "01_small.ipynb", parameters=cell))


def test_two_parameters_cells_are_refused(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "01_small.ipynb")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.from_dict({**notebook.cells[1], "id": "second"}))
    nbformat.write(notebook, path)
    with pytest.raises(ParameterError, match="2 cells are tagged"):
        read_parameters(path)


def test_a_file_that_is_no_notebook_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text("{")
    with pytest.raises(ParameterError, match=r"x\.ipynb: not readable"):
        read_parameters(tmp_path / "x.ipynb")
    with pytest.raises(ParameterError, match=r"y\.ipynb: .*No such file"):
        read_parameters(tmp_path / "y.ipynb")


def test_defaults_and_meanings_are_read(declared: dict[str, Parameter]) -> None:
    assert list(declared) == ["profile", "epsilon", "size", "levels"]
    assert all(parameter.meaning in PARAMETERS for parameter in declared.values())
    assert declared["size"].default is None
