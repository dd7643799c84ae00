"""`source: builtin`: the closed registry of data sets that ship inside installed packages or are drawn by code.

Each data set is a module in `zoo/data/sources/builtins/`, so adding a data set means adding one file. The module defines

    EXTRA: str | None                      # the extra of embedding-zoo that installs the data; None if none is needed
    TABLES: dict[str, tuple[str, ...]]     # the column names of each table; the first table is the default
    describe_origin() -> Origin            # cheap; raises DataError if the package is missing
    read_rows(table) -> Iterable[dict]     # always in the same order

A module that draws its rows by code also defines the following, so that rows which a recipe leaves out are not drawn:

    COUNTS: dict[str, int]                 # the number of rows of each table
    read_rows_at(table, positions) -> Iterable[dict]
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from zoo.core.errors import DataError
from zoo.core.suggest import suggest
from zoo.data.raw_rows import Item, RowLocation, Source
from zoo.data.spec import BuiltinData

if TYPE_CHECKING:
    import numpy as np


def list_names() -> list[str]:
    """Return the names of all builtin data sets, sorted."""
    return sorted(path.stem.replace("_", "-") for path in (Path(__file__).parent / "builtins").glob("[!_]*.py"))


def load_module(name: str) -> ModuleType:
    """Import the module of a data set. Raise DataError for an unknown name."""
    if name not in list_names():
        raise DataError(f"unknown builtin data {name!r}{suggest(name, list_names())}")
    return importlib.import_module(f"zoo.data.sources.builtins.{name.replace('-', '_')}")


def find_extra(name: str) -> str | None:
    """Return the extra of embedding-zoo that installs a data set. Return None for no extra and for an unknown name."""
    if name not in list_names():
        return None
    extra: str | None = load_module(name).EXTRA
    return extra


def resolve_table(data: BuiltinData) -> str:
    """Return the name of the table that `data` means. Raise DataError if the data set has no such table."""
    tables = load_module(data.name).TABLES
    if data.table is not None and data.table not in tables:
        raise DataError(f"builtin data {data.name} has no table {data.table!r}{suggest(data.table, tables)}")
    return data.table or next(iter(tables))


def get_column_names(data: BuiltinData) -> tuple[str, ...]:
    """Return the column names without reading the data. Raise DataError if the package that holds it is missing."""
    module = load_module(data.name)
    module.describe_origin()
    names: tuple[str, ...] = module.TABLES[resolve_table(data)]
    return names


def open_source(data: BuiltinData) -> Source:
    """Open a table. Raise DataError for an unknown name or table, or if a package is missing."""
    module, table = load_module(data.name), resolve_table(data)
    name = f"{data.name}/{table}"

    def read_rows() -> Iterator[Item]:
        for number, row in enumerate(module.read_rows(table), 1):
            yield RowLocation(name, number), row

    def read_rows_at(positions: np.ndarray) -> Iterator[Item]:
        for position, row in zip(positions.tolist(), module.read_rows_at(table, positions), strict=True):
            yield RowLocation(name, position + 1), row

    row_count = getattr(module, "COUNTS", {}).get(table)
    parts = ((name, get_column_names(data)),)
    return Source(module.describe_origin(), parts, read_rows, row_count, read_rows_at if row_count else None)
