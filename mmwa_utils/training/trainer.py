"""The Trainer: transformers' own loop, with the alignment added to the task loss and both logged apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from mmwa_utils.alignment import Alignment, AlignmentResult
from mmwa_utils.evaluation.metrics import compute_metrics
from mmwa_utils.files import write_json
from mmwa_utils.fusion import FusionModel, FusionOutput
from mmwa_utils.training.config import TrainingError
from mmwa_utils.types import Batch, DatasetSpec, ModalityBatch

COMPLETE = "complete.json"
"""A checkpoint's last file: without it the checkpoint is torn, and is deleted unread."""


class AlignedModel(nn.Module):
    """A fusion model and its alignment, as one module, so that DDP and the optimiser see both.

    The fusion model alone is what is saved and evaluated: alignment costs nothing at inference.
    """

    def __init__(self, fusion: FusionModel, alignment: Alignment | None, weight: float) -> None:
        super().__init__()
        self.fusion, self.alignment, self.weight = fusion, alignment, weight

    def forward(self, modalities: Mapping[str, ModalityBatch]) -> tuple[FusionOutput, AlignmentResult | None]:
        """Return the fusion model's output and, in training, the alignment of its tokens."""
        if not self.training or self.alignment is None:
            return self.fusion(modalities), None
        modalities = self.alignment.prepare(modalities)
        output = self.fusion(modalities, output_hidden_states=self.alignment.layers == "all")
        return output, self.alignment(output.tokens)


def task_loss(spec: DatasetSpec, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of the dataset's task.

    Binary and multi-label: binary cross-entropy of log-odds; multi-class: cross-entropy; regression: absolute
    error, which is the metric of CMU-MOSEI.
    """
    logits = logits.float()
    if spec.task == "multiclass":
        return nn.functional.cross_entropy(logits, labels)
    if spec.task == "multilabel":
        return nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    if spec.task == "binary":
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    return nn.functional.l1_loss(logits[:, 0], labels.float())


class AlignmentTrainer(Trainer):
    """transformers' Trainer with total loss = task + weight x alignment.

    Batches are mappings {"modalities", "labels"}. The Trainer is given the training and the validation split,
    and nothing else: selection can't see the test split.
    """

    def __init__(self, model: AlignedModel, spec: DatasetSpec, collate: Callable[[Any], Batch], **options: Any) -> None:
        self.spec, self.collate = spec, collate
        super().__init__(model=model, data_collator=self._inputs, compute_metrics=self._metrics, **options)
        self.label_names = ["labels"]
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch
        self.loss_is_scaled_for_ga = False
        self._parts: dict[str, list[Tensor]] = {}

    def _inputs(self, samples: Any) -> dict[str, Any]:
        batch = self.collate(samples)
        return {"labels": batch.labels, "modalities": dict(batch.modalities)}

    def _metrics(self, prediction: Any) -> dict[str, float]:
        return compute_metrics(self.spec, prediction.label_ids, prediction.predictions)

    def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, *_: Any, **__: Any) -> Any:
        """Return the total loss, and the logits on request."""
        modalities = {name: m.to(self.args.device, non_blocking=True) for name, m in inputs["modalities"].items()}
        output, aligned = model(modalities)
        loss = task = task_loss(self.spec, output.logits, inputs["labels"])
        if aligned is not None:
            loss = task + self.accelerator.unwrap_model(model).weight * aligned.loss
            self._note(alignment_loss=aligned.loss.detach(), converged_share=aligned.converged_share)
        if model.training:
            self._note(task_loss=task.detach())
        return (loss, {"logits": output.logits}) if return_outputs else loss

    def train_from(self, checkpoint: str | None) -> None:
        """Train to the end, from a checkpoint on if there is one, and load the best weights.

        The Trainer would train one epoch more after a checkpoint whose evaluation had used up the patience, so
        where training had ended, only the best weights are loaded.
        """
        if checkpoint is not None:
            state = TrainerState.load_from_json(f"{checkpoint}/{TRAINER_STATE_NAME}")
            stateful: Mapping[str, Any] = state.stateful_callbacks  # type: ignore[assignment]
            if stateful["TrainerControl"]["args"]["should_training_stop"]:
                self.state = state
                self._load_best_model()
                return
        self.train(resume_from_checkpoint=checkpoint)

    def _note(self, **parts: Tensor) -> None:
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(value)

    def log(self, logs: dict[str, float], *arguments: Any, **options: Any) -> None:
        """Log the parts of the loss beside the total, and stop where the total is no longer a number."""
        if "loss" in logs:
            parts = {name: torch.stack(values).float().mean() for name, values in self._parts.items()}
            # Each process saw its own share of the batches.
            logs |= {name: self.accelerator.reduce(part, "mean").item() for name, part in parts.items()}
            self._parts.clear()
            if not torch.isfinite(torch.tensor(logs["loss"])):
                raise TrainingError(
                    f"the loss became {logs['loss']} at step {self.state.global_step} "
                    f"(lr {logs.get('learning_rate')}, gradient norm {logs.get('grad_norm')}); try a smaller lr or "
                    f"precision fp32. Checkpoints up to the last good epoch are in {self.args.output_dir}"
                )
        super().log(logs, *arguments, **options)


class MarkComplete(TrainerCallback):
    """Write the mark of a whole checkpoint, after all of its files."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Mark the checkpoint that was just written, once every process has put its random state there."""
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
            write_json(folder / COMPLETE, sizes)


def remove_torn_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a folder that are not whole: have no mark, or not the sizes that it says."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not _is_whole(checkpoint):
            shutil.rmtree(checkpoint)


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
