"""Builds mteb task objects over the user's own data, so that mteb computes every score.

A result on one's own data carries the task's own name and the sha256 of its data. It therefore never claims to be official.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.core import atomic_files
from zoo.data import Table

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


class MtebTask(NamedTuple):
    """How mteb computes a task over the user's own data.

    Attributes:
        base: mteb's abstract task.
        type, main_score: the names that mteb gives them.
        category: what goes in and what comes out, in mteb's notation: t2t, t2c, i2c.
        modalities: of the inputs.
        columns: attributes that name the columns. They are set on official classes too, which may name them otherwise.
        attributes: further attributes, for tasks over the user's own data only.
    """

    base: type[AbsTask]
    type: str
    main_score: str
    category: str = "t2t"
    modalities: Sequence[str] = ("text",)
    columns: Mapping[str, Any] = {}
    attributes: Mapping[str, Any] = {}


def compute_revision(tables: Mapping[str, Table]) -> str:
    """sha256 over the fingerprints of all tables of a task."""
    return atomic_files.digest({name: table.fingerprint for name, table in tables.items()})


def slug(name: str) -> str:
    """A name as it can stand in a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")


def build(
    name: str, kind: str, task: MtebTask, task_data: Any, revision: str, parent: type[AbsTask] | None = None
) -> AbsTask:
    """A fresh task object over shaped data. mteb draws from state that a second run of the same object would share.

    Args:
        name, kind: the task's name in the report, and its type in the recipe.
        parent: an official class whose way of scoring (samples per label, experiments, main score) is wanted.
    """

    class OwnTask(parent or task.base):  # type: ignore[misc]
        data_loaded = False

        def load_data(self, *_: Any, **__: Any) -> None:
            if not self.data_loaded:
                self.dataset, self.data_loaded = task_data, True

    OwnTask.metadata = _describe(name, kind, task, revision, parent)
    for attribute, value in {**task.columns, **({} if parent else task.attributes)}.items():
        setattr(OwnTask, attribute, value)
    return OwnTask()


def _describe(name: str, kind: str, task: MtebTask, revision: str, parent: type[AbsTask] | None) -> Any:
    """mteb's metadata: that of the official class under the task's own name, or our own."""
    from mteb.abstasks.task_metadata import TaskMetadata

    identity = {"name": name, "dataset": {"path": f"local/{slug(name)}", "revision": revision}, "eval_splits": ["test"]}
    if parent is not None:
        languages = parent.metadata.eval_langs
        if isinstance(languages, dict):
            languages = sorted({language for several in languages.values() for language in several})
        return parent.metadata.model_copy(update=identity | {"eval_langs": languages})
    return TaskMetadata(
        **identity,
        description=f"{kind} over the user's own data",
        type=task.type,
        category=task.category,
        modalities=list(task.modalities),
        eval_langs=["und-Zzzz"],  # the user does not say which language
        main_score=task.main_score,
    )
