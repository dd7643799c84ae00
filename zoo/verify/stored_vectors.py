"""Say whether stored vectors of some inputs are those of a model, and name the fault if not, for example another prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError
from zoo.core.findings import Finding
from zoo.encoder import Encoder
from zoo.metrics.neighbours import draw_rows
from zoo.verify.comparison import compare_common
from zoo.verify.examination import examine
from zoo.verify.hypotheses import Array, Expectation
from zoo.verify.verdict import Verdict

COMPARED = 24
"""Inputs that are compared. The longest one is among them, because a cut shows there."""
LONG = 4000
"""Characters of an input beyond which it is not chosen as the longest one."""
ROLES = (None, "query", "document")
COARSEST = "int8"
AGAIN = "encode the inputs again with `zoo encode`"
ADVICE = {
    "prompt": f"{AGAIN}, with --prompt query or --prompt document if the model has roles",
    "model": "check that file, model and inputs belong together, and that their order is the same",
}


class Origin(NamedTuple):
    """Whether vectors are those of a model.

    Attributes:
        note: a sentence about the comparison.
        findings: the faults; () if the model makes these vectors.
        verdict: the comparison of some inputs.
    """

    note: str
    findings: tuple[Finding, ...]
    verdict: Verdict


class _Stored:
    """Vectors of a file as a source."""

    name = "the file"

    def __init__(self, vectors: Array) -> None:
        self._vectors = vectors

    def embed(self, inputs: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Return all the vectors."""
        return self._vectors


def check_rows(vectors: Any, inputs: Sequence[Any], file: str, data: str) -> None:
    """Raise ZooError unless there is one float vector for each input."""
    if len(vectors) != len(inputs):
        raise ZooError(
            f"{file}: has {len(vectors):,} vectors, and {data} has {len(inputs):,} inputs; give those that were encoded, in order"
        )
    if getattr(vectors, "ndim", 0) != 2 or np.dtype(vectors.dtype).kind != "f":
        raise ZooError(f"{file}: only float vectors (n, d) can be compared with a model; decode codes first")


def compare(
    encoder: Encoder, vectors: Any, inputs: Sequence[Any], *, role: str | None = None, seed: int = 42
) -> Origin:
    """Compare stored vectors (n, d) with those that an encoder gives for some of the n inputs.

    Args:
        encoder: the model at the view that should have made the vectors.
        vectors: in the order of the inputs.
        role: "query" or "document", if the inputs should have been encoded as such. By default the role that fits best.
        seed: the seed by which inputs are drawn.

    Raises ZooError for a role if the encoder has none.
    """
    if role is not None and not encoder.has_roles:
        raise ZooError(f"--prompt: the family {encoder.spec.family} has no prompts; leave it out")
    places = _choose_places(inputs, seed)
    chosen, stored = [inputs[place] for place in places], np.asarray(vectors[places], np.float64)
    roles = [role] if role or not encoder.has_roles else _list_roles(encoder, chosen)
    expectations = [Expectation(encoder, chosen, one) for one in roles]
    expected = min(expectations, key=lambda one: float(compare_common(stored, one.vectors).distances.mean()))
    verdict = examine(expected, _Stored(stored), coarsest=COARSEST, asks_alone=False)
    found = tuple(
        Finding(
            "warning", f"these are not the vectors of {encoder.name}: {fault.detail}", ADVICE.get(fault.cause, AGAIN)
        )
        for fault in verdict.faults
    )
    as_role = f" as a {expected.role}" if expected.role else ""
    answer = "differ" if found else "are those of the model"
    cosine = f"lowest cosine {verdict.lowest_cosine:.4f}"
    note = f"the vectors of {len(places)} inputs {answer}, which encoded each{as_role} ({cosine})"
    return Origin(note, found, verdict)


def _list_roles(encoder: Encoder, inputs: Sequence[Any]) -> list[str | None]:
    """Return the roles with different prompts."""
    find_prompt = getattr(encoder, "find_prompt", None)
    if find_prompt is None:
        return list(ROLES)
    return list({str(find_prompt(role)): role for role in reversed(ROLES)}.values())[::-1]


def _choose_places(inputs: Sequence[Any], seed: int) -> npt.NDArray[np.int64]:
    """Return the places of drawn inputs and of the longest text, in order."""
    drawn = draw_rows(len(inputs), COMPARED, seed)
    lengths = [len(item) if isinstance(item, str) and len(item) <= LONG else 0 for item in inputs]
    return np.unique(np.append(np.asarray(drawn), int(np.argmax(lengths))))
