"""Train a run, or find it where it was trained before."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments, set_seed

from mmwa_utils import project
from mmwa_utils.alignment import Alignment, PaperSetting, alignment_parameters, build_alignment, from_paper
from mmwa_utils.corruption import LossySplit
from mmwa_utils.evaluation.metrics import METRICS
from mmwa_utils.evaluation.statistics import draw_counts, interval, measure
from mmwa_utils.files import write_json
from mmwa_utils.fusion import FusionModel, ModelConfig, build_model
from mmwa_utils.training.config import ConfigError, RunConfig
from mmwa_utils.training.data import RunData, open_data
from mmwa_utils.training.store import Predictions, Run, RunStore, run_key
from mmwa_utils.training.trainer import (
    AlignedModel,
    AlignmentTrainer,
    MarkComplete,
    TrainingError,
    collate_inputs,
    last_complete_checkpoint,
    remove_torn_checkpoints,
)

MAIN = "RANK"
"""Environment variable of torchrun's: the process of rank 0 writes, the others only compute."""


def train(config: RunConfig, *, store: RunStore | None = None, progress: bool | None = None) -> Run:
    """Train a run and return it; a complete run is found and not trained again, an interrupted one is resumed.

    Under `torchrun` every process calls this function; the batch size is the one over all of them.

    Args:
        config: what to train.
        store: where runs are kept; by default `_build/runs`.
        progress: show progress bars; None shows them unless the graph runs the notebook.

    Raises:
        ConfigError: the batch size can't be split over the devices.
        DatasetError: the data can't be used.
        TrainingError: the loss became NaN, or the disk is full; whole checkpoints are kept, and the same call
            resumes from the last of them.
    """
    store = store if store is not None else RunStore()
    data = open_data(config)
    key = run_key(config, data.fingerprint)
    main = int(os.environ.get(MAIN, 0)) == 0
    store.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(store.folder / f"{key}.lock") if main else nullcontext():
        found = store.find(key)
        if found is not None:
            return found
        return _train(config, data, store, key, main=main, progress=progress)


def _train(config: RunConfig, data: RunData, store: RunStore, key: str, *, main: bool, progress: bool | None) -> Run:
    began = time.perf_counter()
    folder = store.partial(key)
    shown = project.BUILD_VARIABLE not in os.environ if progress is None else progress
    set_seed(config.seed)
    setting = from_paper(alpha=config.alignment.alpha, beta=config.alignment.beta, swapped=config.alignment.swapped)
    fusion = make_model(config, data)
    if isinstance(data.splits["train"], LossySplit):
        _ = data.splits["train"].lost  # chosen here once, and not by each loader worker for itself
    model = AlignedModel(fusion, make_alignment(config, setting, dim=fusion.dim), setting.weight)
    trainer = AlignmentTrainer(
        model,
        data.spec,
        args=_arguments(config, data, folder / "checkpoints", progress=shown and main),
        train_dataset=data.splits["train"],
        eval_dataset=data.splits["val"],
        data_collator=collate_inputs(data.collate),
        callbacks=[EarlyStoppingCallback(config.patience), MarkComplete()],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    if main:
        remove_torn_checkpoints(checkpoints)
    with _full_disk_explained(folder):
        trainer.train_from(last_complete_checkpoint(checkpoints))
        predictions = {split: _predict(trainer, data, split) for split in ("val", "test")}
        if main:
            _write(folder, config, data, trainer, predictions, seconds=time.perf_counter() - began)
            store.finish(key)
    trainer.accelerator.wait_for_everyone()  # processes that only computed may read the run from here on
    return Run(store.folder / key)


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn what a full disk makes of each library's writer into one message."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        # safetensors gives the system's words only; torch's writer, which loses them, the name of its own file.
        if not full and not any(
            words in str(error) for words in ("No space left", "quota exceeded", "inline_container")
        ):
            raise
        raise TrainingError(
            f"the disk of {folder} is full; whole checkpoints are kept there, free some space and run again"
        ) from error


def make_model(config: RunConfig, data: RunData) -> FusionModel:
    """Build the run's fusion model; random weights come from torch's global generator."""
    return build_model(data.spec, fusion=config.fusion, config=model_config(config, data), pretrained=config.pretrained)


def make_alignment(config: RunConfig, setting: PaperSetting, *, dim: int) -> Alignment | None:
    """Build the run's alignment with those of the run's settings that it knows; None where nothing is aligned."""
    chosen = config.alignment
    if chosen.name == "none" or setting.weight == 0:
        return None
    offered = {"epsilon": setting.epsilon, "dim": dim, "seed": config.seed}
    offered |= chosen.model_dump(include={"cost", "value", "layers", "special_tokens"})
    known = alignment_parameters(chosen.name)
    return build_alignment(chosen.name, **{name: value for name, value in offered.items() if name in known})


def model_config(config: RunConfig, data: RunData) -> ModelConfig:
    """Return the profile's model sizes with the vocabulary of the run's tokenizer."""
    own: dict[str, Any] = {"freeze_encoders": config.freeze_encoders, "encoders": config.encoders}
    if data.processor is not None:
        tokenizer = data.processor.tokenizer
        own |= {"vocab_size": data.processor.vocabulary_size, "cls_token_id": tokenizer.cls_token_id}
        own |= {"pad_token_id": tokenizer.pad_token_id}
    return ModelConfig.for_profile(config.profile, **own)


def load_model(run: Run, data: RunData) -> FusionModel:
    """Return a run's fusion model with its best weights, in evaluation mode."""
    model = make_model(run.config, data)
    model.load_state_dict(load_file(run.weights))
    return model.eval()


def _arguments(config: RunConfig, data: RunData, folder: Path, *, progress: bool) -> TrainingArguments:
    devices = int(os.environ.get("WORLD_SIZE", 1))
    per_device = config.device_batch_size or max(config.batch_size // devices, 1)
    per_device = min(per_device, max(config.batch_size // devices, 1))
    steps, rest = divmod(config.batch_size, per_device * devices)
    if rest:
        raise ConfigError(
            f"batch_size {config.batch_size} is no multiple of {per_device} samples on {devices} devices; "
            "change batch_size or device_batch_size"
        )
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=per_device,
        per_device_eval_batch_size=2 * per_device,
        gradient_accumulation_steps=steps,
        num_train_epochs=config.epochs,
        learning_rate=config.lr,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        load_best_model_at_end=True,
        metric_for_best_model=data.spec.metric,
        greater_is_better=data.spec.higher_is_better,
        save_total_limit=2,
        restore_callback_states_from_checkpoint=True,  # else a resumed run forgets how long its patience was tried
        seed=config.seed,
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        use_cpu=config.device == "cpu",
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=torch.cuda.is_available() and config.device != "cpu",
        remove_unused_columns=False,
        ddp_find_unused_parameters=devices > 1,  # a batch without a single X-ray leaves its encoder unused
        disable_tqdm=not progress,
        report_to="none",
    )


def _predict(trainer: AlignmentTrainer, data: RunData, split: str) -> Predictions:
    """Return the outputs on a split; the weights are the best ones by now."""
    chosen: Any = data.splits[split]
    output = trainer.predict(chosen)
    return Predictions(np.array(chosen.ids()), np.asarray(output.predictions), np.asarray(output.label_ids))


def _write(
    folder: Path,
    config: RunConfig,
    data: RunData,
    trainer: AlignmentTrainer,
    predictions: dict[str, Predictions],
    *,
    seconds: float,
) -> None:
    """Write a finished run's files into its partial folder."""
    model = trainer.accelerator.unwrap_model(trainer.model).fusion
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors"
    )
    pd.DataFrame(_history(trainer.state.log_history)).dropna(axis=1, how="all").to_csv(
        folder / "history.csv", index=False
    )
    task, intervals = data.spec.task, {}
    for split, p in predictions.items():
        p.write(folder / f"{split}.npz")
        counts = draw_counts(len(p.ids), 1000)
        measured = {name: measure(task, name, p.truth, p.logits, counts) for name in METRICS[task]}
        intervals[split] = {name: vars(interval(values)) for name, values in measured.items()}
    write_json(folder / "metrics.json", intervals)
    write_json(folder / "config.json", config.model_dump(mode="json"))
    details = {
        "data": data.fingerprint,
        "standin": data.standin,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "epochs_trained": trainer.state.epoch,
        "best_step": trainer.state.best_global_step,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(seconds, 2),
    }
    write_json(folder / "provenance.json", {**project.provenance(), **details})


def _history(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """Merge the Trainer's training and evaluation records into one row per epoch."""
    rows: dict[float, dict[str, float]] = {}
    for record in log:
        if "loss" in record or "eval_loss" in record:
            row = {name.replace("eval_", "val_"): value for name, value in record.items()}
            rows.setdefault(record["epoch"], {}).update(row)
    return [rows[epoch] for epoch in sorted(rows)]
