"""Why two texts score as they do: what each component adds, and `zoo explain`, for every encoder that can tell."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from zoo.core.errors import ZooError

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Contribution:
    """A component with a name: what it adds to a score, or how active it is in a text."""

    id: str
    name: str
    value: float


@dataclass(frozen=True)
class Explanation:
    """A score and its largest contributions, the largest first; `rest` is what all others add, so that the values of `parts`
    and `rest` sum to `score`."""

    score: float
    parts: tuple[Contribution, ...]
    rest: float


@runtime_checkable
class Explains(Protocol):
    """An encoder that can tell."""

    def explain(self, a: str, b: str, top: int = 5) -> Explanation: ...


def explain(encoder: Any, a: str, b: str, top: int) -> Explanation:
    """The explanation that `encoder` gives. Raises ZooError for a family whose components have no names."""
    if not isinstance(encoder, Explains):
        raise ZooError(f"the family {encoder.spec.family} cannot explain a score: its components have no names")
    return encoder.explain(a, b, top)


def as_json(found: Explanation) -> str:
    """One JSON object: score, parts, rest."""
    return json.dumps(asdict(found), indent=2, ensure_ascii=False)


def as_table(found: Explanation) -> Table:
    """A line a contribution, with its share of the score; the last one is the score."""
    from rich.table import Table
    from rich.text import Text

    table = Table("concept", "id", "adds", "share", box=None)
    for each in (*found.parts, Contribution("", "all others", found.rest), Contribution("", "score", found.score)):
        share = f"{each.value / found.score:.1%}" if found.score else ""
        table.add_row(Text(each.name), Text(each.id), f"{each.value:.4f}", share)
    return table
