"""How words are drawn: which occurrences are seen, which words are noise, and the constant that follows from both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zoo.paragraph_vectors.vocabulary import Vocabulary


class SamplingTables(NamedTuple):
    """What a pass draws by, for a vocabulary of V words.

    Attributes:
        keep: (V,) float32, the chance of an occurrence to be seen at all.
        chance, other: Walker's alias tables of the noise, (V,) float32 and int32.
        bias: (V,) float32, a constant of each word's output: the log of how much more often it is seen than drawn as noise.
            Without it all vectors share the direction that says so. With it a product estimates the pointwise mutual
            information of document and word (compare Levy and Goldberg, NIPS 2014, section 3.1, where a constant is left).
    """

    keep: np.ndarray
    chance: np.ndarray
    other: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, vocabulary: Vocabulary, sample: float, negatives: int, *, bias: bool = True) -> SamplingTables:
        """For subsampling at threshold `sample` and so many noise words a word; without `bias` it is zero."""
        keep, noise = vocabulary.keep(sample), vocabulary.noise()
        seen = keep * np.asarray(vocabulary.counts, dtype=np.float64)
        constant = np.log(seen / seen.sum() / (negatives * noise)) if bias else np.zeros(len(noise))
        return cls(keep, *alias(noise), constant.astype(np.float32))


def alias(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Walker's tables of a distribution (V,): to draw is to take a place i evenly, and other[i] unless chance[i] holds."""
    scaled = np.asarray(weights, dtype=np.float64) * len(weights) / np.sum(weights)
    chance, other = np.ones(len(scaled), dtype=np.float32), np.arange(len(scaled), dtype=np.int32)
    small, large = list(np.flatnonzero(scaled < 1)), list(np.flatnonzero(scaled >= 1))
    while small and large:
        low, high = small.pop(), large[-1]
        chance[low], other[low] = scaled[low], high
        scaled[high] -= 1 - scaled[low]
        if scaled[high] < 1:
            small.append(large.pop())
    return chance, other
