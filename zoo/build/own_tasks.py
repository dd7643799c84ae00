"""The tasks of a model's own recipe, for `zoo evaluate MODEL`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from zoo.card import run_record
from zoo.core import confinement
from zoo.core.errors import RecipeError, ZooError
from zoo.evaluation.spec import Task
from zoo.evaluation.task import TaskSpec
from zoo.hub import model_references
from zoo.hub.fetch import fetch
from zoo.recipe import error_messages, untrusted


def confine(reference: str, data: Path) -> AbstractContextManager[None]:
    """Inside the block, let the tasks of a model from the Hub read files below `data` only. A folder's own may read all."""
    return nullcontext() if model_references.locate(reference) else confinement.confine_to(data)


def read(reference: str, revision: str | None, data: Path, *, is_cut: bool = False) -> Sequence[TaskSpec]:
    """Read the tasks that the recipe of a model evaluates; its other sections are not looked at.

    Args:
        reference: a model folder or a Hub id.
        data: the folder from which relative paths start.
        is_cut: whether a view of the model is scored instead of the views of the recipe, and their `at_least` does not count.

    Raises ZooError if the model keeps no tasks, RecipeError for a task that is wrong, and for a path of a model from the Hub
    that leaves `data`.
    """
    local_folder = model_references.locate(reference)
    record = run_record.read(local_folder or fetch(reference, revision))
    listed = record.recipe.get("evaluation")
    listed = listed if isinstance(listed, list) else []
    entries = [{"task": entry} if isinstance(entry, str) else entry for entry in listed if entry]
    if not entries:
        raise ZooError(
            f"{reference}: has no tasks of its own, so say what to evaluate: an mteb task by name, a recipe whose `evaluation:` "
            "is meant, or a task over your own data with its settings: infomec data.source=file data.path=… sources=[…]"
        )
    value = {"evaluation": entries}
    mistakes = [] if local_folder else untrusted.find_outside_paths(value)
    adapter: TypeAdapter[TaskSpec] = TypeAdapter(Task)
    tasks = []
    for index, entry in enumerate(entries):
        try:
            tasks.append(adapter.validate_python(entry))
            with confine(reference, data):
                found = tasks[-1].find_mistakes(data)
        except ValidationError as error:
            found = error_messages.translate(error, TaskSpec, entry)
        mistakes += [(("evaluation", index, *path), text) for path, text in found]
    if mistakes:
        lines = [f"{reference}/recipe.yaml: {'.'.join(map(str, path))}: {text}" for path, text in mistakes]
        raise RecipeError(*lines, f"relative paths start at {data.resolve()}; --data names another folder")
    return [task.model_copy(update={"views": ({},), "at_least": None}) for task in tasks] if is_cut else tasks
