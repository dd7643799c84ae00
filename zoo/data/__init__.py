"""Rows for training and evaluation: read, rename, filter, check, split and fingerprint them.

`read` does all of this. `peek` and `problems` answer from headers alone, for `zoo check`.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zoo.core.errors import DataError, DataWarning
from zoo.core.suggest import suggest
from zoo.data import column_mapping, kinds, selection, stored
from zoo.data.column_mapping import Mistake
from zoo.data.raw_rows import BadRow, Origin, Row, RowLocation, Source
from zoo.data.selection import Columns
from zoo.data.sources import builtin, file, hub
from zoo.data.spec import BuiltinData, Data, FileData, Holdout, HubData
from zoo.data.split import comparison_key, draw_mask_by_class, draw_side_mask
from zoo.data.stored import filter_table
from zoo.data.table import INPUT_KINDS, Table, build_table
from zoo.schema import Kind

__all__ = ["Origin", "Table", "find_roles", "hold_out", "peek", "problems", "read", "read_texts", "stream"]

Roles = Mapping[str, Kind]
TEXT_KINDS = ("text", "texts", "caption", "captions")


def read(
    data: Data, required: Roles, optional: Roles = MappingProxyType({}), *, folder: Path, store: Path | None = None
) -> Table:
    """Read the rows of `data` into a table.

    The fields of `data` are applied in this order: `columns`, `where`, the check of every row, `holdout`, `limit`.

    Args:
        required: the roles that the data must have, and the kind of each.
        optional: the same for roles that the data may have. If one row has such a role, every row must have it.
        folder: where a relative path starts.
        store: the folder for tables that are too large for memory, and where they are found again. None keeps all in memory.

    Raises:
        DataError: if the data is missing or unreadable, if a row is bad and `on_bad_row` is not `skip`, or if no rows are
            left. The message names file, row and column.
    """
    source = _open(data, folder)
    if store is None or isinstance(data, BuiltinData):
        return _read_rows(data, source, required, optional, folder, None)
    key = stored.compute_key(_describe_content(data, source, required, optional, folder))
    table = stored.open_table(store / key)
    if table is not None:
        return table
    with stored.make_folder(store / key) as partial:
        table = _read_rows(data, source, required, optional, folder, partial)
        if table.folder is None:
            return table
    return stored.open_table(store / key) or table


def _describe_content(data: Data, source: Source, required: Roles, optional: Roles, folder: Path) -> list[Any]:
    """Return all that decides which rows are read: the section, the roles, and the files or the commit."""
    section = data.model_dump(mode="json", include=set(FileData.model_fields) | set(HubData.model_fields))
    files = file.find_files(data, folder) if isinstance(data, FileData) else []
    stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return [section, dict(required), dict(optional), stamps, source.origin.revision]


def _read_rows(
    data: Data, source: Source, required: Roles, optional: Roles, folder: Path, partial: Path | None
) -> Table:
    """Read the rows of an open source. If they are many, write them into the folder `partial`."""
    data, source = selection.select_before_reading(data, source)
    _check_columns(data, source, required)
    columns, roles, bad, spill = _collect_roles(data, source, required, optional, folder, partial)
    if bad and data.on_bad_row == "error":
        listed = f" (the first {selection.MAX_LISTED} are listed)" if len(bad) > selection.MAX_LISTED else ""
        count = f"{len(bad)} bad row{'s' * (len(bad) > 1)}{listed}"
        raise DataError(*bad[: selection.MAX_LISTED], f"{count}; fix the data, or set on_bad_row: skip")
    if spill is not None and spill.is_used:
        return _finish_spill(data, spill, roles, source.origin, bad)
    if not next(iter(columns.values()), None):
        reasons = [f"where {dict(data.where)}"] * bool(data.where) + [f"skipping {len(bad)} bad rows"] * bool(bad)
        first = f"; the first is {bad[0]}" if bad else ""
        raise DataError(
            f"{source.origin.name}: no rows are left{' after ' * bool(reasons)}{' and '.join(reasons)}{first}"
        )
    for role, kind in roles.items():
        if kind == "label":  # before the hold-out, so that both sides have the same type
            columns[role] = kinds.unify_labels(columns[role])
        if kind == "vector":
            _check_vector_sizes(f"{source.origin.name}: {role}", set(map(len, columns[role])))
    try:
        selected = selection.select_rows(data, columns)
    except DataError as error:
        raise DataError(*(f"{source.origin.name}: {problem}" for problem in error.problems)) from None
    return build_table(selected, roles, source.origin, bad)


def read_texts(data: Data, roles: Roles, *, folder: Path, most: int) -> tuple[dict[str, list[Any]], int] | None:
    """Return the columns of the roles that hold texts, and the number of rows, without building a table. None for the Hub.

    At most `most` + 1 rows are read from the beginning, and bad rows are left out. If there are so many rows, the hold-out is
    not applied, because it depends on all of them.

    Raises DataError if the data is missing, unknown or unreadable.
    """
    if isinstance(data, HubData):
        return None
    source = _open(data, folder)
    wanted = {role: kind for role, kind in roles.items() if kind in TEXT_KINDS}
    present = {name for _, columns in source.parts for name in column_mapping.rename_columns(data, columns)}
    wanted = {role: kind for role, kind in wanted.items() if role in present}
    if not wanted:
        return {}, 0
    first = replace(source, read_rows=lambda: itertools.islice(source.read_rows(), most + 1))
    columns, _, _ = selection.collect_columns(data, first, wanted, ())
    count = len(next(iter(columns.values())))
    if count <= most:
        columns = selection.select_rows(data, columns)
    return {role: columns[role] for role in wanted}, count


def stream(data: Data, *, folder: Path) -> Iterator[tuple[RowLocation, Row]]:
    """Yield the rows of `data` with every column, as the source gives them, in memory that does not grow with their number.

    All fields of `data` are applied. The rows are read twice if the hold-out or the limit depends on their content.

    Raise DataError if the data is missing or unreadable, and for a bad row unless `on_bad_row` is `skip`.
    """
    data, source = selection.select_before_reading(data, _open(data, folder))
    _check_columns(data, source, {})
    if not (data.holdout or data.limit):
        yield from _stream_good_rows(data, source)
        return
    by, groups, count = data.holdout.by if data.holdout else None, [], 0
    for location, row in _stream_good_rows(data, source):
        count += 1
        if by is not None:
            name = column_mapping.resolve_column(data, by, row)
            if name not in row:
                raise DataError(f"{location}: holdout.by: there is no column {by!r}{suggest(by, row)}")
            groups.append(comparison_key(row[name]))
    chosen = iter(selection.select_positions(data, count, groups if by is not None else None).tolist())
    wanted = next(chosen, None)
    for position, item in enumerate(_stream_good_rows(data, source)):
        if position == wanted:
            yield item
            wanted = next(chosen, None)


def _stream_good_rows(data: Data, source: Source) -> Iterator[tuple[RowLocation, Row]]:
    """Yield the rows that pass `where`, renamed."""
    rename, passes = column_mapping.build_row_renamer(data), selection.build_filter(data)
    for location, raw in source.read_rows():
        if isinstance(raw, BadRow):
            if raw.ends_file or data.on_bad_row == "error":
                raise DataError(f"{location}: {raw.reason}")
            continue
        row = rename(raw)
        if passes(row):
            yield location, row


def _finish_spill(data: Data, spill: stored.Spill, roles: Roles, origin: Origin, bad: list[str]) -> Table:
    """Apply `holdout` and `limit` to rows on disk, and record the table in its folder."""
    import numpy as np

    for role, sizes in spill.vector_sizes.items():
        _check_vector_sizes(f"{origin.name}: {role}", sizes)
    rows, prefix = spill.close()
    if data.holdout or data.limit:
        groups = stored.hash_column(rows, spill.by) if data.holdout and spill.by is not None else None
        mask = np.zeros(len(rows), dtype=bool)
        try:
            mask[selection.select_positions(data, len(rows), groups)] = True
        except DataError as error:
            raise DataError(*(f"{origin.name}: {problem}" for problem in error.problems)) from None
        rows, prefix = stored.rewrite(rows, rows.features, spill.folder, "selected", mask), "selected"
    inputs = tuple(name for name, kind in roles.items() if kind in INPUT_KINDS)
    table = Table(rows, "", origin, tuple(bad), tuple(sorted(roles)), inputs, folder=spill.folder)
    stored.record_table(table, spill.folder, prefix)
    return table


def find_roles(data: Data, required: Roles, optional: Roles, *, folder: Path) -> dict[str, str] | None:
    """Return the name in the data of the column that fills each role, or None for data on the Hub.

    Raise DataError if the data is missing, unknown or unreadable.
    """
    raw_columns = _read_raw_columns(data, folder)
    if raw_columns is None:
        return None
    present = column_mapping.rename_columns(data, raw_columns)
    roles = [*required, *column_mapping.choose_optional_roles(data, required, optional)]
    return {role: data.columns.get(role) or role for role in roles if role in present}


def hold_out(table: Table, split: Holdout, *, by_class: bool = False) -> Table:
    """Return one side of a table.

    Args:
        by_class: take the share of each class of the role `label`, and leave a row of each class on the training side.

    Raises:
        DataError: if `split` asks for more rows than there are, or groups by a column that is missing.
    """
    if by_class:
        labels = table.rows["label"]
        held_out = draw_mask_by_class(labels, split)
        return filter_table(table, held_out if split.side == "test" else ~held_out)
    groups: Any = None
    if split.by is not None:
        if split.by not in table.rows.column_names:
            raise DataError(f"holdout: there is no column {split.by!r}{suggest(split.by, table.rows.column_names)}")
        if table.folder is not None:
            groups = stored.hash_column(table.rows, split.by)
        else:
            groups = [comparison_key(value) for value in table.rows.with_format(None)[split.by]]
    return filter_table(table, draw_side_mask(len(table.rows), split, groups))


def peek(data: Data, *, folder: Path) -> tuple[str, ...] | None:
    """Return the column names after `columns` is applied, or None for data on the Hub.

    If there are several files, only the first is opened. Raise DataError if the data is missing, unknown or unreadable.
    """
    raw_columns = _read_raw_columns(data, folder)
    return None if raw_columns is None else column_mapping.rename_columns(data, raw_columns)


def problems(data: Data, required: Roles, *, folder: Path) -> list[Mistake]:
    """Return the mistakes that can be found without reading rows, as (path below the data section, message)."""
    if isinstance(data, BuiltinData):
        try:
            builtin.load_module(data.name).describe_origin()
        except DataError as error:
            return [(("name",), str(error))]
    try:
        raw_columns = _read_raw_columns(data, folder)
    except DataError as error:
        return [(("path",) if isinstance(data, FileData) else ("table",), str(error))]
    return [] if raw_columns is None else column_mapping.find_mistakes(data, raw_columns, required)


def _open(data: Data, folder: Path) -> Source:
    if isinstance(data, FileData):
        return file.open_source(data, folder)
    return hub.open_source(data) if isinstance(data, HubData) else builtin.open_source(data)


def _read_raw_columns(data: Data, folder: Path) -> tuple[str, ...] | None:
    if isinstance(data, FileData):
        return file.read_column_names(data, folder)
    return None if isinstance(data, HubData) else builtin.get_column_names(data)


def _check_columns(data: Data, source: Source, required: Roles) -> None:
    mistakes = [
        f"{name}: {message}"
        for name, raw_columns in source.parts
        for _, message in column_mapping.find_mistakes(data, raw_columns, required)
    ]
    if mistakes:
        raise DataError(*mistakes[: selection.MAX_LISTED])


def _collect_roles(
    data: Data, source: Source, required: Roles, optional: Roles, folder: Path, partial: Path | None
) -> tuple[Columns, dict[str, Kind], list[str], stored.Spill | None]:
    """Return the columns of the good rows, the roles that the data has, one line for each bad row, and the rows on disk."""
    present = {name for _, columns in source.parts for name in column_mapping.rename_columns(data, columns)}
    unnamed = present.intersection(optional)
    optional = column_mapping.choose_optional_roles(data, required, optional)
    for role in sorted(unnamed - optional.keys() - data.columns.keys()):
        message = f"{source.origin.name}: the column {role!r} does not fill the role {role}, because `columns` names other roles"
        warnings.warn(f"{message}; add {role}: {role} to use it, or {role}: null", DataWarning, stacklevel=3)
    roles = {**required, **{role: kind for role, kind in optional.items() if role in present}}
    image_folder = folder / file.expand_path(data.images) if data.images else None
    while True:
        absent = optional.keys() - roles.keys()
        spill = None if partial is None else stored.Spill(partial, roles, _find_group_column(data, roles))
        columns, bad, late_roles = selection.collect_columns(data, source, roles, absent, image_folder, spill)
        if not late_roles:
            return columns, roles, bad, spill
        if spill is not None:
            spill.discard()
        # json has no header: an optional role may first appear in a later row, and then every row must have it.
        roles |= {role: optional[role] for role in late_roles}


def _find_group_column(data: Data, roles: Roles) -> str | None:
    by = data.holdout.by if data.holdout else None
    return None if by is None else column_mapping.resolve_column(data, by, roles)


def _check_vector_sizes(name: str, sizes: set[int]) -> None:
    if len(sizes) > 1:
        message = f"{name}: has vectors of {min(sizes)} and of {max(sizes)} components; all must have the same number"
        raise DataError(message)
