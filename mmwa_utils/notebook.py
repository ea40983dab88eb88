"""What a chapter's notebook starts and ends with: checked parameters, sizes, seeds, results, provenance."""

from __future__ import annotations

import ast
import html
import json
import os
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Markdown, display

from mmwa_utils import files, plots, project
from mmwa_utils.parameters import Parameter, ParameterError, check_all, parse_cell

T = TypeVar("T")

_BANNER = """<div class="standin" role="note"><strong>Stand-in data.</strong> Numbers and figures marked so were
computed on generated files in the release's own layout. They show that the method and its measurement work; they say
nothing about the real dataset and are not comparable with the paper's.</div>"""


@dataclass
class Chapter:
    """A running chapter: its checked parameters and what it does with them."""

    name: str
    parameters: Mapping[str, Any]
    data: dict[str, str] = field(default_factory=dict)
    _started: float = field(default_factory=time.perf_counter)

    @property
    def profile(self) -> str:
        """Return the profile in force: smoke, tutorial, study or paper."""
        return self.parameters["profile"]

    @property
    def device(self) -> torch.device:
        """Return the accelerator if there is one, else the CPU."""
        return project.default_device()

    def pick(self, override: T | None = None, /, *, smoke: T, tutorial: T, paper: T, study: T | None = None) -> T:
        """Return the profile's number, or `override` where it is not None; study has the tutorial's unless it is given.

        >>> Chapter("demo", {"profile": "smoke"}).pick(smoke=10, tutorial=100, paper=1000)
        10
        """
        numbers = {"smoke": smoke, "tutorial": tutorial, "paper": paper}
        numbers["study"] = tutorial if study is None else study
        return numbers[self.profile] if override is None else override

    def rng(self, offset: int = 0) -> np.random.Generator:
        """Return a NumPy generator that depends on the parameter `seed` and on `offset` alone."""
        return np.random.default_rng([self.parameters.get("seed", 0), offset])

    def uses(self, name: str, fingerprint: str) -> None:
        """Record data that the chapter reads, for its provenance footer."""
        self.data[name] = fingerprint

    def say(self, text: str) -> None:
        """Render Markdown that a cell made, such as a table whose cells hold links."""
        display(Markdown(text))

    def show(self, table: pd.DataFrame, *, caption: str, digits: int = 3, standin: bool = False) -> None:
        """Render a table with a caption; text is escaped, and a stand-in's table says that it is one."""
        note = " (stand-in data)" if standin else ""
        styler = table.style.set_caption(html.escape(caption) + note)
        styler = styler.format(precision=digits, escape="html", na_rep="–")
        if table.index.nlevels == 1 and isinstance(table.index, pd.RangeIndex):
            styler = styler.hide(axis="index")
        display(HTML(styler.to_html(table_attributes='class="table dataframe"')))

    def standin_banner(self) -> None:
        """Say, on the page, that what follows was computed on a stand-in and not on a release's data."""
        display(HTML(_BANNER))

    def save(self, name: str, value: pd.DataFrame | Mapping[str, Any]) -> None:
        """Save a result for other chapters, a table as CSV or a mapping as JSON; written whole or not at all.

        Nothing is returned: on the last line of a cell it would be shown, and a page names no path of its maker.
        """
        folder = _results_folder(self.name)
        if isinstance(value, pd.DataFrame):
            files.write_text(folder / f"{name}.csv", value.to_csv(index=False))
        else:
            files.write_text(folder / f"{name}.json", json.dumps(dict(value), indent=2, sort_keys=True))

    def find(self, chapter: str, name: str) -> Any:
        """Read a result that another chapter saved; None if it was not run."""
        for folder in (_results_folder(chapter), project.build_folder() / "results" / chapter):
            if (folder / f"{name}.csv").is_file():
                return pd.read_csv(folder / f"{name}.csv")
            if (folder / f"{name}.json").is_file():
                return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return None

    def footer(self) -> None:
        """Render the provenance of the page: parameters, versions, commit, device, data, wall time."""
        rows = {
            **{f"parameter {name}": repr(value) for name, value in self.parameters.items()},
            **project.provenance(),
            **{f"data {name}": fingerprint for name, fingerprint in (self.data or {"": "none"}).items()},
            "wall time": f"{time.perf_counter() - self._started:.1f} s",
        }
        cells = [(html.escape(name.strip()), html.escape(str(value))) for name, value in rows.items()]
        body = "".join(f"<tr><th scope='row'>{name}</th><td><code>{value}</code></td></tr>" for name, value in cells)
        caption = "<caption>Provenance of this page</caption>"
        display(HTML(f"<table class='table dataframe provenance'>{caption}{body}</table>"))


def start(name: str, namespace: MutableMapping[str, Any]) -> Chapter:
    """Check the notebook's parameters, apply the book's plot style and return the running chapter.

    Args:
        name: the notebook's file name without ending, such as "02_sinkhorn".
        namespace: the notebook's `globals()`; checked values are written back ("1e-3" becomes 0.001).

    Raises:
        ParameterError: a parameter is unknown, of the wrong type or out of range (all faults at once).
    """
    declared, injected = _read_history(namespace)
    if "profile" not in declared:
        raise ParameterError(f"{name}: the parameters cell must declare  profile")
    values = check_all(declared, {parameter: namespace.get(parameter) for parameter in (*declared, *injected)})
    namespace.update(values)
    plots.apply_style()
    return Chapter(name, values)


def _read_history(namespace: Mapping[str, Any]) -> tuple[dict[str, Parameter], list[str]]:
    """Return the declared parameters and the names that a later cell (papermill's) assigned.

    IPython keeps every executed cell's source in `In`: the declaration is read from there, so that a copied
    notebook needs no file of the project's.
    """
    sources = list(namespace.get("In", []))
    trees = [_parse(source) for source in sources]
    declaring = [place for place, tree in enumerate(trees) if tree.body and all(map(_declares, tree.body))]
    if not declaring:
        raise ParameterError("no parameters cell was run before this one; run the notebook from its top")
    last = declaring[-1]
    later = [node for tree in trees[last + 1 : -1] for node in tree.body if isinstance(node, ast.Assign)]
    injected = [target.id for node in later for target in node.targets if isinstance(target, ast.Name)]
    return parse_cell(sources[last]), injected


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # of IPython's own: a magic, a call of the shell
        return ast.Module([], [])


def _declares(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(getattr(node.annotation, "value", None), str)


def _results_folder(chapter: str) -> Path:
    """Results of a run by hand are kept apart, so that they never pass for the graph's own."""
    build = project.build_folder()
    return build / ("results" if project.BUILD_VARIABLE in os.environ else "by_hand") / chapter
