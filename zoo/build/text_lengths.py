"""Count the texts of a run that are longer than its encoder reads, for lock.json and the card, and warn of unknown words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zoo.core.findings import Finding
from zoo.data import Table
from zoo.data.mapped import read_column
from zoo.data.split import draw_positions
from zoo.data.stored import MEMORY_ROWS
from zoo.evaluation import Prepared
from zoo.recipe.recipe import Recipe
from zoo.text import long_texts, spelled_words
from zoo.text.long_texts import MOST_TEXTS


def count(recipe: Recipe[Any], tables: Mapping[str, Table], tasks: Prepared) -> tuple[list[dict[str, Any]], list[str]]:
    """Return an entry of lock.json for each data set with texts, and a warning for each of those with long ones.

    Both are empty for a family without a limit in tokens, and if the tokenizer of its backbone cannot be read.
    """
    limit = recipe.encoder.text_limit
    counter = None if limit is None else long_texts.open_counter(limit, recipe.folder)
    if limit is None or counter is None or isinstance(counter, str):
        return [], []
    if recipe.encoder.learns_vocabulary(counter.measure_spelled(_list_training_texts(tables))):
        return [], []  # the lengths are known only when the tokens are
    counts = []
    for name, table in _list_tables(tables, tasks):
        columns, share = _take_inputs(table)
        texts = long_texts.list_texts(columns, counter.prompts, name)
        counts.append(counter.count(name, texts, round(len(texts) * share)))
    counts = [entry for entry in counts if entry.texts]
    warnings = [
        f"{entry}; {counter.advise(limit.field, has_windows=limit.has_windows)}" for entry in counts if entry.long
    ]
    return [vars(entry) for entry in counts], warnings


def find_unknown_words(recipe: Recipe[Any], tables: Mapping[str, Table]) -> list[Finding]:
    """Return a warning if the backbone does not know most words of the training texts, and the encoder needs it to."""
    clause = long_texts.describe_unknown_words(recipe.encoder, recipe.folder, lambda: _list_training_texts(tables))
    return [Finding("warning", clause, spelled_words.ADVICE)] if clause else []


def _list_training_texts(tables: Mapping[str, Table]) -> list[str]:
    """Return the texts of training rows, without prompts."""
    columns, _ = _take_inputs(tables["train"])
    return long_texts.list_texts(columns, {})


def _list_tables(tables: Mapping[str, Table], tasks: Prepared) -> Iterator[tuple[str, Table]]:
    """Yield each data set with its name, as lock.json has it."""
    yield from tables.items()
    for task in tasks.tasks:
        for part, table in (task.tables or {}).items():
            yield task.name if part == "data" else f"{task.name}/{part}", table


def _take_inputs(table: Table) -> tuple[dict[str, Any], float]:
    """Return the inputs of a table that are texts or lists of texts, and how many times as many rows the table has.

    If the table has more than MEMORY_ROWS rows, MOST_TEXTS of them are drawn by seed 0. Images are not decoded.
    """
    rows, share = table.rows, 1.0
    if len(rows) > MEMORY_ROWS:
        rows, share = rows.select(draw_positions(len(rows), MOST_TEXTS)), len(rows) / MOST_TEXTS
    types = {name: str(rows.features[name]) for name in table.inputs}
    names = [name for name, kind in types.items() if "string" in kind and "Image" not in kind]
    return {name: list(read_column(rows, name)) for name in names}, share
