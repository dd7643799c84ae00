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
    """`zoo list`: families and shipped recipes, each with one line about it."""
    from zoo import families

    found = [{"name": name, "summary": families.read_summary(name)} for name in families.names()]
    recipes = [_describe_recipe(path) for path in shipped.shipped().values()]
    if arguments.json:
        write(json.dumps({"families": found, "recipes": recipes}, indent=2, ensure_ascii=False))
        return
    for title, entries in (("families", found), ("recipes", recipes)):
        print_table((), [(entry["name"], entry["summary"]) for entry in entries], title=title, gap=title == "recipes")


def _describe_recipe(path: Path) -> dict[str, str]:
    """Return name, family, summary and file of a shipped recipe. The second line of the file is the summary."""
    text = path.read_text(encoding="utf-8")
    comment = next((line[1:].strip() for line in text.splitlines()[1:2] if line.startswith("#")), "")
    sentences, _, rest = comment.rpartition(".")  # a sentence that goes on in the next line is left out
    family = re.search(r"\bfamily: *([\w-]+)", text)
    summary = f"{sentences}." if sentences and rest else comment
    return {"name": path.stem, "family": family[1] if family else "", "summary": summary, "file": str(path)}


def show(arguments: argparse.Namespace) -> None:
    """`zoo show RECIPE`: the recipe with every default. `zoo show FAMILY`: its fields. `zoo show views`: all view options."""
    from zoo import families
    from zoo.recipe import recipe

    name = arguments.recipe
    if name == VIEWS:
        _show_views()
    elif name in families.names() and not paths.is_file(name):
        if arguments.overrides:
            raise ZooError(f"{name} is a family, which has no values to override; give a recipe or leave them out")
        _show_family(name)
    elif not paths.is_file(name) and name not in shipped.shipped() and (family := _find_near_family(name)):
        raise ZooError(f"{name}: there is no such family or recipe; did you mean {family}?")
    else:
        write(recipe.load(name, *arguments.overrides).dump())


def _find_near_family(name: str) -> str | None:
    """Return the family whose name is spelt nearly like `name`, or None."""
    from zoo import families

    return next(iter(difflib.get_close_matches(name, families.names(), n=1, cutoff=0.7)), None)


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
