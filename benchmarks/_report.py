"""Tables, figure and provenance of a benchmark run."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from benchmarks._measure import CLOCKS, NAME, TASKS
from mmwa_utils.plots import apply_style, dots_with_bars, figure

PEERS = ("POT sinkhorn", "POT log_sinkhorn", "GeomLoss", "OTT-JAX")
"""The libraries that the fastest peer is chosen from; the torch loop is shown but is no library, nor is the floor."""


def command_line(description: str | None) -> argparse.ArgumentParser:
    """The options that both comparisons with other libraries have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("_build/bench"), help="folder for tables and figure")
    parser.add_argument("--rounds", type=int, help="repetitions of every measurement; default: the case's own")
    parser.add_argument("--threads", type=int, help="threads of PyTorch and of our engine; default: all cores")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: for a busy machine, --threads 1")
    return parser


def begin(options: argparse.Namespace) -> tuple[torch.device, dict[str, Any]]:
    """The device and the facts of a run with these options; it says so if the machine is busy with other work."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts = provenance(device) | {"clock": options.clock}
    load = facts["load average at start"]
    if options.clock == "wall" and load > 0.5 * (os.cpu_count() or 1):
        print(f"!! THE MACHINE IS BUSY (load {load}): times are not to be trusted", flush=True)
    return device, facts


def provenance(device: torch.device) -> dict[str, Any]:
    """Device, threads, versions, and how busy the machine was with other work."""
    packages = {}
    for package in ("numpy", "numba", "torch", "triton", "POT", "geomloss", "jax", "ott-jax"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load average at start": round(load, 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **packages,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def compare(times: pd.DataFrame) -> pd.DataFrame:
    """For each task, how many times slower the fastest library is than we: geometric mean and worst over the cases.

    "Fastest" is decided case by case, by the median ratio. `floor_share` is the part of our time that the floor takes
    (`_peer_torch.floor`), which no engine can save; geometric mean too.
    """
    libraries = times[times.contender.isin(PEERS)]
    if libraries.empty:
        return pd.DataFrame(columns=["task", "cases", "geometric_mean", "smallest", "smallest_case", "floor_share"])
    fastest = libraries.loc[libraries.groupby(["task", "case"], sort=False).ratio.idxmin()]
    rows = []
    for task in TASKS:
        ratios = fastest[fastest.task == task].set_index("case").ratio
        floor = times[(times.task == task) & (times.contender == "floor")].ratio
        rows.append(
            {
                "task": task,
                "cases": len(ratios),
                "geometric_mean": float(np.exp(np.log(ratios).mean())),
                "smallest": float(ratios.min()),
                "smallest_case": ratios.idxmin(),
                "floor_share": float(np.exp(np.log(floor).mean())),
            }
        )
    return pd.DataFrame(rows)


def draw(times: pd.DataFrame, path: Path, *, device: str) -> None:
    """Both tasks side by side, every contender's time over ours in every case, with its quartiles."""
    apply_style()
    cases = times.case.nunique()
    drawing, panels = figure(1, 2, width=9.5, height=1.2 + 0.55 * cases, sharey=True)
    axes = np.ravel(np.asarray(panels, dtype=object))
    ours_first = times.sort_values("contender", key=lambda name: name.where(name != NAME, ""), kind="stable")
    columns: dict[str, Any] = {
        "label": "case",
        "value": "ratio",
        "low": "ratio_q1",
        "high": "ratio_q3",
        "colour": "contender",
    }
    for axis, task in zip(axes, TASKS, strict=True):
        rows = ours_first[ours_first.task == task]
        dots_with_bars(rows, **columns, ax=axis, reference=1.0, xlabel="time over ours (logarithmic)")
        axis.set(xscale="log", title=task)
        axis.get_legend().remove()
    handles, labels = axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    silent = ", ".join(sorted(set(times[times.ratio.isna()].contender)))
    missing = f"\nwithout a marker: not measured there, for the reason in times.csv ({silent})" if silent else ""
    drawing.suptitle(f"Equal marginal error, {device}{missing}", fontsize=9)
    drawing.savefig(path)
    plt.close(drawing)


def write_tables(out: Path, facts: dict[str, Any], times: pd.DataFrame, **tables: pd.DataFrame) -> None:
    """Write the tables as CSV and the facts as JSON: after every case, so that a run cut off keeps what it measured."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in {"times": times, "ratios": compare(times), **tables}.items():
        table.to_csv(out / f"{name}.csv", index=False)
    (out / "provenance.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")


def write_figure(out: Path, facts: dict[str, Any], times: pd.DataFrame) -> None:
    """Write the figure as SVG and PNG."""
    for ending in ("svg", "png"):
        draw(times, out / f"times.{ending}", device=f"{facts['device']}, {facts['threads']} threads")
