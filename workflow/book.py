"""`make book`: run the graph with a progress bar and a line per chapter, and say where the book is."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import click
from tqdm import tqdm

# What the rules themselves print goes to standard output; Snakemake's own report goes to standard error.
_TOTAL = re.compile(r"^total +(\d+)")
_DONE = re.compile(r"^(\d+) of \d+ steps")
_CHAPTER = re.compile(r"^\d\d_\w+: executed in ")


@click.command()
@click.option("--cores", type=click.IntRange(min=1), default=2, help="Processor cores to use.")
@click.option("--build", type=click.Path(path_type=Path), default=Path("_build"), help="Folder of what is built.")
@click.option(
    "--profile", type=click.Choice(["smoke", "tutorial", "study", "paper"]), default="tutorial", help="Sizes."
)
@click.argument("targets", nargs=-1)
def book(cores: int, build: Path, profile: str, targets: tuple[str, ...]) -> None:
    """Execute what changed and build the book, or only the given TARGETS of the graph."""
    began = time.time()
    command = [sys.executable, "-m", "snakemake", *targets, "-s", "workflow/Snakefile", "--cores", str(cores)]
    options = ["--quiet", "host", "rules", "reason", "--rerun-incomplete", "--keep-going", "--nolock"]
    report = run_graph([*command, *options, "--config", f"build={build}", f"profile={profile}"])
    if report is not None:
        click.secho(_failures(build, began) or report, err=True, fg="red")
        click.echo(f"The book was not built; the logs are in {build / 'logs'}", err=True)
        sys.exit(1)
    if not targets:
        click.echo(f"The book is at {(build / 'html' / 'index.html').resolve()} ({time.time() - began:.0f} s)")


def run_graph(command: list[str]) -> str | None:
    """Run Snakemake behind a progress bar; return None if it succeeded, else what it said."""
    said = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    with tqdm(desc="book", unit="step", bar_format="{desc} {bar:30} {n_fmt}/{total_fmt} {elapsed}") as bar:
        for line in process.stdout or ():
            said.append(line)
            if total := _TOTAL.match(line):
                bar.reset(int(total[1]))
            elif done := _DONE.match(line):
                bar.update(int(done[1]) - bar.n)
            elif _CHAPTER.match(line):
                tqdm.write(line.rstrip())
    return None if process.wait() == 0 else "".join(said[-40:])


def _failures(build: Path, began: float) -> str:
    """Return the ends of this run's logs of what failed: for a chapter, the failing cell and its error."""
    names = [path.name.split(".")[0] for path in build.glob("executed/*.failed.ipynb")] or ["site"]
    logs = [build / "logs" / f"{name}.log" for name in names]
    fresh = [log for log in logs if log.is_file() and log.stat().st_mtime >= began]
    return "\n\n".join("\n".join(log.read_text(encoding="utf-8").splitlines()[-40:]) for log in fresh)


if __name__ == "__main__":
    book()
