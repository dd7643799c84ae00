"""Rows for training and evaluation: found, renamed, filtered, checked, split, and fingerprinted.

`read` does it all; `peek` and `problems` answer from headers alone, for `zoo check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from zoo.core.errors import DataError
from zoo.core.suggest import suggest
from zoo.data import column_mapping, kinds, rows
from zoo.data.column_mapping import Mistake
from zoo.data.sources import builtin, file, hub
from zoo.data.spec import BuiltinData, Data, FileData, Holdout, HubData
from zoo.data.split import held_out, key
from zoo.data.table import Origin, Source, Table, build, filtered
from zoo.schema import Kind

__all__ = ["Origin", "Table", "hold_out", "peek", "problems", "read"]

Roles = Mapping[str, Kind]
SHOWN = 5  # mistakes named in an error


def read(data: Data, need: Roles, optional: Roles = MappingProxyType({}), *, folder: Path) -> Table:
    """Read `data`: columns, where, check of every row, holdout, limit.

    Args:
        need, optional: what the roles must hold; an optional role is checked like the others once any row has it.
        folder: where a relative path starts.

    Raises DataError, which names file, row and column, for data that is missing or unreadable, for bad rows unless they
    may be skipped, and when no rows are left.
    """
    source = _open(data, folder)
    data, source = rows.narrowed(data, source)
    mistakes = [
        f"{name}: {text}" for name, columns in source.parts for _, text in column_mapping.mistakes(data, columns, need)
    ]
    if mistakes:
        raise DataError(*mistakes[:SHOWN])
    present = {name for _, columns in source.parts for name in column_mapping.final(data, columns)}
    roles = {**need, **{role: kind for role, kind in optional.items() if role in present}}
    images = str(folder / file.expanded(data.images) / "_") if data.images else ""
    columns, bad, late = rows.gather(data, source, roles, optional.keys() - roles.keys(), images)
    while late:  # json has no header: a role may show up in a later row, and then every row needs it
        roles |= {role: optional[role] for role in late}
        columns, bad, late = rows.gather(data, source, roles, optional.keys() - roles.keys(), images)
    if bad and data.on_bad_row == "error":
        count = f"{len(bad)} bad row{'s' * (len(bad) > 1)}"
        raise DataError(*bad[:SHOWN], f"{count}; mend the data, or set on_bad_row: skip")
    if not next(iter(columns.values()), None):
        after = [f"where {dict(data.where)}"] * bool(data.where) + [f"skipping {len(bad)} bad rows"] * bool(bad)
        raise DataError(f"{source.origin.name}: no rows are left{' after ' if after else ''}{' and '.join(after)}")
    for role, kind in roles.items():
        if kind == "label":  # before the split, so that both sides agree
            columns[role] = kinds.settle_labels(columns[role])
        if kind == "vector" and len(sizes := {len(value) for value in columns[role]}) > 1:
            raise DataError(f"{source.origin.name}: {role}: has vectors of {min(sizes)} and of {max(sizes)} components")
    return build(rows.chosen(data, columns), roles, source.origin, bad)


def hold_out(table: Table, split: Holdout) -> Table:
    """One side of a table. Raises DataError when `split` asks for more rows than there are, or by a missing column."""
    groups = None
    if split.by is not None:
        if split.by not in table.rows.column_names:
            raise DataError(f"holdout: there is no column {split.by!r}{suggest(split.by, table.rows.column_names)}")
        groups = [key(value) for value in table.rows.with_format(None)[split.by]]
    mask = held_out(len(table.rows), split, groups)
    return filtered(table, mask if split.side == "test" else ~mask)


def peek(data: Data, *, folder: Path) -> tuple[str, ...] | None:
    """Column names after `columns`; None when only the network knows. Of several files the first is asked. Raises
    DataError for what is missing, unknown or unreadable."""
    raw = _raw_columns(data, folder)
    return None if raw is None else column_mapping.final(data, raw)


def problems(data: Data, need: Roles, *, folder: Path) -> list[Mistake]:
    """What `zoo check` can say without reading the rows: (path below the data section, message)."""
    if isinstance(data, BuiltinData):
        try:
            builtin.load(data.name).origin()
        except DataError as error:
            return [(("name",), str(error))]
    try:
        raw = _raw_columns(data, folder)
    except DataError as error:
        return [(("path",) if isinstance(data, FileData) else ("table",), str(error))]
    return [] if raw is None else column_mapping.mistakes(data, raw, need)


def _open(data: Data, folder: Path) -> Source:
    if isinstance(data, FileData):
        return file.open_source(data, folder)
    return hub.open_source(data) if isinstance(data, HubData) else builtin.open_source(data)


def _raw_columns(data: Data, folder: Path) -> tuple[str, ...] | None:
    if isinstance(data, FileData):
        return file.columns(data, folder)
    return None if isinstance(data, HubData) else builtin.columns(data)
