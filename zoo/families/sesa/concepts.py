"""The concepts of a knowledge base: ids, names, and which stands above which. A list that is data and travels with the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, DataError, ZooError
from zoo.core.suggest import suggest

FORMAT = 1
SHOWN = 5  # mistakes named in an error


@dataclass(frozen=True)
class Concepts:
    """C concepts in the order of their list; a concept's row is its component.

    Attributes:
        ids: distinct keys; names: what people read; parents: rows that stand right above each, none for a root.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], above: Iterable[Iterable[Mapping[str, Any]]] = ()) -> Self:
        """From rows of `id`, and perhaps `name` and `parent` (a list of ids). The lists `above` follow; of them equal rows
        count once, as those of a table whose every line repeats what stands above it.

        Raises DataError, one line a mistake: an id that stands twice, a parent that is not there, a cycle.
        """
        found: dict[str, tuple[str, tuple[str, ...]]] = {}
        problems: list[str] = []
        for number, part in enumerate((rows, *above)):
            for row in part:
                entry = str(row.get("name") or row["id"]), tuple(row.get("parent") or ())
                before = found.setdefault(row["id"], entry)
                if before is entry or (number and before == entry):
                    continue
                other = "" if before[0] == entry[0] else f", as {before[0]!r} and as {entry[0]!r}"
                problems.append(
                    f"concept {row['id']!r} stands twice in the list{other}: every id must be one concept's"
                )
        place = {name: i for i, name in enumerate(found)}
        for name, (_, parents) in found.items():
            problems += [
                f"concept {name!r}: its parent {each!r} is not in the list{suggest(each, place, listing='')}"
                for each in parents
                if each not in place
            ]
        if not problems:
            made = cls(
                tuple(found),
                tuple(name for name, _ in found.values()),
                tuple(tuple(place[each] for each in parents) for _, parents in found.values()),
            )
            if not (circle := made._circle()):
                return made
            problems.append(f"the hierarchy runs in a circle: {' → '.join(circle)}; take one of these parents away")
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError(*(f"concepts: {each}" for each in [*problems[:SHOWN], *more]))

    def __len__(self) -> int:
        return len(self.ids)

    def _circle(self) -> list[str]:
        """Ids along one cycle, the first of them again at the end; [] without one."""
        state = [0] * len(self)  # 1: on the path from where it began, 2: leads to no cycle
        for start in range(len(self)):
            path, stack = [], [(start, iter(self.parents[start]))] if not state[start] else []
            while stack:
                node, rest = stack[-1]
                if not state[node]:
                    state[node] = 1
                    path.append(node)
                following = next(rest, None)
                if following is None:
                    state[node] = 2
                    path.pop()
                    stack.pop()
                elif state[following] == 1:
                    return [self.ids[i] for i in [*path[path.index(following) :], following]]
                elif not state[following]:
                    stack.append((following, iter(self.parents[following])))
        return []

    @cached_property
    def place(self) -> dict[str, int]:
        """The row of each id."""
        return {name: i for i, name in enumerate(self.ids)}

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Steps of the longest way up to a root, by row: 0 for a root."""
        out: dict[int, int] = {}
        waiting = list(range(len(self)))
        while waiting:
            node = waiting[-1]
            missing = [p for p in self.parents[node] if p not in out]
            if missing:
                waiting += missing
            else:
                out[waiting.pop()] = max((out[p] + 1 for p in self.parents[node]), default=0)
        return tuple(out[i] for i in range(len(self)))

    @cached_property
    def ancestors(self) -> tuple[frozenset[int], ...]:
        """Rows of all that stand above each row."""
        out: dict[int, frozenset[int]] = {}
        for node in sorted(range(len(self)), key=self.levels.__getitem__):
            out[node] = frozenset(self.parents[node]).union(*(out[p] for p in self.parents[node]))
        return tuple(out[i] for i in range(len(self)))

    def tagged(self, ids: Iterable[str]) -> list[int]:
        """Rows of `ids` and of all that stand above them, sorted. Raises DataError for an id that is not in the list."""
        rows: set[int] = set()
        for name in ids:
            if name not in self.place:
                raise DataError(f"concept {name!r} is not in the list{suggest(name, self.ids, listing='')}")
            rows |= {self.place[name], *self.ancestors[self.place[name]]}
        return sorted(rows)

    def find(self, word: str) -> int:
        """The row of a concept by its id, or by a name that only one has. Raises ZooError."""
        if word in self.place:
            return self.place[word]
        named = [i for i, name in enumerate(self.names) if name == word]
        if len(named) == 1:
            return named[0]
        if named:
            raise ZooError(f"several concepts are called {word!r}: say {' or '.join(self.ids[i] for i in named[:4])}")
        raise ZooError(f"there is no concept {word!r}{suggest(word, [*self.ids, *self.names], listing='')}")

    def save(self, path: Path) -> None:
        """Write {"format", "ids", "names", "parents"}."""
        told = {"format": FORMAT, "ids": self.ids, "names": self.names, "parents": self.parents}
        atomic_files.write_text(path, json.dumps(told, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ArtefactError for a file that `save` did not write."""
        try:
            told = atomic_files.read_json(path)
            ids, names = tuple(told["ids"]), tuple(told["names"])
            parents = tuple(tuple(each) for each in told["parents"])
            good = told["format"] == FORMAT and len(ids) == len(names) == len(parents) == len(set(ids)) > 0
            good = good and all(isinstance(word, str) for word in (*ids, *names))
            good = good and all(type(p) is int and 0 <= p < len(ids) for each in parents for p in each)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtefactError(f"{path}: cannot be read as a list of concepts: {str(error)[:120]}") from None
        made = cls(ids, names, parents) if good else None
        if made is None or made._circle():
            raise ArtefactError(
                f"{path}: is no list of concepts of format {FORMAT}: distinct ids, parents without a circle"
            )
        return made
