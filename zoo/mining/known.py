"""Texts that must not become negatives of an anchor: its known positives and their near-duplicates."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

import numpy as np

from zoo.data.overlap import normalise_text
from zoo.ops.exact_search import Pairs

NEAR = 0.9
"""From this share of common words on, two texts are near-duplicates."""
_WORDS = re.compile(r"\w+")


class KnownPositives:
    """The known pairs of anchors and positives. Texts are compared after normalisation (case, white space, Unicode).

    Args:
        pairs: every known pair of an anchor and its positive.
        corpus: the texts from which negatives are taken.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], corpus: Sequence[str]) -> None:
        self._numbers: dict[str, int] = {}
        self._partners: dict[int, set[int]] = {}
        for anchor, positive in pairs:
            left, right = self._add(anchor), self._add(positive)
            self._partners.setdefault(left, set()).add(right)
            self._partners.setdefault(right, set()).add(left)
        self._places: dict[int, list[int]] = {}
        for place, text in enumerate(corpus):
            number = self._numbers.get(normalise_text(text))
            if number is not None:
                self._places.setdefault(number, []).append(place)
        self._texts = list(self._numbers)
        self._find_alike = functools.lru_cache(maxsize=1 << 16)(self._collect_alike)
        self._find_words = functools.lru_cache(maxsize=1 << 16)(lambda number: list_words(self._texts[number]))

    def _add(self, text: str) -> int:
        return self._numbers.setdefault(normalise_text(text), len(self._numbers))

    def find_places(self, anchor: str) -> list[int]:
        """Return the places in the corpus, ascending, of texts that must not be negatives of `anchor`.

        These are the anchor, its positives, the anchors that share a positive with it, and the positives of these. A pair counts
        in both directions.
        """
        number = self._numbers.get(normalise_text(anchor))
        if number is None:
            return []
        places = set(self._places.get(number, ()))
        for partner in self._partners.get(number, ()):
            places |= self._find_alike(partner)
        return sorted(places)

    def _collect_alike(self, positive: int) -> frozenset[int]:
        """The places of a positive, of its anchors, and of all their positives."""
        alike = {positive}
        for anchor in self._partners.get(positive, ()):
            alike.add(anchor)
            alike |= self._partners[anchor]
        return frozenset(place for number in alike for place in self._places.get(number, ()))

    def list_positive_words(self, anchor: str) -> list[frozenset[str]]:
        """Return the words of each positive of `anchor`."""
        number = self._numbers.get(normalise_text(anchor), -1)
        return [self._find_words(partner) for partner in sorted(self._partners.get(number, ()))]

    def list_pairs(self, anchors: Sequence[str]) -> Pairs:
        """Return the pairs of anchors, by their numbers, and places of the corpus that a search has to leave out."""
        places = [self.find_places(anchor) for anchor in anchors]
        counts = [len(entry) for entry in places]
        flat = [place for entry in places for place in entry]
        return np.repeat(np.arange(len(anchors)), counts).astype(np.int64), np.array(flat, np.int64)


def list_words(text: str) -> frozenset[str]:
    """Return the different words of a text after normalisation."""
    return frozenset(_WORDS.findall(normalise_text(text)))


def is_near_duplicate(words: frozenset[str], others: Iterable[frozenset[str]]) -> bool:
    """Whether a text has nearly the words of one of the others: a Jaccard index of NEAR or more."""
    return any(len(words & other) >= NEAR * len(words | other) for other in others)
