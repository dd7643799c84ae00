"""The lists of the fit: queries, the scores of their first rows, and which of these are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zoo.after.checks import check_documents, check_vectors
from zoo.after.material import Material, Vectors
from zoo.core.errors import ZooError

MIN_QUERIES = 50
MIN_PAIRS = 20
"""Right rows, and wrong ones, that the lists of all queries must have."""


@dataclass(frozen=True)
class Searched:
    """Queries (n, d), the scores (n, k) of their lists, and whether each row answers its query (n, k)."""

    queries: Vectors
    scores: Vectors
    labels: npt.NDArray[np.bool_]


def search_own(material: Material, top: int) -> tuple[Searched, int]:
    """Return the lists of the queries that have a known answer, and the number of the queries that have none.

    Raise ZooError if there are too few, or if all rows of all lists are right, or all wrong.
    """
    if material.queries is None or material.answers is None:
        raise ZooError("the step relevance needs queries and their answers; give `data` with a query and a document")
    answers = np.asarray(material.answers, np.int64).reshape(-1, 2)
    limits = (len(material.queries), len(material.documents))
    if len(answers) and (answers.min() < 0 or (answers.max(0) >= limits).any()):
        raise ZooError(f"answers: a pair names a row beyond {limits[0]:,} queries and {limits[1]:,} documents")
    numbers = np.unique(answers[:, 0])
    _require_queries(material.queries[numbers], "queries with a known answer")
    queries, scores, ids = _search(material.queries[numbers], material.documents, top, "queries")
    keys = np.unique(answers[:, 0] * limits[1] + answers[:, 1])
    labels = np.isin(numbers[:, None] * limits[1] + ids, keys)
    right = int(labels.sum())
    if min(right, labels.size - right) < MIN_PAIRS:
        kind = "right" if right < MIN_PAIRS else "wrong"
        raise ZooError(
            f"the first {scores.shape[1]} rows of all {len(numbers):,} queries have fewer than {MIN_PAIRS} {kind} ones, so "
            "there is nothing to learn; give more queries, or check that the answers belong to them"
        )
    return Searched(queries, scores, labels), limits[0] - len(numbers)


def search_foreign(material: Material, top: int) -> Searched | None:
    """Return the lists of the foreign queries, which have no right rows, or None. Raise ZooError if there are too few."""
    if material.foreign is None or not len(material.foreign):
        return None
    _require_queries(material.foreign, "foreign queries")
    queries, scores, _ = _search(material.foreign, material.documents, top, "foreign queries")
    return Searched(queries, scores, np.zeros(scores.shape, bool))


def _require_queries(queries: Vectors, name: str) -> None:
    """Raise ZooError for fewer than MIN_QUERIES different vectors, because equal ones are all in one fold."""
    rows = check_vectors(queries, name=name)
    count = len(np.unique(rows, axis=0)) if len(rows) else 0
    if count < MIN_QUERIES:
        raise ZooError(
            f"the step relevance needs at least {MIN_QUERIES} different {name}, and there are {count}; give more"
        )


def _search(
    queries: Vectors, documents: Vectors, top: int, name: str
) -> tuple[Vectors, Vectors, npt.NDArray[np.int64]]:
    from zoo.ops import exact_search

    rows = check_documents(documents)
    vectors = check_vectors(queries, rows.shape[1], name)
    scores, ids = exact_search.search(vectors, rows, top)
    return vectors, scores, ids
