"""Hold validation rows out of the training rows, if a recipe asks for a share or a number of them."""

from __future__ import annotations

import warnings
from typing import Any

from zoo import data
from zoo.core.errors import DataError, DataWarning
from zoo.data import Table, column_mapping
from zoo.data.joined import join_tables
from zoo.data.spec import Holdout
from zoo.evaluation.spec import find_rows
from zoo.recipe.recipe import Recipe


def hold_out(recipe: Recipe[Any], train: Table, chosen_size: int | None = None) -> dict[str, Table]:
    """Hold the validation rows out of the training rows: as many as the recipe says, or `chosen_size` if it says `auto`.

    Groups that `data.holdout.by` keeps together stay together. Otherwise, the share is taken of each class if there are classes.
    If there are several sources, each gives as many rows as its share of all rows.
    """
    size: Any = find_rows(recipe.validation) if chosen_size is None else chosen_size
    if not isinstance(recipe.data, tuple):
        return _hold_out_of_section(recipe, recipe.data, train, size, is_chosen=chosen_size is not None)
    sides: dict[str, dict[str, Table]] = {"train": {}, "validation": {}}
    sizes = _divide(size, {name: len(part.rows) for name, part in train.parts.items()})
    if chosen_size is not None:  # an in-batch loss of a single row says nothing
        sizes = {name: max(2, count) if count else 0 for name, count in sizes.items()}
    for entry, (name, part) in zip(recipe.data, train.parts.items(), strict=True):
        if not sizes[name]:
            sides["train"][name] = part
            continue
        try:
            tables = _hold_out_of_section(recipe, entry, part, sizes[name], is_chosen=chosen_size is not None)
        except DataError as error:
            raise DataError(f"the source {name}: {error}") from None
        for side, table in tables.items():
            sides[side][name] = table
    return {side: join_tables(parts) for side, parts in sides.items()}


def _divide(size: Any, counts: dict[str, int]) -> dict[str, Any]:
    """Divide a number of rows by the rows that each source has. A share below 1 is that of each source."""
    if size < 1:
        return dict.fromkeys(counts, size)
    total = sum(counts.values())
    sizes = {name: int(size * count / total) for name, count in counts.items()}
    by_rest = sorted(counts, key=lambda name: sizes[name] - size * counts[name] / total)
    for name in by_rest[: int(size) - sum(sizes.values())]:
        sizes[name] += 1
    return sizes


def _hold_out_of_section(
    recipe: Recipe[Any], section: Any, train: Table, size: Any, *, is_chosen: bool
) -> dict[str, Table]:
    by = section.holdout.by if section.holdout else None
    by = None if by is None else column_mapping.resolve_column(section, by, train.rows.column_names)
    split = Holdout(size=size, side="train", by=by, seed=recipe.training.seed)
    by_class = by is None and "label" in train.roles
    try:
        tables = {
            name: data.hold_out(train, split.model_copy(update={"side": side}), by_class=by_class)
            for name, side in (("train", "train"), ("validation", "test"))
        }
    except DataError as error:
        raise DataError(f"validation: {error}") from None
    if by_class:
        absent = sorted(map(str, set(train.rows["label"]) - set(tables["validation"].rows["label"])))
        if absent and not is_chosen:
            message = f"validation: {len(absent)} classes are too rare to have a row in it: {', '.join(absent[:5])}"
            advice = "ask for a larger share, or give `validation` as a data section of its own"
            warnings.warn(f"{message}; {advice}", DataWarning, stacklevel=2)
    return tables
