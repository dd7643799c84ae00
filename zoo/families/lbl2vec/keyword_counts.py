"""How often the keywords of each label occur in a text, and what that adds to the vector of the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.paragraph_vectors.vocabulary import tokenise

Array = npt.NDArray[Any]

TOKEN = r"(?u)\b\w+\b"


def count_keywords(texts: Sequence[str], keywords: Mapping[str, Sequence[str]]) -> Array:
    """Return how often the keywords of each label occur in each text, (texts, labels) int64. Case does not count."""
    vocabulary, belongs = list_phrases(keywords)
    longest = max(len(phrase.split()) for phrase in vocabulary)
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(vocabulary=vocabulary, ngram_range=(1, longest), token_pattern=TOKEN)
    occurrences = vectorizer.transform(texts)
    counts: Array = occurrences @ belongs
    return counts


def list_phrases(keywords: Mapping[str, Sequence[str]]) -> tuple[list[str], Array]:
    """Return the phrases of all labels, words in lower case with one space between, and which labels (phrases, labels) have each.

    The labels of a phrase are 1, the others 0, int64.
    """
    phrases = {
        label: [" ".join(re.findall(TOKEN, word.lower())) for word in words] for label, words in keywords.items()
    }
    vocabulary = sorted({phrase for words in phrases.values() for phrase in words if phrase})
    belongs = np.array([[phrase in words for words in phrases.values()] for phrase in vocabulary], dtype=np.int64)
    return vocabulary, belongs


def compute_keyword_evidence(
    texts: Sequence[str], keywords: Mapping[str, Sequence[str]], label_vectors: Array
) -> Array:
    """Return the sum of the label vectors of all keywords that occur in a text, divided by the number of its words: (n, d).

    `label_vectors` is (labels, d). A text that consists of the keywords of one label gets about the vector of that label; a
    text without a keyword gets zeros.
    """
    lengths = np.array([max(1, len(tokenise(text))) for text in texts]).reshape(-1, 1)
    evidence: Array = (count_keywords(texts, keywords) @ label_vectors) / lengths
    return evidence
