"""A step after training on the command line: its name, followed by its settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo import data
from zoo.after.sections import AfterStep
from zoo.after.spec import StepSpec
from zoo.core.errors import RecipeError
from zoo.core.settings import read_settings
from zoo.data.spec import FileData
from zoo.recipe import error_messages
from zoo.schema import Section

COLUMNS = (("query", "document"), ("anchor", "positive"))
"""Names that the columns of pairs may have in a file, without a setting."""


class _Entry(Section):
    step: AfterStep


def make_step(
    name: str, settings: Sequence[str], *, data_file: str | None = None, none_file: str | None = None
) -> StepSpec:
    """Return the section of a step with settings `key.path=value`. Raise RecipeError that lists every mistake.

    Args:
        name: the step.
        settings: its fields; `data.columns.document=title` is one of a data section.
        data_file, none_file: files of its data sections `data` and `none`.
    """
    tree: dict[str, Any] = {"step": name}
    for field, path in (("data", data_file), ("none", none_file)):
        if path is not None:
            tree[field] = {"source": "file", "path": path}
    tree = read_settings(name, settings, tree)
    for field in ("data", "none"):
        section = tree.get(field)
        if isinstance(section, dict) and "columns" not in section and section.get("source") == "file":
            section["columns"] = guess_columns(str(section.get("path")), "document" if field == "data" else "query")
    try:
        spec = _Entry.model_validate({"step": tree}).step
    except ValidationError as error:
        mistakes = error_messages.translate(error, _Entry, {"step": tree})
        raise RecipeError(*(_format(name, path[1:], text) for path, text in mistakes)) from None
    own = [*spec.find_mistakes(Path())]
    for field, part in spec.list_data().items():
        own += [((field, *path), text) for path, text in data.problems(part.data, part.roles, folder=Path())]
    if own:
        raise RecipeError(*(_format(name, path, text) for path, text in own))
    return spec


def _format(name: str, path: Sequence[str | int], text: str) -> str:
    return f"{name}: {'.'.join(map(str, path))}: {text}" if path else f"{name}: {text}"


def guess_columns(path: str, role: str) -> dict[str, str]:
    """Return the columns of a file that holds pairs by other names, or one column `text` for `role`."""
    present = data.peek(FileData(source="file", path=path), folder=Path()) or ()
    if role in present:
        return {}
    if role == "document":
        pair = next((pair for pair in COLUMNS if set(pair) <= set(present)), None)
        if pair is not None:
            return {"query": pair[0], "document": pair[1]}
    return {role: "text"} if "text" in present else {}
