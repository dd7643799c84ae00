"""The step `binary`: signs of components, with float or binary queries, and rescoring by int8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zoo.after.binary.spec import Spec
from zoo.after.checks import check_codes, check_documents, check_tensors, check_vectors, find_dim
from zoo.after.material import Material, Vectors
from zoo.after.scalar import Ranges
from zoo.after.step import BLOCK, Codes, CodeStep, DecodedRows

NAME = "binary"
SHOWN = 10
"""Rows of a search that `score` assumes, because the number of candidates is a multiple of them."""
Ids = npt.NDArray[np.int64]


class Step(CodeStep):
    """Signs of components.

    A component stands for its mean plus or minus the mean distance of all components. Decoded vectors get the mean norm of the
    documents, because the sum of a mean and of signs varies in length where the vectors did not. A search by signs and one by
    int8 are two stages: the second one orders the candidates of the first, and no other row can come before them.
    """

    def __init__(self, spec: Spec, mean: Vectors, size: Vectors, ranges: Ranges | None = None) -> None:
        self.spec: Spec = spec
        self.mean, self.size, self.ranges, self.dim = mean, size, ranges, len(mean)

    @classmethod
    def fit(cls, spec: Spec, material: Material) -> Self:
        """Take the mean, the mean distance from it, the mean norm, and the ranges for rescoring from the documents."""
        documents = check_documents(material.documents)
        dim = documents.shape[1]
        mean = (
            documents.mean(axis=0, dtype=np.float64).astype(np.float32) if spec.centred else np.zeros(dim, np.float32)
        )
        distance = np.abs(documents - mean).mean(dtype=np.float64)
        size = np.array([distance, np.linalg.norm(documents, axis=1).mean(dtype=np.float64)], np.float32)
        ranges = Ranges.fit(documents, 0.0) if spec.rescore == "int8" else None
        return cls(spec, mean, size, ranges)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """`mean` (d,) and `size` (2,), the mean distance and the mean norm, float32; with rescoring also `low` and `width`."""
        return {"mean": self.mean, "size": self.size, **({} if self.ranges is None else self.ranges._asdict())}

    @classmethod
    def from_saved(cls, spec: Spec, tensors: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> Self:
        """Open what `tensors` gave. Raise ArtefactError for other tensors."""
        dim = find_dim(NAME, tensors, "mean")
        names = ["mean", *(Ranges._fields if spec.rescore == "int8" else ())]
        checked = check_tensors(
            NAME, tensors, {**dict.fromkeys(names, ((dim,), np.float32)), "size": ((2,), np.float32)}
        )
        ranges = Ranges.from_saved(NAME, checked) if spec.rescore == "int8" else None
        return cls(spec, checked["mean"], checked["size"], ranges)

    @property
    def first_bytes(self) -> int:
        """Bytes of the signs."""
        return -(-self.dim // 8)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of the signs, and of the store for rescoring."""
        return self.first_bytes + (self.dim if self.ranges is not None else 0)

    def encode(self, vectors: Vectors) -> Codes:
        """Return the packed signs (n, ceil(d / 8)) uint8; with rescoring, the int8 codes (n, d) follow in each row."""
        rows = check_vectors(vectors, self.dim)
        signs = np.packbits(rows > self.mean, axis=1)
        return signs if self.ranges is None else np.hstack([signs, self.ranges.encode(rows)])

    def decode(self, codes: Codes) -> Vectors:
        """Return vectors (n, d) float32: those of int8 with rescoring, else those that the signs stand for.

        With `query: signs` and without rescoring, a component is -1 or 1, so that inner products rank as Hamming distances do.
        """
        rows = check_codes(codes, self.bytes_per_vector)
        return self._decode_signs(rows) if self.ranges is None else self.ranges.decode(rows[:, self.first_bytes :])

    def _decode_signs(self, codes: Codes) -> Vectors:
        bits = np.unpackbits(codes[:, : self.first_bytes], axis=1, count=self.dim)
        signs: Vectors = bits.astype(np.float32) * 2 - 1
        if self.spec.query == "signs":
            return signs
        distance, norm = self.size
        vectors = signs * distance + self.mean
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        decoded: Vectors = np.divide(vectors * norm, norms, out=np.zeros_like(vectors), where=norms > 0)
        return decoded

    def transform_queries(self, vectors: Vectors) -> Vectors:
        """Return the queries (m, d) as they are compared with `decode`: as float vectors, or as signs of -1 and 1."""
        rows = check_vectors(vectors, self.dim, "queries")
        return rows if self.ranges is not None else self._transform_for_signs(rows)

    def _transform_for_signs(self, queries: Vectors) -> Vectors:
        if self.spec.query == "float":
            return queries
        return np.where(queries > self.mean, np.float32(1), np.float32(-1))

    def score(self, queries: Vectors, codes: Codes) -> Vectors:
        """Return the scores (m, n) float32.

        With rescoring, the candidates for ten results have the scores of int8. The other rows keep the order of the signs, and
        their scores are moved below that of the last candidate.
        """
        if self.ranges is None:
            return super().score(queries, codes)
        rows, checked = check_vectors(queries, self.dim, "queries"), check_codes(codes, self.bytes_per_vector)
        left = self._transform_for_signs(rows)
        scores = np.empty((len(rows), len(checked)), np.float32)
        for start in range(0, len(checked), BLOCK):
            part = slice(start, start + BLOCK)
            np.matmul(left, self._decode_signs(checked[part]).T, out=scores[:, part])
        _, ids = self.search(rows, checked, self.spec.candidates * SHOWN, factor=1)
        for number, found in enumerate(ids):
            rescored = self._rescore(rows[number], checked, found)
            others = np.ones(len(checked), bool)
            others[found] = False
            if others.any():
                scores[number] += rescored.min() - scores[number, others].max() - 1
            scores[number, found] = rescored
        return scores

    def _rescore(self, query: Vectors, codes: Codes, ids: Ids) -> Vectors:
        """Return the scores (c,) float32 by int8 of the rows `ids` (c,)."""
        assert self.ranges is not None
        scores: Vectors = self.ranges.decode(codes[ids, self.first_bytes :]) @ query
        return scores

    def search(self, queries: Vectors, codes: Codes, k: int, *, factor: int | None = None) -> tuple[Vectors, Ids]:
        """Return scores (m, min(k, n)) float32 and row numbers int64 of the best codes, the best first.

        With rescoring, `candidates` times `k` rows are found by their signs, and the best `k` of them by int8. `factor` stands
        in for `candidates`.
        """
        if self.ranges is None:
            return super().search(queries, codes, k)
        from zoo.ops import exact_search

        rows, checked = check_vectors(queries, self.dim, "queries"), check_codes(codes, self.bytes_per_vector)
        count = k * (self.spec.candidates if factor is None else factor)
        corpus = DecodedRows(self._decode_signs, checked)
        _, candidates = exact_search.search(self._transform_for_signs(rows), corpus, count)
        best = min(k, len(checked))
        scores, ids = np.empty((len(rows), best), np.float32), np.empty((len(rows), best), np.int64)
        for number, found in enumerate(candidates):
            rescored = self._rescore(rows[number], checked, found)
            order = np.lexsort((found, -rescored))[:best]
            scores[number], ids[number] = rescored[order], found[order]
        return scores, ids
