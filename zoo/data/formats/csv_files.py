"""csv and tsv files as rows. All values are text; the first line that is not blank is the header."""

from __future__ import annotations

import csv
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from zoo.core.errors import DataError, DataWarning
from zoo.data.formats.text_lines import NOT_UTF8, BlankLines, decode_lines, is_utf8, open_binary
from zoo.data.limits import CELL, BoundedLines, TooLargeError
from zoo.data.raw_rows import BadRow, Item, RowLocation

MAX_FIELD = (
    1 << 31
) - 1  # characters; Python's default refuses a document of 128 KiB, and `max_cell` is the real limit
FEW_LINES = 5  # that one row may have before it looks like rows behind a quote that is not closed


def read_column_names(path: Path, max_cell: int = CELL) -> tuple[str, ...]:
    """Return the cells of the header. Raise DataError if there is none or it cannot be read."""
    with open_binary(path) as binary:
        return tuple(_read_header(path, _open_csv(path, binary, max_cell)[0]))


def read_rows(path: Path, max_cell: int = CELL) -> Iterator[Item]:
    """Yield every row in order. A row with too few or too many fields is bad.

    Give a DataWarning about rows of many lines. A quote that is not closed in one row may end at a quote of a later row.
    """
    long_rows = _LongRows()
    with open_binary(path) as binary:
        reader, lines = _open_csv(path, binary, max_cell)
        header, name, blank_lines = _read_header(path, reader), str(path), BlankLines()
        for number in itertools.count(1):
            location = RowLocation(name, number, reader.line_num + 1)
            lines.start_row()
            try:
                cells = next(reader, None)
            except TooLargeError as error:
                yield location, BadRow(f"{error}; or close its quotes", ends_file=True)
                return
            except csv.Error as error:
                bad_row = _describe_fault(error, reader.line_num - location.line + 1)
                yield location, bad_row
                if bad_row.ends_file:
                    return
                continue
            if cells is None:
                break
            if not cells:
                blank_lines.add(location)
                continue
            long_rows.add(location, reader.line_num - location.line + 1)
            yield from blank_lines.flush()
            yield location, _to_row(header, cells)
    long_rows.warn()


def _describe_fault(error: csv.Error, line_count: int) -> BadRow:
    """Return the bad row for a syntax error in a row of `line_count` lines. It ends the file if more than a few are lost."""
    if str(error) == "unexpected end of data":
        lost = f"{line_count} lines are lost" if line_count > 1 else "the line is lost"
        return BadRow(f"is not well-formed: a quote is never closed, and {lost}; close it", ends_file=True)
    reason = f"is not well-formed: {error}; double the quotes inside quotes"
    if line_count > 1:
        reason += f"; {line_count} lines are lost, because the row goes on to there"
    return BadRow(reason, ends_file=line_count > FEW_LINES)


class _LongRows:
    """Counts the rows of more than a few lines, and remembers the longest."""

    def __init__(self) -> None:
        self._count, self._longest, self._line_count = 0, RowLocation(""), FEW_LINES

    def add(self, location: RowLocation, line_count: int) -> None:
        """Count the row at `location` if it has many lines."""
        if line_count > FEW_LINES:
            self._count += 1
        if line_count > self._line_count:
            self._longest, self._line_count = location, line_count

    def warn(self) -> None:
        """Give one DataWarning if there are such rows."""
        if self._count:
            rows = f"{self._count} rows have" if self._count > 1 else "one row has"
            message = f"{self._longest}: {rows} more than {FEW_LINES} lines, and this one has {self._line_count}"
            warnings.warn(f"{message}; check that its quotes are closed", DataWarning, stacklevel=2)


def _to_row(header: list[str], cells: list[str]) -> dict[str, str] | BadRow:
    if len(cells) != len(header):
        count, expected = len(cells), len(header)
        return BadRow(f"has {count} fields but the header has {expected}; quote fields that hold the separator")
    return dict(zip(header, cells, strict=True)) if is_utf8("".join(cells)) else NOT_UTF8


def _open_csv(path: Path, binary: IO[bytes], max_cell: int) -> tuple[Any, BoundedLines]:
    """Return a `csv.reader`, whose type cannot be named, and the lines that it reads."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    delimiter = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
    lines = BoundedLines(decode_lines(binary).readline, max_cell)
    return csv.reader(lines, delimiter=delimiter, strict=True), lines


def _read_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next((cells for cells in reader if cells), None)
    except (csv.Error, TooLargeError) as error:
        raise DataError(f"{path}: the header cannot be read: {error}") from None
    if header is None:
        raise DataError(f"{path}: is empty")
    if not is_utf8("".join(header)):
        raise DataError(f"{path}: the header {NOT_UTF8.reason}")
    return header
