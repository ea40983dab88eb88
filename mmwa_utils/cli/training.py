"""`mmwa train` and `mmwa runs`: train without a notebook; list the runs that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from mmwa_utils import datasets

# transformers takes seconds to import: only the commands that need it do.


@click.command()
@click.option("--dataset", required=True, type=click.Choice(datasets.names()))
@click.option(
    "--profile", type=click.Choice(["smoke", "tutorial", "study", "paper"]), default="tutorial", show_default=True
)
@click.option("--fusion", type=click.Choice(["early", "late"]), default="early", show_default=True)
@click.option("--alignment", default="none", show_default=True, help="none, wasserstein or a rival.")
@click.option("--alpha", type=float, help="The paper's alpha: strength of the entropic regularisation.")
@click.option("--beta", type=float, help="The paper's beta: weight of the alignment loss.")
@click.option("--data-root", help="Folder of the release; without it a stand-in is written and read.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "-s", "--set", "settings", nargs=2, multiple=True, metavar="FIELD VALUE", help="Any other field of RunConfig."
)
@click.option("--store", type=click.Path(path_type=Path), help="Folder of runs; by default _build/runs.")
def train(profile: Any, settings: tuple[tuple[str, str], ...], store: Path | None, **named: Any) -> None:
    """Train one run, or find it if it was trained before; under torchrun, on all its processes."""
    from mmwa_utils.datasets import DatasetError
    from mmwa_utils.training import ConfigError, RunConfig, RunStore, TrainingError
    from mmwa_utils.training import train as train_run

    chosen = {name: value for name, value in named.items() if value is not None}
    alignment = {"name": chosen.pop("alignment")}
    alignment |= {symbol: chosen.pop(symbol) for symbol in ("alpha", "beta") if symbol in chosen}
    fields: dict[str, Any] = {name: yaml.safe_load(value) for name, value in settings}
    try:
        config = RunConfig.for_profile(profile, **{**fields, **chosen, "alignment": alignment})
        run = train_run(config, store=RunStore(store))
    except (ConfigError, DatasetError) as error:
        raise click.UsageError(str(error)) from error
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{run.folder}{' (stand-in data)' if run.provenance['standin'] else ''}")
    for name, interval in run.metrics["test"].items():
        click.echo(f"  test {name} {interval['value']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]")


@click.command()
@click.option("--where", "conditions", nargs=2, multiple=True, metavar="FIELD VALUE", help="Keep runs with this value.")
@click.option("--store", type=click.Path(path_type=Path), help="Folder of runs; by default _build/runs.")
def runs(conditions: tuple[tuple[str, str], ...], store: Path | None) -> None:
    """List complete runs with their test metrics, such as: mmwa runs --where fusion late."""
    from mmwa_utils.training import RunStore

    table = RunStore(store).table()
    for field, value in conditions:
        if field not in table:
            raise click.UsageError(f"there is no field {field!r}; there are {', '.join(table.columns)}")
        table = table[table[field].astype(str) == value]
    shown = ["key", "seed", "alignment.alpha", "alignment.beta", *(c for c in table if c.startswith("test_"))]
    click.echo(table[shown].dropna(axis=1, how="all").to_string(index=False) if len(table) else "no runs")
