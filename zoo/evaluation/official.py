"""Official mteb tasks by name, from the Hub, or from a local folder under another name."""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from zoo import data
from zoo.data import Table
from zoo.data.spec import FileData
from zoo.errors import ZooError
from zoo.evaluation import spec as specs
from zoo.evaluation.spec import Official, TaskSpec

PAIRS = {"sentence1": "sentence1", "sentence2": "sentence2", "score": "score"}
TOKENISED = {"sentence1": "sentence1_tok", "sentence2": "sentence2_tok", "score": "score"}

# Folders as the data sets' own sites lay them out, next to the generic <folder>/<TaskName>/test.*
LAYOUTS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "STSBenchmark": ("sts", {"data": "stsb/test.*"}, PAIRS),
    "STS12": ("sts", {"data": "sts12/test.*"}, TOKENISED),
    "STS13": ("sts", {"data": "sts13/test.*"}, TOKENISED),
    "STS14": ("sts", {"data": "sts14/test.*"}, TOKENISED),
    "SICK-R": ("sts", {"data": "sick/t*.jsonl*"}, PAIRS),
    "Banking77Classification": ("classification", {"train": "banking77/train.*", "data": "banking77/test.*"}, {}),
}
TYPES = {
    "STS": "sts",
    "Classification": "classification",
    "PairClassification": "pair-classification",
    "Clustering": "clustering",
}


@cache
def names() -> dict[str, str]:
    """Task name → type, of the installed mteb, without importing it: it ships one statistics file a task."""
    found = importlib.util.find_spec("mteb")
    folder = Path(next(iter(found.submodule_search_locations or ()))) / "descriptive_stats" if found else Path()
    return {path.stem: path.parent.name for path in folder.rglob("*.json")}


def problem(name: str) -> str | None:
    """What is wrong with a task's name, or None."""
    if name in names():
        return None
    own = difflib.get_close_matches(name, [*specs.OWN, *names()], 1, 0.6)
    if not own:  # some tasks have no statistics yet: only mteb itself knows them, at the price of its import
        import mteb

        try:
            mteb.get_task(name)
        except (KeyError, ValueError):
            pass
        else:
            return None
    return f"{name!r} is no task that mteb knows{f'; did you mean {own[0]}?' if own else ''}"


def local(task: Official, folder: Path) -> tuple[TaskSpec, dict[str, Table]] | None:
    """The task over local files, as one of the user's own tasks with ` (local)` in its name; None without such files.

    Raises ZooError when the recipe names a folder that does not have them.
    """
    given = task.folder or os.environ.get("ZOO_DATA")
    if not given:
        return None
    base = folder / given if task.folder else Path(given)
    kind, parts, columns = LAYOUTS.get(task.task, ("", {}, {}))
    if not parts or not all(list(base.glob(pattern)) for pattern in parts.values()):
        kind = TYPES.get(names().get(task.task, ""), "")
        parts, columns = {"data": f"{task.task}/test.*"}, {}
        if kind == "classification":
            parts["train"] = f"{task.task}/train.*"
        if not kind or not all(list(base.glob(pattern)) for pattern in parts.values()):
            if task.folder:
                raise ZooError(f"{task.task}: {base} holds no {' and '.join(parts.values())} for it")
            return None
    shape: Any = {
        "sts": specs.Sts,
        "classification": specs.Classification,
        "pair-classification": specs.PairClassification,
        "clustering": specs.Clustering,
    }[kind]
    sources = {
        part: FileData(source="file", path=str(base / pattern), columns=columns) for part, pattern in parts.items()
    }
    tables = {part: data.read(source, shape.roles[part], folder=folder) for part, source in sources.items()}
    fields: Mapping[str, Any] = {**sources, "name": task.name or f"{task.task} (local)", "views": task.views}
    return shape(task=kind, at_least=task.at_least, **fields), tables
