"""Follow the space of an encoder along its training, as `training.watch` of a recipe asks."""

from __future__ import annotations

from typing import Any

from zoo.build import training_data
from zoo.data import Table
from zoo.diagnosis.space_watch import check_figures, make_space_watch
from zoo.encoder import Encoder
from zoo.recipe.recipe import Recipe


def check(recipe: Recipe[Any]) -> None:
    """Raise ZooError, before any data is read, if a figure needs a library that is not installed."""
    check_figures(_list_figures(recipe))


def follow(encoder: Encoder, recipe: Recipe[Any], tables: dict[str, Table]) -> None:
    """Let the training follow the space on validation rows, or on training rows without a validation.

    Raises ZooError for too few rows.
    """
    validation = training_data.get_rows(tables, "validation")
    rows = tables["train"].rows if validation is None else validation
    encoder.space_watch = make_space_watch(encoder, _list_figures(recipe), rows)


def _list_figures(recipe: Recipe[Any]) -> tuple[str, ...]:
    """Return the figures of the recipe. A family with a trainer of its own follows none."""
    return recipe.training.watch if recipe.encoder.reads_training_field("watch") else ()
