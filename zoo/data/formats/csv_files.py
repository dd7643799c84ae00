"""csv and tsv files as rows. All values are text; the first line that is not blank is the header."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from zoo.core.errors import DataError
from zoo.data.formats.text_lines import NOT_UTF8, BlankLines, decode_lines, is_utf8, open_binary
from zoo.data.raw_rows import BadRow, Item, RowLocation

MAX_FIELD = 1 << 30  # characters; Python's default refuses a document of 128 KiB


def read_column_names(path: Path) -> tuple[str, ...]:
    """Return the cells of the header. Raise DataError if there is none or it cannot be read."""
    with open_binary(path) as binary:
        return tuple(_read_header(path, _open_csv(path, binary)))


def read_rows(path: Path) -> Iterator[Item]:
    """Yield every row in order. A row with too few or too many fields is bad."""
    with open_binary(path) as binary:
        reader = _open_csv(path, binary)
        header, name, blank_lines = _read_header(path, reader), str(path), BlankLines()
        for number in itertools.count(1):
            try:
                cells = next(reader, None)
            except csv.Error as error:
                reason = f"is not well-formed: {error}; double the quotes inside quotes"
                yield RowLocation(name, number, reader.line_num), BadRow(reason)
                continue
            if cells is None:
                return
            location = RowLocation(name, number, reader.line_num)
            if not cells:
                blank_lines.add(location)
                continue
            yield from blank_lines.flush()
            yield location, _to_row(header, cells)


def _to_row(header: list[str], cells: list[str]) -> dict[str, str] | BadRow:
    if len(cells) != len(header):
        count, expected = len(cells), len(header)
        return BadRow(f"has {count} fields but the header has {expected}; quote fields that hold the separator")
    return dict(zip(header, cells, strict=True)) if is_utf8("".join(cells)) else NOT_UTF8


def _open_csv(path: Path, binary: IO[bytes]) -> Any:
    """Return a `csv.reader`, whose type cannot be named."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    delimiter = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
    return csv.reader(decode_lines(binary), delimiter=delimiter, strict=True)


def _read_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next((cells for cells in reader if cells), None)
    except csv.Error as error:
        raise DataError(f"{path}: the header cannot be read: {error}") from None
    if header is None:
        raise DataError(f"{path}: is empty")
    if not is_utf8("".join(header)):
        raise DataError(f"{path}: the header {NOT_UTF8.reason}")
    return header
