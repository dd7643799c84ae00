"""Why two texts score as they do: what each named component adds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contribution:
    """A component with a name: what it adds to a score, or how active it is in a text."""

    id: str
    name: str
    value: float


@dataclass(frozen=True)
class Explanation:
    """A score and its largest contributions, the largest first.

    `rest` is the sum of all other contributions, so the values of `parts` and `rest` sum to `score`.
    """

    score: float
    parts: tuple[Contribution, ...]
    rest: float
