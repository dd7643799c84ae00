"""The inputs and labels that `zoo diagnose` gives to encoders: of files, or of the recipe that a model was trained with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import model_inputs
from zoo.core.errors import ZooError
from zoo.core.output import say

if TYPE_CHECKING:
    from zoo.spec import EncoderSpec


def find_recipe(reference: str) -> Path:
    """Return the recipe in a run folder or a model folder. Raises ZooError for another model."""
    from zoo.build.run_checkpoints import RECIPE

    path = Path(reference) / RECIPE
    if not path.is_file():
        raise ZooError(
            f"--data: {reference} has no recipe whose rows could be taken; give a file of inputs, for example --data texts.csv; "
            "a thousand rows or more say something"
        )
    return path


def draw(arguments: argparse.Namespace, spec: EncoderSpec) -> list[Any]:
    """Draw `--rows` inputs of `--data` by the seed, or of the recipe of the first model without `--data`."""
    from zoo.metrics.neighbours import draw_rows

    if not arguments.data:
        return _draw_from_recipe(arguments, spec)
    values = model_inputs.read_inputs(arguments.data, spec, arguments.column)
    if len(values) > arguments.rows:
        say(f"{arguments.data}: {arguments.rows:,} of {len(values):,} rows are drawn")
    return [values[number] for number in draw_rows(len(values), arguments.rows, arguments.seed)]


def read_labelled(arguments: argparse.Namespace, spec: EncoderSpec) -> tuple[list[Any], list[Any]]:
    """Read the inputs and labels of `--labels`. Raises DataError if there are too few to compare views."""
    from zoo.metrics.few_shot import choose_sizes

    kind = model_inputs.choose_kind(spec, arguments.labels, arguments.column)
    columns = {kind: arguments.column, "label": arguments.label_column}
    rows = model_inputs.read_columns(arguments.labels, columns, {kind: kind, "label": "label"})
    choose_sizes(rows["label"])
    return list(rows[kind]), list(rows["label"])


def _draw_from_recipe(arguments: argparse.Namespace, spec: EncoderSpec) -> list[Any]:
    from zoo.build.training_data import read_training_rows
    from zoo.metrics.encoded_rows import choose_inputs
    from zoo.metrics.neighbours import draw_rows
    from zoo.recipe import recipe as recipes

    path = find_recipe(arguments.model)
    recipe = recipes.load(path, folder=Path(arguments.recipe_folder))
    rows = read_training_rows(recipe, None).rows
    drawn = rows.select(draw_rows(len(rows), arguments.rows, arguments.seed))
    inputs = choose_inputs(spec, drawn, arguments.rows)
    if not inputs:
        raise ZooError(f"{path}: its rows have no column that the encoder reads alone; give inputs with --data")
    say(f"{path}: {len(inputs):,} inputs of its training rows are encoded")
    return inputs
