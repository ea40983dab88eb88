"""Train a run, or find it where it was trained before."""

from __future__ import annotations

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
from transformers.trainer_utils import get_last_checkpoint

from mmwa_utils import project
from mmwa_utils.alignment import Alignment, PaperSetting, alignment_parameters, build_alignment, from_paper
from mmwa_utils.corruption import LossySplit
from mmwa_utils.evaluation.metrics import METRICS
from mmwa_utils.evaluation.statistics import draw_counts, interval, measure
from mmwa_utils.files import write_json
from mmwa_utils.fusion import FusionModel, build_model
from mmwa_utils.training.config import ConfigError, RunConfig, TrainingError
from mmwa_utils.training.data import RunData, model_config, open_data
from mmwa_utils.training.store import Predictions, Run, RunStore, run_key
from mmwa_utils.training.trainer import AlignedModel, AlignmentTrainer, MarkComplete, remove_torn_checkpoints


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
    main = os.environ.get("RANK", "0") == "0"  # of torchrun's processes this one writes, the others only compute
    store.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(store.folder / f"{key}.lock") if main else nullcontext():
        if store.find(key) is None:
            _train(config.trained(), data, store, key, main=main, progress=progress)
    return Run(store.folder / key, asked=config)


def _train(config: RunConfig, data: RunData, store: RunStore, key: str, *, main: bool, progress: bool | None) -> None:
    began = time.perf_counter()
    folder = store.partial(key)
    checkpoints = folder / "checkpoints"
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
        data.collate,
        args=_arguments(config, data, checkpoints, progress=shown and main),
        train_dataset=data.splits["train"],
        eval_dataset=data.splits["val"],
        callbacks=[EarlyStoppingCallback(config.patience), MarkComplete()],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoints.mkdir(parents=True, exist_ok=True)
    if main:
        remove_torn_checkpoints(checkpoints)
    trainer.accelerator.wait_for_everyone()  # every process goes on from the same checkpoint
    with _full_disk_explained(folder):
        trainer.train_from(get_last_checkpoint(str(checkpoints)))
        outputs = {split: trainer.predict(data.splits[split]) for split in ("val", "test")}  # type: ignore[arg-type]
        if main:
            _write(folder, config, data, trainer, outputs, began)
            store.finish(key)
    trainer.accelerator.wait_for_everyone()  # the processes that only computed may read the run from here on


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn what a full disk makes of each library's writer into one message."""
    try:
        yield
    except Exception as error:
        # safetensors gives the system's words only; torch's writer, which loses them, the name of its own file.
        if not any(words in str(error) for words in ("No space left", "quota exceeded", "inline_container")):
            raise
        raise TrainingError(
            f"the disk of {folder} is full; whole checkpoints are kept there, free some space and run again"
        ) from error


def make_model(config: RunConfig, data: RunData) -> FusionModel:
    """Build the run's fusion model; random weights come from torch's global generator."""
    sizes = model_config(config, data.processor)
    return build_model(data.spec, fusion=config.fusion, config=sizes, pretrained=config.pretrained)


def make_alignment(config: RunConfig, setting: PaperSetting, *, dim: int) -> Alignment | None:
    """Build the run's alignment with those of the run's settings that it knows; None where nothing is aligned."""
    chosen = config.alignment
    if chosen.name == "none" or setting.weight == 0:
        return None
    offered = {**chosen.model_dump(), "epsilon": setting.epsilon, "dim": dim, "seed": config.seed}
    known = alignment_parameters(chosen.name)
    return build_alignment(chosen.name, **{name: value for name, value in offered.items() if name in known})


def load_model(run: Run, data: RunData) -> FusionModel:
    """Return a run's fusion model with its best weights, in evaluation mode."""
    model = make_model(run.config, data)
    model.load_state_dict({**_frozen(model), **load_file(run.weights)})
    return model.eval()


def _arguments(config: RunConfig, data: RunData, folder: Path, *, progress: bool) -> TrainingArguments:
    devices = int(os.environ.get("WORLD_SIZE", 1))
    most = max(config.batch_size // devices, 1)
    per_device = min(config.device_batch_size or most, most)
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


def _write(
    folder: Path, config: RunConfig, data: RunData, trainer: AlignmentTrainer, outputs: Any, began: float
) -> None:
    """Write the files of a finished run into its partial folder; `outputs` are those of the best weights."""
    model = trainer.accelerator.unwrap_model(trainer.model).fusion
    frozen = _frozen(model)  # as they were loaded, and so they are loaded again
    weights = {name: t.cpu().contiguous() for name, t in model.state_dict().items() if name not in frozen}
    save_file(weights, folder / "model.safetensors")
    _history(trainer.state.log_history).to_csv(folder / "history.csv", index=False)
    task, intervals = data.spec.task, {}
    for split, output in outputs.items():
        ids = np.array(data.splits[split].ids())
        p = Predictions(ids, np.asarray(output.predictions), np.asarray(output.label_ids))
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
        "seconds": round(time.perf_counter() - began, 2),
    }
    write_json(folder / "provenance.json", {**project.provenance(), **details})


def _frozen(model: FusionModel) -> dict[str, torch.Tensor]:
    return {name: parameter.data for name, parameter in model.named_parameters() if not parameter.requires_grad}


def _history(log: list[dict[str, float]]) -> pd.DataFrame:
    """Merge the Trainer's training and evaluation records into one row per epoch."""
    records = pd.DataFrame([record for record in log if "loss" in record or "eval_loss" in record])
    epochs = records.groupby("epoch", as_index=False).last()[records.columns]
    return epochs.rename(columns=lambda name: name.replace("eval_", "val_")).dropna(axis=1, how="all")
