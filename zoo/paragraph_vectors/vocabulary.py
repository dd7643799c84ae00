"""Words of running text: one tokeniser and a vocabulary that is plain JSON."""

from __future__ import annotations

import json
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

FORMAT = 1
DISTINCT = 4_000_000  # words that are counted at a time
_WORD = re.compile(r"[^\W\d_]{2,40}")
_ASCII_WORD = re.compile(r"[a-z]{2,40}")  # the same in lower-cased ASCII, without looking letters up


def tokenise(text: str) -> list[str]:
    """Lower-cased runs of 2 to 40 letters of any script; digits and punctuation separate."""
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words with their counts, the most frequent first (ties by spelling); a word's row is its place."""

    words: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def count(cls, texts: Iterable[str], *, min_count: int = 5, max_size: int | None = None) -> Vocabulary:
        """In one pass over `texts`, the words that occur at least `min_count` times, at most `max_size` of them.

        Whenever more than DISTINCT words are counted, the rarest are forgotten, as word2vec.c does it: memory has a bound.
        Raises ZooError when no word does.
        """
        counter: Counter[str] = Counter()
        rare = 0
        for text in texts:
            counter.update(tokenise(text))
            while len(counter) > DISTINCT:
                rare += 1
                counter = Counter({word: n for word, n in counter.items() if n > rare})
        enough = ((word, n) for word, n in counter.items() if n >= min_count)
        found = sorted(enough, key=lambda item: (-item[1], item[0]))
        return cls(tuple(word for word, _ in found), tuple(n for _, n in found)).at_least(min_count, max_size)

    def at_least(self, min_count: int, max_size: int | None = None) -> Vocabulary:
        """Those that occur at least `min_count` times, at most `max_size` of them. Raises ZooError when no word does."""
        size = bisect(self.counts, -min_count, key=lambda n: -n)
        if max_size is not None:
            size = min(size, max_size)
        if not size:
            raise ZooError(
                f"no word occurs {min_count} times in the training texts: lower min_count, or give more text"
            )
        return Vocabulary(self.words[:size], self.counts[:size])

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """Rows of the words of `text` in order; words that are not known are left out."""
        find = self.rows.get
        return [row for word in tokenise(text) if (row := find(word)) is not None]

    def noise(self, power: float = 0.75) -> np.ndarray:
        """(V,) float64: the distribution negatives are drawn from, unigram^0.75 (Mikolov et al. 2013b, section 2.2)."""
        weights = np.asarray(self.counts, dtype=np.float64) ** power
        return weights / weights.sum()

    def keep(self, sample: float) -> np.ndarray:
        """(V,) float32 in (0, 1]: the chance of an occurrence to survive subsampling at threshold `sample`, as word2vec.c
        computes it: sqrt(t / f) + t / f; 1 everywhere for `sample` 0."""
        if not sample:
            return np.ones(len(self), dtype=np.float32)
        share = sample * sum(self.counts) / np.asarray(self.counts, dtype=np.float64)
        return np.minimum(1.0, np.sqrt(share) + share).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write {"format", "words", "counts"}."""
        atomic_files.write_text(
            path, json.dumps({"format": FORMAT, "words": self.words, "counts": self.counts}, ensure_ascii=False)
        )

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Raises ArtefactError for a file that `save` did not write."""
        try:
            found = atomic_files.read_json(path)
            words, counts = tuple(found["words"]), tuple(found["counts"])
            good = found["format"] == FORMAT and len(words) == len(counts) == len(set(words)) > 0
            good = good and all(isinstance(w, str) for w in words) and all(type(n) is int and n > 0 for n in counts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"{path}: cannot be read as a vocabulary: {str(error)[:120]}") from None
        if not good:
            raise ArtefactError(
                f"{path}: is no vocabulary of format {FORMAT}: equally many distinct words and counts > 0"
            )
        return cls(words, counts)
