"""Counts the rows that training shares with validation and with every evaluation set, and drops or refuses them if asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.core.errors import DataError
from zoo.data import Table
from zoo.data.joined import filter_joined
from zoo.data.overlap import Keys, compute_row_keys, find_holding_rows, find_shared_rows, iterate_row_keys
from zoo.evaluation import Prepared
from zoo.evaluation.watching import WatchedTasks
from zoo.recipe.recipe import Recipe

TRAINING, VALIDATION = "train", "validation"
MANY = 0.25  # of the evaluation rows


@dataclass(frozen=True)
class Overlap:
    """How many rows of a data set are rows of another one.

    Attributes:
        name: the data set whose rows must be new.
        among: the data set that they were looked for in.
        shared, rows: how many of its rows are shared, and how many it has.
    """

    name: str
    among: str
    shared: int
    rows: int

    def __str__(self) -> str:
        return f"{self.shared} of {self.rows} rows of {self.name} are also rows of {self.among}"


class Overlaps:
    """The data sets of a run whose rows are compared. Keys of many training rows are computed block by block.

    Attributes:
        tables: the data sets that training reads, validation among them.
        tested: keys by name of the data sets that must be new to the encoder.
        probes: for a task with training rows of its own, their keys by the name of the task.
        watched: keys of the rows on which validation tasks are scored, by the name of the task.
        watched_probes: for a validation task with training rows of its own, their keys by the name of the task.
    """

    def __init__(
        self, recipe: Recipe[Any], tables: Mapping[str, Table], tasks: Prepared, watch: WatchedTasks | None = None
    ) -> None:
        uses = {path[-1]: dataset.use for path, dataset in recipe.encoder.extra_datasets().items()}
        uses |= {TRAINING: "training", VALIDATION: "training"}
        self.tables = {name: table for name, table in tables.items() if uses[name] == "training"}
        self._keys_of: dict[str, Keys] = {}  # of data sets that are one block
        self.tested = {n: compute_row_keys(t) for n, t in tables.items() if uses[n] == "evaluation"}
        self.probes: dict[str, Keys] = {}
        self._task_of: dict[str, str] = {}
        for task in tasks.tasks:
            for part, table in (task.tables or {}).items():
                name = task.name if part == "data" else f"{task.name}/{part}"
                if part.partition(" ")[0] in task.spec.test_fields:
                    self.tested[name], self._task_of[name] = compute_row_keys(table), task.name
                elif part == TRAINING:
                    self.probes[task.name] = compute_row_keys(table)
        self.watched: dict[str, list[Keys]] = {}
        self.watched_probes: dict[str, list[Keys]] = {}
        for task in watch.prepared.tasks if watch else ():
            for part, table in (task.tables or {}).items():
                if part.partition(" ")[0] in task.spec.test_fields:
                    self.watched.setdefault(task.name, []).append(compute_row_keys(table))
                elif part == TRAINING:
                    self.watched_probes.setdefault(task.name, []).append(compute_row_keys(table))

    def refuse_leaks(self) -> None:
        """Raise DataError if rows of a validation task are rows of training or of `evaluation`.

        The weights are chosen by these rows, which must be new to the training, and must not be test data.
        """
        lines = []
        for name, parts in self.watched.items():
            count = sum(map(len, parts))
            for among, table in self.trained.items():
                blocks = list(self._iterate_keys(among, table))
                shared = sum(self._count_shared(keys, blocks) for keys in parts)
                if shared:
                    place = f"validation: the task {name}: {shared} of its {count} rows are also rows of {among}"
                    lines.append(f"{place}: hold them out of `data`, or set on_overlap: drop")
            for tested, keys in self.tested.items():
                known = [*parts, *self.watched_probes.get(name, [])]
                shared = int(np.any([find_shared_rows(keys, others) for others in known], axis=0).sum())
                if shared:
                    place = (
                        f"validation: the task {name}: it has {shared} of the {len(keys)} rows of evaluation {tested}"
                    )
                    lines.append(f"{place}: choose weights by other rows than those of the test")
        if lines:
            raise DataError(*lines)

    @staticmethod
    def _count_shared(keys: Keys, blocks: Sequence[Keys]) -> int:
        """Count the rows of `keys` that are found in any of the blocks."""
        return int(np.any([find_shared_rows(keys, block) for block in blocks], axis=0).sum())

    @property
    def trained(self) -> dict[str, Table]:
        """The data sets that training reads, without validation, by the names under which they are reported."""
        return {
            label: table for name in self.tables if name != VALIDATION for label, table in self._split(name).items()
        }

    def _split(self, name: str) -> dict[str, Table]:
        table = self.tables[name]
        return {f"{name}/{part}": rows for part, rows in table.parts.items()} or {name: table}

    @property
    def validation_keys(self) -> Keys | None:
        """The keys of the validation rows, or None."""
        if VALIDATION not in self.tables:
            return None
        if VALIDATION not in self._keys_of:
            self._keys_of[VALIDATION] = compute_row_keys(self.tables[VALIDATION])
        return self._keys_of[VALIDATION]

    def _iterate_keys(self, label: str, table: Table) -> Iterator[Keys]:
        """Yield the keys of a training set in blocks. A set of one block is read once."""
        if label in self._keys_of:
            yield self._keys_of[label]
            return
        for keys in iterate_row_keys(table):
            if len(keys) == len(table.rows):
                self._keys_of[label] = keys
            yield keys

    def count(self) -> list[Overlap]:
        """Count the shared rows of every pair of data sets that must not share any, also those with none."""
        watched = {} if self.validation_keys is None else {VALIDATION: self.validation_keys}
        names = watched | self.tested
        is_shared = {(name, label): np.zeros(len(keys), bool) for name, keys in names.items() for label in self.trained}
        for label, table in self.trained.items() if names else ():
            for block in self._iterate_keys(label, table):
                for name, keys in names.items():
                    is_shared[name, label] |= find_shared_rows(keys, block)
        overlaps = []
        for name, keys in names.items():
            overlaps += [Overlap(name, label, int(is_shared[name, label].sum()), len(keys)) for label in self.trained]
            if name == VALIDATION:
                continue
            overlaps += [_compare(name, keys, among, others) for among, others in watched.items()]
            task = self._task_of.get(name, "")
            if task in self.probes:
                overlaps.append(_compare(name, keys, f"{task}/{TRAINING}", self.probes[task]))
        return overlaps

    def drop(self, tables: Mapping[str, Table]) -> dict[str, Table]:
        """Return the tables without the rows that hold a row of an evaluation set, and training without those of validation.

        Raise DataError if no rows of a table are left.
        """
        remaining = dict(tables)
        for name in sorted(self.tables, key=lambda name: name != VALIDATION):  # validation loses its rows first
            tested = [*self.tested.values(), *(keys for parts in self.watched.values() for keys in parts)]
            if name != VALIDATION and self.validation_keys is not None:
                tested.append(self.validation_keys)
            if not tested:
                continue
            labels = {VALIDATION: self.tables[VALIDATION]} if name == VALIDATION else self._split(name)
            masks = {
                label: np.concatenate([_find_held(keys, tested) for keys in self._iterate_keys(label, table)])
                for label, table in labels.items()
            }
            holds = np.concatenate(list(masks.values()))
            if len(holds) and holds.all():
                raise DataError(
                    f"on_overlap: drop leaves no rows of {name}: all of them are evaluation or validation rows"
                )
            if holds.any():
                remaining[name] = self.tables[name] = filter_joined(tables[name], ~holds)
                for label, mask in masks.items():
                    if label in self._keys_of:
                        self._keys_of[label] = self._keys_of[label][~mask]
        return remaining


def _find_held(keys: Keys, tested: Sequence[Keys]) -> npt.NDArray[np.bool_]:
    """Return a mask (n,) of the rows of `keys` in which a row of one of the other sets is found."""
    masks = [find_holding_rows(keys, others) for others in tested]
    held: npt.NDArray[np.bool_] = np.any(masks, axis=0)
    return held


def _compare(name: str, keys: Keys, among: str, others: Keys) -> Overlap:
    return Overlap(name, among, int(find_shared_rows(keys, others).sum()), len(keys))


def _advise(shared: Sequence[Overlap]) -> str:
    """Return what to change: a share that chance does not explain comes from two hold-outs that do not fit each other."""
    if any(overlap.shared > MANY * overlap.rows for overlap in shared):
        return "if both read the same file, give both the same where and the same holdout (size, by, seed), one with each side"
    return "set on_overlap: drop to train without these rows, or holdout.by to keep equal values on one side"


def settle(
    recipe: Recipe[Any], tables: Mapping[str, Table], tasks: Prepared, watch: WatchedTasks | None = None
) -> tuple[dict[str, Table], list[Overlap], list[str]]:
    """Do what `on_overlap` of the recipe says. Return the tables to train with, the overlaps, and lines to tell the user.

    Raise DataError for shared rows with `on_overlap: error`, and for a validation task with rows of training or evaluation.
    """
    overlaps = Overlaps(recipe, tables, tasks, watch)
    if recipe.on_overlap != "drop":
        overlaps.refuse_leaks()
    found = overlaps.count()
    shared = [overlap for overlap in found if overlap.shared]
    if shared and recipe.on_overlap == "error":
        raise DataError(*map(str, shared), "remove these rows, or set on_overlap: drop or report")
    lines = [str(overlap) for overlap in shared]
    remaining = dict(tables)
    if (shared or overlaps.watched) and recipe.on_overlap == "drop":
        remaining = overlaps.drop(tables)
        dropped = {name: len(tables[name].rows) - len(table.rows) for name, table in remaining.items()}
        lines += [f"dropped {count} rows of {name}" for name, count in dropped.items() if count]
        found = overlaps.count()
    elif shared:
        lines.append(_advise(shared))
    overlaps.refuse_leaks()
    if found and not shared:
        lines += ["no row of validation or evaluation is a training row"]
    return remaining, found, lines
