"""What passes between the sources, `read` and whoever uses the rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.core.lazy import lazy
from zoo.schema import Kind

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa
else:
    datasets, pa = lazy("datasets"), lazy("pyarrow")

Row = Mapping[str, Any]
BATCH = 4096


@dataclass(frozen=True)
class Origin:
    """Where rows come from, for lock.json and the card; what is not known is empty.

    Attributes:
        revision: the commit or release that was read.
        licence: as the source states it.
    """

    name: str
    revision: str = ""
    licence: str = ""
    url: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Table:
    """Rows that were read and checked.

    Attributes:
        rows: every column; those of the roles in canonical types: text and id string, number float64, texts and ids
            lists of string, vector a list of float32, label int64 if all of them are whole numbers and string otherwise,
            image `datasets.Image`.
        fingerprint: sha256 of the roles' values in order, whatever the file format, file names, caches, other columns.
        skipped: one line for each row that was bad and left out.
        roles: the columns that were asked for, sorted.
    """

    rows: datasets.Dataset
    fingerprint: str
    origin: Origin
    skipped: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where a row stands: counted from 1 without the header; 0 is the file as a whole. `line` only where it differs."""

    name: str
    row: int = 0
    line: int = 0

    def __str__(self) -> str:
        if not self.row:
            return self.name
        line = f" (line {self.line})" if self.line not in (0, self.row) else ""
        return f"{self.name}:row {self.row}{line}"


@dataclass(frozen=True, slots=True)
class Fault:
    """Stands in for a row, or the rest of a file, that cannot be read."""

    what: str


@dataclass(frozen=True)
class Source:
    """Data that was found but not yet read.

    Attributes:
        parts: (name, columns as the data calls them) of each file; one for the other sources.
        rows: reads from the start each time it is called, in a fixed order.
        count, some: of a source that knows how many rows it has, and can make those at ascending positions alone.
    """

    origin: Origin
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    rows: Callable[[], Iterator[tuple[Place, Row | Fault]]]
    count: int | None = None
    some: Callable[[np.ndarray], Iterator[tuple[Place, Row | Fault]]] | None = None


def build(
    columns: Mapping[str, Sequence[Any]], roles: Mapping[str, Kind], origin: Origin, skipped: Sequence[str]
) -> Table:
    """A table in memory. `roles` hold canonical values; another column keeps its type if one type fits all of its
    values, and is written out as JSON if none does."""
    arrays = {
        name: pa.array(values, _type(roles[name], values)) if name in roles else _any_array(values)
        for name, values in columns.items()
        if _is_unicode(name)
    }
    features = datasets.Features.from_arrow_schema(pa.schema([(name, array.type) for name, array in arrays.items()]))
    for name, kind in roles.items():
        if kind == "image":
            features[name] = datasets.Image()
    rows = datasets.Dataset.from_dict(arrays, features=features)
    names = tuple(sorted(roles))
    return Table(rows, fingerprint(rows, names), origin, tuple(skipped), names)


def filtered(table: Table, mask: np.ndarray) -> Table:
    """The rows of `table` at which `mask` is true, as a table of its own."""
    arrow = table.rows.with_format("arrow")[:].filter(pa.array(mask))
    arrays = dict(zip(arrow.column_names, arrow.columns, strict=True))
    rows = datasets.Dataset.from_dict(arrays, features=table.rows.features)
    return replace(table, rows=rows, fingerprint=fingerprint(rows, table.roles))


def fingerprint(rows: datasets.Dataset, names: Sequence[str]) -> str:
    """Hex sha256 over the columns `names`, column by column, in batches of fixed size, as JSON: the same values give
    the same digest however Arrow lays them out."""
    digest = hashlib.sha256()
    arrow = rows.select_columns(list(names)).with_format("arrow")
    for name in names:
        digest.update(json.dumps([name, len(rows)]).encode())
        for start in range(0, len(rows), BATCH):
            values = arrow[start : start + BATCH].column(name).to_pylist()
            if values and isinstance(values[0], dict):  # an image
                values = [hashlib.sha256(value["bytes"]).hexdigest() for value in values]
            elif any(held and isinstance(held[0], dict) for held in values if isinstance(held, list)):
                values = [[_seen(each) for each in held] for held in values]
            digest.update(json.dumps(values, ensure_ascii=False).encode())
    return digest.hexdigest()


def _seen(picture: Mapping[str, Any]) -> Any:
    """What tells an image from others: its bytes, or, of one that is opened later, its file's name and size."""
    if picture["bytes"] is not None:
        return hashlib.sha256(picture["bytes"]).hexdigest()
    path = picture["path"] and Path(picture["path"])
    return path and [path.name, path.stat().st_size]


def _type(kind: Kind, values: Sequence[Any]) -> pa.DataType:
    if kind == "label" and isinstance(values[0], int):
        return pa.int64()
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if kind in ("image", "pictures"):
        return picture if kind == "image" else pa.list_(picture)
    return {
        "captions": pa.list_(pa.string()),
        "number": pa.float64(),
        "vector": pa.list_(pa.float32()),
        "texts": pa.list_(pa.string()),
        "ids": pa.list_(pa.string()),
    }.get(kind, pa.string())


def _any_array(values: Sequence[Any]) -> pa.Array:
    try:
        array = pa.array(values)
        datasets.Features.from_arrow_schema(pa.schema([("column", array.type)]))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # UnicodeEncodeError is a ValueError
        return pa.array([None if value is None else json.dumps(value, default=str) for value in values], pa.string())
    return array


def _is_unicode(name: str) -> bool:
    return name.isascii() or name == name.encode(errors="replace").decode()
