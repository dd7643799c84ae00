"""The good rows of a source as columns of canonical values, and which of them a recipe takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.core.lazy import lazy
from zoo.data import column_mapping, kinds
from zoo.data.spec import Data
from zoo.data.split import drawn, held_out, key
from zoo.data.table import Fault, Row, Source
from zoo.schema import Kind

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

Columns = dict[str, list[Any]]


def narrowed(data: Data, source: Source) -> tuple[Data, Source]:
    """The same rows from a source that reads or draws only those which holdout and limit leave, where it can, and `data` without
    them. What a row holds must not matter: nothing is filtered, grouped or skipped."""
    by_content = data.where or data.on_bad_row == "skip" or (data.holdout and data.holdout.by is not None)
    if source.some is None or source.count is None or by_content or not (data.holdout or data.limit):
        return data, source
    positions = chosen(data, {"": list(range(source.count))})[""]
    some = source.some
    return data.model_copy(update={"holdout": None, "limit": None}), replace(
        source, rows=lambda: some(np.array(positions)), count=None, some=None
    )


def gather(
    data: Data, source: Source, roles: Mapping[str, Kind], absent: Iterable[str], images: str = ""
) -> tuple[Columns, list[str], set[str]]:
    """Columns of the good rows, with those of `roles` canonical; a line for each bad one; and the roles of `absent`
    that were met after all, upon which it stops. `images` is a file beside which relative paths of images start."""
    rename, passes, missing = column_mapping.renamer(data), _filter(data), set(absent)
    columns: Columns = {role: [] for role in roles}
    bad: list[str] = []
    count = 0
    for place, raw in source.rows():
        if isinstance(raw, Fault):
            bad.append(f"{place}: {raw.what}")
            continue
        row = rename(raw)
        if not missing.isdisjoint(row):
            return {}, [], missing & row.keys()
        if not passes(row):
            continue
        role, values = "", dict(row)
        try:
            for role, kind in roles.items():
                values[role] = kinds.canonical(kind, row.get(role), images or place.name)
        except ValueError as error:
            bad.append(f"{place}: {role}: {error}")
            continue
        if not values.keys() <= columns.keys():
            columns |= {name: [None] * count for name in values if name not in columns}
        for name, column in columns.items():
            column.append(values.get(name))
        count += 1
    return columns, bad, set()


def _filter(data: Data) -> Callable[[Row], bool]:
    if not data.where:
        return lambda _: True
    wanted: dict[str, set[str]] = {}
    for name, given in data.where.items():
        values = given if isinstance(given, tuple) else (given,)
        spellings = {key(value) for value in values}
        spellings |= {key(value).title() for value in values if isinstance(value, bool)}  # as Python writes it to csv
        wanted[name] = spellings

    def passes(row: Row) -> bool:
        for name, spellings in wanted.items():
            value = row.get(column_mapping.resolved(data, name, row))
            if value is None or key(value) not in spellings:
                return False
        return True

    return passes


def chosen(data: Data, columns: Columns) -> Columns:
    """What holdout and limit leave of the columns."""
    count = len(next(iter(columns.values())))
    if data.holdout:
        by = data.holdout.by
        groups = None if by is None else [key(value) for value in columns[column_mapping.resolved(data, by, columns)]]
        mask = held_out(count, data.holdout, groups)
        columns = _taken(columns, (mask if data.holdout.side == "test" else ~mask).nonzero()[0])
        count = len(next(iter(columns.values())))
    if data.limit and data.limit < count:
        columns = _taken(columns, drawn(count, data.limit))
    return columns


def _taken(columns: Columns, positions: Iterable[int]) -> Columns:
    kept = list(positions)
    return {name: [values[index] for index in kept] for name, values in columns.items()}
