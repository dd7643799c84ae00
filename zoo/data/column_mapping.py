"""Column names: what `columns` makes of them, and which of those that a recipe names are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from zoo.core.suggest import suggest
from zoo.data.spec import Data
from zoo.data.table import Row
from zoo.schema import Kind

Mistake = tuple[tuple[str | int, ...], str]
"""(path below the data section, message)"""


def final(data: Data, raw: Iterable[str]) -> tuple[str, ...]:
    """Names after `columns`: roles, and the columns that no role was made of under their own names."""
    sources = set(data.columns.values())
    return (*data.columns, *(name for name in raw if name not in sources and name not in data.columns))


def resolved(data: Data, name: str, present: Iterable[str]) -> str:
    """The final name of a column that `where` or `by` may call by its role or by its name in the data."""
    if name in present:
        return name
    return next((role for role, source in data.columns.items() if source == name), name)


def mistakes(data: Data, raw: tuple[str, ...], need: Mapping[str, Kind]) -> list[Mistake]:
    """Columns that `data` or `need` name and that are not among `raw`."""
    found: list[Mistake] = [
        (("columns", role), f"there is no column {source!r}{suggest(source, raw)}")
        for role, source in data.columns.items()
        if source not in raw
    ]
    present = final(data, raw)
    for role in need:
        if role not in present:
            close = suggest(role, raw)
            found.append((("columns",), f"needs a column {role!r}{close}; name it with columns: {{{role}: …}}"))
    named: list[Mistake] = [(("where", name), name) for name in data.where]
    if data.holdout and data.holdout.by is not None:
        named.append((("holdout", "by"), data.holdout.by))
    for path, name in named:
        if resolved(data, name, present) not in present:
            found.append((path, f"there is no column {name!r}{suggest(name, dict.fromkeys((*present, *raw)))}"))
    return found


def renamer(data: Data) -> Callable[[Row], Row]:
    """The function that gives a row its final names."""
    if not data.columns:
        return lambda row: row
    gone = {*data.columns, *data.columns.values()}
    pairs = tuple(data.columns.items())

    def rename(row: Row) -> Row:
        renamed = {role: row[source] for role, source in pairs if source in row}
        renamed.update((name, value) for name, value in row.items() if name not in gone)
        return renamed

    return rename
