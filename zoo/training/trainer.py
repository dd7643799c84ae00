"""A family's loss under `transformers.Trainer`: one way to train for all of them.

What is added to the stock Trainer: checkpoints that count only when complete, a loss that stops at NaN, batches that are the
same however many processes share them, a metrics file that survives a kill, and a progress bar.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from datasets import Dataset
from torch.utils.data import Sampler
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from zoo.core import atomic_files, hardware
from zoo.core.errors import ZooError
from zoo.encoder import Encoder
from zoo.schema import Training

COMPLETE = "complete.json"


class _Objective(torch.nn.Module):
    """What the Trainer sees: forward is the family's loss, parameters are the family's module."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.inner = encoder.module

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        return {"loss": self.encoder.loss(batch)}


class _Shuffle(Sampler[int]):
    """A permutation, or the `order` that rows of their own kind have; it depends on seed and epoch alone, so that a resumed or
    a shared run sees the same batches."""

    def __init__(self, rows: Any, seed: int) -> None:
        self.rows, self.seed, self.epoch = len(rows), seed, 0
        self.order = getattr(rows, "order", None)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        if self.order is not None:
            return iter(self.order(self.seed, self.epoch))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.rows, generator=generator).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer when an epoch begins."""
        self.epoch = epoch


class _Trainer(transformers.Trainer):
    objective: _Objective

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return _Shuffle(rows, self.args.seed)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        self.objective.encoder.step = self.state.global_step
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise ZooError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}: lower training.learning_rate or "
                "training.max_grad_norm, or use precision: fp32; the last checkpoint is kept"
            )
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Each optimiser group by itself: the large gradients of fresh heads must not shrink those of the backbone."""
        limit = self.args.max_grad_norm
        groups = self.optimizer.param_groups if self.optimizer is not None else []
        norms = [self.accelerator.clip_grad_norm_(group["params"], limit) for group in groups]
        return torch.linalg.vector_norm(torch.stack([torch.as_tensor(norm).cpu() for norm in norms]))

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss over the validation rows. Every process goes through all of them, so that all take the same decision."""
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        loader = torch.utils.data.DataLoader(rows, self.args.per_device_eval_batch_size, collate_fn=self.data_collator)
        self.objective.eval()
        losses, seen = [], 0
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in loader:
                count = min(self.args.per_device_eval_batch_size, len(rows) - seen)
                losses.append(self.objective(**self._prepare_inputs(batch))["loss"].item() * count)
                seen += count
        metrics = {f"{metric_key_prefix}_loss": sum(losses) / seen}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Keeper(transformers.TrainerCallback):
    """Marks a checkpoint as complete once all its files are on disk, and writes metrics.jsonl and the progress bar."""

    def __init__(self, folder: Path, show_progress: bool, already: float) -> None:
        self.metrics, self.show = folder / "metrics.jsonl", show_progress
        self.began, self.already = time.monotonic(), already
        self.bar: Any = None
        self.task: Any = None
        self.trained = 0.0

    def _seconds(self) -> float:
        return round(self.already + time.monotonic() - self.began, 3)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.began = time.monotonic()
        if not (self.show and state.is_world_process_zero):
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.bar.start()
        self.task = self.bar.add_task("train", total=state.max_steps, completed=state.global_step, loss="…")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True  # or the last steps could never be the best
        if self.bar is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not state.is_world_process_zero or not logs:
            return
        line: dict[str, Any] = {"step": state.global_step, "epoch": round(float(state.epoch or 0), 4)}
        if "loss" in logs:
            kept = {k: float(logs[k]) for k in ("loss", "learning_rate", "grad_norm") if k in logs}
            line |= {k: v for k, v in kept.items() if math.isfinite(v)}
            line["seconds"] = self._seconds()
            if self.bar is not None:
                self.bar.update(self.task, loss=f"{kept['loss']:.4f}")
        elif "eval_loss" in logs:
            line["validation_loss"] = float(logs["eval_loss"])
        else:
            return
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            sizes = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
            atomic_files.write_json(folder / COMPLETE, {"files": sizes, "seconds": self._seconds()})

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trained = self._seconds()
        self.close()

    def close(self) -> None:
        """Give the terminal back."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def fit(
    encoder: Encoder,
    rows: Dataset,
    settings: Training,
    folder: Path,
    *,
    validation: Dataset | None = None,
    show_progress: bool = False,
) -> float:
    """Train `encoder` in place, from the newest complete checkpoint in `folder` if there is one.

    Args:
        rows: the training rows, as the family's `collate` wants them.
        folder: receives checkpoints/ and metrics.jsonl.
        validation: rows whose loss decides early stop and best weights; never test data.

    Returns the seconds spent in training, those before an interruption included. Raises ZooError for a batch larger than
    the data and for a loss that is not finite.
    """
    hardware.keep_large_blocks()
    transformers.set_seed(settings.seed)
    transformers.logging.set_verbosity_error()
    micro = settings.batch_size // settings.gradient_accumulation
    whole = len(rows) >= settings.batch_size
    per_epoch = max(1, len(rows) // settings.batch_size) if whole else 1
    if not whole:
        micro = math.ceil(len(rows) / settings.gradient_accumulation)
    total = settings.max_steps or max(1, math.ceil(per_epoch * (settings.epochs or 1)))
    checkpoints = folder / "checkpoints"
    first = PartialState(cpu=not torch.cuda.is_available()).is_main_process
    resume, already = _newest(checkpoints, remove=first)
    if first:
        _forget_after(folder / "metrics.jsonl", int(resume.name.split("-")[1]) if resume else 0)
    every = settings.checkpoint_every or max(1, math.ceil(total / 10))
    best = validation is not None and settings.keep_best
    cuda, multiplies = torch.cuda.is_available(), precision(settings)
    args = transformers.TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=total,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=round(settings.warmup * total),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=multiplies == "bfloat16",
        fp16=multiplies == "float16",
        use_cpu=not cuda,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        eval_strategy="steps" if validation is not None else "no",
        eval_steps=every,
        load_best_model_at_end=best,
        metric_for_best_model="eval_loss" if validation is not None else None,
        greater_is_better=False if validation is not None else None,
        logging_steps=max(1, total // 100),
        logging_nan_inf_filter=False,
        dataloader_drop_last=whole,
        # batch_size is the whole batch: every process takes its slice of the same rows
        accelerator_config={"split_batches": True, "even_batches": True},
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        label_names=[],
        report_to=[],
        disable_tqdm=True,
    )
    keeper = _Keeper(folder, show_progress, already)
    callbacks: list[transformers.TrainerCallback] = [keeper]
    if validation is not None and settings.early_stop:
        callbacks.append(transformers.EarlyStoppingCallback(settings.early_stop))
    groups = encoder.parameter_groups(settings)
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    objective = _Objective(encoder)
    trainer = _Trainer(
        model=objective,
        args=args,
        train_dataset=rows,
        eval_dataset=validation,
        data_collator=encoder.collate,
        optimizers=(optimizer, None),
        callbacks=callbacks,
    )
    trainer.objective = objective
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    finally:
        keeper.close()
    encoder.module.eval()
    return keeper.trained


def precision(settings: Training) -> str:
    """What `precision` of a recipe comes to on this machine: float32, bfloat16 or float16."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return str(hardware.resolve_precision(settings.precision, device)).removeprefix("torch.")


def _newest(checkpoints: Path, *, remove: bool) -> tuple[Path | None, float]:
    """The newest checkpoint whose files are all there, and its seconds; `remove` those that a kill cut short."""
    found: dict[int, tuple[Path, float]] = {}
    for folder in checkpoints.glob("checkpoint-*"):
        try:
            mark = atomic_files.read_json(folder / COMPLETE)
            whole = all((folder / name).stat().st_size == size for name, size in mark["files"].items())
        except (OSError, ValueError):
            whole = False
        if whole:
            found[int(folder.name.split("-")[1])] = (folder, float(mark["seconds"]))
        elif remove:
            shutil.rmtree(folder)
    return found[max(found)] if found else (None, 0.0)


def _forget_after(metrics: Path, step: int) -> None:
    """Drop the lines after the checkpoint that training goes on from; they will be written again."""
    if not metrics.exists():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break
    atomic_files.write_text(metrics, "".join(f"{line}\n" for line in kept) if step else "")


def broadcast_from_main(word: Any = None) -> Any:
    """A point that every process of a distributed run reaches before any goes on; returns the first one's `word` to all."""
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not torch.cuda.is_available())
    return broadcast_object_list([word])[0]
