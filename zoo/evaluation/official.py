"""Official mteb tasks in a recipe: on their own data from the Hub, or on a local folder under another name."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from zoo.core import confinement
from zoo.core.errors import DataError, ZooError
from zoo.data.formats import tabular
from zoo.data.spec import FileData
from zoo.evaluation import mteb_catalogue, tasks
from zoo.evaluation.task import LocalTask, Mistake, ReadyTask, TaskSpec

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

PAIRS = {"sentence1": "sentence1", "sentence2": "sentence2", "score": "score"}
TOKENISED = {"sentence1": "sentence1_tok", "sentence2": "sentence2_tok", "score": "score"}

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
"""Folders as the data sets' own sites lay them out, besides the generic <folder>/<TaskName>/<split>.*"""


class Official(TaskSpec):
    """An mteb task by name, from the Hub, or from `folder` (or `$ZOO_DATA`).

    A result on local files never claims to be the official one: its name ends with ` (local)`.
    """

    folder: str | None = Field(
        None, description="A folder with the task's data. Default: a folder of `$ZOO_DATA` that holds it, else the Hub."
    )

    def find_mistakes(self, folder: Path, unsure: Container[str] = ()) -> list[Mistake]:
        """Report a name that mteb does not know."""
        problem = find_problem(self.task)
        return [(("task",), problem)] if problem else []

    def prepare(self, folder: Path, lock: dict[str, Any]) -> ReadyTask:
        """Read the local files if there are any, and mteb's own data otherwise. Raises ZooError."""
        local = self._read_local(folder, lock)
        if local is not None:
            return local
        known = mteb_catalogue.get_task(self.task)
        mteb_catalogue.load_data(known)
        lock[self.title] = mteb_catalogue.make_lock_entry(known)

        def make() -> AbsTask:
            return mteb_catalogue.get_task(self.task)

        modalities = frozenset(known.metadata.modalities)
        tables = mteb_catalogue.list_test_tables(known)
        return ReadyTask(self, make, is_official=True, modalities=modalities, tables=tables)

    def _read_local(self, folder: Path, lock: dict[str, Any]) -> ReadyTask | None:
        """The task over local files; None if there are none and the recipe names no folder.

        Raises ZooError if the recipe names a folder without the files, or if the task's data is not one plain table.
        """
        data_folder = confinement.get_folder()
        place = self.folder or (os.environ.get("ZOO_DATA") if data_folder is None else str(data_folder))
        if not place:
            return None
        base = ((folder / place) if self.folder else Path(place)).absolute()
        confinement.check_path(base)
        known = mteb_catalogue.get_task(self.task)
        section = _find_section(known)
        if section is None:
            if self.folder:
                raise ZooError(
                    f"{self.task}: mteb's data for it is not a plain table, so it cannot be run on local files"
                )
            return None
        sources, missing = _find_sources(self.task, known, base, section, self.folder is not None)
        if missing:
            if self.folder:
                raise ZooError(f"{self.task}: {base} holds no {' and '.join(missing)} for it")
            return None
        is_free = self.name and self.name not in mteb_catalogue.list_names()
        name = self.name if is_free else f"{self.title} (local)"
        fields = {"task": tasks.name_of(section), "name": name, "views": self.views, "at_least": self.at_least}
        task = section.model_validate({**fields, **sources})
        return task.make_ready(task.read_tables(folder), lock, type(known))


def find_problem(name: str) -> str | None:
    """Say what is wrong with the name of an official task, or return None. Own tasks are suggested as well."""
    return mteb_catalogue.find_problem(name, tasks.names())


def _find_section(known: AbsTask) -> type[LocalTask] | None:
    """The task over one's own data that has the form of an official one; None if its data is not one plain table."""
    for name in tasks.names():
        section = tasks.load(name)
        if not issubclass(section, LocalTask) or section.official_type != known.metadata.type:
            continue
        modality = ["image"] if name.startswith("image-") else ["text"]
        is_plain = isinstance(known, section.load_mteb_class()) and known.metadata.modalities == modality
        return section if is_plain and not getattr(known, "is_cross_validation", False) else None
    return None


def _find_sources(
    name: str, known: AbsTask, base: Path, section: type[LocalTask], is_own_folder: bool
) -> tuple[dict[str, FileData], list[str]]:
    """The files of each data field of a task, and the patterns that match no file.

    If `is_own_folder`, `base` was named for this task alone, and may hold its files without a folder of the task's name.

    Raises ZooError if two files could be meant.
    """
    splits = known.metadata.eval_splits
    split = "test" if "test" in splits else splits[0]
    generic = {"data": f"{name}/{split}.*", "train": f"{name}/train.*"}
    parts = [part for part in generic if part in section.model_fields]
    problems: list[str] = []
    for place in (base / name, base / name.lower(), *([base] if is_own_folder else [])):
        if not _list_tables(place, f"{split}.*"):
            try:
                sources = section.find_sources(place, split)
            except DataError as error:
                problems.append(str(error))
                continue
            if sources is not None:
                return sources, []
    missing: list[str] = []
    for patterns, columns in (LAYOUTS.get(name, ({}, {})), ({part: generic[part] for part in parts}, {})):
        files = {part: _list_tables(base, pattern) for part, pattern in patterns.items()}
        missing += [pattern for part, pattern in patterns.items() if not files[part]]
        if not patterns or not all(files.values()):
            continue
        for part, pattern in patterns.items():
            if pattern.endswith(".*") and len(files[part]) > 1:
                several = " and ".join(path.name for path in files[part])
                raise ZooError(f"{name}: {files[part][0].parent} holds {several}; keep one of them")
        paths = {part: files[part][0] if len(files[part]) == 1 else base / patterns[part] for part in patterns}
        sources = {part: FileData(source="file", path=str(path), columns=columns) for part, path in paths.items()}
        return sources, []
    return {}, missing if not problems else ["corpus, queries and qrels in the layout of BEIR or mteb"]


def _list_tables(base: Path, pattern: str) -> list[Path]:
    return sorted(path for path in base.glob(pattern) if tabular.is_table(path))
