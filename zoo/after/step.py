"""`Step`, the base of everything that is fitted after training, and its two kinds: `CodeStep` and `ScoreStep`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zoo.after.material import Material, Vectors
from zoo.after.spec import StepSpec

Codes = npt.NDArray[np.uint8]
BLOCK = 1 << 14
"""Codes that are decoded at once."""


class Step:
    """A fitted step. A folder of a step has a class `Step` that is derived from one of the two kinds below.

    Attributes:
        spec: the entry of `after:`.
        dim: components of the vectors that the step takes.
    """

    spec: StepSpec
    dim: int

    @classmethod
    def fit(cls, spec: Any, material: Material) -> Self:
        """Fit the step. The result is the same for the same material and seed.

        Raises ZooError if the material is too small or does not fit the spec.
        """
        raise NotImplementedError

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The fitted arrays by name, as they are stored in safetensors."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """JSON-able values that `from_saved` needs besides the spec and the tensors. Default: none."""
        return {}

    @classmethod
    def from_saved(cls, spec: Any, tensors: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> Self:
        """Open what `tensors` and `state` gave. Raises ArtefactError for a missing, extra or mis-shaped tensor."""
        raise NotImplementedError

    def card_facts(self) -> dict[str, Any]:
        """Values that the card and the lock file hold about the fit: figures on held-out material, sizes, seconds."""
        return {}


class CodeStep(Step):
    """A step that turns each vector into a code of few bytes.

    Vectors of an encoder that compares by cosine have unit norm, so that inner products are cosines.
    """

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one code, with everything that is stored for each vector."""
        raise NotImplementedError

    @property
    def first_bytes(self) -> int:
        """Bytes of one code that every query reads. The rest is read for candidates only. Default: the whole code."""
        return self.bytes_per_vector

    def encode(self, vectors: Vectors) -> Codes:
        """Return packed codes (n, bytes_per_vector) uint8 of float32 vectors (n, dim). A code depends on its own row only."""
        raise NotImplementedError

    def decode(self, codes: Codes) -> Vectors:
        """Return the float32 vectors (n, d) that the codes stand for. They are searched with `transform_queries`."""
        raise NotImplementedError

    def transform_queries(self, vectors: Vectors) -> Vectors:
        """Return float32 queries (m, d) whose inner products with decoded vectors are the scores. Default: the vectors."""
        return vectors

    def score(self, queries: Vectors, codes: Codes) -> Vectors:
        """Return the scores (m, n) float32 of float32 queries (m, dim) with codes (n, bytes_per_vector)."""
        left = self.transform_queries(queries)
        scores = np.empty((len(left), len(codes)), np.float32)
        for start in range(0, len(codes), BLOCK):  # decoded vectors take many times the memory of their codes
            part = slice(start, start + BLOCK)
            np.matmul(left, self.decode(codes[part]).T, out=scores[:, part])
        return scores

    def search(self, queries: Vectors, codes: Codes, k: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Return scores (m, min(k, n)) float32 and row numbers int64 of the best codes of each query, the best first.

        Equal scores are ordered by the number of the row. A step that searches in two stages overrides this.
        """
        from zoo.ops import exact_search

        return exact_search.search(self.transform_queries(queries), DecodedRows(self.decode, codes), k)

    @property
    def decoded_dim(self) -> int:
        """Components of a decoded vector, and of a transformed query."""
        return int(self.decode(np.zeros((1, self.bytes_per_vector), np.uint8)).shape[1])


class DecodedRows:
    """Codes as the vectors that they stand for, decoded slice by slice, as `zoo.ops.exact_search` reads a corpus."""

    def __init__(self, decode: Callable[[Codes], Vectors], codes: Codes) -> None:
        self._decode, self._codes = decode, codes

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, rows: slice) -> Vectors:
        return self._decode(self._codes[rows])


class ScoreStep(Step):
    """A step that turns the scores of a search into probabilities.

    If a step for codes stands before it, it is fitted on decoded documents, and its queries are those of `transform_queries`.
    """

    def map_scores(self, queries: Vectors, scores: Vectors) -> Vectors:
        """Return the probabilities (m, k) float32 that the found rows answer their queries.

        The order inside a row of `scores` (m, k), which descends, stays as it is. `queries` are (m, dim) float32.
        """
        raise NotImplementedError
