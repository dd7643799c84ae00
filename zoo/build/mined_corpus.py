"""Finds test documents in a corpus that negatives are mined from: the training would see what it is tested on."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.core.errors import DataError
from zoo.data import Table
from zoo.data.overlap import Keys, compute_row_keys
from zoo.data.stored import filter_table
from zoo.evaluation import Prepared
from zoo.evaluation.task import ReadyTask
from zoo.recipe.recipe import Recipe

PLACE = "data.mine.corpus"
DOCUMENT = "document"
PROBE = "train"  # the part of a task that its own classifier learns from


def settle(recipe: Recipe[Any], corpus: Table | None, train: Table, tasks: Prepared) -> tuple[Table | None, list[str]]:
    """Do what `on_overlap` says about test texts in `mine.corpus`. Return the corpus to mine, and lines to tell the user.

    Texts of the training rows do not count, because training sees them anyway. Raise DataError for a corpus that equals that of
    a task, and for test texts in it with `on_overlap: error`.
    """
    if corpus is None:
        return None, []
    keys, trained = compute_row_keys(corpus)[:, 0], compute_row_keys(train)
    lines, is_tested = [], np.zeros(len(keys), bool)
    for task in tasks.tasks:
        documents, texts = _collect_keys(task)
        if len(documents) and np.array_equal(np.unique(keys), documents):
            raise DataError(
                f"{PLACE}: its {len(documents)} texts are the corpus of the task {task.name}, so training would see what it is "
                "tested on; leave `corpus` out, or name other texts"
            )
        is_shared = np.isin(keys, texts) & ~np.isin(keys, trained)
        if is_shared.any():
            lines.append(f"{int(is_shared.sum())} of {len(keys)} texts of {PLACE} are texts of the task {task.name}")
        is_tested |= is_shared
    if not lines:
        return corpus, []
    if recipe.on_overlap == "error":
        raise DataError(*lines, "remove these texts, or set on_overlap: drop or report")
    if recipe.on_overlap == "report":
        return corpus, [*lines, "set on_overlap: drop to mine without these texts"]
    if is_tested.all():
        raise DataError(f"on_overlap: drop leaves no texts of {PLACE}: all of them are texts of a task")
    return filter_table(corpus, ~is_tested), [*lines, f"dropped {int(is_tested.sum())} texts of {PLACE}"]


def _collect_keys(task: ReadyTask) -> tuple[Keys, Keys]:
    """Return the sorted keys of a task's documents, and those of all its test texts."""
    documents, texts = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for part, table in (task.tables or {}).items():
        if part.partition(" ")[0] == PROBE:
            continue
        keys = compute_row_keys(table)
        texts.append(keys.ravel())
        column = "text" if part.partition(" ")[0] == "corpus" else DOCUMENT
        if column in table.inputs:
            documents.append(keys[:, table.inputs.index(column)])
    return tuple(_sort_keys(np.concatenate(part)) for part in (documents, texts))  # type: ignore[return-value]


def _sort_keys(keys: Keys) -> Keys:
    return np.unique(keys[keys != 0])
