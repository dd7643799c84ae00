"""Reads the tables that a recipe trains on and watches, and describes them for lock.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import data
from zoo.build import validation_rows
from zoo.data import Table
from zoo.data.data_source import name_source
from zoo.data.joined import join_tables
from zoo.data.spec import Mixture
from zoo.evaluation.spec import find_rows
from zoo.recipe.recipe import Recipe
from zoo.training import automatic, objective_checks
from zoo.training.source_plan import plan_sources


def read_tables(recipe: Recipe[Any], store: Path | None = None) -> dict[str, Table]:
    """Return the training table, the validation table if the recipe asks for one, and the family's extra data sets.

    Validation rows are a source of their own, or are held out of the training rows. An extra data set has the name of the last
    step of its path in the recipe. Tables that are too large for memory are in the folder `store`, if there is one.
    """
    required, optional = recipe.encoder.roles()
    train = read_training_rows(recipe, store)
    tables = {"train": train}
    validation = find_rows(recipe.validation)
    if validation == "auto":
        size = automatic.choose_validation_size(recipe.encoder, recipe.training, len(train.rows))
        if size is not None:
            tables |= validation_rows.hold_out(recipe, train, size)
    elif isinstance(validation, float):
        tables |= validation_rows.hold_out(recipe, train)
    elif validation is not None:
        tables["validation"] = data.read(validation, required, optional, folder=recipe.folder, store=store)
    for path, dataset in recipe.encoder.extra_datasets().items():
        tables[path[-1]] = data.read(dataset.data, dataset.roles, dataset.optional, folder=recipe.folder, store=store)
    return tables


def read_training_rows(recipe: Recipe[Any], store: Path | None) -> Table:
    """Return the training table, of one data section or of several sources."""
    if not isinstance(recipe.data, tuple):
        return data.read(recipe.data, *recipe.encoder.roles(), folder=recipe.folder, store=store)
    parts = {}
    for entry in recipe.data:
        roles = recipe.encoder.for_source(entry.loss).roles()
        parts[name_source(entry)] = data.read(entry, *roles, folder=recipe.folder, store=store)
    return join_tables(parts)


def check_rows(recipe: Recipe[Any], tables: Mapping[str, Table]) -> None:
    """Raise DataError or ZooError for rows from which the loss learns nothing, and for a source that is too small."""
    rows, validation = tables["train"].rows, get_rows(tables, "validation")
    if recipe.sources:
        mixture = recipe.mixture or Mixture()
        objective_checks.check_sources(recipe.encoder, recipe.training, rows, validation, recipe.sources, mixture)
    else:
        objective_checks.check_rows(recipe.encoder, recipe.training, rows, validation)


def describe_repeats(recipe: Recipe[Any], train: Table) -> list[str]:
    """Return a line for the training rows, or for each source, whose batches have few different positives."""
    lines = []
    for name, table in (train.parts or {"": train}).items():
        spec = recipe.encoder.for_source(recipe.sources[name].loss if name else None)
        line = objective_checks.describe_repeats(spec, recipe.training, table.rows)
        lines += [f"the source {name}: {line}" if name else line] if line else []
    return lines


def describe_mixture(recipe: Recipe[Any], train: Table) -> dict[str, Any]:
    """Return for lock.json what each source is drawn by: rows, rows an epoch, share, weight and loss; {} for one section."""
    if not recipe.sources or not recipe.encoder.mixes_sources:
        return {}
    counts = {name: len(part.rows) for name, part in train.parts.items()}
    plan = plan_sources(counts, recipe.sources, recipe.mixture or Mixture(), recipe.training.batch_size)
    return {
        name: {
            "rows": counts[name],
            "rows_per_epoch": plan.quotas[name],
            "share": plan.quotas[name] / plan.rows_per_epoch,
            "weight": source.weight,
            "loss": source.loss,
        }
        for name, source in recipe.sources.items()
    }


def describe_choices(recipe: Recipe[Any], tables: dict[str, Table]) -> dict[str, Any]:
    """Return {"validation": the number of rows that were held out, or None} if the recipe says `auto`; else {}."""
    if recipe.validation != "auto":
        return {}
    return {"validation": float(len(tables["validation"].rows)) if "validation" in tables else None}


def get_rows(tables: Mapping[str, Table], name: str) -> Any:
    """Return the rows of a table, or None if there is no such table."""
    return tables[name].rows if name in tables else None


def name_watched(lock: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lock entries of the validation tasks under names that no task of `evaluation` has."""
    return {f"validation {name}": entry for name, entry in lock.items()}


def describe_skipped(lock: Mapping[str, Any]) -> list[str]:
    """Return a line for each table of a lock whose bad rows were left out."""
    counts = {name: entry.get("skipped", 0) for name, entry in lock.items()}
    return [f"left out {count} bad row{'s' * (count > 1)} of {name}" for name, count in counts.items() if count]


def make_lock(tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return the entries of all tables for lock.json. A table of several sources has one for each, called `train/NAME`."""
    return {
        f"{name}/{part_name}" if part_name else name: make_lock_entry(part)
        for name, table in tables.items()
        for part_name, part in (table.parts or {"": table}).items()
    }


def make_lock_entry(table: Table) -> dict[str, Any]:
    """Return what lock.json keeps of a table."""
    return {
        "fingerprint": table.fingerprint,
        "rows": len(table.rows),
        "skipped": len(table.skipped),
        "origin": vars(table.origin),
    }
