"""`diagnose`: the figures of vectors in one pass, those of their neighbours, and the findings that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.findings import Finding
from zoo.diagnosis.verdict import find_faults
from zoo.metrics.moments import Moments
from zoo.metrics.neighbours import DRAWN, Neighbourhood, NoDimensionError, measure_neighbours
from zoo.metrics.spectrum import DEFAULT_NOISE, Spectrum, list_variances, measure_spectrum


@dataclass(frozen=True)
class Diagnosis:
    """Figures of one set of vectors.

    Attributes:
        name: the encoder or file that the vectors are from.
        rows: how many vectors there are.
        dim: their components.
        repeated_inputs: inputs that equal an earlier one.
        equal_vectors: vectors of different inputs that equal an earlier one, among those that were drawn for the neighbours.
        spectrum: the directions that all vectors use.
        neighbourhood: the neighbours of a draw; None with fewer than 100 distinct vectors, and for short codes.
        findings: faults, the worst first; () for a healthy encoder.
        variances: (number, share of the variance) of some principal directions, the largest first; numbers from 1.
    """

    name: str
    rows: int
    dim: int
    repeated_inputs: int
    equal_vectors: int
    spectrum: Spectrum
    neighbourhood: Neighbourhood | None
    findings: tuple[Finding, ...] = field(default=())
    variances: tuple[tuple[int, float], ...] = field(default=())

    @property
    def is_dead(self) -> bool:
        """Whether the encoder tells its inputs apart so little that it is of no use."""
        return any(finding.level == "dead" for finding in self.findings)

    def describe(self) -> dict[str, Any]:
        """Return everything as plain values, as JSON can hold them."""
        neighbourhood = None if self.neighbourhood is None else self.neighbourhood._asdict()
        return {
            "name": self.name,
            "rows": self.rows,
            "dim": self.dim,
            "repeated_inputs": self.repeated_inputs,
            "equal_vectors": self.equal_vectors,
            "spectrum": self.spectrum._asdict(),
            "neighbourhood": neighbourhood,
            "findings": [finding._asdict() for finding in self.findings],
            "variances": [list(point) for point in self.variances],
        }


def diagnose(
    source: Any,
    inputs: Sequence[Any] | None = None,
    *,
    noise: float = DEFAULT_NOISE,
    neighbours: int = DRAWN,
    seed: int = 42,
    name: str = "vectors",
) -> Diagnosis:
    """Diagnose vectors, or an encoder by its vectors of some inputs.

    Args:
        source: float vectors (n, d), for example a memory-mapped array; or any encoder with a method `encode`, of zoo or of
            sentence-transformers.
        inputs: what the encoder encodes, in place of vectors. 1,000 or more say something.
        noise: mean squared error of the coding rate, of vectors of norm 1.
        neighbours: how many vectors are drawn for the figures of neighbours. Compare figures of equally many vectors only.
        seed: the seed of the draw.
        name: the name in tables.

    Raises ZooError for a single vector, for binary codes, for vectors that are not finite, and without scikit-dimension.
    """
    vectors, repeated = _encode(source, inputs)
    if len(vectors) < 2:
        raise ZooError(f"{name}: {len(vectors)} vectors cannot be compared; give a thousand or more")
    moments = Moments.collect(vectors)
    spectrum = measure_spectrum(moments, noise=noise)
    neighbourhood, equal = _look_at_neighbours(vectors, neighbours, seed)
    findings = find_faults(spectrum, neighbourhood, len(vectors), moments.dim, repeated, equal)
    return Diagnosis(
        name,
        len(vectors),
        moments.dim,
        repeated,
        equal,
        spectrum,
        neighbourhood,
        tuple(findings),
        list_variances(moments),
    )


def _encode(source: Any, inputs: Sequence[Any] | None) -> tuple[Any, int]:
    """Return vectors of different inputs, and how many inputs were left out because they equal an earlier one."""
    encode: Callable[[Any], Any] | None = getattr(source, "encode", None)
    if encode is None:
        if inputs is not None:
            raise ZooError("inputs: belong to an encoder; leave them out for vectors")
        vectors = source if hasattr(source, "shape") else np.asarray(source)
        _refuse_codes(vectors)
        return vectors, 0
    if inputs is None:
        raise ZooError("inputs: an encoder is diagnosed by its vectors; give a thousand inputs or more")
    values = list(inputs)
    distinct = list(dict.fromkeys(values)) if all(isinstance(value, str) for value in values) else values
    if not distinct:
        raise ZooError("inputs: there are none; give a thousand or more")
    vectors = np.asarray(encode(distinct))
    _refuse_codes(vectors)
    return vectors, len(values) - len(distinct)


def _refuse_codes(vectors: Any) -> None:
    if getattr(vectors, "ndim", 0) != 2 or np.dtype(vectors.dtype).kind != "f":
        raise ZooError(
            f"vectors of the shape {tuple(vectors.shape)} and the type {vectors.dtype}: only float vectors (n, d) can be "
            "diagnosed; decode codes first"
        )


def _look_at_neighbours(vectors: Any, most: int, seed: int) -> tuple[Neighbourhood | None, int]:
    """Return the figures of neighbours, or None with too few distinct vectors or codes, and the number of equal vectors."""
    try:
        found = measure_neighbours(vectors, most=most, seed=seed)
    except NoDimensionError as error:
        return None, error.drawn - error.distinct
    return found, found.drawn - found.distinct
