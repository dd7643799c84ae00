"""`TaskSpec`, the base of every entry of `evaluation:`: what it needs, how its rows become a task, and who scores it.

A task over the user's own data is one file in `zoo/evaluation/tasks` with a subclass of `LocalTask` (scored by mteb) or of
`MeasuredTask` (scored here). Its section is pydantic only; whatever is heavy is imported when rows are shaped or scored.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field

from zoo import data
from zoo.core.errors import DataError, ZooError
from zoo.data import Table
from zoo.data.spec import FileData
from zoo.evaluation import mteb_build, mteb_catalogue
from zoo.evaluation.mteb_build import MtebTask
from zoo.schema import Kind, Section

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.abstasks.abstask import AbsTask

    from zoo.encoder import Encoder

View = dict[str, Any]
Roles = dict[str, Kind]
Mistake = tuple[tuple[str | int, ...], str]
Scores = tuple[dict[str, float], dict[str, Any]]
"""Scores by name, the main score first, and JSON-able details for the card's pictures."""
HITS = "hits"
"""An entry of the details that is taken out of them: for each row, or each other `outcome_unit`, the share of right answers.

Its mean is the main score.
"""
MODALITIES = ("text", "image", "vector")


def _require_number_or_baseline(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or value == "baseline" or is_number:
        return value
    raise ValueError(f"must be a number or `baseline`, not {value!r}")


AtLeast = Annotated[float | Literal["baseline"] | None, BeforeValidator(_require_number_or_baseline)]


class TaskSpec(Section):
    """The fields that every task has.

    Attributes of the class:
        roles: for each data field of the task, the columns that it needs and what they hold.
        optional: the columns that it uses if they are there.
        test_fields: the data fields whose rows must be new to the encoder, or the score says too much.
        needs_own_classes: whether only families with classes of their own can be scored.
        shows_answers: whether the card shows some retrieved answers, so that the vectors are kept.
        counts_right_classes: whether the main score is the share of rows whose class is found.
        compares_models: whether a higher main score means a better model, so that baselines are a measure for it.
        outcome_unit: what the entry HITS of the details has one value for, in the plural.
        parts_without_inputs: data fields whose rows are not encoded.
    """

    roles: ClassVar[dict[str, Roles]] = {}
    optional: ClassVar[dict[str, Roles]] = {}
    test_fields: ClassVar[tuple[str, ...]] = ("data", "queries", "unknown")
    needs_own_classes: ClassVar[bool] = False
    shows_answers: ClassVar[bool] = False
    counts_right_classes: ClassVar[bool] = False
    compares_models: ClassVar[bool] = True
    outcome_unit: ClassVar[str] = "rows"
    parts_without_inputs: ClassVar[tuple[str, ...]] = ()

    task: str = Field(description="The name of the task.")
    name: str | None = Field(None, description="The name in the report. Default: the task's type or official name.")
    views: tuple[View, ...] = Field(
        ({},), description="Views of the encoder to score, e.g. {layers: 3, dim: 64}; {} is the whole encoder."
    )
    at_least: AtLeast = Field(
        None,
        description="`zoo train` and `zoo evaluate` exit with status 1 if a view scores below this, or is worse than the best "
        "free baseline.",
    )

    @property
    def title(self) -> str:
        """The name in the report."""
        return self.name or self.task

    def find_mistakes(self, folder: Path, unsure: Container[str] = ()) -> list[Mistake]:
        """Mistakes that show without reading rows, as (path below the task, message).

        The columns of the data fields in `unsure` are not known yet, so they are not checked.
        """
        return []

    def expand(self) -> Sequence[TaskSpec]:
        """The tasks that this entry stands for. Default: itself."""
        return [self]

    def prepare(self, folder: Path, lock: dict[str, Any]) -> ReadyTask:
        """Read the data, check it, and add its fingerprints to `lock`. Raises DataError and ZooError."""
        raise NotImplementedError

    def compute_chance(self, tables: Mapping[str, Table]) -> float:
        """The main score of an encoder whose vectors say nothing about the data. Default: 0."""
        return 0.0

    def describe_result(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Details of the report's entry besides the score, from mteb's scores."""
        return {}

    def find_caveat(self, details: Mapping[str, Any]) -> str:
        """Return why a good score says less than it seems, as a clause, or "". `details` are those of the report's entry."""
        return ""

    @classmethod
    def summarise_results(cls, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Entries of the report over all results, if a task of this class is among them."""
        return {}


@dataclass(frozen=True)
class ReadyTask:
    """A task whose data was read and found good.

    Attributes:
        spec: the entry of the recipe.
        make: gives a fresh mteb task, because mteb draws from state that a second run would share.
        is_official: whether the score is that of an official mteb task on its own data.
        modalities: kinds of inputs that the encoder must read.
        tables: the data by data field; of an official task the inputs of its test rows, as far as they are plain tables.
        measure: the scoring function of a task that mteb does not have.
        chance: the main score of an encoder whose vectors say nothing.
    """

    spec: TaskSpec
    make: Callable[[], AbsTask]
    is_official: bool
    modalities: frozenset[str] = frozenset({"text"})
    tables: Mapping[str, Table] | None = None
    measure: Callable[[Encoder, Mapping[str, Dataset]], Scores] | None = None
    chance: float = 0.0

    @property
    def name(self) -> str:
        """The name in the report."""
        return self.spec.title


class OwnDataTask(TaskSpec):
    """A task over the user's own data."""

    def resolve(self, folder: Path) -> Self:
        """The task with a data section for each file of its own folder, if it names one. Raises DataError."""
        return self

    def find_mistakes(self, folder: Path, unsure: Container[str] = ()) -> list[Mistake]:
        """Report a name that claims to be an official task, missing files and missing columns."""
        mistakes: list[Mistake] = []
        if self.name in mteb_catalogue.list_names():
            mistakes.append((("name",), describe_claim(self.name)))
        try:
            task = self.resolve(folder)
        except DataError as error:
            return [*mistakes, (("folder",), str(error))]
        for name, roles in task.roles.items():
            source = getattr(task, name)
            if source is not None:
                required = {} if name in unsure else roles
                problems = data.problems(source, required, folder=folder)
                mistakes += [((name, *path), message) for path, message in problems]
        return mistakes

    def prepare(self, folder: Path, lock: dict[str, Any]) -> ReadyTask:
        """Read the tables of all data fields, and make a task of them."""
        if self.name in mteb_catalogue.list_names():
            raise ZooError(describe_claim(self.name))
        return self.make_ready(self.read_tables(folder), lock)

    def read_tables(self, folder: Path) -> dict[str, Table]:
        """The tables by data field. Raises DataError."""
        task, tables = self.resolve(folder), {}
        for name, roles in task.roles.items():
            source = getattr(task, name)
            if source is not None:
                tables[name] = data.read(source, roles, task.optional.get(name, {}), folder=folder)
        return tables

    def make_ready(
        self, tables: Mapping[str, Table], lock: dict[str, Any], parent: type[AbsTask] | None = None
    ) -> ReadyTask:
        """Check the tables and make a task of them. `parent` is an official class whose way of scoring is wanted."""
        raise NotImplementedError


class LocalTask(OwnDataTask):
    """A task over the user's own data that mteb scores.

    `official_type` is the type of official mteb tasks that can be run on local files as this task, or None.
    """

    official_type: ClassVar[str | None] = None

    @classmethod
    def find_sources(cls, base: Path, split: str) -> dict[str, FileData] | None:
        """The data sections of a folder in a layout of its own. Default: None, because the task has no such layout."""
        return None

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """The data as mteb's abstract task wants it. Raises DataError if the rows do not form a valid task."""
        raise NotImplementedError

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        raise NotImplementedError

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """How mteb computes the task on data that `shape` gave."""
        raise NotImplementedError

    def list_modalities(self, tables: Mapping[str, Table], task_data: Any) -> frozenset[str]:
        """Kinds of inputs that the encoder must read."""
        has_images = any("image" in table.roles for table in tables.values())
        return frozenset({"image" if has_images else "text"})

    def make_ready(
        self, tables: Mapping[str, Table], lock: dict[str, Any], parent: type[AbsTask] | None = None
    ) -> ReadyTask:
        """Shape the tables for mteb."""
        lock_tables(lock, self.title, tables)
        task_data, revision = self.shape(tables), mteb_build.compute_revision(tables)
        modalities = self.list_modalities(tables, task_data)

        def make() -> AbsTask:
            return mteb_build.build(
                self.title, self.task, self.describe_mteb_task(task_data), task_data, revision, parent
            )

        chance = self.compute_chance(tables)
        return ReadyTask(self, make, is_official=False, modalities=modalities, tables=tables, chance=chance)


class MeasuredTask(OwnDataTask):
    """A task that mteb does not have, scored here."""

    def measure(self, encoder: Encoder, rows: Mapping[str, Dataset]) -> Scores:
        """Scores of an encoder on the rows of each data field."""
        raise NotImplementedError

    def check_tables(self, tables: Mapping[str, Table]) -> None:
        """Raise DataError if the rows do not form a valid task. Default: they do."""

    def make_ready(
        self, tables: Mapping[str, Table], lock: dict[str, Any], parent: type[AbsTask] | None = None
    ) -> ReadyTask:
        """Check that all tables hold one kind of input, and that they form a valid task. Raises DataError otherwise."""
        lock_tables(lock, self.title, tables)
        encoded = [set(table.roles) for name, table in tables.items() if name not in self.parts_without_inputs]
        modalities = frozenset(role for roles in encoded for role in roles if role in MODALITIES)
        if len(modalities) != 1 or not all(modalities <= roles for roles in encoded):
            raise DataError(
                f"{self.title}: every part needs a column `text`, or every part a column `image`, or `vector`"
            )
        self.check_tables(tables)
        return ReadyTask(
            self,
            _refuse_mteb,
            is_official=False,
            modalities=modalities,
            tables=tables,
            measure=self.measure,
            chance=self.compute_chance(tables),
        )


def _refuse_mteb() -> AbsTask:
    raise ZooError("zoo computes this task itself, so mteb cannot run it")


def describe_claim(name: str | None) -> str:
    """The error about a task over the user's own data with the name of an official one."""
    return f"{name!r} is an official mteb task; call a task over your own data something else"


def lock_tables(lock: dict[str, Any], title: str, tables: Mapping[str, Table]) -> None:
    """Add the fingerprints of a task's tables to lock.json's entries."""
    for part, table in tables.items():
        lock[title if part == "data" else f"{title}/{part}"] = {
            "fingerprint": table.fingerprint,
            "rows": len(table.rows),
            "skipped": len(table.skipped),
            "origin": vars(table.origin),
        }
