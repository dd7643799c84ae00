"""txt files as rows: one text a line, in the column `text`."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from zoo.core.errors import DataError
from zoo.data.formats.text_lines import NOT_UTF8, BlankLines, decode_lines, is_utf8, open_binary
from zoo.data.limits import CELL, BoundedLines, TooLargeError
from zoo.data.raw_rows import BadRow, Item, RowLocation

COLUMN = "text"
ENDINGS = (".txt", ".txt.gz")


def is_txt(path: Path) -> bool:
    """Return whether the name of a file is that of a text file."""
    return path.name.lower().endswith(ENDINGS)


def read_column_names(path: Path, max_cell: int = CELL) -> tuple[str, ...]:
    """Return the only column name. Raise DataError for a file without a line."""
    with closing(read_rows(path, max_cell)) as rows:
        is_empty = next(rows, None) is None
    if is_empty:
        raise DataError(f"{path}: is empty")
    return (COLUMN,)


def read_rows(path: Path, max_cell: int = CELL) -> Generator[Item]:
    """Yield every line in order, without its line break. A blank line between others is a bad row."""
    with open_binary(path) as binary:
        blank_lines, lines = BlankLines(), BoundedLines(decode_lines(binary).readline, max_cell)
        for number in itertools.count(1):
            location = RowLocation(str(path), number, number)
            lines.start_row()
            try:
                line = next(lines, None)
            except TooLargeError as error:
                lines.skip_line()
                yield location, BadRow(str(error))
                continue
            if line is None:
                return
            if line.isspace():
                blank_lines.add(location)
                continue
            yield from blank_lines.flush()
            if not is_utf8(line) or "\0" in line:
                yield location, NOT_UTF8
            else:
                yield location, {COLUMN: line.rstrip("\r\n")}
