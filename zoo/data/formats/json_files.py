"""json and jsonl files as rows: a list of records, or one record a line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from zoo.core.errors import DataError
from zoo.data.formats.json_stream import JsonStream
from zoo.data.formats.text_lines import NOT_UTF8, is_utf8, iterate_lines, open_binary
from zoo.data.limits import CELL, MAX_NESTING, TooLargeError, is_nested_too_deeply
from zoo.data.raw_rows import BadRow, Item, Row, RowLocation

LOOK_AHEAD = 100  # rows; json has no header, so the columns are those of the first rows


def read_column_names(path: Path, max_cell: int = CELL) -> tuple[str, ...]:
    """Return the keys of the first rows. Raise DataError if no record among them can be read."""
    items = list(itertools.islice(read_rows(path, max_cell), LOOK_AHEAD))
    for location, row in items:
        if isinstance(row, BadRow) and row.ends_file:
            raise DataError(f"{location}: {row.reason}")
    head = [row for _, row in items]
    if not head:
        raise DataError(f"{path}: is empty")
    names = dict.fromkeys(name for row in head if not isinstance(row, BadRow) for name in row)
    if not names:
        reason = next((row.reason for row in head if isinstance(row, BadRow)), "every record is empty")
        raise DataError(f"{path}: has no record that can be read: {reason}")
    return tuple(names)


def read_rows(path: Path, max_cell: int = CELL) -> Iterator[Item]:
    """Yield every row in order."""
    is_list = path.name.lower().removesuffix(".gz").endswith(".json")
    with open_binary(path) as binary:
        yield from _read_list(str(path), binary, max_cell) if is_list else _read_lines(str(path), binary, max_cell)


def _read_lines(name: str, binary: IO[bytes], max_cell: int) -> Iterator[Item]:
    for location, line in iterate_lines(name, binary, max_cell):
        if isinstance(line, BadRow):
            yield location, line
            continue
        try:
            yield location, _to_row(json.loads(line), line)
        except (ValueError, RecursionError) as error:
            yield location, BadRow(f"is not JSON: {_describe(error)}")


def _read_list(name: str, binary: IO[bytes], max_cell: int) -> Iterator[Item]:
    """Yield the records of a list. Nothing after the first syntax error can be read."""
    stream = JsonStream(binary, max_cell)
    first = stream.peek()
    if first != "[":
        hint = "; if it holds one record a line, name it .jsonl" if first == "{" else ""
        reason = f"is not a JSON list of records{hint}" if first else "is empty"
        yield RowLocation(name), BadRow(reason, ends_file=True)
        return
    stream.skip()
    for number in itertools.count(1):
        location = RowLocation(name, number)
        if stream.peek() == "]" and number == 1:  # an empty list
            stream.skip()
            break
        try:
            value, text = stream.read_value()
        except (ValueError, RecursionError) as error:
            reason = _describe(error).split(" at ")[0]  # the column counts from the start of the buffer
            is_large = isinstance(error, TooLargeError)
            yield location, _end_list(stream, str(error) if is_large else f"is not JSON ({reason})")
            return
        yield location, _to_row(value, text) if is_utf8(text) else NOT_UTF8
        separator = stream.peek()
        stream.skip()
        if separator == "]":
            break
        if separator != ",":
            yield RowLocation(name, number + 1), _end_list(stream, "is not JSON (expected , or ])")
            return
    if stream.peek():
        yield RowLocation(name), _end_list(stream, "goes on after the list of records")


def _end_list(stream: JsonStream, reason: str) -> BadRow:
    """Return the fault that ends the file, with the number of lines that are lost behind it."""
    count = stream.count_rest_lines()
    lost = f"{count} lines are" if count > 1 else "the rest of the file is"
    return BadRow(f"{reason}; {lost} lost, because what follows cannot be read", ends_file=True)


def _to_row(value: Any, text: str) -> Row | BadRow:
    if not isinstance(value, dict):
        return BadRow("is not a record; write {column: value, …}")
    # Brackets are counted first, because that is fast.
    if text.count("[") + text.count("{") > MAX_NESTING and is_nested_too_deeply(value):
        return BadRow(f"is nested more than {MAX_NESTING} levels deep; make it flatter")
    return value


def _describe(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"
