"""`Finding`: a fault of a trained encoder, with its likely cause and the setting to change."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

FEW_PREDICTED = 0.8  # below this share of the labels, those that are never predicted are worth a warning


class Finding(NamedTuple):
    """A finding about a trained encoder.

    Attributes:
        level: "dead" if the encoder is of no use, so that it is not published unasked; else "warning".
        message: what was seen, as a sentence without its full stop.
        advice: the likely cause and the setting to change, as a clause.
    """

    level: Literal["dead", "warning"]
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{'DEAD MODEL' if self.level == 'dead' else 'warning'}: {self.message}; {self.advice}"


def list_dead(report: Mapping[str, Any]) -> list[str]:
    """Return the messages of the findings in a report that keep a model from being published."""
    entries = report.get("health")
    found = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [str(entry.get("message")) for entry in found if entry.get("level") == "dead"]


def find_unused_labels(labels: Iterable[Hashable], predicted: Sequence[Hashable], advice: str) -> list[Finding]:
    """Return a finding if labels are never predicted for inputs that should have all of them.

    Args:
        labels: the labels that the inputs have.
        predicted: the predicted label of each input.
    """
    expected = set(labels)
    used = expected & set(predicted)
    if len(expected) < 2 or len(used) >= FEW_PREDICTED * len(expected):
        return []
    missing = ", ".join(sorted(map(str, expected - used))[:5])
    message = f"{len(expected) - len(used)} of {len(expected)} labels are never predicted for {len(predicted)} inputs: {missing}"
    return [Finding("dead" if len(used) < 2 else "warning", message, advice)]
