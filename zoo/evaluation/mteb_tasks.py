"""Official mteb tasks by name: on their own data from the Hub, or on a local folder under another name."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import data
from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.data import Table
from zoo.data.formats import tabular
from zoo.data.spec import FileData
from zoo.evaluation import spec as specs
from zoo.evaluation.spec import Official, TaskSpec

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

PAIRS = {"sentence1": "sentence1", "sentence2": "sentence2", "score": "score"}
TOKENISED = {"sentence1": "sentence1_tok", "sentence2": "sentence2_tok", "score": "score"}

# Folders as the data sets' own sites lay them out, next to the generic <folder>/<TaskName>/<split>.*
LAYOUTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "STSBenchmark": ({"data": "stsb/test.*"}, PAIRS),
    "STS12": ({"data": "sts12/test.*"}, TOKENISED),
    "STS13": ({"data": "sts13/test.*"}, TOKENISED),
    "STS14": ({"data": "sts14/test.*"}, TOKENISED),
    "SICK-R": ({"data": "sick/t*.jsonl*"}, PAIRS),  # mteb's test split is train, trial and test together
    "Banking77Classification": ({"train": "banking77/train.*", "data": "banking77/test.*"}, {}),
    "MNIST": ({"train": "mnist/train-images-idx3-ubyte.gz", "data": "mnist/t10k-images-idx3-ubyte.gz"}, {}),
    "CIFAR10": ({"train": "cifar10_jpg/train.*", "data": "cifar10_jpg/test.*"}, {}),
}
SPECS: dict[str, type[TaskSpec]] = {
    "STS": specs.Sts,
    "Classification": specs.Classification,
    "PairClassification": specs.PairClassification,
    "Clustering": specs.Clustering,
    "ImageClassification": specs.ImageClassification,
}


@dataclass(frozen=True)
class Local:
    """An official task to be run on local files: its own class, `parent`, computes the score."""

    spec: TaskSpec
    tables: dict[str, Table]
    parent: type[AbsTask]


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


def problem(name: str) -> str | None:
    """What is wrong with a task's name, or None."""
    if name in names() or name in _declared():
        return None
    return f"{name!r} is no task that mteb knows{suggest(name, [*specs.OWN, *names()], listing='')}"


def get(name: str) -> AbsTask:
    """A fresh mteb task. Raises ZooError for a name that it does not know."""
    import mteb

    try:
        return mteb.get_task(name)
    except (KeyError, ValueError):
        raise ZooError(problem(name) or f"{name!r} is in mteb's statistics, but no task that it can run") from None


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


def local(task: Official, folder: Path) -> Local | None:
    """The task over local files, with ` (local)` in its name; None where there are none and the recipe names no folder.

    Raises ZooError when the recipe names a folder that does not have them, or for a task that one plain table cannot be.
    """
    given = task.folder or os.environ.get("ZOO_DATA")
    if not given:
        return None
    base = ((folder / given) if task.folder else Path(given)).absolute()
    known = get(task.task)
    shape: Any = SPECS.get(known.metadata.type)
    if shape is None or not _plain(known, shape):
        if task.folder:
            raise ZooError(f"{task.task}: mteb's data for it is no plain table, so it cannot be run on local files")
        return None
    sources, missing = _sources(task.task, known, base, shape)
    if missing:
        if task.folder:
            raise ZooError(f"{task.task}: {base} holds no {' and '.join(missing)} for it")
        return None
    tables = {part: data.read(source, shape.roles[part], folder=folder) for part, source in sources.items()}
    name = task.name if task.name and task.name not in names() else f"{task.name or task.task} (local)"
    kind = shape.model_fields["task"].annotation.__args__[0]
    return Local(shape(task=kind, name=name, views=task.views, at_least=task.at_least, **sources), tables, type(known))


def _plain(known: AbsTask, shape: type[TaskSpec]) -> bool:
    from zoo.evaluation.local_tasks import KINDS

    kind = shape.model_fields["task"].annotation.__args__[0]  # type: ignore[union-attr]
    single = known.metadata.modalities == (["image"] if kind.startswith("image-") else ["text"])
    return isinstance(known, KINDS[kind][0]) and single and not getattr(known, "is_cross_validation", False)


def _sources(name: str, known: AbsTask, base: Path, shape: type[TaskSpec]) -> tuple[dict[str, FileData], list[str]]:
    """The files of each part of a task, and the patterns that match none. Raises ZooError where two files could be it."""
    splits = known.metadata.eval_splits
    generic = {"data": f"{name}/{'test' if 'test' in splits else splits[0]}.*", "train": f"{name}/train.*"}
    missing: list[str] = []
    for patterns, columns in (LAYOUTS.get(name, ({}, {})), ({part: generic[part] for part in shape.roles}, {})):
        found = {
            part: sorted(path for path in base.glob(pattern) if tabular.is_table(path))
            for part, pattern in patterns.items()
        }
        missing += [pattern for part, pattern in patterns.items() if not found[part]]
        if not patterns or not all(found.values()):
            continue
        for part, pattern in patterns.items():
            if pattern.endswith(".*") and len(found[part]) > 1:
                several = " and ".join(path.name for path in found[part])
                raise ZooError(f"{name}: {found[part][0].parent} holds {several}; keep one of them")
        paths = {p: str(found[p][0] if len(found[p]) == 1 else base / pattern) for p, pattern in patterns.items()}
        return {part: FileData(source="file", path=path, columns=columns) for part, path in paths.items()}, []
    return {}, missing
