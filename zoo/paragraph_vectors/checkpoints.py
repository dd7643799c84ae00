"""Checkpoints, metrics.jsonl and a progress bar in words/s, for a training loop that does not use transformers' Trainer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from zoo.core import atomic_files
from zoo.core.run_environment import Environment
from zoo.core.training_log import Say, TrainingLog

Array = npt.NDArray[Any]


class RunLog:
    """The log of a run of `steps` blocks over `total_words` words. Without a `folder` nothing is written.

    Attributes:
        step: number of finished blocks.
        words: number of words that finished blocks trained on.
        seconds: time that finished blocks took, also before an interruption.
        environment: what the result depends on besides the recipe; `resume` sets it to that of the checkpoint.
    """

    def __init__(
        self,
        folder: Path | None,
        steps: int,
        total_words: int,
        show_progress: bool,
        environment: Environment | None = None,
        say: Say | None = None,
    ) -> None:
        self._log = TrainingLog(None if show_progress else say, steps, step_name="block", unit="words")
        self.environment = dict(environment or {})
        self.folder, self.steps, self.total_words, self.show_progress = folder, steps, total_words, show_progress
        self.step, self.words, self.seconds = 0, 0, 0.0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self.show_progress:
            self._bar = _create_progress_bar()
            self._bar.start()
            self._task = self._bar.add_task("train", total=self.total_words, speed=0.0, loss="…")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def _checkpoints(self) -> Path:
        assert self.folder is not None
        return self.folder / "checkpoints"

    def resume(self) -> dict[str, Array]:
        """Read the newest checkpoint: set `step`, `words` and `seconds`, cut metrics.jsonl, and return the arrays.

        Returns an empty dict if there is no checkpoint. A checkpoint gets its name by one rename, so a folder with such a name
        is complete.
        """
        if self.folder is None:
            return {}
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        atomic_files.remove_partial_files(self._checkpoints)
        checkpoints = sorted(self._checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        arrays = {}
        if checkpoints:
            progress = atomic_files.read_json(checkpoints[-1] / "progress.json")
            self.step, self.words, self.seconds = progress["step"], progress["words"], progress["seconds"]
            self.environment = progress.get("environment", self.environment)
            self._log.first = self.step
            arrays = load_file(checkpoints[-1] / "state.safetensors")
            if self._bar is not None:
                self._bar.update(self._task, completed=self.words)
        metrics = self.folder / "metrics.jsonl"
        if metrics.exists():
            lines = metrics.read_text(encoding="utf-8").splitlines()[: self.step]
            atomic_files.write_text(metrics, "".join(f"{line}\n" for line in lines))
        return arrays

    def record_step(
        self,
        step: int,
        *,
        words: int,
        epoch: float,
        loss: float | None,
        learning_rate: float,
        seconds: float,
        phase: str | None = None,
    ) -> None:
        """Record that block `step` (from 1) is finished: it trained on `words` words in `seconds`.

        `loss` is None for a block in which nothing was predicted. Losses of different phases are not to be compared.
        """
        self.words, self.step, self.seconds = self.words + words, step, self.seconds + seconds
        self._log.record(step, words, epoch, loss)
        if self._bar is not None:
            shown_loss = {} if loss is None else {"loss": f"{loss:.4f}"}
            self._bar.update(self._task, completed=self.words, speed=self.words / max(self.seconds, 1e-9), **shown_loss)
        if self.folder is not None:
            line: dict[str, Any] = {"step": step, "epoch": round(epoch, 4)}
            line |= {"learning_rate": learning_rate} if loss is None else {"loss": loss, "learning_rate": learning_rate}
            line |= {"phase": phase} if phase else {}
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"seconds": round(self.seconds, 3)}) + "\n")

    def save_checkpoint(self, arrays: Mapping[str, Array]) -> None:
        """Write `arrays` as the newest checkpoint, and remove the older ones."""
        if self.folder is None:
            return
        checkpoint = self._checkpoints / f"checkpoint-{self.step}"
        with atomic_files.replace_folder(checkpoint) as partial:
            # save_file writes the memory of an array as it is, so an array that is not contiguous would be scrambled
            contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            save_file(contiguous, partial / "state.safetensors")
            progress: dict[str, Any] = {"step": self.step, "words": self.words, "seconds": self.seconds}
            progress["environment"] = self.environment
            (partial / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
        for other in self._checkpoints.glob("checkpoint-*"):
            if other != checkpoint:
                shutil.rmtree(other)


def _create_progress_bar() -> Any:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("training"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[speed]:,.0f} words/s"),
        progress.TextColumn("loss {task.fields[loss]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
