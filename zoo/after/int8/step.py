"""The step `int8`: scalar quantisation with stored ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zoo.after.checks import check_codes, check_documents, check_tensors, check_vectors, find_dim
from zoo.after.int8.spec import Spec
from zoo.after.material import Material, Vectors
from zoo.after.scalar import Ranges
from zoo.after.step import Codes, CodeStep

NAME = "int8"


class Step(CodeStep):
    """A byte for each component.

    sentence-transformers takes the range from each batch if none is given, and rounds down. Here the range is fitted once, and
    a value gets the nearest of 256 levels, so that the error of a component is at most half an interval.
    """

    def __init__(self, spec: Spec, ranges: Ranges) -> None:
        self.spec: Spec = spec
        self.ranges, self.dim = ranges, len(ranges.low)

    @classmethod
    def fit(cls, spec: Spec, material: Material) -> Self:
        """Take the range of each component from the documents."""
        return cls(spec, Ranges.fit(check_documents(material.documents), spec.clip))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """`low` and `width` (d,) float32 of each component."""
        return self.ranges._asdict()

    @classmethod
    def from_saved(cls, spec: Spec, tensors: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> Self:
        """Open what `tensors` gave. Raise ArtefactError for other tensors and for a width that is not above 0."""
        dim = find_dim(NAME, tensors, "low")
        checked = check_tensors(NAME, tensors, dict.fromkeys(Ranges._fields, ((dim,), np.float32)))
        return cls(spec, Ranges.from_saved(NAME, checked))

    @property
    def bytes_per_vector(self) -> int:
        """One byte for each component."""
        return self.dim

    def encode(self, vectors: Vectors) -> Codes:
        """Return the code (n, d) uint8 of each component."""
        return self.ranges.encode(check_vectors(vectors, self.dim))

    def decode(self, codes: Codes) -> Vectors:
        """Return the values (n, d) float32 that the codes stand for."""
        return self.ranges.decode(check_codes(codes, self.dim))
