"""The sizes that the footer of a parquet file states, decoded from Thrift's compact protocol.

pyarrow gives them too, but it ends the whole process if a damaged footer makes its C++ code raise an exception there.

Source: https://github.com/apache/parquet-format (parquet.thrift) and the Thrift compact protocol specification.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

MAX_FOOTER = 1 << 20  # bytes; decoding takes about a microsecond for each
MAX_DEPTH = 16
ROW_GROUPS, COLUMNS, META_DATA = 4, 1, 3  # numbers of fields in parquet.thrift
NUM_VALUES, UNCOMPRESSED_SIZE, DICTIONARY_OFFSET = 5, 6, 11
TRUE, FALSE, BYTE, INTEGERS, DOUBLE, BINARY, LISTS, STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 12


class ColumnChunk(NamedTuple):
    """A column of one row group. `dictionary_size` is that of its decompressed dictionary, or 0."""

    num_values: int
    uncompressed_size: int
    dictionary_size: int


def read_column_chunks(path: Path) -> list[list[ColumnChunk]] | None:
    """Return the columns of each row group. Return None for a footer that is too long or of an unknown form."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        if length > MAX_FOOTER:
            return None
        try:
            file.seek(-8 - length, 2)
            footer = _Decoder(file.read(length)).read_struct()
            groups = [group[COLUMNS] for group in footer[ROW_GROUPS]]
            return [[_read_chunk(file, column[META_DATA]) for column in columns] for columns in groups]
        except (LookupError, OSError, OverflowError, TypeError, ValueError, struct.error):
            return None


def _read_chunk(file: IO[bytes], fields: dict[int, Any]) -> ColumnChunk:
    count, size, offset = fields[NUM_VALUES], fields[UNCOMPRESSED_SIZE], fields.get(DICTIONARY_OFFSET, 0)
    if not all(isinstance(number, int) and number >= 0 for number in (count, size, offset)):
        raise ValueError("the footer holds something else in place of a size")
    return ColumnChunk(count, size, _read_page_size(file, offset) if offset else 0)


def _read_page_size(file: IO[bytes], offset: int) -> int:
    """Return the size of a decompressed page, which is the second field of its header."""
    file.seek(offset)
    decoder = _Decoder(file.read(24))
    decoder.position = 1  # past the byte that names the field
    decoder.read_integer()
    decoder.position += 1
    return max(decoder.read_integer(), 0)


class _Decoder:
    """Values of Thrift's compact protocol, read one after another."""

    def __init__(self, content: bytes) -> None:
        self._content, self.position = content, 0

    def read_struct(self, depth: int = 0) -> dict[int, Any]:
        """Return the values of a struct by the numbers of its fields. Raise IndexError at the end of the content."""
        fields: dict[int, Any] = {}
        number = 0
        while header := self._read_byte():
            kind, step = header & 15, header >> 4
            number = number + step if step else self.read_integer()
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._read(kind, depth + 1)
        return fields

    def read_integer(self) -> int:
        """Return a signed integer."""
        value = self._read_varint()
        return (value >> 1) ^ -(value & 1)

    def _read(self, kind: int, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("the footer is nested too deeply")
        if kind in INTEGERS:
            return self.read_integer()
        if kind in (TRUE, FALSE, BYTE):
            return self._read_byte()
        if kind in (DOUBLE, BINARY):
            length = 8 if kind == DOUBLE else self._read_varint()
            self.position += length
            return None
        if kind in LISTS:
            header = self._read_byte()
            count = header >> 4 if header >> 4 < 15 else self._read_varint()
            if count > len(self._content):
                raise ValueError("the footer claims more values than it has bytes")
            return [self._read(header & 15, depth + 1) for _ in range(count)]
        if kind == STRUCT:
            return self.read_struct(depth)
        raise ValueError("the footer holds a value of an unknown type")

    def _read_byte(self) -> int:
        byte = self._content[self.position]
        self.position += 1
        return byte

    def _read_varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._read_byte()
            value, shift = value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("the footer holds an integer of more than 64 bits")
