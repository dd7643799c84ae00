"""lock.json, the record of a training: versions, data, machine, backbone, and what was chosen where the recipe says `auto`."""

from __future__ import annotations

from typing import Any

from zoo.build.environment import list_packages
from zoo.core import atomic_files
from zoo.core.host import describe_host
from zoo.encoder import Encoder
from zoo.recipe.recipe import Recipe


def make(recipe: Recipe[Any], encoder: Encoder, data: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a training that has just ended; the caller adds its time.

    `data` has an entry for each data set. `chosen` holds the values in place of `auto` by their dotted path.
    """
    backbone = {"name": encoder.backbone_name, "revision": encoder.backbone_revision}
    return {
        "format": 1,
        "packages": list_packages(),
        "data": data,
        "backbone": backbone if encoder.backbone_name else None,
        "seed": recipe.training.seed,
        "precision": _describe_precision(recipe),
        "host": describe_host(),
        "rows_seen": encoder.rows_seen,
        "chosen": chosen,
        "recipe_sha256": atomic_files.digest(recipe.fill_in(chosen).dump_values()),
    }


def _describe_precision(recipe: Recipe[Any]) -> str:
    """The dtype of the training's arithmetic. A family whose trainer does not read `precision` computes in float32."""
    from zoo.training import arguments

    if not recipe.encoder.reads_training_field("precision"):
        return "float32"
    return arguments.resolve_precision_name(recipe.training)
