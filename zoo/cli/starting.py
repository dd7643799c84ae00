"""The verb `zoo init`: a recipe from data."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.core import paths
from zoo.core.errors import ZooError
from zoo.core.output import say, write

GOALS = ("retrieval", "sts", "classification", "topics")


def init(arguments: argparse.Namespace) -> None:
    """`zoo init FILE…`: look at the data, and write a commented recipe that `zoo train` runs."""
    from zoo.starter import recipe_writer

    out = Path(arguments.out)
    if paths.is_folder(out):
        raise ZooError(f"--out {out}: is a folder; name the recipe, for example {out / 'recipe.yaml'}")
    recipe_writer.write_recipe(
        [Path(name) for name in arguments.files],
        out,
        goal=arguments.goal,
        force=arguments.force,
        times_steps=not arguments.no_timing,
        say=say,
    )
    write(f"{out}: read it, then: zoo train {out}")
