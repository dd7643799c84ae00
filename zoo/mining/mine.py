"""Mine hard negatives for rows of an anchor and its positive.

Each distinct anchor is searched for once. Vectors and search results are kept in a folder by blocks, under the hash of all that
they depend on; choosing among them is quick and is done anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from zoo.core import atomic_files
from zoo.mining import choice, vectors
from zoo.mining.choice import Candidates, Choice
from zoo.mining.known import KnownPositives
from zoo.mining.vectors import Encode, FirstRows, Say, Vectors
from zoo.ops import exact_search

BLOCK = 1024  # anchors; the results of a block are kept once it is searched
PAIRS_AT_ONCE = 1 << 14
ScorePairs = Callable[[Sequence[tuple[str, str]]], Any]
"""Scores of (anchor, document) pairs, for example by a cross-encoder."""


class Rows(NamedTuple):
    """Texts of the training rows.

    Attributes:
        anchors, positives: one of each for every row.
        negatives: the negatives that each row has already; () for rows without any.
    """

    anchors: Sequence[str]
    positives: Sequence[str]
    negatives: Sequence[Sequence[str]] = ()


class Miner(NamedTuple):
    """The functions that encode and score.

    Attributes:
        encode_queries, encode_documents: give the vectors (n, d) of texts.
        fingerprint: a hash of all that the vectors depend on besides the texts.
        score_pairs: scores that decide in place of cosines which candidates are probable positives.
        scorer_fingerprint: a hash of all that these scores depend on besides the texts.
        device: where the products are computed.
    """

    encode_queries: Encode
    encode_documents: Encode
    fingerprint: str
    score_pairs: ScorePairs | None = None
    scorer_fingerprint: str = ""
    device: str = "cpu"


@dataclass(frozen=True)
class Settings:
    """How negatives are chosen.

    Attributes:
        first, last: ranks of the candidates that are looked at; 1 is the best besides the known positives.
        margin: candidates whose score is above this share of the positive's are probable positives. None keeps them.
        count: negatives for each row.
        sample: take the best candidates, or random ones.
        seed: of the random ones, and of those that fill up a row.
    """

    first: int = 1
    last: int = 100
    margin: float | None = 0.95
    count: int = 1
    sample: Literal["top", "random"] = "top"
    seed: int = 0


@dataclass
class Mined:
    """The negatives of every row, and how they came about.

    Attributes:
        negatives: for each row the chosen texts: `count` of them, or none if there was nothing to choose from.
        scores: for each row the scores of the chosen texts; None for those that only fill it up.
        positive_scores: the score of each row's positive.
        counts: how many candidates were chosen, and dropped for which reason.
    """

    negatives: list[list[str]] = field(default_factory=list)
    scores: list[list[float | None]] = field(default_factory=list)
    positive_scores: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def mine(
    rows: Rows,
    corpus: Sequence[str],
    miner: Miner,
    settings: Settings,
    cache: Path,
    *,
    known_pairs: Sequence[tuple[str, str]] = (),
    say: Say = lambda _: None,
) -> Mined:
    """Return negatives from `corpus` for every row.

    Args:
        cache: the folder that keeps vectors and search results.
        known_pairs: further pairs of an anchor and its positive, besides those of the rows.
    """
    texts = list(dict.fromkeys(corpus))
    anchors = list(dict.fromkeys(rows.anchors))
    documents = list(dict.fromkeys([*texts, *rows.positives]))
    key = atomic_files.digest([miner.fingerprint, vectors.hash_texts(documents)])[:16]
    document_vectors = vectors.encode_to_file(cache / f"documents-{key}.npy", documents, miner.encode_documents, say)
    key = atomic_files.digest([miner.fingerprint, vectors.hash_texts(anchors), "queries"])[:16]
    anchor_vectors = vectors.encode_to_file(cache / f"anchors-{key}.npy", anchors, miner.encode_queries, say)
    known = KnownPositives([*zip(rows.anchors, rows.positives, strict=True), *known_pairs], texts)
    search = _Search(anchors, documents, len(texts), anchor_vectors, document_vectors, known, settings, miner, cache)
    return _choose_all(rows, search, settings, say)


@dataclass
class _Search:
    """Finds the candidates of the anchors, block by block."""

    anchors: list[str]
    documents: list[str]
    corpus_size: int
    anchor_vectors: Vectors
    document_vectors: Vectors
    known: KnownPositives
    settings: Settings
    miner: Miner
    cache: Path

    def find(self, start: int) -> tuple[Any, Any, int]:
        """Scores and places (n, ranks) of the candidates of a block of anchors, and how many known positives were kept out."""
        block = slice(start, min(start + BLOCK, len(self.anchors)))
        excluded = self.known.list_pairs(self.anchors[block])
        sources = [self.anchor_vectors.path.name, self.document_vectors.path.name, self.corpus_size, self.settings.last]
        pairs = [part.tobytes().hex() for part in excluded]
        path = self.cache / f"found-{atomic_files.digest([*sources, block.start, block.stop, pairs])[:16]}.npz"
        if not path.exists():
            queries = self.anchor_vectors[block]
            corpus = FirstRows(self.document_vectors, self.corpus_size)
            scores, places = exact_search.search(
                queries, corpus, self.settings.last, excluded=excluded, device=self.miner.device
            )
            kept_out = self._count_kept_out(queries, excluded, scores[:, -1])
            _save(path, scores=scores, places=places, kept_out=np.array(kept_out))
        with np.load(path) as saved:
            return saved["scores"], saved["places"], int(saved["kept_out"])

    def _count_kept_out(self, queries: Any, excluded: exact_search.Pairs, lowest: Any) -> int:
        """The number of known positives that would be among the candidates if they were not left out."""
        count = 0
        for start in range(0, len(excluded[0]), PAIRS_AT_ONCE):
            numbers, places = (part[start : start + PAIRS_AT_ONCE] for part in excluded)
            scores = np.einsum("nd,nd->n", queries[numbers], self.document_vectors[places])
            count += int((scores > lowest[numbers]).sum())
        return count

    def score_positives(self, anchor_numbers: Any, places: Any) -> Any:
        """The cosines (n,) of anchors and documents by their numbers."""
        parts = [
            np.einsum("nd,nd->n", self.anchor_vectors[anchor_numbers[part]], self.document_vectors[places[part]])
            for part in (slice(i, i + PAIRS_AT_ONCE) for i in range(0, len(places), PAIRS_AT_ONCE))
        ]
        return np.concatenate(parts)

    def score_by_teacher(self, start: int, places: Any, anchor_numbers: Any, positives: Any) -> tuple[Any, Any]:
        """The teacher's scores of the candidates of a block (n, ranks), and of the positives of its rows."""
        assert self.miner.score_pairs is not None  # the caller has checked it
        pairs = [
            (self.anchors[start + n], self.documents[place]) for n, place in zip(*_list_cells(places), strict=True)
        ]
        pairs += [(self.anchors[n], self.documents[p]) for n, p in zip(anchor_numbers, positives, strict=True)]
        key = atomic_files.digest(
            [self.miner.scorer_fingerprint, vectors.hash_texts([t for pair in pairs for t in pair])]
        )
        path = self.cache / f"scored-{key[:16]}.npz"
        if not path.exists():
            _save(path, scores=np.asarray(self.miner.score_pairs(pairs), np.float32))
        with np.load(path) as saved:
            scores = saved["scores"]
        count = len(pairs) - len(positives)
        candidates = np.full(places.shape, -np.inf, np.float32)
        candidates[places >= 0] = scores[:count]
        return candidates, scores[count:]


def _list_cells(places: Any) -> tuple[list[int], list[int]]:
    is_filled = places >= 0
    return np.nonzero(is_filled)[0].tolist(), places[is_filled].tolist()


def _save(path: Path, **arrays: Any) -> None:
    with atomic_files.replace_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _choose_all(rows: Rows, search: _Search, settings: Settings, say: Say) -> Mined:
    """Choose the negatives of the rows, block by block of their anchors."""
    numbers = {text: number for number, text in enumerate(search.anchors)}
    anchor_numbers = np.array([numbers[anchor] for anchor in rows.anchors])
    place_of = {text: place for place, text in enumerate(search.documents)}
    positives = np.array([place_of[text] for text in rows.positives])
    cosines = search.score_positives(anchor_numbers, positives)
    order = np.argsort(anchor_numbers, kind="stable")
    chooser = Choice(search.documents[: search.corpus_size], settings.count, settings.sample, settings.seed)
    mined = Mined([[]] * len(order), [[]] * len(order), cosines.tolist())
    kept_out = 0
    for start in range(0, len(search.anchors), BLOCK):
        first, last = np.searchsorted(anchor_numbers[order], (start, start + BLOCK))
        block_rows = order[first:last]
        scores, places, count = search.find(start)
        kept_out += count
        all_places = places.tolist()
        scores, places = scores[:, settings.first - 1 :], places[:, settings.first - 1 :]
        positive_scores = cosines[block_rows]
        if search.miner.score_pairs is not None:
            scores, positive_scores = search.score_by_teacher(
                start, places, anchor_numbers[block_rows], positives[block_rows]
            )
        for row, positive_score in zip(block_rows.tolist(), positive_scores.tolist(), strict=True):
            number, anchor = int(anchor_numbers[row]) - start, rows.anchors[row]
            texts, values = chooser.choose(
                row,
                Candidates(places[number].tolist(), scores[number].tolist()),
                choice.compute_limit(positive_score, settings.margin),
                search.known.list_positive_words(anchor),
                rows.negatives[row] if rows.negatives else (),
                [*search.known.find_places(anchor), *all_places[number]],
            )
            mined.negatives[row], mined.scores[row] = texts, values
            mined.positive_scores[row] = positive_score
        if (start // BLOCK) % 10 == 9:
            say(f"mined negatives for {last} of {len(order)} rows")
    mined.counts = {**chooser.counts, "known": kept_out, "rows": len(order)}
    return mined
