"""The official mteb tasks: their names, without importing mteb, and their data from the Hub."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.core.suggest import suggest

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


@cache
def names() -> frozenset[str]:
    """Task names of the installed mteb, without importing it: it ships one statistics file a task."""
    return frozenset(path.stem for path in (_mteb() / "descriptive_stats").rglob("*.json"))


@cache
def _declared() -> frozenset[str]:
    """The names that mteb's task modules hold as text: a few tasks have no statistics. Reading them all takes a fraction of the
    second that a check may, importing them many."""
    found = (re.findall(rb'name=\s*\(?\s*"([^"]+)"', path.read_bytes()) for path in (_mteb() / "tasks").rglob("*.py"))
    return frozenset(name.decode() for names in found for name in names)


def _mteb() -> Path:
    found = importlib.util.find_spec("mteb")
    return Path(next(iter(found.submodule_search_locations or ()))) if found else Path("mteb")


def find_problem(name: str, others: Iterable[str] = ()) -> str | None:
    """What is wrong with the name of an official task, or None. `others` are further names to suggest."""
    if name in names() or name in _declared():
        return None
    return f"{name!r} is no task that mteb knows{suggest(name, [*others, *names()], listing='')}"


def get(name: str) -> AbsTask:
    """A fresh mteb task. Raises ZooError for a name that it does not know."""
    import mteb

    try:
        return mteb.get_task(name)
    except (KeyError, ValueError):
        raise ZooError(find_problem(name) or f"{name!r} is in mteb's statistics, but no task that it can run") from None


def parts(task: AbsTask) -> list[AbsTask]:
    """The tasks that hold the data: itself, or what an aggregate is made of."""
    return list(getattr(task.metadata, "tasks", None) or [task])


def load(task: AbsTask) -> None:
    """Read a task's data from the Hub or its cache. Raises ZooError when it cannot be had."""
    from datasets.exceptions import DatasetsError

    try:
        for part in parts(task):
            part.load_data()
    except (OSError, RuntimeError, ValueError, DatasetsError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ZooError(
            f"{task.metadata.name}: its data cannot be had ({why}); connect to the Hub, or name a local copy with `folder:` "
            "or ZOO_DATA"
        ) from error


def lock_entry(task: AbsTask) -> dict[str, Any]:
    """What lock.json says of a loaded official task. The fingerprint is that of data set and pinned revision; `rows` counts
    all that was read."""
    about = task.metadata
    identity = [(part.metadata.dataset["path"], part.metadata.dataset["revision"]) for part in parts(task)]
    return {
        "fingerprint": atomic_files.digest(identity),
        "rows": sum(sum(_lengths(part.dataset)) for part in parts(task)),
        "skipped": 0,
        "origin": {
            "name": about.dataset["path"],
            "revision": about.dataset["revision"],
            "licence": about.license or "",
            "url": str(about.reference or ""),
            "citation": about.bibtex_citation or "",
        },
    }


def _lengths(held: Any) -> Iterator[int]:
    from datasets import Dataset

    if isinstance(held, Dataset):
        yield len(held)
    elif isinstance(held, dict):
        for inside in held.values():
            yield from _lengths(inside)
