"""`source: builtin`: the closed registry of data sets that ship inside installed packages or are drawn by code.

Each is a module of `zoo/data/builtins/`, found by file name, which defines

    TABLES: dict[str, tuple[str, ...]]     # table: its columns; the first one is the default
    origin() -> Origin                     # cheap; DataError when the package is missing
    rows(table) -> Iterable[dict]          # always in the same order

and, where rows are drawn and not read, so that those which a recipe leaves out need not be,

    COUNTS: dict[str, int]                 # table: how many rows it has
    some(table, positions) -> Iterable[dict]

so that adding one is adding a file.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from zoo.core.errors import DataError
from zoo.core.suggest import suggest
from zoo.data.formats.tabular import Item
from zoo.data.spec import BuiltinData
from zoo.data.table import Place, Source

if TYPE_CHECKING:
    import numpy as np


def names() -> list[str]:
    """The registered data sets, sorted."""
    return sorted(path.stem.replace("_", "-") for path in (Path(__file__).parent / "builtins").glob("[!_]*.py"))


def load(name: str) -> ModuleType:
    """The module of a data set. Raises DataError for a name that is not in the registry."""
    if name not in names():
        raise DataError(f"unknown builtin data {name!r}{suggest(name, names())}")
    return importlib.import_module(f"zoo.data.sources.builtins.{name.replace('-', '_')}")


def table(data: BuiltinData) -> str:
    """The table that `data` means. Raises DataError for one that the data set does not have."""
    tables = load(data.name).TABLES
    if data.table is not None and data.table not in tables:
        raise DataError(f"builtin data {data.name} has no table {data.table!r}{suggest(data.table, tables)}")
    return data.table or next(iter(tables))


def columns(data: BuiltinData) -> tuple[str, ...]:
    """Column names, without reading the data. Raises DataError when the package that holds it is missing."""
    load(data.name).origin()
    return load(data.name).TABLES[table(data)]


def open_source(data: BuiltinData) -> Source:
    """Raises DataError for an unknown name or table, or a missing package."""
    module, name = load(data.name), f"{data.name}/{table(data)}"

    def rows() -> Iterator[Item]:
        for number, row in enumerate(module.rows(table(data)), 1):
            yield Place(name, number), row

    def some(positions: np.ndarray) -> Iterator[Item]:
        for at, row in zip(positions.tolist(), module.some(table(data), positions), strict=True):
            yield Place(name, at + 1), row

    number = getattr(module, "COUNTS", {}).get(table(data))
    return Source(module.origin(), ((name, columns(data)),), rows, number, some if number else None)
