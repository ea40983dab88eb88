"""The top level of the command `mmwa`: `run` and `params`, and what the other modules add."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mmwa_utils.cli import data
from mmwa_utils.cli.training import runs, train
from mmwa_utils.parameters import ParameterError, describe_kind, read_parameters, resolve_kind
from workflow.runner import RunError, read_parameter_file, run_notebook

notebook_argument = click.argument("notebook", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """Run the notebooks of the book on Wasserstein modality alignment; look after its data and runs."""


app.add_command(data.app)
app.add_command(train)
app.add_command(runs)


@app.command()
@notebook_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the executed one goes.")
@click.option("-p", "--parameter", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter (repeatable).")
@click.option("-f", "--file", type=click.Path(path_type=Path), help="Parameters from a YAML file; -p wins over it.")
@click.option("--cell-timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds that one cell may take.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds that the notebook may take.")
@click.option("--build", type=click.Path(path_type=Path), help="Folder for results; by default they are kept apart.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar over the cells.")
def run(
    notebook: Path, output: Path, parameter: tuple[tuple[str, str], ...], file: Path | None, **options: Any
) -> None:
    """Execute NOTEBOOK with checked parameters.

    Exits with 1 if a cell fails, a limit is reached or the kernel dies, and with 2 if a parameter is wrong.
    """
    try:
        values = {**(read_parameter_file(file) if file else {}), **dict(parameter)}
        seconds = run_notebook(notebook, output, parameters=values, **options)
    except ParameterError as error:
        raise click.UsageError(str(error)) from error
    except RunError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{notebook.stem}: executed in {seconds:.0f} s -> {output}")


@app.command()
@notebook_argument
def params(notebook: Path) -> None:
    """List the parameters of NOTEBOOK: default, type, what each accepts and means."""
    try:
        declared = read_parameters(notebook)
    except ParameterError as error:
        raise click.UsageError(str(error)) from error
    for parameter in declared.values():
        click.echo(f"{parameter.name} = {parameter.default!r}")
        click.echo(f"    {parameter.kind}: {describe_kind(resolve_kind(parameter.kind))}")
        click.echo(f"    {parameter.meaning}")
