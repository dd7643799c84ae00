"""Reads the tables that a recipe trains on and watches, and describes them for lock.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo import data
from zoo.build import validation_rows
from zoo.data import Table
from zoo.evaluation.spec import find_rows
from zoo.recipe.recipe import Recipe
from zoo.training import automatic


def read_tables(recipe: Recipe[Any]) -> dict[str, Table]:
    """Return the training table, the validation table if the recipe asks for one, and the family's extra data sets.

    Validation rows are a source of their own, or are held out of the training rows. An extra data set has the name of the last
    step of its path in the recipe.
    """
    required, optional = recipe.encoder.roles()
    train = data.read(recipe.data, required, optional, folder=recipe.folder)
    tables = {"train": train}
    validation = find_rows(recipe.validation)
    if validation == "auto":
        size = automatic.choose_validation_size(recipe.encoder, recipe.training, len(train.rows))
        if size is not None:
            tables |= validation_rows.hold_out(recipe, train, size)
    elif isinstance(validation, float):
        tables |= validation_rows.hold_out(recipe, train)
    elif validation is not None:
        tables["validation"] = data.read(validation, required, optional, folder=recipe.folder)
    for path, dataset in recipe.encoder.extra_datasets().items():
        tables[path[-1]] = data.read(dataset.data, dataset.roles, dataset.optional, folder=recipe.folder)
    return tables


def describe_choices(recipe: Recipe[Any], tables: dict[str, Table]) -> dict[str, Any]:
    """Return {"validation": the number of rows that were held out, or None} if the recipe says `auto`; else {}."""
    if recipe.validation != "auto":
        return {}
    return {"validation": float(len(tables["validation"].rows)) if "validation" in tables else None}


def get_rows(tables: dict[str, Table], name: str) -> Any:
    """Return the rows of a table, or None if there is no such table."""
    return tables[name].rows if name in tables else None


def name_watched(lock: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lock entries of the validation tasks under names that no task of `evaluation` has."""
    return {f"validation {name}": entry for name, entry in lock.items()}


def describe_skipped(lock: Mapping[str, Any]) -> list[str]:
    """Return a line for each table of a lock whose bad rows were left out."""
    counts = {name: entry.get("skipped", 0) for name, entry in lock.items()}
    return [f"left out {count} bad row{'s' * (count > 1)} of {name}" for name, count in counts.items() if count]


def make_lock_entry(table: Table) -> dict[str, Any]:
    """Return what lock.json keeps of a table."""
    return {
        "fingerprint": table.fingerprint,
        "rows": len(table.rows),
        "skipped": len(table.skipped),
        "origin": vars(table.origin),
    }
