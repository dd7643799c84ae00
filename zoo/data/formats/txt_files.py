"""txt files as rows: one text a line, in the column `text`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from zoo.core.errors import DataError
from zoo.data.formats.text_lines import NOT_UTF8, iterate_lines, open_binary
from zoo.data.limits import CELL
from zoo.data.raw_rows import BadRow, Item

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
        for location, line in iterate_lines(str(path), binary, max_cell):
            if isinstance(line, BadRow):
                yield location, line
            else:
                yield location, NOT_UTF8 if "\0" in line else {COLUMN: line.rstrip("\r\n")}
