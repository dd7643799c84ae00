"""Rows of several sources as one table, as a recipe with a list of data sections has them."""

from __future__ import annotations

from datasets import Dataset

from zoo.data import Origin
from zoo.data.joined import join_tables
from zoo.data.table import Table


def join(**parts: Dataset) -> Table:
    """Join data sets by the names of their sources."""
    tables = {}
    for name, rows in parts.items():
        columns = tuple(sorted(rows.column_names))
        tables[name] = Table(rows, name, Origin(name), roles=columns, inputs=columns)
    return join_tables(tables)
