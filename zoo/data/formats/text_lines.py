"""Shared by the readers of text files: gzip, UTF-8 and blank lines."""

from __future__ import annotations

import gzip
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from zoo.data.limits import BoundedLines, TooLargeError
from zoo.data.raw_rows import BadRow, RowLocation

NOT_UTF8 = BadRow("holds bytes that are not UTF-8; save the file as UTF-8")


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, and decompress it if its name ends with `.gz`."""
    return cast("IO[bytes]", gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def decode_lines(binary: IO[bytes]) -> io.TextIOWrapper:
    """Decode UTF-8 line by line.

    Bytes that are not UTF-8 become lone surrogates, so that they make one row bad and not the whole file.
    """
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


def is_utf8(text: str) -> bool:
    """Return whether `text`, which was decoded with `surrogateescape`, was valid UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class BlankLines:
    """Counts blank lines. They are missing rows if another row follows them, but not at the end of the file."""

    def __init__(self) -> None:
        self._first, self._count = RowLocation(""), 0

    def add(self, location: RowLocation) -> None:
        """Count the blank line at `location`."""
        if not self._count:
            self._first = location
        self._count += 1

    def flush(self) -> Iterator[tuple[RowLocation, BadRow]]:
        """Yield a bad row for each blank line since the last call. Call it before each row."""
        (name, row, line), count, self._count = self._first, self._count, 0
        for i in range(count):
            yield RowLocation(name, row + i, line + i), BadRow("is empty; remove the line")


def iterate_lines(name: str, binary: IO[bytes], max_cell: int) -> Iterator[tuple[RowLocation, str | BadRow]]:
    """Yield every line in order, with its place in the file `name`.

    A line that is too large or not UTF-8, and a blank line between others, is a bad row.
    """
    blank_lines, lines = BlankLines(), BoundedLines(decode_lines(binary).readline, max_cell)
    for number in itertools.count(1):
        location = RowLocation(name, number, number)
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
        yield location, line if is_utf8(line) else NOT_UTF8
