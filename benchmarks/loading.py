"""Loading pictures against bare Pillow: `python -m benchmarks.loading --out _build/bench_loading`.

Both sides run in the same process tree, with the same number of workers and batch size, over the same files, in turns:
*bare* decodes a file and resizes it to the same size, 8 bits a channel; *ours* goes from the split to the batch that a
model reads: checks, decoding, resizing, scaling, padding, masks, token ids. Memory is the resident set of the process
and its workers while an epoch runs, once warm.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mmwa_utils import datasets
from mmwa_utils.datasets.collate import Collator
from mmwa_utils.datasets.processing import Processor, load_processor
from standins.processor import write_processor

SHAPES = {"memes (PNG 550 x 412)": (550, 412), "large (PNG 800 x 600)": (800, 600)}

DISTINCT = 16
"""Different pictures drawn; the others are copies, as drawing takes longer than reading."""


class Taken(NamedTuple):
    """Seconds of one epoch: on the wall, and of all processors, which other work on the machine hardly changes."""

    wall: float
    busy: float


class Bare(Dataset[torch.Tensor]):
    """Decode and resize with Pillow, nothing else."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int]) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            resized = image.convert("RGB").resize(self.size, Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(resized))


def write_memes(root: Path, shape: tuple[int, int], count: int) -> None:
    """Write photograph-like pictures of one size in the layout of Hateful Memes, and ViLT's processor."""
    rng = np.random.default_rng(0)
    (root / "img").mkdir(parents=True)
    width, height = shape
    lines = []
    for number in range(count):
        path = root / "img" / f"{number:05d}.png"
        if number < DISTINCT:
            coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize(shape, Image.Resampling.BICUBIC), dtype=np.float64)
            Image.fromarray((smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)).save(path)
        else:
            shutil.copyfile(root / "img" / f"{number % DISTINCT:05d}.png", path)
        record = {"id": number, "img": f"img/{number:05d}.png", "label": number % 2, "text": "the words of a meme"}
        lines.append(json.dumps(record) + "\n")
    (root / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    write_processor(root / "processor", words=["the", "words", "of", "a", "meme"], shortest_edge=384, size_divisor=32)


def resident() -> float:
    """Resident memory of this process and its children, in MB; pages that they share are counted once a process."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(process.memory_info().rss for process in family) / 1e6


def processor_seconds() -> float:
    """Processor time of this process and its living children."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    times = [process.cpu_times() for process in family]
    return sum(part.user + part.system for part in times)


def epoch(batches: Iterable[object]) -> Taken:
    """How long one epoch takes, on the wall and of all processors."""
    wall, busy = time.perf_counter(), processor_seconds()
    for _ in batches:
        pass
    return Taken(time.perf_counter() - wall, processor_seconds() - busy)


def measure(name: str, shape: tuple[int, int], *, count: int, workers: int, rounds: int) -> dict[str, object]:
    """Images per second of both sides, in turns, and how memory moves over an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_memes(root, shape, count)
        processor = load_processor(root / "processor")
        split = datasets.open_split("hateful_memes", root, "train")
        options: dict[str, Any] = {"batch_size": 32, "num_workers": workers, "persistent_workers": workers > 0}
        ours: DataLoader[Any] = DataLoader(split, collate_fn=Collator(split.spec, processor), **options)  # type: ignore[arg-type]
        bare = DataLoader(Bare(sorted((root / "img").iterdir()), _final_size(processor, shape)), **options)
        sides: dict[str, Callable[[], Taken]] = {"bare": lambda: epoch(bare), "ours": lambda: epoch(ours)}
        for run in sides.values():
            run()  # starts workers, fills the cache of files
        taken = [{side: run() for side, run in sides.items()} for _ in range(rounds)]
        ratios = [round_["bare"].wall / round_["ours"].wall for round_ in taken]
        busy = [round_["bare"].busy / round_["ours"].busy for round_ in taken]
        memory = [resident() for _ in ours]
    third = max(1, len(memory) // 3)
    return {
        "pictures": name,
        "workers": workers,
        "bare images/s": count / float(np.median([round_["bare"].wall for round_ in taken])),
        "ours images/s": count / float(np.median([round_["ours"].wall for round_ in taken])),
        "ours : bare": float(np.median(ratios)),
        "quartiles": " to ".join(f"{value:.2f}" for value in np.quantile(ratios, (0.25, 0.75))),
        "processor time": float(np.median(busy)),
        "MB early": float(np.mean(memory[third : 2 * third])),
        "MB late": float(np.mean(memory[-third:])),
        "MB of pictures decoded": count * shape[0] * shape[1] * 3 / 1e6,
    }


def _final_size(processor: Processor, shape: tuple[int, int]) -> tuple[int, int]:
    height, width, _ = processor.resized(Image.new("RGB", shape)).shape
    return width, height


def main() -> None:
    """Read the command line, measure, write `loading.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("_build/bench_loading"), help="folder for the table")
    parser.add_argument("--count", type=int, default=640, help="pictures an epoch")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each side")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, os.cpu_count() or 1])
    options = parser.parse_args()
    torch.set_num_threads(1)  # decoding is one thread a process: neither side may take more
    rows = [
        measure(name, shape, count=options.count, workers=workers, rounds=options.rounds)
        for name, shape in SHAPES.items()
        for workers in options.workers
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(options.out / "loading.csv", index=False)
    print(table.round(2).to_string(index=False))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
