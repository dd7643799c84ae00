"""Shared by the readers of text files: gzip, UTF-8 and blank lines."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from zoo.data.raw_rows import BadRow, Item, RowLocation

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

    def flush(self) -> Iterator[Item]:
        """Yield a bad row for each blank line since the last call. Call it before each row."""
        (name, row, line), count, self._count = self._first, self._count, 0
        for i in range(count):
            yield RowLocation(name, row + i, line + i), BadRow("is empty; remove the line")
