"""Figures about an index: its size, and with queries the recall against an exact search, the latency and the nDCG."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.core.errors import DataError, ZooError
from zoo.data import kinds
from zoo.index import answers
from zoo.index.arrays import EXACT_CODES, Numbers, Vectors
from zoo.index.candidates import number_rows
from zoo.index.exact import search_exactly
from zoo.index.rows import ID, open_rows
from zoo.index.shard import ROWS
from zoo.index.vectors import GivenVectors
from zoo.index.words import ENDINGS

if TYPE_CHECKING:
    from zoo.index.opened import OpenIndex

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


def describe(index: OpenIndex) -> dict[str, Any]:
    """Return the figures of an index that need no search. The recall is that of the build."""
    recall, drift = index.manifest.facts.get("recall"), index.manifest.facts.get("drift", {})
    facts: dict[str, Any] = {
        "rows": len(index),
        "removed": len(index.removed),
        "shards": len(index.shards),
        "vectors": sum(len(shard.vectors) for shard in index.shards),
        "code": index.codec.name,
        "bytes_per_vector": index.codec.bytes_per_vector,
        "bytes": index.byte_count,
        **count_bytes(index),
        "model": index.model.encoder.get("reference"),
        "columns": ", ".join(index.model.layout.columns),
    }
    if recall:
        facts |= {"recall@10_at_build": float(recall["value"]), "recall_measured_with": recall["queries"]}
    if "added" in drift:
        facts["drift"] = drift["added"] / max(drift["trained"], 1e-12)
    return facts


def count_bytes(index: OpenIndex) -> dict[str, int]:
    """Return the bytes of the files by their use; together they are all bytes of the index.

    Vectors include the numbers that inverted lists keep and the store for rescoring. Codebooks are what was trained.
    """
    uses = {"vectors": index.codec.endings, "rows": (ROWS,), "words": ENDINGS}
    trained = {index.manifest.parts.get("trained"), index.manifest.parts.get("ranges")}
    counts = dict.fromkeys(("vectors", "codebooks", "rows", "words", "others"), 0)
    for name, entry in index.manifest.files.items():
        use = next(
            (use for use, endings in uses.items() if name.startswith("shard") and name.endswith(endings)), "others"
        )
        counts["codebooks" if name in trained else use] += int(entry["size"])
    return {f"bytes_of_{use}": count for use, count in counts.items()}


def measure(
    index: OpenIndex,
    questions: Sequence[Question],
    top: int = TOP,
    *,
    exact: bool = True,
    vectors: str | Path | None = None,
    say: Callable[[str], Any] = lambda _: None,
    advance: Callable[[int], Any] = int,
) -> dict[str, Any]:
    """Return `describe`, the recall against an exact search, the latency of single queries, and nDCG if answers are known.

    The latency in milliseconds is that of the search; the time of encoding the queries is a figure of its own. An index that
    keeps the vectors themselves is searched exactly, so its recall is 1.

    Args:
        index: an index.
        questions: queries, and perhaps the ids of the rows that answer them.
        top: number of rows of a search.
        exact: compare with an exact search. An index of codes keeps no vectors, so all its rows are encoded again.
        vectors: a .npy file with the vectors of all rows in the order of the index, removed ones included, in their place.
        say: receives lines about the work.
        advance: receives the number of rows that were encoded since the last call.

    Raise ZooError for a file of vectors that does not fit, and for images, which cannot be encoded again.
    """
    encoder = index.row_encoder  # opens the model, which is not timed
    given = None if vectors is None else GivenVectors(Path(vectors), index.encoder)
    if given is not None:
        given.require_count(int(index.starts[-1]))
    is_exact = index.codec.name in EXACT_CODES
    if exact and not is_exact and given is None and index.model.layout.image is not None:
        raise ZooError(f"{index.path}: images are not kept, so give their vectors with --vectors, or add --no-exact")
    start = time.perf_counter()
    queries = encoder.encode_queries([question.text for question in questions])
    encoding = (time.perf_counter() - start) / len(questions)
    figures: dict[str, Any] = {"queries": len(questions), "encoding_ms": 1000 * encoding, **_time(index, queries, top)}
    judged = [question for question in questions if question.relevant]
    if exact and is_exact:
        figures[f"recall@{top}"] = 1.0
    elif exact and len(index):
        if given is None:
            say(f"encoding {len(index):,} rows again for an exact search; --vectors FILE or --no-exact spares this")
        found, shards = index.search_vectors(queries, top, index.find_rows())
        numbers = number_rows(index, found.rows, shards)
        result = search_exactly(index, given or encoder, queries, numbers, top, advance)
        figures[f"recall@{top}"] = result.compute_recall()
        if judged:
            figures[f"ndcg@{top}_exact"] = _compute_exact_ndcg(index, questions, result.numbers, top)
    if judged:
        figures[f"ndcg@{top}"] = compute_ndcg(index, judged, top)
    return {**describe(index), **figures}


def _time(index: OpenIndex, queries: Vectors, top: int) -> dict[str, float]:
    masks, seconds = index.find_rows(), []
    for query in queries[:MOST_TIMED]:
        start = time.perf_counter()
        index.search_vectors(query[None], top, masks)
        seconds.append(time.perf_counter() - start)
    return {f"search_p{share}_ms": 1000 * float(np.percentile(seconds, share)) for share in (50, 99)}


def _compute_exact_ndcg(index: OpenIndex, questions: Sequence[Question], numbers: Numbers, top: int) -> float:
    """Return the mean nDCG of the questions with known answers, for an exact ranking (m, k) of row numbers."""
    ids = np.concatenate([shard.read_columns([ID])[ID].to_numpy() for shard in index.shards])
    scores = [
        compute_gain(np.isin(ids[own], question.relevant), len(question.relevant), top)
        for own, question in zip(numbers, questions, strict=True)
        if question.relevant
    ]
    return float(np.mean(scores))


def compute_ndcg(index: OpenIndex, questions: Sequence[Question], top: int = TOP, hybrid: bool | str = False) -> float:
    """Return the mean nDCG@top of questions with known answers. `hybrid` is that of `Index.search`."""
    texts = [question.text for question in questions]
    found = answers.answer(index, texts, top, index.find_rows(), hybrid=hybrid, relevant=False)
    scores = [
        compute_gain([hit.id in question.relevant for hit in hits], len(question.relevant), top)
        for question, hits in zip(questions, found, strict=True)
    ]
    return float(np.mean(scores))


def compute_gain(is_right: npt.ArrayLike, count: int, top: int = TOP) -> float:
    """Return the nDCG@top of one ranking.

    Args:
        is_right: whether each row of the ranking, the best first, answers the query.
        count: the number of rows that answer it, 1 or more.
        top: the number of rows that are looked at.
    """
    discounts = 1 / np.log2(np.arange(2, top + 2))
    gains = np.flatnonzero(np.asarray(is_right, bool)[:top])
    return float(discounts[gains].sum() / discounts[:count].sum())
