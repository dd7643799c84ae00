"""Choose the negatives of a row among its candidates: no probable positives, no near-duplicates of a positive, no repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from zoo.data.overlap import normalise_text
from zoo.mining.known import is_near_duplicate, list_words

MAX_DRAWS = 100  # of a text that fills up a row


class Candidates(NamedTuple):
    """Places in the corpus and scores of candidates, the best first. A place below 0 is empty."""

    places: Sequence[int]
    scores: Sequence[float]


def compute_limit(positive_score: float, margin: float | None) -> float:
    """Return the score above which a candidate is a probable positive.

    It is margin × the positive's score. A negative score of the positive is lowered by as much, so that the limit is never above
    it.
    """
    return float("inf") if margin is None else positive_score - (1 - margin) * abs(positive_score)


class Choice:
    """Chooses negatives of rows and counts what it drops.

    Attributes:
        counts: `found`: candidates that were taken. `above_margin`, `near_duplicates` and `repeated`: candidates that were looked
            at and dropped. `short_rows`: rows with fewer than `count` negatives among the candidates. `filled`: random texts of
            the corpus that fill them up. `empty_rows`: rows for which there was no text at all.
    """

    def __init__(self, corpus: Sequence[str], count: int, sample: Literal["top", "random"], seed: int) -> None:
        self._corpus, self._count, self._sample, self._seed = corpus, count, sample, seed
        names = ("found", "above_margin", "near_duplicates", "repeated", "short_rows", "filled", "empty_rows")
        self.counts = dict.fromkeys(names, 0)

    def choose(
        self,
        row: int,
        candidates: Candidates,
        limit: float,
        positive_words: Sequence[frozenset[str]],
        own_negatives: Sequence[str] = (),
        barred: Sequence[int] = (),
    ) -> tuple[list[str], list[float | None]]:
        """Return texts and scores of the negatives of a row: as many as asked for, or none. Texts that fill up have no score.

        Args:
            row: the number of the row, from which random numbers are drawn.
            limit: the score above which a candidate is dropped.
            positive_words: the words of each positive of the anchor.
            own_negatives: texts that the row has already.
            barred: places of the corpus that must not fill up the row.
        """
        rng = np.random.default_rng([self._seed, row])
        taken = {normalise_text(text) for text in own_negatives}
        texts: list[str] = []
        scores: list[float | None] = []
        for i in self._order(len(candidates.places), rng):
            place, score = candidates.places[i], candidates.scores[i]
            if place < 0:
                continue
            if len(texts) == self._count:
                break
            text = self._corpus[place]
            if reason := self._find_reason(text, score > limit, taken, positive_words):
                self.counts[reason] += 1
                continue
            taken.add(normalise_text(text))
            texts.append(text)
            scores.append(score)
        self.counts["found"] += len(texts)
        if len(texts) < self._count:
            self.counts["short_rows"] += 1
            self._fill(texts, scores, set(barred), taken, positive_words, rng)
        return texts, scores

    def _order(self, count: int, rng: np.random.Generator) -> Sequence[int]:
        return range(count) if self._sample == "top" else rng.permutation(count).tolist()

    def _find_reason(
        self, text: str, is_above: bool, taken: set[str], positive_words: Sequence[frozenset[str]]
    ) -> str | None:
        if is_above:
            return "above_margin"
        if normalise_text(text) in taken:
            return "repeated"
        return "near_duplicates" if is_near_duplicate(list_words(text), positive_words) else None

    def _fill(
        self,
        texts: list[str],
        scores: list[float | None],
        barred: set[int],
        taken: set[str],
        positive_words: Sequence[frozenset[str]],
        rng: np.random.Generator,
    ) -> None:
        """Add random texts of the corpus, which are easy negatives, and then repeat the row's negatives."""
        for _ in range(MAX_DRAWS):
            if len(texts) == self._count:
                break
            place = int(rng.integers(len(self._corpus)))
            text = self._corpus[place]
            if place in barred or self._find_reason(text, False, taken, positive_words):
                continue
            taken.add(normalise_text(text))
            texts.append(text)
            scores.append(None)
            self.counts["filled"] += 1
        distinct = len(texts)
        if not distinct:
            self.counts["empty_rows"] += 1
            return
        for number in range(self._count - distinct):
            texts.append(texts[number % distinct])
            scores.append(None)
            self.counts["filled"] += 1
