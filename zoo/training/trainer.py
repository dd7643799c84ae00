"""Train any encoder on its own loss under `transformers.Trainer`.

To the stock Trainer this adds: only complete checkpoints count; training stops at a loss that is NaN or infinite; batches are
the same for any number of processes; metrics.jsonl survives an interruption; a progress bar.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from torch.utils.data import Sampler
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from zoo.core import hardware
from zoo.core.errors import RunWarning, ZooError
from zoo.core.run_environment import Environment, choose_threads
from zoo.core.training_log import Say
from zoo.data.mapped import FetchedRows
from zoo.ops import distributed
from zoo.schema import Training
from zoo.training import mixture, sharding, trackers
from zoo.training.arguments import BestBy, make_arguments
from zoo.training.checkpoints import (
    METRICS,
    SCORE_OF,
    RunRecorder,
    find_newest_checkpoint,
    read_record,
    read_step,
    truncate_metrics,
)
from zoo.training.compiling import call_uncompiled, compile_networks
from zoo.training.distributed import broadcast_from_main, is_main_process
from zoo.training.epoch_order import EpochSampler, EpochStart, count_rows_seen
from zoo.training.optimizers import list_clipped, make_optimizer
from zoo.training.source_losses import SourceLosses
from zoo.training.space import SpaceFollower
from zoo.training.step_plan import plan_steps, split_rows
from zoo.training.watch import Watch


class TrainableEncoder(Protocol):
    """The interface of an encoder that the Trainer uses.

    Attributes:
        module: every trainable tensor.
        step: the current optimiser step; the Trainer sets it before each forward pass.
        rows_seen: how many different rows the kept weights were trained on; the Trainer sets it at the end.
    """

    module: torch.nn.Module
    step: int
    rows_seen: int | None

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a batch of tensors of rows of the data set."""
        ...

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Compute the scalar training loss of one batch."""
        ...

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups."""
        ...

    def use_trained_weights(self) -> None:
        """Let `encode` use the weights as they are in the middle of the training."""
        ...


class LossModule(torch.nn.Module):
    """A module whose forward pass is the encoder's loss; the Trainer takes it for the model."""

    def __init__(self, encoder: TrainableEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.inner = encoder.module  # part of the tensor names in checkpoints
        self._no_split_modules = sharding.list_layer_classes(encoder.module)  # accelerate reads it

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        """Return {"loss": scalar}."""
        return {"loss": self.encoder.loss(batch)}


class EncoderTrainer(transformers.Trainer):
    """`transformers.Trainer` for a LossModule."""

    loss_module: LossModule
    source_losses: SourceLosses
    watch: Watch | None = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return EpochSampler(rows.rows, self.args.seed)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Run forward and backward pass of one batch. Raise ZooError if the loss is not finite."""
        self.loss_module.encoder.step = self.state.global_step
        source = inputs.pop(mixture.BATCH_SOURCE, None)
        sharding.require_divided(self.loss_module)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise ZooError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}: lower training.learning_rate or "
                "training.max_grad_norm, or use precision: fp32; the last checkpoint is kept"
            )
        if source is not None:
            self.source_losses.add(source, loss * self.current_gradient_accumulation_steps)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the figures of a step; with the training loss, also that of each source since the last time."""
        super().log({**logs, **self.source_losses.take()} if "loss" in logs else logs, *args, **kwargs)

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip each parameter group by its own norm, and return the norm of all.

        The large gradients of new heads must not shrink those of the backbone.
        """
        max_norm = self.args.max_grad_norm
        clipped = list_clipped(self.optimizer) if self.optimizer is not None else []
        norms = [self.accelerator.clip_grad_norm_(parameters, max_norm) for parameters in clipped]
        return torch.linalg.vector_norm(torch.stack([sharding.gather(torch.as_tensor(norm)).cpu() for norm in norms]))

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        """Also find the best checkpoint in the run folder if the folder was moved, or is reached by another path."""
        progress = super()._init_training_state(*args, **kwargs)
        self.state.best_model_checkpoint = self._find_best_checkpoint(self.state)
        return progress

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Also find the best checkpoint again: before this, the folder of divided weights does not exist."""
        super()._save_optimizer_and_scheduler(output_dir)
        self.state.best_model_checkpoint = self._find_best_checkpoint(self.state)

    def _find_best_checkpoint(self, state: Any) -> str | None:
        best = Path(str(self.args.output_dir)) / f"checkpoint-{state.best_global_step}"
        return str(best) if best.is_dir() else None

    def count_kept_steps(self) -> int:
        """The optimiser steps behind the weights that the training ends with: up to the best step if its weights are kept."""
        best_step = self.state.best_global_step if self.args.load_best_model_at_end else None
        return int(best_step or self.state.global_step)

    def load_result(self, checkpoint: Path) -> None:
        """Load the weights of a training that ended at `checkpoint`: the best ones if they are kept, else the last ones."""
        self.state = transformers.TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        best = self._find_best_checkpoint(self.state) if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(best or str(checkpoint))

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Compute the mean loss over the validation rows, and the score of the validation tasks.

        All processes get the same figures, and so decide the same about early stop and best weights.
        """
        self.loss_module.eval()
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        with call_uncompiled(self.loss_module):
            metrics = {} if rows is None else {f"{metric_key_prefix}_loss": self._compute_validation_loss(rows)}
            if self.watch is not None:
                metrics |= _compute_scores(self.watch, self.loss_module.encoder, metric_key_prefix)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _compute_validation_loss(self, rows: Any) -> float:
        """Return the mean loss. Every process computes it over all rows."""
        batch_size = self.args.per_device_eval_batch_size
        is_mixture = isinstance(rows, mixture.SourceMixture)
        split = rows.split_into_batches(batch_size) if is_mixture else split_rows(len(rows), batch_size)
        batches = [list(numbers) for numbers in split]
        fetched: Any = FetchedRows(rows)
        loader = torch.utils.data.DataLoader(fetched, batch_sampler=batches, collate_fn=self.data_collator)
        loss_sums = []
        with torch.no_grad(), self.compute_loss_context_manager():
            for numbers, batch in zip(batches, loader, strict=True):
                batch.pop(mixture.BATCH_SOURCE, None)
                loss_sums.append(self.loss_module(**self._prepare_inputs(batch))["loss"].item() * len(numbers))
        return float(sum(loss_sums) / sum(map(len, batches)))

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        """Also ask for a checkpoint of the best weights, because not every validation falls on a checkpoint."""
        is_best = bool(super()._determine_best_metric(metrics, trial))
        if is_best and self.args.load_best_model_at_end:
            self.control.should_save = True
        return is_best


def _compute_scores(watch: Watch, encoder: TrainableEncoder, prefix: str) -> dict[str, float]:
    """Return the score of each task and their mean.

    All processes encode, because a module that is divided among them needs all. The figures of the first process count.
    """
    encoder.use_trained_weights()
    scores: dict[str, float] = broadcast_from_main(dict(watch.score(encoder)))
    encoder.use_trained_weights()  # frees the copies
    named = {f"{prefix}_{SCORE_OF}{name}": value for name, value in scores.items()}
    return {f"{prefix}_score": sum(scores.values()) / len(scores)} | named


def fit(
    encoder: TrainableEncoder,
    rows: Any,
    settings: Training,
    folder: Path,
    *,
    validation: Any = None,
    show_progress: bool = False,
    say: Say | None = None,
    finish: bool = False,
    watch: Watch | None = None,
) -> float:
    """Train `encoder` in place, from the newest complete checkpoint in `folder` if there is one.

    Args:
        rows: the training rows, as the family's `collate` reads them. Fewer rows than a batch become one batch. Rows of
            several sources are a `SourceMixture`. Rows with a method `begin_epoch(epoch)` may change there, but not in number.
        folder: receives checkpoints/ and metrics.jsonl.
        validation: rows whose loss decides early stop and best weights; never test data.
        say: receives lines about rate, epoch and time left if no bar is shown.
        finish: take the newest checkpoint for the end of the training. Raises ZooError if there is none.
        watch: tasks whose score decides early stop and best weights, also if there are validation rows.

    Returns the seconds of training, including those before an interruption. Raises ZooError if the loss is not finite.
    """
    hardware.keep_large_blocks()
    transformers.set_seed(settings.seed)
    transformers_logging: Any = transformers.logging  # it has no annotations
    transformers_logging.set_verbosity_error()
    _check_processes(settings, len(rows))
    follows_space = getattr(encoder, "space_watch", None) is not None
    sharding.check_request(
        settings, getattr(encoder, "spec", None), scores=watch is not None, follows_space=follows_space
    )
    checkpoints = folder / "checkpoints"
    resume_from, seconds_before = find_newest_checkpoint(checkpoints, remove_incomplete=is_main_process())
    sharding.check_checkpoint(resume_from)
    if is_main_process():
        truncate_metrics(folder / METRICS, read_step(resume_from))
    run_name = str(getattr(encoder, "name", folder.name))
    with (
        _keep_environment(read_record(resume_from)) as environment,
        trackers.follow(settings.report, run_name, folder, say),
        sharding.divide_weights(encoder) as trained,
        compile_networks(trained.module, settings),
    ):
        recorder = RunRecorder(folder, show_progress, seconds_before, environment, say)
        arguments = make_arguments(settings, checkpoints, len(rows), best_by=_choose_figure(validation, watch))
        arguments.run_name = run_name
        trainer = _make_trainer(trained, rows, settings, arguments, recorder)
        trainer.eval_dataset, trainer.watch = validation, watch
        if (space := getattr(encoder, "space_watch", None)) is not None:
            trainer.add_callback(SpaceFollower(trainer, space))
        try:
            _train_on(trainer, resume_from, finish=finish)
        finally:
            recorder.close()
    encoder.module.eval()
    encoder.rows_seen = count_rows_seen(rows, settings, trainer.count_kept_steps())
    return recorder.seconds_trained


def _make_trainer(
    encoder: TrainableEncoder,
    rows: Any,
    settings: Training,
    arguments: transformers.TrainingArguments,
    recorder: RunRecorder,
) -> EncoderTrainer:
    callbacks: list[transformers.TrainerCallback] = [recorder]
    validates = arguments.eval_strategy != "no"
    if validates and isinstance(settings.early_stop, int):
        callbacks.append(transformers.EarlyStoppingCallback(settings.early_stop))
    if hasattr(rows, "begin_epoch"):
        callbacks.append(EpochStart(rows.begin_epoch))
    loss_module = LossModule(encoder)
    collate = rows.note_source(encoder.collate) if isinstance(rows, mixture.SourceMixture) else encoder.collate
    trainer = EncoderTrainer(
        model=loss_module,
        args=arguments,
        train_dataset=FetchedRows(rows),
        eval_dataset=[] if validates else None,  # `fit` sets it
        data_collator=collate,
        callbacks=callbacks,
    )
    trainer.optimizer = make_optimizer(encoder, settings)  # as an argument it would be refused with FSDP
    trainer.loss_module, trainer.source_losses = loss_module, SourceLosses(rows)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _choose_figure(validation: Any, watch: Watch | None) -> BestBy | None:
    """Return the figure that decides early stop and best weights: the score of the tasks if there are any, else the loss."""
    if watch is not None:
        return BestBy("eval_score", watch.greater_is_better)
    return None if validation is None else BestBy("eval_loss", greater_is_better=False)


def _train_on(trainer: EncoderTrainer, resume_from: Path | None, *, finish: bool) -> None:
    """Train from a checkpoint or from the start, or take the weights of a checkpoint that is the end of the training."""
    if resume_from is not None and (finish or read_record(resume_from).get("finished")):
        trainer.load_result(resume_from)
    elif finish:
        place = trainer.args.output_dir
        raise ZooError(f"{place}: there is no checkpoint yet that the run could be finished from")
    else:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)


@contextmanager
def _keep_environment(record: Mapping[str, Any]) -> Iterator[Environment]:
    """Train with as many threads as the run began with, and yield the environment that checkpoints keep."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    here: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "processes": distributed.get_world_size(),
        "device": device,
    }
    before = record.get("environment", {})
    with warnings.catch_warnings():
        if not is_main_process():
            warnings.simplefilter("ignore", RunWarning)
        threads = choose_threads(here, before)
    torch.set_num_threads(threads)
    try:
        yield here | {"threads": threads}
    finally:
        torch.set_num_threads(here["threads"])


def _check_processes(settings: Training, row_count: int) -> None:
    """Raise ZooError if the rows of a forward pass cannot be divided over the processes."""
    processes, part = distributed.get_world_size(), plan_steps(settings, row_count).micro_batch_size
    if part % processes:
        raise ZooError(
            f"training.batch_size: parts of {part} rows cannot be divided over {processes} processes: change batch_size, "
            "gradient_accumulation or the number of processes"
        )
