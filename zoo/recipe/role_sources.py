"""Say what each role of a checked recipe is read from, so that a role that is filled by accident is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo import data
from zoo.core.errors import DataError
from zoo.data.data_source import name_source
from zoo.data.spec import BuiltinData, Data, FileData
from zoo.evaluation.spec import find_rows, list_tasks
from zoo.evaluation.task import OwnDataTask
from zoo.recipe.mining_checks import CORPUS_ROLES
from zoo.recipe.recipe import Recipe
from zoo.schema import Roles


def describe_roles(recipe: Recipe[Any]) -> list[str]:
    """Return one line for each data section: its source, and the column of each role."""
    lines = []
    for place, source, required, optional in list_sections(recipe):
        try:
            columns = data.find_roles(source, required, optional, folder=recipe.folder)
        except DataError:  # of a section whose file is there only later; `find_mistakes` reports it otherwise
            continue
        lines.append(f"{place} ({_name_source(source)}): {_join(columns)}")
    return lines


def list_sections(recipe: Recipe[Any]) -> Iterator[tuple[str, Data, Roles, Roles]]:
    """Yield the place, the data section, and its required and optional roles, of every data section of a recipe."""
    required, optional = recipe.encoder.roles()
    if isinstance(recipe.data, tuple):
        for entry in recipe.data:
            yield f"data {name_source(entry)}", entry, *recipe.encoder.for_source(entry.loss).roles()
    else:
        yield "data", recipe.data, required, optional
    if recipe.mine is not None and recipe.mine.corpus is not None:
        yield "data.mine.corpus", recipe.mine.corpus, CORPUS_ROLES, {}
    validation = find_rows(recipe.validation)
    if validation is not None and not isinstance(validation, float | str):
        yield "validation", validation, required, optional
    for path, dataset in recipe.encoder.extra_datasets().items():
        yield ".".join(("encoder", *path)), dataset.data, dataset.roles, dataset.optional
    for index, step in enumerate(recipe.after):
        for field, section in step.list_data(recipe.encoder.main_modality).items():
            yield f"after.{index}.{field}", section.data, section.roles, section.optional
    tasks = [("validation.", task) for task in list_tasks(recipe.validation)]
    for place, task in [*tasks, *(("", task) for task in recipe.evaluation)]:
        if isinstance(task, OwnDataTask):
            resolved = task.resolve(recipe.folder)
            for field, roles in resolved.roles.items():
                source = getattr(resolved, field)
                if source is not None:
                    yield f"{place}{task.title}.{field}", source, roles, resolved.optional.get(field, {})


def _name_source(source: Data) -> str:
    if isinstance(source, FileData):
        return Path(source.path).name
    return f"{source.name} {source.table}" if isinstance(source, BuiltinData) and source.table else source.name


def _join(columns: dict[str, str] | None) -> str:
    if columns is None:
        return "its columns are known when it is downloaded"
    if not columns:
        return "no role is filled"
    return ", ".join(role if role == column else f"{role} from {column!r}" for role, column in columns.items())
