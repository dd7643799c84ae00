"""Collect the good rows of a source into columns, and select the rows that the recipe takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import DataError
from zoo.data import column_mapping, kinds, stored
from zoo.data.limits import MAX_ABSENT_CELLS, TooLargeError, check_column_count, is_cell_too_large
from zoo.data.raw_rows import BadRow, Item, Row, RowLocation, Source
from zoo.data.spec import Data
from zoo.data.split import Groups, comparison_key, draw_positions, draw_side_mask
from zoo.data.stored import Spill
from zoo.schema import Kind

if TYPE_CHECKING:
    import numpy as np

Columns = dict[str, list[Any]]
MAX_LISTED = 5  # mistakes in one error message


def select_before_reading(data: Data, source: Source) -> tuple[Data, Source]:
    """Apply `holdout` and `limit` before rows are converted and kept, so that memory grows with the selection only.

    A source that can read single rows reads the selected rows alone. The rows of another source are read twice if there is a
    `limit`: they are counted first. Return a source of the selected rows, and `data` without the two fields. Both come back
    unchanged if the selection depends on the content of rows: if rows are filtered, grouped or skipped.
    """
    depends_on_content = data.where or data.on_bad_row == "skip" or (data.holdout and data.holdout.by is not None)
    if depends_on_content or not (data.holdout or data.limit):
        return data, source
    if source.read_rows_at is not None and source.row_count is not None:
        read_rows_at, row_count = source.read_rows_at, source.row_count
    elif data.limit:
        read_rows_at, row_count = _pick_rows(source.read_rows), _count_rows(source.read_rows())
    else:
        return data, source
    if not row_count:
        return data, source
    positions = select_positions(data, row_count)
    selected = replace(source, read_rows=lambda: read_rows_at(positions), row_count=None, read_rows_at=None)
    return data.model_copy(update={"holdout": None, "limit": None}), selected


def _count_rows(items: Iterable[Item]) -> int:
    """Return the number of rows. Raise DataError for rows that cannot be read."""
    bad: list[str] = []
    count = 0
    for location, row in items:
        count += 1
        if isinstance(row, BadRow):
            bad.append(f"{location}: {row.reason}")
            if row.ends_file or len(bad) == MAX_LISTED:
                break
    if bad:
        raise DataError(*bad, "fix the data, or set on_bad_row: skip")
    return count


def _pick_rows(read_rows: Callable[[], Iterator[Item]]) -> Callable[[np.ndarray], Iterator[Item]]:
    """Return the function that reads the rows at ascending positions and stops after the last of them."""

    def read_rows_at(positions: np.ndarray) -> Iterator[Item]:
        wanted = iter(positions.tolist())
        position = next(wanted, None)
        for number, item in enumerate(read_rows()):
            if number == position:
                yield item
                position = next(wanted, None)
            if position is None:
                return

    return read_rows_at


def collect_columns(
    data: Data,
    source: Source,
    roles: Mapping[str, Kind],
    absent: Iterable[str],
    image_folder: Path | None = None,
    spill: Spill | None = None,
) -> tuple[Columns, list[str], set[str]]:
    """Read all rows of `source` that pass `where`, convert the values of `roles`, and check them.

    Args:
        absent: optional roles that no header has. Reading stops at the first row that has one of them.
        image_folder: where relative paths of images start. The default is the folder of the file that holds the row.
        spill: takes the rows, block by block, once there are more than stay in memory.

    Returns:
        The columns of the good rows, or empty columns if `spill` has taken them; one line for each bad row; and the roles of
        `absent` that a row has. If there are such roles, the first two are empty.

    Raises:
        DataError: for a fault behind which nothing can be read.
    """
    rename, passes, absent_roles = column_mapping.build_row_renamer(data), build_filter(data), set(absent)
    needs_folder = image_folder is None and source.has_files and not {"image", "pictures"}.isdisjoint(roles.values())
    collector = _Collector(roles, spill)
    bad: list[str] = []
    for location, raw in source.read_rows():
        if isinstance(raw, BadRow):
            if raw.ends_file:
                raise DataError(f"{location}: {raw.reason}")
            bad.append(f"{location}: {raw.reason}")
            continue
        row = rename(raw)
        if not absent_roles.isdisjoint(row):
            return {}, [], absent_roles & row.keys()
        if not passes(row):
            continue
        folder = Path(location.name).parent if needs_folder else image_folder
        values = _convert_row(data, row, roles, location, folder)
        if isinstance(values, BadRow):
            bad.append(values.reason)
            continue
        collector.add(location, values)
    return collector.finish(), bad, set()


class _Collector:
    """The columns of rows, and the rows on disk once they are many."""

    def __init__(self, roles: Mapping[str, Kind], spill: Spill | None) -> None:
        self.columns: Columns = {role: [] for role in roles}
        self.spill = spill if roles else None
        self.count = self._absent_count = 0

    def add(self, location: RowLocation, values: Mapping[str, Any]) -> None:
        """Append a row. Columns that others lack are filled up with None; on disk, new columns are left out."""
        columns = self.columns
        has_spilled = self.spill is not None and self.spill.is_used
        if not has_spilled and not values.keys() <= columns.keys():
            columns |= {name: [None] * self.count for name in values if name not in columns}
            check_column_count(str(location), len(columns))
        self._absent_count += 0 if has_spilled else len(columns) - len(values)
        if self._absent_count > MAX_ABSENT_CELLS + 10 * self.count:
            raise DataError(
                f"{location}: the rows have {len(columns)} different columns, most of them empty; remove some"
            )
        for name, column in columns.items():
            column.append(values.get(name))
        self.count += 1
        if self.spill is not None and self.count >= stored.MEMORY_ROWS and self.count % stored.BLOCK == 0:
            self.spill.write(columns)

    def finish(self) -> Columns:
        """Return the columns; empty ones if the rows are on disk."""
        if self.spill is not None and self.spill.is_used and any(self.columns.values()):
            self.spill.write(self.columns)
        return self.columns


def _convert_row(
    data: Data, row: Row, roles: Mapping[str, Kind], location: RowLocation, image_folder: Path | None
) -> dict[str, Any] | BadRow:
    values, max_cell = dict(row), data.max_cell_mb << 20
    for name, value in values.items():
        if is_cell_too_large(value, max_cell):
            return BadRow(f"{location}: {name}: {TooLargeError(max_cell)}")
    for role, kind in roles.items():
        try:
            values[role] = kinds.convert_value(kind, row.get(role), image_folder, max_cell)
            if data.classes and role == "label":
                values[role] = kinds.name_class(values[role], data.classes)
        except ValueError as error:
            return BadRow(f"{location}: {role}: {error}")
    return values


def build_filter(data: Data) -> Callable[[Row], bool]:
    """Return the function that says whether a row passes `where`."""
    if not data.where:
        return lambda _: True
    accepted: dict[str, set[str]] = {}
    for name, accepted_values in data.where.items():
        values = accepted_values if isinstance(accepted_values, tuple) else (accepted_values,)
        accepted[name] = {comparison_key(value) for value in values}
        # Python writes a boolean to csv as True, not true.
        accepted[name] |= {comparison_key(value).title() for value in values if isinstance(value, bool)}

    def passes(row: Row) -> bool:
        for name, keys in accepted.items():
            value = row.get(column_mapping.resolve_column(data, name, row))
            if value is None or comparison_key(value) not in keys:
                return False
        return True

    return passes


def select_rows(data: Data, columns: Columns) -> Columns:
    """Return the rows that `holdout` and `limit` leave."""
    if not data.holdout and not data.limit:
        return columns
    groups = None
    if data.holdout and data.holdout.by is not None:
        name = column_mapping.resolve_column(data, data.holdout.by, columns)
        groups = [comparison_key(value) for value in columns[name]]
    count = len(next(iter(columns.values())))
    positions = select_positions(data, count, groups).tolist()
    return {name: [values[position] for position in positions] for name, values in columns.items()}


def select_positions(data: Data, count: int, groups: Groups = None) -> np.ndarray:
    """Return the ascending positions, of `count` rows, that `holdout` and then `limit` leave."""
    import numpy as np

    positions = np.arange(count)
    if data.holdout:
        positions = positions[draw_side_mask(count, data.holdout, groups)]
    if data.limit and data.limit < len(positions):
        positions = positions[draw_positions(len(positions), data.limit)]
    return positions
