"""csv, tsv, json, jsonl, parquet, idx and arrays as rows, one reader each, in memory that does not grow with the file.

A reader yields every row it can; what it cannot read becomes a `Fault` in that row's place. Nothing heavy is imported
but pyarrow for parquet.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo.core.errors import DataError
from zoo.core.lazy import lazy
from zoo.data.formats import arrays, image_files
from zoo.data.formats.json_stream import JsonStream, is_utf8
from zoo.data.table import Fault, Place, Row

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
else:
    pa, pq = lazy("pyarrow"), lazy("pyarrow.parquet")

Item = tuple[Place, Row | Fault]
NAMES = ("csv", "tsv", "json", "jsonl", "parquet")
ENDINGS = tuple(f".{name}" for name in NAMES) + tuple(f".{name}.gz" for name in NAMES if name != "parquet")
LOOK_AHEAD = 100  # json has no header: its columns are those of the first rows


def columns(path: Path) -> tuple[str, ...]:
    """Column names of a file. Raises DataError where it cannot be opened or has none."""
    try:
        names = _columns(path)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from None
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise DataError(f"{path}: has two columns called {min(double)!r}; rename one")
    return names


def rows(path: Path) -> Iterator[Item]:
    """Every row of a file that `columns` accepts, in order."""
    count = 0
    try:
        for item in _read(path):
            count += not isinstance(item[1], Fault)
            yield item
    except (EOFError, OSError, zlib.error) as error:
        yield Place(str(path)), Fault(f"{_reason(error)} after {count} whole rows; get the file again")


def _format(path: Path) -> str:
    return path.name.lower().removesuffix(".gz").rpartition(".")[2]


def _columns(path: Path) -> tuple[str, ...]:
    if image_files.is_idx(path):
        return image_files.idx_columns(path)
    if arrays.is_arrays(path):
        return arrays.columns(path)
    kind = _format(path)
    if kind == "parquet":
        return tuple(_parquet(path).schema_arrow.names)
    if kind in ("csv", "tsv"):
        with _binary(path) as binary:
            return tuple(_header(path, _table(binary, kind)))
    head = list(itertools.islice((row for _, row in _read(path)), LOOK_AHEAD))
    found = dict.fromkeys(name for row in head if not isinstance(row, Fault) for name in row)
    if not found:
        fault = next((row.what for row in head if isinstance(row, Fault)), "every record is empty")
        raise DataError(f"{path}: has no record that can be read: {fault}" if head else f"{path}: is empty")
    return tuple(found)


def is_table(path: Path) -> bool:
    """Whether a file is called like one that can be read here."""
    return path.name.lower().endswith(ENDINGS) or image_files.is_idx(path) or arrays.is_arrays(path)


def _read(path: Path) -> Iterator[Item]:
    if image_files.is_idx(path):
        yield from image_files.idx_rows(path)
        return
    if arrays.is_arrays(path):
        yield from arrays.rows(path)
        return
    kind = _format(path)
    if kind == "parquet":
        yield from _parquet_rows(path)
        return
    with _binary(path) as binary:
        if kind == "json":
            yield from _json_rows(path, binary)
        elif kind == "jsonl":
            yield from _jsonl_rows(path, binary)
        else:
            yield from _csv_rows(path, _table(binary, kind))


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "the gzip file is cut short"
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return f"the gzip file is damaged ({error})"
    return getattr(error, "strerror", None) or _line(error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _binary(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _lines(binary: IO[bytes]) -> io.TextIOWrapper:
    """Bytes that are not UTF-8 come out as lone surrogates, so that they cost one row and not the file."""
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


class _Blank:
    """Blank lines are rows that are missing where a row follows them; those that end a file are none."""

    def __init__(self) -> None:
        self.first, self.count = Place(""), 0

    def add(self, place: Place) -> None:
        self.first = self.first if self.count else place
        self.count += 1

    def followed(self) -> Iterator[Item]:
        """A fault for each of them, which are then forgotten."""
        (name, row, line), count, self.count = self.first, self.count, 0
        for i in range(count):
            yield Place(name, row + i, line + i), Fault("is empty; take the line out")


_NOT_UTF8 = Fault("holds bytes that are not UTF-8; save the file as UTF-8")


# -- csv and tsv ---------------------------------------------------------------------------------------------------


def _table(binary: IO[bytes], kind: str) -> Any:
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 30))  # the default refuses a document of 128 KiB
    return csv.reader(_lines(binary), delimiter="\t" if kind == "tsv" else ",", strict=True)


def _header(path: Path, reader: Any) -> list[str]:
    try:
        header = next((cells for cells in reader if cells), None)
    except csv.Error as error:
        raise DataError(f"{path}: the header cannot be read: {error}") from None
    if header is None:
        raise DataError(f"{path}: is empty")
    if not is_utf8("".join(header)):
        raise DataError(f"{path}: the header {_NOT_UTF8.what}")
    return header


def _csv_rows(path: Path, reader: Any) -> Iterator[Item]:
    header, name, blank = _header(path, reader), str(path), _Blank()
    for number in itertools.count(1):
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield (
                Place(name, number, reader.line_num),
                Fault(f"is not well-formed: {error}; double the quotes inside quotes"),
            )
            continue
        if cells is None:
            return
        place = Place(name, number, reader.line_num)
        if not cells:
            blank.add(place)
            continue
        yield from blank.followed()
        if len(cells) != len(header):
            yield (
                place,
                Fault(
                    f"has {len(cells)} fields where the header has {len(header)}; quote fields that hold the separator"
                ),
            )
        elif not is_utf8("".join(cells)):
            yield place, _NOT_UTF8
        else:
            yield place, dict(zip(header, cells, strict=True))


# -- json ----------------------------------------------------------------------------------------------------------


def _record(value: Any) -> Row | Fault:
    return value if isinstance(value, dict) else Fault("is not a record; write {column: value, …}")


def _jsonl_rows(path: Path, binary: IO[bytes]) -> Iterator[Item]:
    name, blank = str(path), _Blank()
    for number, line in enumerate(_lines(binary), 1):
        place = Place(name, number, number)
        if line.isspace():
            blank.add(place)
            continue
        yield from blank.followed()
        if not is_utf8(line):
            yield place, _NOT_UTF8
            continue
        try:
            yield place, _record(json.loads(line))
        except (ValueError, RecursionError) as error:
            yield place, Fault(f"is not JSON: {_wrong(error)}")


def _wrong(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"


def _json_rows(path: Path, binary: IO[bytes]) -> Iterator[Item]:
    stream, name = JsonStream(binary), str(path)
    first = stream.next()
    if first != "[":
        hint = "; if it holds one record a line, name it .jsonl" if first == "{" else ""
        yield Place(name), Fault(f"is not a JSON list of records{hint}" if first else "is empty")
        return
    stream.skip()
    for number in itertools.count(1):
        place, after = Place(name, number), stream.next()
        if after == "]" and number == 1:
            stream.skip()
            break
        try:
            value, whole = stream.value()
        except (ValueError, RecursionError) as error:
            yield place, Fault(f"is not JSON ({_wrong(error).split(' at ')[0]}), and what follows cannot be read")
            return
        yield place, _record(value) if whole else _NOT_UTF8
        after = stream.next()
        stream.skip()
        if after == "]":
            break
        if after != ",":
            yield Place(name, number + 1), Fault("is not JSON (expected , or ]), and what follows cannot be read")
            return
    if stream.next():
        yield Place(name), Fault("goes on after the list of records")


# -- parquet -------------------------------------------------------------------------------------------------------


def _parquet(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as parquet: {_line(error)}") from None


def _parquet_rows(path: Path) -> Iterator[Item]:
    name, number = str(path), 0
    try:
        for batch in _parquet(path).iter_batches(batch_size=1024):
            for row in batch_rows(batch):
                number += 1
                yield Place(name, number), row
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Place(name), Fault(f"the file is damaged after {number} whole rows ({_line(error)})")


def batch_rows(batch: pa.RecordBatch | pa.Table) -> Iterator[Row | Fault]:
    """The rows of an Arrow batch as plain values."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):  # Arrow holds strings that are not UTF-8 and dates that Python has not
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield _NOT_UTF8
            except (ValueError, OverflowError) as error:
                yield Fault(f"cannot be read: {_line(error)}")
