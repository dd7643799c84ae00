"""Count the texts of a run that are longer than its encoder reads, for lock.json and the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zoo.data import Table
from zoo.evaluation import Prepared
from zoo.recipe.recipe import Recipe
from zoo.text import long_texts


def count(recipe: Recipe[Any], tables: Mapping[str, Table], tasks: Prepared) -> tuple[list[dict[str, Any]], list[str]]:
    """Return an entry of lock.json for each data set with texts, and a warning for each of those with long ones.

    Both are empty for a family without a limit in tokens, and if the tokenizer of its backbone cannot be read.
    """
    limit = recipe.encoder.text_limit
    counter = None if limit is None else long_texts.open_counter(limit, recipe.folder)
    if limit is None or counter is None or isinstance(counter, str):
        return [], []
    counts = [
        counter.count(name, long_texts.list_texts(columns, counter.prompts, name))
        for name, columns in _list_columns(tables, tasks)
    ]
    counts = [entry for entry in counts if entry.texts]
    warnings = [
        f"{entry}; {counter.advise(limit.field, has_windows=limit.has_windows)}" for entry in counts if entry.long
    ]
    return [vars(entry) for entry in counts], warnings


def _list_columns(tables: Mapping[str, Table], tasks: Prepared) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each data set, as lock.json has it, and the columns that may hold texts."""
    yield from ((name, _take_inputs(table)) for name, table in tables.items())
    for task in tasks.tasks:
        for part, table in (task.tables or {}).items():
            yield task.name if part == "data" else f"{task.name}/{part}", _take_inputs(table)


def _take_inputs(table: Table) -> dict[str, Any]:
    """Return the inputs of a table that are texts or lists of texts; images are not decoded."""
    types = {name: str(table.rows.features[name]) for name in table.inputs}
    return {name: table.rows[name] for name, kind in types.items() if "string" in kind and "Image" not in kind}
