"""`Concepts`, the concepts of a knowledge base: ids, names, and which concept is the parent of which.

The list is data. It travels with the model as concepts.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, DataError, ZooError
from zoo.core.suggest import suggest

FORMAT = 1
MAX_SHOWN_MISTAKES = 5
MAX_SUGGESTED_IDS = 4


@dataclass(frozen=True)
class Concepts:
    """C concepts in the order of their list. The row of a concept is also the number of its component.

    Attributes:
        ids: distinct keys.
        names: texts for people.
        parents: rows of the direct parents of each concept; () for a root.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, Any]], parent_lists: Iterable[Iterable[Mapping[str, Any]]] = ()
    ) -> Self:
        """Build the list from rows with `id`, and optionally `name` and `parent` (a list of ids).

        The concepts of `parent_lists` follow those of `rows`. Equal rows of a parent list count once, because each line of
        a table may repeat its parents. Raise DataError, one line per mistake, for an id that appears twice, for an unknown
        parent, and for a cycle.
        """
        entries, problems = _collect_entries(rows, parent_lists)
        row_by_id = {concept_id: row for row, concept_id in enumerate(entries)}
        for concept_id, (_, parents) in entries.items():
            problems += [
                f"concept {concept_id!r}: its parent {parent!r} is not in the list{suggest(parent, row_by_id, listing='')}"
                for parent in parents
                if parent not in row_by_id
            ]
        _raise_problems(problems)
        names = tuple(name for name, _ in entries.values())
        parent_rows = tuple(tuple(row_by_id[parent] for parent in parents) for _, parents in entries.values())
        concepts = cls(tuple(entries), names, parent_rows)
        cycle = concepts._find_cycle()
        if cycle:
            _raise_problems([f"the hierarchy has a cycle: {' → '.join(cycle)}; remove one of these parents"])
        return concepts

    def __len__(self) -> int:
        return len(self.ids)

    def _find_cycle(self) -> list[str]:
        """Return the ids along one cycle, the first one again at the end; [] if there is none.

        The search is depth-first without recursion, because a list from a file may be arbitrarily deep.
        """
        unseen, on_path, done = range(3)
        states = [unseen] * len(self)
        for start in range(len(self)):
            if states[start] == done:
                continue
            states[start] = on_path
            path, remaining_parents = [start], [iter(self.parents[start])]
            while path:
                parent = next(remaining_parents[-1], None)
                if parent is None:
                    states[path.pop()] = done
                    remaining_parents.pop()
                elif states[parent] == on_path:
                    return [self.ids[row] for row in [*path[path.index(parent) :], parent]]
                elif states[parent] == unseen:
                    states[parent] = on_path
                    path.append(parent)
                    remaining_parents.append(iter(self.parents[parent]))
        return []

    @cached_property
    def row_by_id(self) -> dict[str, int]:
        """The row of each id."""
        return {concept_id: row for row, concept_id in enumerate(self.ids)}

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """The length of the longest path from each concept up to a root: 0 for a root."""
        levels: dict[int, int] = {}
        waiting = list(range(len(self)))
        while waiting:
            row = waiting[-1]
            missing = [parent for parent in self.parents[row] if parent not in levels]
            if missing:
                waiting += missing
            else:
                levels[waiting.pop()] = max((levels[parent] + 1 for parent in self.parents[row]), default=0)
        return tuple(levels[row] for row in range(len(self)))

    @cached_property
    def ancestors(self) -> tuple[frozenset[int], ...]:
        """Rows of the parents of each concept, of their parents, and so on."""
        ancestors: dict[int, frozenset[int]] = {}
        for row in sorted(range(len(self)), key=self.levels.__getitem__):
            parents = self.parents[row]
            ancestors[row] = frozenset(parents).union(*(ancestors[parent] for parent in parents))
        return tuple(ancestors[row] for row in range(len(self)))

    def find_rows_with_ancestors(self, ids: Iterable[str]) -> list[int]:
        """Find the sorted rows of `ids` and of all their ancestors. Raise DataError for an unknown id."""
        rows: set[int] = set()
        for concept_id in ids:
            if concept_id not in self.row_by_id:
                raise DataError(f"concept {concept_id!r} is not in the list{suggest(concept_id, self.ids, listing='')}")
            row = self.row_by_id[concept_id]
            rows |= {row, *self.ancestors[row]}
        return sorted(rows)

    def find_row(self, concept: str) -> int:
        """Find the row of a concept by its id or by a unique name. Raise ZooError."""
        if concept in self.row_by_id:
            return self.row_by_id[concept]
        rows = [row for row, name in enumerate(self.names) if name == concept]
        if len(rows) == 1:
            return rows[0]
        if rows:
            ids = " or ".join(self.ids[row] for row in rows[:MAX_SUGGESTED_IDS])
            raise ZooError(f"several concepts are called {concept!r}: give the id instead, {ids}")
        raise ZooError(f"there is no concept {concept!r}{suggest(concept, [*self.ids, *self.names], listing='')}")

    def save(self, path: Path) -> None:
        """Write {"format", "ids", "names", "parents"}."""
        content = {"format": FORMAT, "ids": self.ids, "names": self.names, "parents": self.parents}
        atomic_files.write_text(path, json.dumps(content, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raise ArtefactError for any other file."""
        try:
            content = atomic_files.read_json(path)
            ids, names = tuple(content["ids"]), tuple(content["names"])
            parents = tuple(tuple(rows) for rows in content["parents"])
            is_valid = content["format"] == FORMAT and len(ids) == len(names) == len(parents) == len(set(ids)) > 0
            is_valid = is_valid and all(isinstance(word, str) for word in (*ids, *names))
            is_valid = is_valid and all(type(row) is int and 0 <= row < len(ids) for rows in parents for row in rows)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtefactError(f"{path}: cannot be read as a list of concepts: {str(error)[:120]}") from None
        concepts = cls(ids, names, parents) if is_valid else None
        if concepts is None or concepts._find_cycle():
            raise ArtefactError(
                f"{path}: is not a list of concepts of format {FORMAT}: ids must be distinct, and parents without a cycle; "
                "download or save the model again"
            )
        return concepts


Entry = tuple[str, tuple[str, ...]]
"""The name of a concept, and the ids of its parents."""


def _collect_entries(
    rows: Iterable[Mapping[str, Any]], parent_lists: Iterable[Iterable[Mapping[str, Any]]]
) -> tuple[dict[str, Entry], list[str]]:
    """Collect the entry of each id, in order, and a problem for each id that appears twice."""
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    for list_number, list_rows in enumerate((rows, *parent_lists)):
        for row in list_rows:
            entry: Entry = str(row.get("name") or row["id"]), tuple(row.get("parent") or ())
            earlier = entries.setdefault(row["id"], entry)
            is_repeated_parent = list_number > 0 and earlier == entry
            if earlier is entry or is_repeated_parent:
                continue
            names = "" if earlier[0] == entry[0] else f", as {earlier[0]!r} and as {entry[0]!r}"
            problems.append(
                f"concept {row['id']!r} appears twice in the list{names}: give each concept an id of its own"
            )
    return entries, problems


def _raise_problems(problems: Sequence[str]) -> None:
    """Raise DataError with the first problems, if there is one."""
    if not problems:
        return
    hidden = len(problems) - MAX_SHOWN_MISTAKES
    more = [f"and {hidden} more"] if hidden > 0 else []
    raise DataError(*(f"concepts: {problem}" for problem in [*problems[:MAX_SHOWN_MISTAKES], *more]))
