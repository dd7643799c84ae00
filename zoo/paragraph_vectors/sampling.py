"""Tables for drawing words: which occurrences are trained on, and which words are noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.paragraph_vectors.vocabulary import Vocabulary

Array = npt.NDArray[Any]


class SamplingTables(NamedTuple):
    """Tables for a vocabulary of V words.

    Attributes:
        keep_probabilities: (V,) float32, the probability that an occurrence survives subsampling.
        alias_probabilities, alias_words: Walker's alias table of the noise distribution, (V,) float32 and (V,) int32.
        bias: (V,) float32, a constant that is added to each word's logit: the log of the ratio of how often the word occurs to
            how often it is drawn as noise. Without it, all vectors share the direction that encodes this ratio. With it, a
            product estimates the pointwise mutual information of document and word (compare Levy and Goldberg, NIPS 2014,
            section 3.1, where a constant remains).
    """

    keep_probabilities: Array
    alias_probabilities: Array
    alias_words: Array
    bias: Array

    @classmethod
    def from_vocabulary(
        cls, vocabulary: Vocabulary, sample: float, negatives: int, *, bias: bool = True
    ) -> SamplingTables:
        """Compute the tables for subsampling threshold `sample` and `negatives` noise words a word.

        Without `bias` all biases are 0.
        """
        keep_probabilities = vocabulary.compute_keep_probabilities(sample)
        noise = vocabulary.compute_noise_distribution()
        kept_counts = keep_probabilities * np.asarray(vocabulary.counts, dtype=np.float64)
        biases = np.log(kept_counts / kept_counts.sum() / (negatives * noise)) if bias else np.zeros(len(noise))
        return cls(keep_probabilities, *build_alias_table(noise), biases.astype(np.float32))


def build_alias_table(weights: Array) -> tuple[Array, Array]:
    """Build Walker's alias table of a distribution (V,): probabilities (V,) float32 and aliases (V,) int32.

    To draw, take a place i uniformly; return i with probability `probabilities[i]`, else return `aliases[i]`.
    """
    scaled = np.asarray(weights, dtype=np.float64) * len(weights) / np.sum(weights)
    probabilities, aliases = np.ones(len(scaled), dtype=np.float32), np.arange(len(scaled), dtype=np.int32)
    small, large = list(np.flatnonzero(scaled < 1)), list(np.flatnonzero(scaled >= 1))
    while small and large:
        low, high = small.pop(), large[-1]
        probabilities[low], aliases[low] = scaled[low], high
        scaled[high] -= 1 - scaled[low]
        if scaled[high] < 1:
            small.append(large.pop())
    return probabilities, aliases
