"""The words of running text: one tokeniser, and a vocabulary that is saved as plain JSON."""

from __future__ import annotations

import json
import re
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError

Array = npt.NDArray[Any]

FORMAT = 1
MAX_DISTINCT_WORDS = 4_000_000  # words that are counted at the same time
_WORD = re.compile(r"[^\W\d_]{2,40}")
_ASCII_WORD = re.compile(r"[a-z]{2,40}")  # equivalent for lower-cased ASCII, and faster


def tokenise(text: str) -> list[str]:
    """Split `text` into lower-cased runs of 2 to 40 letters of any script; digits and punctuation separate words."""
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words and their counts, the most frequent first and ties in alphabetical order. A word's row is its position."""

    words: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def count(cls, texts: Iterable[str], *, min_count: int = 5, max_size: int | None = None) -> Vocabulary:
        """Count the words of `texts` in one pass; keep those that occur at least `min_count` times, at most `max_size`.

        Whenever more than MAX_DISTINCT_WORDS words are counted, the rarest are dropped, as in word2vec.c, so that memory has
        a bound. Raises ZooError if no word is frequent enough.
        """
        counter: Counter[str] = Counter()
        dropped_count = 0
        for text in texts:
            counter.update(tokenise(text))
            while len(counter) > MAX_DISTINCT_WORDS:
                dropped_count += 1
                counter = Counter({word: count for word, count in counter.items() if count > dropped_count})
        frequent = ((word, count) for word, count in counter.items() if count >= min_count)
        ordered = sorted(frequent, key=lambda item: (-item[1], item[0]))
        vocabulary = cls(tuple(word for word, _ in ordered), tuple(count for _, count in ordered))
        return vocabulary.select_frequent(min_count, max_size)

    def select_frequent(self, min_count: int, max_size: int | None = None, keep: Collection[str] = ()) -> Vocabulary:
        """Return a vocabulary of the words that occur at least `min_count` times, at most `max_size` of them.

        Words of `keep` stay however rare they are. Raises ZooError if no word is frequent enough.
        """
        size = bisect(self.counts, -min_count, key=lambda count: -count)
        if max_size is not None:
            size = min(size, max_size)
        if not size:
            raise ZooError(
                f"no word occurs {min_count} times in the training texts: lower min_count, or give more text"
            )
        kept = [row for row in range(size, len(self)) if self.words[row] in keep] if keep else []
        return Vocabulary(
            self.words[:size] + tuple(self.words[row] for row in kept),
            self.counts[:size] + tuple(self.counts[row] for row in kept),
        )

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """Return the rows of the words of `text` in order; unknown words are skipped."""
        rows = map(self.rows.get, tokenise(text))
        return [row for row in rows if row is not None]

    def compute_noise_distribution(self, power: float = 0.75) -> Array:
        """Compute the distribution of noise words, unigram^0.75: (V,) float64 (Mikolov et al. 2013b, section 2.2)."""
        weights: Array = np.asarray(self.counts, dtype=np.float64) ** power
        distribution: Array = weights / weights.sum()
        return distribution

    def compute_rarity_weights(self, half_frequency: float) -> Array:
        """Compute the weight of each word in a mean of words: (V,) float32, 1/2 for a word of frequency `half_frequency`.

        The weight is a / (a + frequency) with a = `half_frequency` (Arora et al., ICLR 2017, equation 3).
        """
        counts = np.asarray(self.counts, dtype=np.float64)
        weights: Array = half_frequency / (half_frequency + counts / counts.sum())
        return weights.astype(np.float32)

    def compute_document_weights(self, documents: int) -> Array:
        """Compute the weight of each word in a sum of a document's words: (V,) float32, for a corpus of so many documents.

        The weight is the smoothed inverse document frequency ln((1 + n) / (1 + f)) + 1. The count of a word, at most n, stands
        for the number f of documents that contain it.
        """
        frequencies = np.minimum(np.asarray(self.counts, dtype=np.float64), documents)
        weights: Array = np.log((1 + documents) / (1 + frequencies)) + 1
        return weights.astype(np.float32)

    def compute_keep_probabilities(self, sample: float) -> Array:
        """Compute the probability that an occurrence of each word survives subsampling: (V,) float32 in (0, 1].

        As in word2vec.c, it is sqrt(t / f) + t / f for threshold t = `sample` and frequency f. For `sample` 0 it is 1.
        """
        if not sample:
            return np.ones(len(self), dtype=np.float32)
        ratio = sample * sum(self.counts) / np.asarray(self.counts, dtype=np.float64)
        return np.minimum(1.0, np.sqrt(ratio) + ratio).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write {"format", "words", "counts"} as JSON."""
        atomic_files.write_text(
            path, json.dumps({"format": FORMAT, "words": self.words, "counts": self.counts}, ensure_ascii=False)
        )

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a file that `save` wrote. Raises ArtefactError for any other file."""
        try:
            content = atomic_files.read_json(path)
            words, counts = tuple(content["words"]), tuple(content["counts"])
            is_valid = content["format"] == FORMAT and len(words) == len(counts) == len(set(words)) > 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"{path}: cannot be read as a vocabulary: {str(error)[:120]}") from None
        is_valid = is_valid and all(isinstance(word, str) for word in words)
        if not is_valid or not all(type(count) is int and count > 0 for count in counts):
            raise ArtefactError(
                f"{path}: is not a vocabulary of format {FORMAT}, which has distinct words and a positive count for each "
                "word: download or train the model again"
            )
        return cls(words, counts)
