"""Runs that are killed, torn, starved of disk, led astray or spread over processes end as if they were not."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from pandas.testing import assert_frame_equal
from safetensors import SafetensorError
from transformers.trainer_utils import get_last_checkpoint

from mmwa_utils.training import Run, RunStore, TrainingError
from mmwa_utils.training import run as run_module
from mmwa_utils.training import trainer as trainer_module
from mmwa_utils.training.trainer import COMPLETE, remove_torn_checkpoints
from tests.training.tiny import EPOCH, same_weights, tiny_run

WASSERSTEIN = {"name": "wasserstein", "alpha": 0.1, "beta": 0.4}
FULL = Path("/dev/full")
"""A file of Linux that no byte can be written to, as on a full disk."""

# Children are forked from a process that has imported everything once, and has no thread that a fork could lose.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.training.tiny"])


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("baseline"))


def wait_for(file: Path, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not file.exists() and alive() and time.monotonic() < deadline:
        time.sleep(0.002)


def kept_checkpoint(folder: Path) -> str:
    """Name of the checkpoint that training would go on from."""
    remove_torn_checkpoints(folder)
    return Path(get_last_checkpoint(str(folder))).name


def kill_at(moment: str, key: str, folder: Path, **overrides: Any) -> None:
    """Train in a process that is killed as soon as a file of its partial folder is there."""
    process = FORKS.Process(target=tiny_run, args=(folder,), kwargs=overrides)
    process.start()
    wait_for(folder / f"{key}.partial" / moment, process.is_alive)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it ended before it could be killed"
    assert not (folder / key).exists()


def test_a_run_killed_again_and_again_ends_as_an_uninterrupted_one(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    aligned = tiny_run(tmp_path_factory.mktemp("aligned"), alignment=WASSERSTEIN)
    moments = {
        "while the first checkpoint is written": f"checkpoints/checkpoint-{EPOCH}",
        "in the second epoch": f"checkpoints/checkpoint-{EPOCH}/{COMPLETE}",
        "while a later checkpoint is written": f"checkpoints/checkpoint-{2 * EPOCH}",
        "after the last step": f"checkpoints/checkpoint-{3 * EPOCH}/{COMPLETE}",
        "while the results are written": "model.safetensors",
    }
    for moment in moments.values():
        kill_at(moment, aligned.key, tmp_path, alignment=WASSERSTEIN)
    resumed = tiny_run(tmp_path, alignment=WASSERSTEIN)
    assert resumed.metrics == aligned.metrics
    assert same_weights(resumed, aligned)
    assert len(resumed.history) == len(aligned.history)


def test_patience_is_remembered_by_a_killed_run(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # With steps this small no prediction ever changes: the first epoch is the best, the third uses the patience up.
    never_better = {"lr": 1e-9, "patience": 2, "epochs": 6}
    whole = tiny_run(tmp_path_factory.mktemp("whole"), **never_better)
    assert len(whole.history) == 3
    for moment in (f"checkpoints/checkpoint-{2 * EPOCH}/{COMPLETE}", "model.safetensors"):
        kill_at(moment, whole.key, tmp_path, **never_better)
    resumed = tiny_run(tmp_path, **never_better)
    assert len(resumed.history) == 3
    assert resumed.metrics == whole.metrics
    assert same_weights(resumed, whole), "the weights of the first epoch"


def test_a_torn_checkpoint_is_never_read(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x" * step)
        (folder / COMPLETE).write_text(json.dumps({"model.safetensors": step}))
    assert kept_checkpoint(tmp_path) == "checkpoint-10", "by number, not by letters"
    (tmp_path / "checkpoint-10" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "checkpoint-3" / COMPLETE).unlink()
    (tmp_path / "checkpoint-1" / COMPLETE).write_text("{")
    assert kept_checkpoint(tmp_path) == "checkpoint-2"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_full_disk_stops_with_a_message_and_keeps_the_last_good_state(
    baseline: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer_module.AlignmentTrainer._save_checkpoint
    saved = []

    def full(self: Any, *arguments: Any, **options: Any) -> None:
        if saved:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(True)
        real(self, *arguments, **options)

    monkeypatch.setattr(trainer_module.AlignmentTrainer, "_save_checkpoint", full)
    with pytest.raises(TrainingError, match="is full; whole checkpoints are kept"):
        tiny_run(tmp_path)
    assert kept_checkpoint(tmp_path / f"{baseline.key}.partial" / "checkpoints") == f"checkpoint-{EPOCH}"
    monkeypatch.setattr(trainer_module.AlignmentTrainer, "_save_checkpoint", real)
    assert tiny_run(tmp_path).metrics == baseline.metrics


def fill_with_torch() -> None:
    with FULL.open("wb") as handle:
        torch.save({"weight": torch.zeros(10**6)}, handle)


def fill_with_safetensors() -> None:
    # It writes beside its target and renames, which no file that is always full survives: its own words instead.
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def fill_with_torch_by_name() -> None:
    # torch's writer loses the system's words when it opens the file itself.
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no file that is always full")
@pytest.mark.parametrize(
    "write", [fill_with_torch, fill_with_torch_by_name, fill_with_safetensors, lambda: FULL.write_bytes(b"x")]
)
def test_every_writer_of_a_run_is_understood_when_the_disk_is_full(write: Callable[[], Any]) -> None:
    with pytest.raises(TrainingError, match="is full"), run_module._full_disk_explained(Path("runs")):
        write()


def test_other_errors_are_not_taken_for_a_full_disk() -> None:
    with pytest.raises(RuntimeError, match="shapes"), run_module._full_disk_explained(Path("runs")):
        raise RuntimeError("shapes cannot be multiplied")


def test_a_loss_that_is_no_number_stops_with_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = trainer_module.task_loss, []

    def broken(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return real(*arguments) * (float("nan") if len(calls) > 30 else 1.0)

    monkeypatch.setattr(trainer_module, "task_loss", broken)
    with pytest.raises(TrainingError, match=r"the loss became nan at step 34 .*try a smaller lr"):
        tiny_run(tmp_path)
    (partial,) = tmp_path.glob("*.partial")
    assert kept_checkpoint(partial / "checkpoints") == f"checkpoint-{EPOCH}"


def test_two_processes_killed_and_resumed_give_the_result_of_one(tmp_path: Path) -> None:
    even = {"batch_size": 98}  # a divisor of 1078 scans: an uneven last batch would be filled up with other samples
    one = tiny_run(tmp_path / "one", **even)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.training.tiny"]
    command = [sys.executable, *launch, str(tmp_path), json.dumps(even)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mark = tmp_path / f"{one.key}.partial" / "checkpoints" / "checkpoint-11" / COMPLETE
    wait_for(mark, lambda: killed.poll() is None)
    family = [killed, *killed.children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family)
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= json.loads(mark.read_text()).keys(), "every process's state"

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    both = RunStore(tmp_path).find(one.key)
    assert both is not None
    assert (both.predictions("test").ids == one.predictions("test").ids).all()
    # The same samples make each step, so only the order of float32 sums differs. The validation loss is a mean over
    # batches of another size.
    assert_frame_equal(both.history[["loss", "task_loss"]], one.history[["loss", "task_loss"]], rtol=1e-4)
    assert np.abs(both.predictions("test").logits - one.predictions("test").logits).max() < 1e-4
