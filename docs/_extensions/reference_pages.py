"""Fills the pages of the reference from the JSON Schema of recipes and from the parser of the command line.

A page holds a comment such as `<!-- generated: families -->`. Sphinx reads Markdown in its place, so a field that is added to a
Spec, or an option that is added to the command line, is on the site without further work.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sphinx.application import Sphinx

from zoo import after, families
from zoo.cli import parser
from zoo.evaluation import tasks
from zoo.recipe import recipe

Schema = Mapping[str, Any]
COMMENT = re.compile(r"<!-- generated: ([a-z]+) -->")
PAGES = ["reference/recipe", "reference/families", "reference/tasks", "reference/commands"]
RECIPE_SECTIONS = (
    "HubData", "FileData", "BuiltinData", "Holdout", "Mine", "Prompts", "Mixture", "Training", "Card", "Publish",
)  # fmt: skip
DATA_SECTIONS = ("HubData", "FileData", "BuiltinData", "Holdout", "Mine", "Prompts")
DATA_INTRODUCTION = """(section-data)=
## `data:`

A data section says where rows come from. Its field `source` chooses one of the three sections that follow.
"""
LIST_INTRODUCTION = """(section-list)=
### A list of data sections

`data:` may be a list of such sections. Each then has these fields besides its own.
"""
AFTER_INTRODUCTION = """(section-after)=
## `after:`

A list of steps after the training. An entry is the name of a step, or a section whose field `step` is that name. At most one step
turns vectors into codes, and a step that maps scores comes after it.
"""
TITLES = {
    "HubData": "source: hub",
    "FileData": "source: file",
    "BuiltinData": "source: builtin",
    "Holdout": "holdout:",
    "Prompts": "prompts:",
    "Mixture": "mixture:",
    "Mine": "mine:",
    "Training": "training:",
    "Card": "card:",
    "Publish": "publish:",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the events. The pages depend on code, so they are read at every build."""
    app.connect("source-read", _fill_page)
    app.connect("env-get-outdated", lambda *_: PAGES)
    return {"parallel_read_safe": True}


def _fill_page(app: Sphinx, name: str, source: list[str]) -> None:
    if name in PAGES:
        source[0] = COMMENT.sub(lambda match: WRITERS[match[1]](), source[0])


# -- sections of a recipe --------------------------------------------------------------------------------------------


@cache
def load_schema() -> dict[str, Any]:
    """Return the JSON Schema that `zoo schema` prints."""
    return recipe.schema()


def list_sections() -> dict[str, Schema]:
    """Return every section of the schema by the name of its class, the recipe itself as `Recipe`."""
    return {"Recipe": load_schema(), **load_schema()["$defs"]}


def write_recipe() -> str:
    """Write the recipe itself and the sections that are the same for every family."""
    parts = ["## The recipe\n", _write_fields("Recipe"), DATA_INTRODUCTION]
    for name in RECIPE_SECTIONS:
        level = "###" if name in DATA_SECTIONS else "##"
        if name == "Prompts":
            parts += [LIST_INTRODUCTION, _write_list_fields()]
        parts += [f"({_make_target(name)})=\n{level} `{TITLES[name]}`\n", _write_section(name)]
    parts.append(AFTER_INTRODUCTION)
    for step in after.names():
        section = f"zoo__after__{step.replace('-', '_')}__spec__Spec"
        parts += [f"({_make_target(section)})=\n### `step: {step}`\n", f"{after.read_summary(step)}\n"]
        parts += [_write_section(section), *(_write_nested(nested, section) for nested in _list_nested(section))]
    return "\n".join(parts)


def _write_list_fields() -> str:
    """Write the fields that a data section has only in a list."""
    entry, alone = (list_sections()[name] for name in ("FileSource", "FileData"))
    own = [name for name in entry["properties"] if name not in alone["properties"]]
    return _write_table({**entry, "properties": _pick(entry, own)})


def write_families() -> str:
    """Write the section of every family, its options of a view, and the sections inside it."""
    sections = {name: f"zoo__families__{name.replace('-', '_')}__spec__Spec" for name in families.names()}
    users: dict[str, list[str]] = {}
    for family, section in sections.items():
        for nested in _list_nested(section):
            users.setdefault(nested, []).append(family)
    parts = []
    for family, section in sections.items():
        parts += [f"## {family}\n", f"{families.read_summary(family)}\n", _write_section(section)]
        parts += [_write_family_details(family)]
        for nested in [name for name, owners in users.items() if owners == [family]]:
            parts += [_write_nested(nested, section)]
    for nested in [name for name, owners in users.items() if len(owners) > 1]:
        parts += [f"## Shared by {' and '.join(users[nested])}\n", _write_nested(nested, sections[users[nested][0]])]
    return "\n".join(parts)


def _write_family_details(family: str) -> str:
    spec = families.load_spec(family)
    parts = []
    if spec.training_defaults:
        values = ", ".join(f"`{name}: {_show(value)}`" for name, value in spec.training_defaults.items())
        parts += [f"Defaults under `training:` that differ from the usual ones: {values}.\n"]
    if spec.View.model_fields:
        view = spec.View.model_json_schema()
        parts += ["**Options of a view**\n", _write_table(view)]
    return "\n".join(parts)


def _write_nested(name: str, user: str) -> str:
    fields = [field for field, schema in list_sections()[user]["properties"].items() if name in _list_refs(schema)]
    title = f"The section `{fields[0]}:`" if fields else f"Entries of the type {name}"
    return f"({_make_target(name)})=\n### {title}\n\n{_write_section(name)}"


def write_tasks() -> str:
    """Write the fields that all tasks have in common once, then those of each task."""
    sections = {tasks.name_of(tasks.load(name)): tasks.load(name) for name in tasks.names()}
    common = ("name", "views", "at_least")
    defs = list_sections()
    parts = [
        "## Fields of every task\n",
        _write_table({**defs["Official"], "properties": _pick(defs["Official"], common)}),
    ]
    entries = {"Official tasks of mteb": "Official", **{name: section.__name__ for name, section in sections.items()}}
    for title, section in entries.items():
        own = [name for name in defs[section]["properties"] if name not in common]
        heading = title if section == "Official" else f"`task: {title}`"
        parts += [f"({_make_target(section)})=\n## {heading}\n", f"{defs[section].get('description', '')}\n"]
        parts += [_write_table({**defs[section], "properties": _pick(defs[section], own)})]
    return "\n".join(parts)


def _pick(section: Schema, names: Any) -> dict[str, Any]:
    return {name: section["properties"][name] for name in names}


def _write_section(name: str) -> str:
    return f"{list_sections()[name].get('description', '')}\n\n{_write_fields(name)}"


def _write_fields(name: str) -> str:
    return _write_table(list_sections()[name])


def _write_table(section: Schema) -> str:
    rows = []
    for field, schema in section["properties"].items():
        is_required = field in section.get("required", ())
        default = "required" if is_required else _show_default(schema.get("default"))
        meaning = schema.get("description", "Names this section." if "const" in schema else "")
        rows += [(f"`{field}`", describe_type(schema), default, escape(meaning))]
    return make_table(("field", "type", "default", "meaning"), rows)


def make_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown. A bar inside a cell is escaped, also inside code."""
    lines = [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in (head, *rows)]
    lines = [f"| {line} |" for line in lines]
    return "\n".join(["```{table}", ":class: fields", "", lines[0], "|---" * len(head) + "|", *lines[1:], "```", ""])


def escape(text: str) -> str:
    """Escape what Markdown would read as markup, except inside backquotes."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _show_default(value: Any) -> str:
    if isinstance(value, dict) and value:
        return "its defaults"
    return f"`{_show(value)}`"


def _show(value: Any) -> str:
    if isinstance(value, float) and value and abs(value) < 1e-3:
        return f"{value:g}".replace("e-0", "e-")
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) or not value else value


# -- types -----------------------------------------------------------------------------------------------------------


def describe_type(schema: Schema) -> str:
    """Say in words which values a schema allows, for example "integer ≥ 1 or null"."""
    for key in ("anyOf", "oneOf"):
        if key in schema:
            if schema.get("discriminator", {}).get("propertyName") == "source":
                return "[data section](#section-data)"
            if all(option.get("$ref", "").startswith("#/$defs/Validation") for option in schema[key]):
                return "[task](tasks.md)"
            return " or ".join(dict.fromkeys(describe_type(option) for option in schema[key]))
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items")
        return "empty list" if not items else f"list of {describe_type(items)}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"mapping to {describe_type(values)}" if isinstance(values, dict) and values else "mapping"
    words = {"string": "text", "boolean": "true or false", "null": "null", "integer": "integer", "number": "number"}
    return f"{words.get(str(kind), 'any value')}{_describe_range(schema)}"


def _describe_range(schema: Schema) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {_show_bound(schema['minimum'])} to {_show_bound(schema['maximum'])}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f" {sign} {_show_bound(schema[key])}" for key, sign in signs.items() if key in schema]
    return " and".join(bounds)


def _show_bound(value: float) -> str:
    whole = int(value)
    is_power = whole == value and whole > 1_000_000 and whole & (whole - 1) == 0
    return f"2^{whole.bit_length() - 1}" if is_power else f"{value:,}"


def _link(section: str) -> str:
    if section.startswith("zoo__families__"):
        family = section.split("__")[2].replace("_", "-")
        return f"[{family}](families.md#{family})"
    if section.startswith("zoo__after__"):
        return f"[{section.split('__')[2].replace('_', '-')}](#{_make_target(section)})"
    return f"[{section}](#{_make_target(section)})"


def _make_target(section: str) -> str:
    return f"section-{section.lower()}"


def _list_refs(schema: Any) -> set[str]:
    """The sections that a schema names directly."""
    if isinstance(schema, dict):
        own = {schema["$ref"].rpartition("/")[2]} if "$ref" in schema else set()
        return own.union(*(_list_refs(value) for value in schema.values()))
    return set().union(*(_list_refs(value) for value in schema)) if isinstance(schema, list) else set()


def _list_nested(section: str) -> list[str]:
    """The sections inside a family's section that have no other place on the pages."""
    waiting, nested = [section], []
    while waiting:
        for name in sorted(_list_refs(list_sections()[waiting.pop()]["properties"])):
            if name not in nested and name not in RECIPE_SECTIONS:
                nested += [name]
                waiting += [name]
    return nested


# -- the command line ------------------------------------------------------------------------------------------------


def write_commands() -> str:
    """Write every verb with its usage, arguments and options."""
    whole = parser.build_parser(["--help"])
    (verbs,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    return "\n".join(_write_verb(name, verb) for name, verb in sorted(verbs.choices.items()))


def _write_verb(name: str, verb: argparse.ArgumentParser) -> str:
    usage = re.sub(r"\s+", " ", verb.format_usage()).removeprefix("usage: ")
    text = (verb.description or "").strip()
    parts = [f"## `zoo {name}`\n", f"{text[:1].upper()}{text[1:].rstrip('.')}.\n", f"```text\n{usage.strip()}\n```\n"]
    rows = [describe_argument(action) for action in verb._actions if not isinstance(action, argparse._HelpAction)]
    return "\n".join([*parts, make_table(("argument", "meaning"), rows)])


def describe_argument(action: argparse.Action) -> tuple[str, str]:
    """Return how an argument is written, and its help."""
    name = str(action.metavar or action.dest)
    if action.option_strings:
        name = ", ".join(action.option_strings)
        if action.choices:
            name += f" {{{','.join(map(str, action.choices))}}}"
        elif action.nargs != 0:
            name += f" {str(action.metavar or action.dest).upper()}"
    return f"`{name}`", escape((action.help or "") % {"default": action.default, "prog": "zoo"})


WRITERS: dict[str, Callable[[], str]] = {
    "recipe": write_recipe,
    "families": write_families,
    "tasks": write_tasks,
    "commands": write_commands,
}
