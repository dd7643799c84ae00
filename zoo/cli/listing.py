"""The verbs `zoo list` and `zoo show`: what there is, and what can be set. They import no torch."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from pathlib import Path
from typing import Any

from zoo.core import paths
from zoo.core.errors import ZooError
from zoo.core.output import write
from zoo.core.tables import print_table, print_text
from zoo.recipe import shipped

VIEWS = "views"  # `zoo show views`


def list_all(arguments: argparse.Namespace) -> None:
    """`zoo list`: families, steps after training and shipped recipes, each with one line about it."""
    from zoo import after, families

    found = [{"name": name, "summary": families.read_summary(name)} for name in families.names()]
    steps = [{"name": name, "summary": after.read_summary(name)} for name in after.names()]
    recipes = [_describe_recipe(path) for path in shipped.shipped().values()]
    if arguments.json:
        write(json.dumps({"families": found, "steps": steps, "recipes": recipes}, indent=2, ensure_ascii=False))
        return
    for title, entries in (("families", found), ("steps after training", steps), ("recipes", recipes)):
        print_table((), [(entry["name"], entry["summary"]) for entry in entries], title=title, gap=title != "families")


def _describe_recipe(path: Path) -> dict[str, str]:
    """Return name, family, summary and file of a shipped recipe. The second line of the file is the summary."""
    text = path.read_text(encoding="utf-8")
    comment = next((line[1:].strip() for line in text.splitlines()[1:2] if line.startswith("#")), "")
    sentences, _, rest = comment.rpartition(".")  # a sentence that goes on in the next line is left out
    family = re.search(r"\bfamily: *([\w-]+)", text)
    summary = f"{sentences}." if sentences and rest else comment
    return {"name": path.stem, "family": family[1] if family else "", "summary": summary, "file": str(path)}


def show(arguments: argparse.Namespace) -> None:
    """`zoo show RECIPE`: the recipe with every default. `zoo show NAME`: the fields of a family or of a step after training.

    `zoo show views`: all view options.
    """
    from zoo import after, families
    from zoo.recipe import recipe

    name = arguments.recipe
    if name == VIEWS:
        _show_views()
    elif name in (*families.names(), *after.names()) and not paths.is_file(name):
        kind = "family" if name in families.names() else "step"
        if arguments.overrides:
            raise ZooError(f"{name} is a {kind}, which has no values to override; give a recipe or leave them out")
        if kind == "family":
            _show_family(name)
        else:
            _show_step(name)
    elif not paths.is_file(name) and name not in shipped.shipped() and (near := _find_near_name(name)):
        raise ZooError(f"{name}: there is no such family, step or recipe; did you mean {near}?")
    else:
        write(recipe.load(name, *arguments.overrides).dump())


def _find_near_name(name: str) -> str | None:
    """Return the family or step whose name is spelt nearly like `name`, or None."""
    from zoo import after, families

    return next(iter(difflib.get_close_matches(name, [*families.names(), *after.names()], n=1, cutoff=0.7)), None)


def _show_views() -> None:
    from zoo.cli import views

    rows = [(f"--view {name}=…", *use) for name, uses in views.list_options().items() for use in uses]
    print_table(("option", "family", "description"), rows)


def _show_family(name: str) -> None:
    """Print the fields of a family's section, its view options, and its own defaults of `training:`."""
    from zoo import families
    from zoo.recipe.field_table import list_fields
    from zoo.schema import Training

    spec_class: Any = families.load_spec(name)
    print_text(f"{name}: {families.read_summary(name)}")
    header = ("field", "type", "default", "description")
    print_table(header, list_fields(spec_class), title="encoder:", gap=True)
    options = list_fields(spec_class.View)
    if options:
        rows = [(f"--view {option.path}=…", option.type, option.description) for option in options]
        print_table(("option", "type", "description"), rows, title="options of a view:", gap=True)
    defaults = spec_class.choose_training_defaults({})
    if defaults:
        rows = [(field.path, str(defaults[field.path]), field.description) for field in list_fields(Training)
                if field.path in defaults]  # fmt: skip
        print_table(("field", "default", "description"), rows, title="training: (defaults of this family)", gap=True)


def _show_step(name: str) -> None:
    """Print the fields of a step after training."""
    from zoo import after
    from zoo.recipe.field_table import list_fields

    print_text(f"{name}: {after.read_summary(name)}")
    print_table(
        ("field", "type", "default", "description"), list_fields(after.load_spec(name)), title="after:", gap=True
    )
