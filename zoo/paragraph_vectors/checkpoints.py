"""What a training loop of our own keeps beside the Trainer's: checkpoints, metrics.jsonl and a progress bar in words/s."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from zoo.core import atomic_files


class Runlog:
    """A run of `steps` blocks over `words` words. Without a folder nothing is kept."""

    def __init__(self, folder: Path | None, steps: int, words: int, show_progress: bool) -> None:
        self.folder, self.steps, self.total, self.show = folder, steps, words, show_progress
        self.step, self.words, self.seconds = 0, 0, 0.0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self.show:
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("training"),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[speed]:,.0f} words/s"),
                progress.TextColumn("loss {task.fields[loss]:.4f}"),
                progress.TimeElapsedColumn(),
                progress.TextColumn("left"),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("train", total=self.total, speed=0.0, loss=0.0)
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

    def resume(self) -> dict[str, np.ndarray]:
        """The arrays of the newest checkpoint, if there is one; `step` says how many blocks it holds. A checkpoint appears by
        one rename, so what has its name is whole."""
        if self.folder is None:
            return {}
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        atomic_files.remove_partial_files(self._checkpoints)
        found = sorted(self._checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        state = {}
        if found:
            mark = atomic_files.read_json(found[-1] / "progress.json")
            self.step, self.words, self.seconds = mark["step"], mark["words"], mark["seconds"]
            state = load_file(found[-1] / "state.safetensors")
            if self._bar is not None:
                self._bar.update(self._task, completed=self.words)
        metrics = self.folder / "metrics.jsonl"
        if metrics.exists():
            lines = metrics.read_text(encoding="utf-8").splitlines()[: self.step]
            atomic_files.write_text(metrics, "".join(f"{line}\n" for line in lines))
        return state

    def advance(self, words: int, step: int, epoch: float, loss: float, rate: float, seconds: float) -> None:
        """A block is done: `words` more, in `seconds`."""
        self.words, self.step, self.seconds = self.words + words, step, self.seconds + seconds
        if self._bar is not None:
            self._bar.update(self._task, completed=self.words, speed=self.words / max(self.seconds, 1e-9), loss=loss)
        if self.folder is not None:
            line = {"step": step, "epoch": round(epoch, 4), "loss": loss, "learning_rate": rate}
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"seconds": round(self.seconds, 3)}) + "\n")

    def save(self, state: dict[str, np.ndarray]) -> None:
        """Keep `state` as the newest checkpoint and remove those before it."""
        if self.folder is None:
            return
        new = self._checkpoints / f"checkpoint-{self.step}"
        with atomic_files.replace_folder(new) as partial:
            # not contiguous, an array would be written in another order
            save_file(
                {name: np.ascontiguousarray(array) for name, array in state.items()}, partial / "state.safetensors"
            )
            mark = {"step": self.step, "words": self.words, "seconds": self.seconds}
            (partial / "progress.json").write_text(json.dumps(mark), encoding="utf-8")
        for old in self._checkpoints.glob("checkpoint-*"):
            if old != new:
                shutil.rmtree(old)
