"""The recipe's `training:` section as arguments of `transformers.Trainer`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

import torch
import transformers

from zoo.core import hardware
from zoo.schema import Training
from zoo.training.step_plan import plan_steps

KEPT_CHECKPOINTS = 2  # if a recipe does not say how many


class BestBy(NamedTuple):
    """The figure of a validation that says which weights are the best, and its direction."""

    metric: str
    greater_is_better: bool


def make_arguments(
    settings: Training, checkpoints: Path, row_count: int, *, best_by: BestBy | None
) -> transformers.TrainingArguments:
    """Return the Trainer's arguments for a run over `row_count` rows whose checkpoints go into the folder `checkpoints`.

    `best_by` says by which figure of a validation the best weights are found; None for a run without validation.
    """
    plan = plan_steps(settings, row_count)
    checkpoint_every = settings.checkpoint_every or max(1, math.ceil(plan.total_steps / 10))
    has_cuda, dtype_name = torch.cuda.is_available(), resolve_precision_name(settings)
    arguments = transformers.TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=plan.total_steps,
        per_device_train_batch_size=plan.micro_batch_size,
        per_device_eval_batch_size=plan.micro_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.peak_learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=round(settings.warmup * plan.total_steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=dtype_name == "bfloat16",
        fp16=dtype_name == "float16",
        use_cpu=not has_cuda,
        save_strategy="steps",
        save_steps=checkpoint_every,
        save_total_limit=_count_kept(settings),
        restore_callback_states_from_checkpoint=True,  # early stop goes on counting
        eval_strategy="no" if best_by is None else "steps",
        eval_steps=settings.validate_every or checkpoint_every,
        metric_for_best_model=best_by.metric if best_by else None,
        greater_is_better=best_by.greater_is_better if best_by else None,
        logging_steps=max(1, plan.total_steps // 100),
        logging_nan_inf_filter=False,
        dataloader_drop_last=plan.drop_last,
        # `batch_size` counts the rows of all processes: each takes its slice of the same rows
        accelerator_config={"split_batches": True, "even_batches": True},
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=has_cuda,
        remove_unused_columns=False,
        label_names=[],
        report_to=list(settings.report),
        project=os.environ.get("TRACKIO_PROJECT", "zoo"),
        trackio_static_space_id=False,  # nothing is uploaded to the Hub but what `publish` asks for
        disable_tqdm=True,
    )
    # Set afterwards: the Trainer would refuse other steps for checkpoints than for validations, but `EncoderTrainer` saves the
    # best weights whenever they are found.
    arguments.load_best_model_at_end = best_by is not None and settings.keep_best
    return arguments


def _count_kept(settings: Training) -> int | None:
    """Return how many checkpoints stay; None for all. The best one stays besides, and a resumed run needs one."""
    if settings.keep_checkpoints is None:
        return KEPT_CHECKPOINTS
    return None if settings.keep_checkpoints == "all" else settings.keep_checkpoints


def resolve_precision_name(settings: Training) -> str:
    """Return what `precision` of a recipe means on this machine: "float32", "bfloat16" or "float16"."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return str(hardware.resolve_precision(settings.precision, device)).removeprefix("torch.")
