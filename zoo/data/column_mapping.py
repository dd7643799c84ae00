"""Column names: rename them by `columns`, and find those that a recipe names but the data lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from zoo.core.suggest import suggest
from zoo.data.raw_rows import Row
from zoo.data.spec import Data
from zoo.schema import Kind

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
Mistake = tuple[tuple[str | int, ...], str]
"""(path below the data section, message)"""


def rename_columns(data: Data, raw_columns: Iterable[str]) -> tuple[str, ...]:
    """Return the names after `columns` is applied: the roles, then all other columns under their own names."""
    sources = set(data.columns.values())
    roles = (role for role, source in data.columns.items() if source is not None)
    return (*roles, *(name for name in raw_columns if name not in sources and name not in data.columns))


def choose_optional_roles(data: Data, required: Mapping[str, Kind], optional: Mapping[str, Kind]) -> dict[str, Kind]:
    """Return the optional roles that a column of the same name may fill, and those that `columns` names.

    If `columns` names a role, it says what the section holds: a column that happens to bear the name of another optional role
    does not fill it.
    """
    named = {role for role in data.columns if role in required or role in optional}
    return {role: kind for role, kind in optional.items() if data.columns.get(role) or not named}


def resolve_column(data: Data, name: str, present: Iterable[str]) -> str:
    """Return the final name of a column that `where` or `by` calls by its role or by its name in the data."""
    if name in present:
        return name
    return next((role for role, source in data.columns.items() if source == name), name)


def find_mistakes(data: Data, raw_columns: tuple[str, ...], required: Mapping[str, Kind]) -> list[Mistake]:
    """Return a mistake for each column that `data` or `required` names and that the data lacks."""
    mistakes: list[Mistake] = []
    for role, source in data.columns.items():
        if source is None:
            if role in required:
                mistakes.append((("columns", role), "is needed, so it cannot be left out; name its column"))
        elif source not in raw_columns:
            mistakes.append(
                (("columns", role), f"there is no column {source!r}{_suggest_column(source, raw_columns, data)}")
            )
    present = rename_columns(data, raw_columns)
    for role in required:
        if role not in present and role not in data.columns:
            hint = _suggest_column(role, raw_columns, data)
            mistakes.append((("columns",), f"needs a column {role!r}{hint}; name it with columns: {{{role}: …}}"))
    filters: list[Mistake] = [(("where", name), name) for name in data.where]
    if data.holdout and data.holdout.by is not None:
        filters.append((("holdout", "by"), data.holdout.by))
    for path, name in filters:
        if resolve_column(data, name, present) not in present:
            hint = suggest(name, dict.fromkeys((*present, *raw_columns)))
            mistakes.append((path, f"there is no column {name!r}{hint}"))
    return mistakes


def _suggest_column(name: str, raw_columns: tuple[str, ...], data: Data) -> str:
    """Return the nearest or all columns, or that a csv or tsv file has another separator, which leaves it one column."""
    suffixes = Path(getattr(data, "path", "")).suffixes
    if len(raw_columns) == 1 and (".csv" in suffixes or ".tsv" in suffixes):
        right = "tabs" if ".tsv" in suffixes else "commas"
        for separator, kind in SEPARATORS.items():
            if separator in raw_columns[0] and kind != right:
                return f": the header {raw_columns[0]!r} is separated by {kind}; save the file with {right} between the columns"
    return suggest(name, raw_columns)


def build_row_renamer(data: Data) -> Callable[[Row], Row]:
    """Return the function that gives the columns of a row their final names."""
    if not data.columns:
        return lambda row: row
    replaced = {*data.columns, *data.columns.values()}
    pairs = tuple((role, source) for role, source in data.columns.items() if source is not None)

    def rename(row: Row) -> Row:
        renamed = {role: row[source] for role, source in pairs if source in row}
        renamed.update((name, value) for name, value in row.items() if name not in replaced)
        return renamed

    return rename
