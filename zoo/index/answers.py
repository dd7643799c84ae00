"""From queries to hits: encode, search, join with BM25, map scores to probabilities, and read the rows that were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.index import candidates, lexical
from zoo.index.arrays import Mask, Numbers, Vectors
from zoo.index.candidates import find_shards, join_masks, number_rows
from zoo.index.model_file import find_score_step
from zoo.index.opened import Hit, OpenIndex
from zoo.index.rows import ID
from zoo.index.shard import Found

if TYPE_CHECKING:
    from zoo.after.step import ScoreStep
    from zoo.encoder import Encoder

QUERY_BLOCK = 1024
HYBRID = ("rank", "relevance")


def answer(
    index: OpenIndex,
    queries: Sequence[Any],
    top: int,
    masks: Sequence[Mask | None],
    *,
    hybrid: bool | str,
    relevant: bool,
) -> list[list[Hit]]:
    """Return the hits of each query. See `Index.search`."""
    mode = read_mode(hybrid)
    step = find_score_step(index.encoder) if index.row_encoder.bridge is None else None
    limit = None
    if mode == "relevance":
        limit = index.hybrid_map.threshold
    elif step is not None:
        limit = find_threshold(step)
    if relevant and limit is None:
        raise ZooError(
            "relevant: the model has no step `relevance`; leave it out, train with `after:`, or add --hybrid relevance"
        )
    hits: list[list[Hit]] = []
    for start in range(0, len(queries), QUERY_BLOCK):
        block = list(queries[start : start + QUERY_BLOCK])
        vectors = index.row_encoder.encode_queries(block)
        if mode == "relevance":
            hits += _join_by_relevance(index, block, top, vectors, masks)
            continue
        depth = max(top, lexical.DEPTH if mode else 0, getattr(step, "top", 0))
        found, shards = index.search_vectors(vectors, depth, masks)
        probabilities = None
        if step is not None:
            probabilities = step.map_scores(transform_queries(index.encoder, vectors), found.scores)
        if mode:
            hits += _join_with_words(index, block, top, masks, found, shards, probabilities)
        else:
            best = Found(found.scores[:, :top], found.rows[:, :top], found.vectors[:, :top])
            hits += _read_hits(index, best, shards[:, :top], probabilities)
    if relevant and limit is not None:
        hits = [[hit for hit in own if hit.probability is not None and hit.probability >= limit] for own in hits]
    return hits


def read_mode(hybrid: bool | str) -> str:
    """Return how the ranking is joined with that of BM25: `rank`, `relevance`, or nothing. Raise ZooError for other values."""
    if isinstance(hybrid, bool):
        return "rank" if hybrid else ""
    if hybrid not in HYBRID:
        raise ZooError(
            f"hybrid: {hybrid!r} is not one of {', '.join(HYBRID)}{suggest(str(hybrid), HYBRID, listing='')}"
        )
    return hybrid


def transform_queries(encoder: Encoder, vectors: Vectors) -> Vectors:
    """Return queries as a step of scores takes them: transformed by the step for codes that stands before it, if there is one."""
    from zoo.after.step import CodeStep

    codes = next((step for step in getattr(encoder, "steps", ()) if isinstance(step, CodeStep)), None)
    return vectors if codes is None else codes.transform_queries(vectors)


def find_threshold(step: ScoreStep) -> float:
    """Return the probability from which on a row counts as an answer."""
    return float(getattr(step, "threshold", 0.5))


def _join_with_words(
    index: OpenIndex,
    queries: Sequence[str],
    top: int,
    masks: Sequence[Mask | None],
    found: Found,
    shards: Numbers,
    probabilities: Vectors | None,
) -> list[list[Hit]]:
    """Return hits in the joined order. A row that only BM25 found has no probability and no place."""
    numbers = number_rows(index, found.rows, shards)
    _, by_words = index.lexical.search(queries, max(top, lexical.DEPTH), join_masks(index, masks))
    scores, fused = lexical.fuse([numbers, by_words], top)
    vectors = np.full(fused.shape, -1, np.int64)
    mapped = None if probabilities is None else np.full(fused.shape, np.nan, np.float32)
    for query, own in enumerate(numbers):
        places = {int(number): place for place, number in enumerate(own) if number >= 0}
        for rank, number in enumerate(fused[query].tolist()):
            if number in places:
                vectors[query, rank] = found.vectors[query, places[number]]
                if mapped is not None and probabilities is not None:
                    mapped[query, rank] = probabilities[query, places[number]]
    rows, own_shards = find_shards(index, fused)
    return _read_hits(index, Found(scores, rows, vectors), own_shards, mapped, converts=False)


def _join_by_relevance(
    index: OpenIndex, queries: Sequence[str], top: int, vectors: Vectors, masks: Sequence[Mask | None]
) -> list[list[Hit]]:
    """Return hits in the order of the probability that the row answers the query, by both scores."""
    found = candidates.collect(index, queries, vectors, masks, max(top, lexical.DEPTH))
    asked = transform_queries(index.encoder, vectors) if index.hybrid_map.products is None else vectors
    step = find_score_step(index.encoder)
    probabilities = index.hybrid_map.apply(vectors, asked, found.products, found.words, step)
    places = found.order(probabilities, top)
    best = np.take_along_axis(probabilities, places, 1)
    rows, shards = find_shards(index, np.take_along_axis(found.numbers, places, 1))
    return _read_hits(
        index, Found(best, rows, np.take_along_axis(found.vectors, places, 1)), shards, best, converts=False
    )


def _read_hits(
    index: OpenIndex, found: Found, shards: Numbers, probabilities: Vectors | None, *, converts: bool = True
) -> list[list[Hit]]:
    """Read the rows of results, each row once."""
    rows: dict[int, Mapping[int, Mapping[str, Any]]] = {}
    for number, opened in enumerate(index.shards):
        wanted = np.unique(found.rows[(shards == number) & (found.rows >= 0)])
        rows[number] = opened.read_rows(wanted.tolist()) if len(wanted) else {}
    scores = index.row_encoder.convert_scores(found.scores) if converts else found.scores
    hits: list[list[Hit]] = []
    for query in range(len(found.rows)):
        own = []
        for place in np.flatnonzero(found.rows[query] >= 0):
            shard, row = int(shards[query, place]), int(found.rows[query, place])
            probability = None if probabilities is None else float(probabilities[query, place])
            own.append(
                _make_hit(
                    index,
                    rows[shard][row],
                    float(scores[query, place]),
                    find_place(index, shard, int(found.vectors[query, place])),
                    None if probability is None or np.isnan(probability) else probability,
                )
            )
        hits.append(own)
    return hits


def find_place(index: OpenIndex, shard: int, vector: int) -> tuple[int, int] | None:
    """Return the characters that a vector stands for, or None if texts are not cut into windows."""
    places = index.shards[shard].places
    return None if places is None or vector < 0 else (int(places[vector, 1]), int(places[vector, 2]))


def _make_hit(
    index: OpenIndex, row: Mapping[str, Any], score: float, place: tuple[int, int] | None, probability: float | None
) -> Hit:
    layout = index.model.layout
    text = str(row.get(layout.image) or "") if layout.image is not None else layout.join_texts(row)
    columns = {name: value for name, value in row.items() if name != ID}
    return Hit(str(row[ID]), score, text, columns, place, probability)
