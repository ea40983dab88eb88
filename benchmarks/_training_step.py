"""One step of training, as the Trainer takes it without its bookkeeping; and its peak memory in a process of its own.

`python -m benchmarks._training_step CASE CONTENDER COUNT` prints the peak of two steps in bytes, from the moment before
the model is built: weights, gradients, the optimiser's state and all that a step holds. On the CPU it is the kernel's
high-water mark of resident memory (Linux).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks._contender import finished
from benchmarks._memory import LINUX, resident
from benchmarks._training_alignments import CountedAlignment, alignments
from benchmarks._training_cases import CASES
from mmwa_utils.alignment import Alignment
from mmwa_utils.fusion import FusionModel
from mmwa_utils.training.trainer import AlignedModel, task_loss
from mmwa_utils.types import Batch, Tokens


class Step:
    """Forward, loss, backward, clipping and AdamW's update, at a learning rate of 0.

    AdamW does the same work at any rate; at 0 every contender meets the same weights, and so the same tokens.
    """

    def __init__(self, fusion: FusionModel, batch: Batch) -> None:
        self.fusion, self.batch = fusion.train(), batch
        self.optimizer = torch.optim.AdamW(fusion.parameters(), lr=0.0)

    def __call__(self, alignment: Alignment | None, *, seed: int) -> None:
        """Take a step; the seed is dropout's."""
        torch.manual_seed(seed)
        model = AlignedModel(self.fusion, alignment, weight=1.0).train()
        self.optimizer.zero_grad()
        output, aligned = model(self.batch.modalities)
        loss = task_loss(self.fusion.spec, output.logits, self.batch.labels)
        if aligned is not None:
            loss = loss + model.weight * aligned.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.fusion.parameters(), 1.0)
        self.optimizer.step()
        finished(loss)

    def settle(self, alignment: Alignment | None, *, steps: int, lr: float) -> None:
        """Train for a while, so that the tokens are those of training."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        for seed in range(steps):
            self(alignment, seed=seed)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0

    @torch.no_grad()
    def tokens(self, *, seed: int) -> Mapping[str, Tokens]:
        """The last layer's tokens, as an alignment gets them in a step."""
        torch.manual_seed(seed)
        return self.fusion(self.batch.modalities).tokens["last"]


def align(alignment: Alignment, tokens: Mapping[str, Tokens]) -> None:
    """The alignment on its own: its value, and its gradient with respect to the tokens."""
    leaves = {name: Tokens(t.values.clone().requires_grad_(), t.mask, t.special) for name, t in tokens.items()}
    alignment(leaves).loss.backward()
    finished(leaves)


def peak_bytes(case: str, contender: str, count: int) -> int:
    """Peak of two steps in this process; all code is loaded beforehand by aligning a few tokens."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    alignment = alignments()[contender]
    few = {name: Tokens(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)) for name in ("x", "y")}
    for other in filter(None, alignments().values()):
        if isinstance(other, CountedAlignment):
            other.count = 1
        align(other, few)
    if isinstance(alignment, CountedAlignment):
        alignment.count = count
    if device.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS") if device.type == "cpu" else 0
    fusion, batch = CASES[case].build()
    step = Step(fusion.to(device), batch.to(device))
    for seed in range(2):  # the first step makes AdamW's state, the second has it
        step(alignment, seed=seed)
    return (resident("VmHWM") - before) if device.type == "cpu" else torch.cuda.max_memory_allocated()


def measure_peak(case: str, contender: str, count: int) -> float:
    """Peak in a fresh process, in MB; NaN where the operating system does not tell."""
    if not (LINUX or torch.cuda.is_available()):
        return float("nan")
    command = [sys.executable, "-m", "benchmarks._training_step", case, contender, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"memory of {contender} in {case}: {done.stderr[-2000:]}")
    return int(done.stdout.split()[-1]) / 1e6


if __name__ == "__main__":
    print(peak_bytes(sys.argv[1], sys.argv[2], int(sys.argv[3])))
