"""Checks of the tags before training: every id is in the list of concepts, and every concept has an example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from zoo.core.errors import DataError
from zoo.families.sesa.concepts import MAX_SHOWN_MISTAKES, Concepts
from zoo.families.sesa.spec import TAG_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset


def count_tags(concepts: Concepts, rows: Dataset, name: str = "data") -> torch.Tensor:
    """Count the texts that are tagged with each concept or with one below it, (C,) float32.

    A text that appears in several rows counts once per row. Raise DataError for ids that are not in the list; it gives the
    row, the column, and `name`, the section of the recipe.
    """
    counts, problems = np.zeros(len(concepts), np.float32), []
    for column in TAG_COLUMNS:
        if column not in rows.column_names:
            continue
        for row_number, ids in enumerate(rows[column], 1):
            try:
                counts[concepts.find_rows_with_ancestors(ids or ())] += 1
            except DataError as error:
                problems.append(f"{name}: row {row_number}: {column}: {error}")
    if problems:
        hidden = len(problems) - MAX_SHOWN_MISTAKES
        more = [f"and {hidden} more rows"] if hidden > 0 else []
        raise DataError(*problems[:MAX_SHOWN_MISTAKES], *more, "add these ids to the concepts, or correct the rows")
    return torch.from_numpy(counts)


def find_concepts_without_example(concepts: Concepts, counts: torch.Tensor, *, use_names: bool) -> list[int]:
    """Return the rows of the concepts that no text is tagged with.

    With `use_names`, the name of a concept is an example of it. Raise DataError for concepts that have no example at all.
    """
    untagged = [int(row) for row in (counts == 0).nonzero()[:, 0]]
    without_example = [
        concepts.ids[row] for row in untagged if not use_names or concepts.names[row] == concepts.ids[row]
    ]
    if without_example:
        hidden = len(without_example) - MAX_SHOWN_MISTAKES
        more = f" and {hidden} more" if hidden > 0 else ""
        remedy = "give them names" if use_names else "set names: true, which uses their names as examples"
        raise DataError(
            f"concepts without an example: {', '.join(without_example[:MAX_SHOWN_MISTAKES])}{more}; remove them from the "
            f"list, tag rows with them, or {remedy}"
        )
    return untagged
