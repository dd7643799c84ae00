"""Hold validation rows out of the training rows, if a recipe asks for a share or a number of them."""

from __future__ import annotations

import warnings
from typing import Any

from zoo import data
from zoo.core.errors import DataError, DataWarning
from zoo.data import Table, column_mapping
from zoo.data.spec import Holdout
from zoo.evaluation.spec import find_rows
from zoo.recipe.recipe import Recipe


def hold_out(recipe: Recipe[Any], train: Table, chosen_size: int | None = None) -> dict[str, Table]:
    """Hold the validation rows out of the training rows: as many as the recipe says, or `chosen_size` if it says `auto`.

    Groups that `data.holdout.by` keeps together stay together. Otherwise, the share is taken of each class if there are classes.
    """
    by = recipe.data.holdout.by if recipe.data.holdout else None
    by = None if by is None else column_mapping.resolve_column(recipe.data, by, train.rows.column_names)
    split = Holdout(
        size=find_rows(recipe.validation) if chosen_size is None else chosen_size,
        side="train",
        by=by,
        seed=recipe.training.seed,
    )
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
        if absent and chosen_size is None:
            message = f"validation: {len(absent)} classes are too rare to have a row in it: {', '.join(absent[:5])}"
            advice = "ask for a larger share, or give `validation` as a data section of its own"
            warnings.warn(f"{message}; {advice}", DataWarning, stacklevel=2)
    return tables
