"""The result of `explain`: how much each concept contributes to the score of two texts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contribution:
    """A concept, and its contribution to a score or its activation in one text."""

    id: str
    name: str
    value: float


@dataclass(frozen=True)
class Explanation:
    """A score and its largest contributions, the largest first.

    `rest` is the sum of all other contributions, also of the unnamed part, so the values of `parts` and `rest` sum to `score`.
    """

    score: float
    parts: tuple[Contribution, ...]
    rest: float
