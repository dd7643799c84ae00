"""The official mteb tasks: their names, which are known without importing mteb, and their data from the Hub."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.data import Origin, Table

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.abstasks.abstask import AbsTask


@cache
def list_names() -> frozenset[str]:
    """Return the task names of the installed mteb, which ships one statistics file per task. mteb is not imported."""
    # os.walk takes a quarter of the time of Path.rglob, and every `zoo check` of a task over own data comes here.
    walk = os.walk(_find_mteb() / "descriptive_stats")
    return frozenset(name[: -len(".json")] for _, _, names in walk for name in names if name.endswith(".json"))


@cache
def _list_declared_names() -> frozenset[str]:
    """Return the names in the source text of mteb's task modules, because a few tasks have no statistics file.

    Reading all modules takes a fraction of a second. Importing them takes many seconds.
    """
    sources = (path.read_bytes() for path in (_find_mteb() / "tasks").rglob("*.py"))
    return frozenset(name.decode() for source in sources for name in re.findall(rb'name=\s*\(?\s*"([^"]+)"', source))


def _find_mteb() -> Path:
    spec = importlib.util.find_spec("mteb")  # does not import the package
    return Path(next(iter(spec.submodule_search_locations or ()))) if spec else Path("mteb")


def find_problem(name: str, others: Iterable[str] = ()) -> str | None:
    """Return a message if `name` is not an official task, else None. `others` are further names to suggest."""
    if name in list_names() or name in _list_declared_names():
        return None
    return f"{name!r} is not a task of mteb or of zoo{suggest(name, [*others, *list_names()], listing='')}"


def get_task(name: str) -> AbsTask:
    """Return a fresh mteb task. Raise ZooError if mteb has no such task."""
    import mteb

    try:
        return mteb.get_task(name)
    except (KeyError, ValueError):
        problem = find_problem(name)
        raise ZooError(problem or f"{name!r} is in mteb's statistics, but no task that it can run") from None


def list_parts(task: AbsTask) -> list[AbsTask]:
    """Return the tasks that hold the data: the parts of an aggregate task, or the task itself."""
    return list(getattr(task.metadata, "tasks", None) or [task])


def load_data(task: AbsTask) -> None:
    """Read the data of a task from the Hub or its cache. Raise ZooError if the data is not available."""
    from datasets.exceptions import DatasetsError

    try:
        for part in list_parts(task):
            part.load_data()
    except (OSError, RuntimeError, ValueError, DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ZooError(
            f"{task.metadata.name}: its data cannot be had ({reason}); connect to the Hub, or name a local copy with "
            "`folder:` or ZOO_DATA"
        ) from error


def make_lock_entry(task: AbsTask) -> dict[str, Any]:
    """Return the entry of a loaded official task in lock.json.

    The fingerprint is a hash of the data set and its pinned revision. `rows` counts all rows that were read.
    """
    metadata = task.metadata
    parts = list_parts(task)
    identity = [(part.metadata.dataset["path"], part.metadata.dataset["revision"]) for part in parts]
    return {
        "fingerprint": atomic_files.digest(identity),
        "rows": sum(length for part in parts for length in _list_lengths(part.dataset)),
        "skipped": 0,
        "origin": {
            "name": metadata.dataset["path"],
            "revision": metadata.dataset["revision"],
            "licence": metadata.license or "",
            "url": str(metadata.reference or ""),
            "citation": metadata.bibtex_citation or "",
        },
    }


TEST_INPUTS = (("sentence1", "sentence2"), ("query", "positive"), ("text",), ("image",))
"""Columns of the inputs in mteb's data sets. The first of these groups that a data set has is taken."""


def list_test_tables(task: AbsTask) -> dict[str, Table]:
    """Return the inputs of the test rows of a loaded task by a running name. Documents of retrieval tasks are left out."""
    tables: dict[str, Table] = {}
    for part in list_parts(task):
        splits = set(part.metadata.eval_splits)
        for rows in _list_test_rows(part.dataset, splits):
            inputs = next((group for group in TEST_INPUTS if set(group) <= set(rows.column_names)), ())
            if inputs:
                name = "data" if not tables else f"data {len(tables) + 1}"
                tables[name] = Table(rows, "", Origin(part.metadata.name), roles=inputs, inputs=inputs)
    return tables


def _list_test_rows(tables: Any, splits: set[str], *, is_test: bool = False) -> Iterator[Dataset]:
    from datasets import Dataset

    if isinstance(tables, Dataset):
        if is_test:
            yield tables
    elif isinstance(tables, dict):
        for name, inner in tables.items():
            if name not in ("corpus", "relevant_docs", "top_ranked"):
                yield from _list_test_rows(inner, splits, is_test=is_test or name in splits)


def _list_lengths(tables: Any) -> Iterator[int]:
    """Yield the number of rows of each data set in nested dicts."""
    from datasets import Dataset

    if isinstance(tables, Dataset):
        yield len(tables)
    elif isinstance(tables, dict):
        for table in tables.values():
            yield from _list_lengths(table)
