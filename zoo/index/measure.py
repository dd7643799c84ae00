"""Figures about an index: size, recall as it was measured, and with queries the latency and the nDCG."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.core.errors import DataError
from zoo.data import kinds
from zoo.index.rows import open_rows
from zoo.index.shard import ROWS

if TYPE_CHECKING:
    from zoo.index.index import Index

TOP = 10
QUERY_NAMES = ("text", "query")
MOST_TIMED = 500


class Question(NamedTuple):
    """A query, and the ids of the rows that answer it; none if they are not known."""

    text: str
    relevant: tuple[str, ...] = ()


def read_questions(rows: Any) -> list[Question]:
    """Read queries from rows with a column `text` or `query`, and perhaps `relevant`: an id, or a list of ids.

    Raise DataError for a row without a query.
    """
    questions = []
    for location, row in open_rows(rows).read():
        text = next((row[name] for name in QUERY_NAMES if row.get(name)), None)
        if not isinstance(text, str):
            raise DataError(f"{location}: there is no query; name its column text or query")
        try:
            relevant = kinds.convert_value("ids", row.get("relevant"), None)
        except ValueError as error:
            raise DataError(f"{location}: relevant: {error}") from None
        questions.append(Question(text, tuple(relevant)))
    if not questions:
        raise DataError(f"{rows}: there are no queries")
    return questions


def describe(index: Index) -> dict[str, Any]:
    """Return the figures of an index that need no search."""
    recall, drift = index.manifest.facts.get("recall"), index.manifest.facts.get("drift", {})
    facts: dict[str, Any] = {
        "rows": len(index),
        "removed": len(index.removed),
        "shards": len(index.shards),
        "vectors": sum(len(shard.vectors) for shard in index.shards),
        "code": index.codec.name,
        "bytes_per_vector": index.codec.bytes_per_vector,
        "bytes": index.byte_count,
        "bytes_of_rows": sum(int(e["size"]) for name, e in index.manifest.files.items() if name.endswith(ROWS)),
        "model": index.model.encoder.get("reference"),
        "columns": ", ".join(index.model.layout.columns),
    }
    if recall:
        facts |= {"recall@10": float(recall["value"]), "recall_measured_with": recall["queries"]}
    if "added" in drift:
        facts["drift"] = drift["added"] / max(drift["trained"], 1e-12)
    return facts


def measure(index: Index, questions: Sequence[Question]) -> dict[str, Any]:
    """Return `describe`, the latency of single queries in milliseconds, and nDCG@10 if relevant rows are known.

    The latency is that of the search; the time of encoding the queries is a figure of its own.
    """
    encoder = index.row_encoder  # opens the model, which is not timed
    start = time.perf_counter()
    vectors = encoder.encode_queries([question.text for question in questions])
    encoding = (time.perf_counter() - start) / len(questions)
    masks, seconds = index.find_rows(), []
    for vector in vectors[:MOST_TIMED]:
        start = time.perf_counter()
        index.search_vectors(vector[None], TOP, masks)
        seconds.append(time.perf_counter() - start)
    figures = {
        "queries": len(questions),
        "encoding_ms": 1000 * encoding,
        "search_p50_ms": 1000 * float(np.percentile(seconds, 50)),
        "search_p99_ms": 1000 * float(np.percentile(seconds, 99)),
    }
    judged = [question for question in questions if question.relevant]
    if judged:
        figures["ndcg@10"] = compute_ndcg(index, judged)
    return {**describe(index), **figures}


def compute_ndcg(index: Index, questions: Sequence[Question], **options: Any) -> float:
    """Return the mean nDCG@10 of questions with known answers. `options` are those of `Index.search`."""
    found = index.search([question.text for question in questions], TOP, **options)
    scores = [
        compute_gain([hit.id in question.relevant for hit in hits], len(question.relevant))
        for question, hits in zip(questions, found, strict=True)
    ]
    return float(np.mean(scores))


def compute_gain(is_right: npt.ArrayLike, count: int) -> float:
    """Return the nDCG@10 of one ranking.

    Args:
        is_right: whether each row of the ranking, the best first, answers the query.
        count: the number of rows that answer it, 1 or more.
    """
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    gains = np.flatnonzero(np.asarray(is_right, bool)[:TOP])
    return float(discounts[gains].sum() / discounts[:count].sum())
