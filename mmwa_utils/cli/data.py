"""`mmwa data`: check, describe, find and convert datasets, and write stand-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import standins
from mmwa_utils import datasets

_name = click.argument("name", type=click.Choice(datasets.names()))
_path = click.argument("path", type=click.Path(path_type=Path))
_optional_path = click.argument("path", type=click.Path(path_type=Path), required=False)


class _Group(click.Group):
    """Turns what is wrong with a folder into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (ValueError, KeyError, OSError) as error:  # DatasetError is a ValueError
            raise click.ClickException(error.args[0] if isinstance(error, KeyError) else str(error)) from None


@click.group("data", cls=_Group)
def app() -> None:
    """Look after datasets: nothing is ever downloaded."""


@app.command()
@_name
@_optional_path
def verify(name: str, path: Path | None) -> None:
    """Compare the folder PATH with the release NAME; exits with 1 if it cannot be used."""
    report = datasets.verify(name, path)
    click.echo(str(report))
    raise SystemExit(0 if report.usable else 1)


@app.command()
@_name
@_optional_path
def describe(name: str, path: Path | None) -> None:
    """Show fields, shapes, label balance and natural missingness of NAME in PATH."""
    click.echo(datasets.describe(name, path))


@app.command()
@_name
def where(name: str) -> None:
    """Tell how to obtain NAME: licence, steps, files."""
    click.echo(datasets.where(name))


@app.command()
@_name
@_path
@click.option("--samples", type=click.IntRange(min=16), default=2000, show_default=True, help="To train on.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed, the same bytes.")
def standin(name: str, path: Path, samples: int, seed: int) -> None:
    """Write a stand-in of NAME into the new folder PATH, in the release's layout."""
    root = standins.write(name, path, samples, seed)
    click.echo(f"{name}: a stand-in of {samples} training samples is in {root}")


@app.command()
@_name
@_path
def convert(name: str, path: Path) -> None:
    """Write the safe copy of each pickle of NAME in PATH, with the pickle's SHA-256 recorded."""
    copies = datasets.convert(name, path)
    click.echo("\n".join(map(str, copies)) or f"{name} has no pickles: nothing to convert")
