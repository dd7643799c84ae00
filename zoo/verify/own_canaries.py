"""Compare a model on this machine with the canaries that were saved with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.artefact import canaries
from zoo.artefact.canaries import Canaries
from zoo.encoder import Encoder
from zoo.verify.comparison import PRECISIONS, compare
from zoo.verify.examination import examine
from zoo.verify.hypotheses import Array, Expectation, as_floats
from zoo.verify.verdict import Verdict

OWN_PRECISION = "bf16"
"""The coarsest arithmetic in which a model is still itself: another device, or another version of a library."""


class _Stored:
    """The stored vectors of some canaries as a source."""

    name = "canaries"

    def __init__(self, vectors: Array) -> None:
        self._vectors = vectors

    def embed(self, inputs: Sequence[Any]) -> Array:
        """Return all the vectors."""
        return self._vectors


def check(encoder: Encoder, stored: Canaries) -> dict[str, Verdict]:
    """Compare the vectors of an encoder with its canaries. There is a verdict for each kind of input and each role."""
    floats = as_floats(encoder, stored.vectors)
    groups: dict[tuple[str, str | None], list[int]] = {}
    for place, canary in enumerate(stored.canaries):
        groups.setdefault((canary.kind, canary.role), []).append(place)
    verdicts = {}
    for (kind, role), places in groups.items():
        expected = Expectation(encoder, [stored.canaries[place].make_input() for place in places], role)
        name = {None: f"{kind}s", "query": "queries", "document": "documents"}[role]
        source = _Stored(floats[places])
        verdicts[name] = examine(expected, source, coarsest=OWN_PRECISION, asks_alone=False)
    return verdicts


def is_same(encoder: Encoder, stored: Canaries) -> bool:
    """Return whether an encoder gives the stored vectors, without a search for the fault."""
    now = as_floats(encoder, canaries.encode(encoder, stored.canaries))
    before = as_floats(encoder, stored.vectors)
    names = [precision.name for precision in PRECISIONS]
    return now.shape == before.shape and compare(now, before).rank <= names.index(OWN_PRECISION)
