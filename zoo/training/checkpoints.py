"""Which checkpoints count, and what is on record about a run: complete.json, metrics.jsonl, the progress bar."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import transformers

from zoo.core import atomic_files
from zoo.core.run_environment import Environment
from zoo.core.training_log import Say, TrainingLog
from zoo.training.space import read_space

COMPLETE = "complete.json"
METRICS = "metrics.jsonl"
LOSS_OF_SOURCE = "loss_of_source/"  # before the name of a source, in the figures that the Trainer logs
SCORE_OF = "score_of_"  # begins the name of a task's score in the Trainer's log


def find_newest_checkpoint(checkpoints: Path, *, remove_incomplete: bool) -> tuple[Path | None, float]:
    """Return the newest complete checkpoint and the seconds trained up to it; (None, 0.0) if there is none.

    With `remove_incomplete` the checkpoints that are not complete are deleted: an interruption left them half written.
    """
    complete = list_complete_checkpoints(checkpoints)
    for folder in checkpoints.glob("checkpoint-*") if remove_incomplete else ():
        if folder not in complete:
            shutil.rmtree(folder)
    newest = complete[-1] if complete else None
    return newest, float(read_record(newest).get("seconds", 0.0))


def list_complete_checkpoints(checkpoints: Path) -> list[Path]:
    """Return the complete checkpoints, the oldest first."""
    return sorted(filter(is_complete, checkpoints.glob("checkpoint-*")), key=read_step)


def is_complete(checkpoint: Path) -> bool:
    """Whether every file that complete.json of a checkpoint lists is there with its size."""
    try:
        files = atomic_files.read_json(checkpoint / COMPLETE)["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def read_step(checkpoint: Path | None) -> int:
    """Return the optimiser step at which a checkpoint was saved; 0 for None."""
    return int(checkpoint.name.split("-")[1]) if checkpoint else 0


def read_record(checkpoint: Path | None) -> dict[str, Any]:
    """Return what complete.json says about a complete checkpoint: files, seconds, environment, finished; {} for None."""
    record: dict[str, Any] = atomic_files.read_json(checkpoint / COMPLETE) if checkpoint else {}
    return record


def truncate_metrics(metrics: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl after `step`, from which training resumes: it writes them again."""
    if not metrics.exists():
        return
    lines = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line)
        except ValueError:  # an interruption cut the last line short
            break
    atomic_files.write_text(metrics, "".join(f"{line}\n" for line in lines) if step else "")


class RunRecorder(transformers.TrainerCallback):
    """Marks checkpoints as complete, writes metrics.jsonl and updates the progress bar.

    Args:
        folder: the run folder, where metrics.jsonl is appended to.
        seconds_before: seconds of training before the checkpoint that the run resumes from.
        environment: what the result depends on besides the recipe; kept in every checkpoint.
        say: receives lines about rate, epoch and time left if there is no progress bar.
    """

    def __init__(
        self,
        folder: Path,
        show_progress: bool,
        seconds_before: float,
        environment: Environment | None = None,
        say: Say | None = None,
    ) -> None:
        self.say = None if show_progress else say
        self._log: TrainingLog | None = None
        self._last_loss: float | None = None
        self.environment = dict(environment or {})
        self.metrics, self.show_progress = folder / METRICS, show_progress
        self.start_time, self.seconds_before = time.monotonic(), seconds_before
        self.seconds_trained = seconds_before
        self._bar: Any = None
        self._bar_task: Any = None

    def _seconds(self) -> float:
        return round(self.seconds_before + time.monotonic() - self.start_time, 3)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock and, in the main process, the progress bar."""
        self.start_time = time.monotonic()
        if state.is_world_process_zero:
            self._log = TrainingLog(self.say, state.max_steps, state.global_step)
        if self.show_progress and state.is_world_process_zero:
            self._bar = _make_progress_bar()
            self._bar.start()
            self._bar_task = self._bar.add_task("train", total=state.max_steps, completed=state.global_step, loss="…")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Request a validation after the last step; otherwise the last steps could never be the best."""
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True
        if self._log is not None:
            rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
            self._log.record(state.global_step, rows, float(state.epoch or 0), self._last_loss)
        if self._bar is not None:
            self._bar.update(self._bar_task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Append a line to metrics.jsonl for a loss, a validation or the space. Figures that are not finite are left out."""
        if not state.is_world_process_zero or not logs:
            return
        line: dict[str, Any] = {"step": state.global_step, "epoch": round(float(state.epoch or 0), 4)}
        if "loss" in logs:
            figures = {name: float(logs[name]) for name in ("loss", "learning_rate", "grad_norm") if name in logs}
            line |= {name: value for name, value in figures.items() if math.isfinite(value)}
            by_source = {
                name.removeprefix(LOSS_OF_SOURCE): float(value)
                for name, value in logs.items()
                if name.startswith(LOSS_OF_SOURCE) and math.isfinite(value)
            }
            line |= {"loss_by_source": by_source} if by_source else {}
            line["seconds"] = self._seconds()
            self._last_loss = figures["loss"]
            if self._bar is not None:
                self._bar.update(self._bar_task, loss=f"{figures['loss']:.4f}")
        elif measured := _read_validation(logs) or read_space(logs):
            line |= measured
        else:
            return
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write complete.json into the new checkpoint, once all its other files are on disk."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            sizes = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
            record = {"files": sizes, "seconds": self._seconds(), "environment": self.environment}
            # A resumed run would go on training, because the Trainer forgets at its start that it had to stop.
            atomic_files.write_json(folder / COMPLETE, record | {"finished": control.should_training_stop})

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock and the progress bar."""
        self.seconds_trained = self._seconds()
        self.close()

    def close(self) -> None:
        """Stop the progress bar, which gives the cursor back to the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _read_validation(logs: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a validation as metrics.jsonl has them: `validation_loss`, `validation_score`, and both by part."""
    figures: dict[str, Any] = {
        f"validation_{name}": float(logs[f"eval_{name}"]) for name in ("loss", "score") if f"eval_{name}" in logs
    }
    start = f"eval_{SCORE_OF}"
    scores = {name.removeprefix(start): float(value) for name, value in logs.items() if name.startswith(start)}
    return figures | ({"validation_scores": scores} if scores else {})


def _make_progress_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
