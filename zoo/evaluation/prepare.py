"""Reads and checks the data of all tasks, so that mistakes in it show before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.evaluation.mteb_build import slug
from zoo.evaluation.mteb_isolation import preserve_random_state, silence_mteb
from zoo.evaluation.task import ReadyTask, TaskSpec

if TYPE_CHECKING:
    from zoo.encoder import Encoder

LABEL = 80  # characters of a view in a file name


@dataclass(frozen=True)
class Prepared:
    """Tasks whose data was read and found good, and the fingerprints that go into lock.json."""

    tasks: list[ReadyTask]
    lock: dict[str, Any] = field(default_factory=dict)

    def join(self, other: Prepared) -> Prepared:
        """The tasks of both. Raises ZooError for two tasks of one name."""
        used_names = {name_file(task, {}) for task in self.tasks}
        for task in other.tasks:
            if name_file(task, {}) in used_names:
                raise ZooError(f"two tasks are called {task.name!r}; give one a `name`")
        return Prepared([*self.tasks, *other.tasks], self.lock | other.lock)


def prepare(tasks: Sequence[TaskSpec], folder: Path = Path()) -> Prepared:
    """Read the data of all tasks, from the recipe's sources and from the Hub. Relative paths start at `folder`.

    Raises DataError for data that does not form a valid task. Raises ZooError for an official task that mteb does not know or
    whose data cannot be read, and for two tasks of one name.
    """
    prepared = Prepared([])
    with preserve_random_state(), silence_mteb():
        for entry in tasks:
            for task in entry.expand():
                lock: dict[str, Any] = {}
                prepared = prepared.join(Prepared([task.prepare(folder, lock)], lock))
    return prepared


def check_encoder(encoder: Encoder, prepared: Prepared) -> None:
    """Raise ZooError for a task of a modality that `encoder` does not read, or that its family cannot compute."""
    for task in prepared.tasks:
        if unread := task.modalities - set(encoder.modalities):
            raise ZooError(f"{task.name}: holds {', '.join(sorted(unread))}, which {encoder.name} does not read")
        if task.spec.needs_own_classes and not encoder.spec.recognises:
            raise ZooError(f"{task.name}: the family {encoder.spec.family} has no classes of its own to recognise")


def name_file(task: ReadyTask, view: Mapping[str, Any]) -> str:
    """The file of a task's result at a view."""
    label = "-".join(f"{name}{value}" for name, value in view.items()) or "whole"
    short = slug(label) if len(label) <= LABEL else f"{slug(label[:LABEL])}-{atomic_files.digest(label)[:8]}"
    return f"{slug(task.name)}__{short}.json"
