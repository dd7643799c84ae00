"""Which keywords of a label a vocabulary lacks, and which known words are spelt like them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from zoo.core.errors import ZooError
from zoo.paragraph_vectors.vocabulary import Vocabulary

MissingKeywords = dict[str, dict[str, list[str]]]
"""Label → missing keyword → known words with a similar spelling. A label whose keywords are all known has an empty entry."""


def find_missing_keywords(labels: Mapping[str, Sequence[str]], vocabulary: Vocabulary) -> MissingKeywords:
    """Find the keywords without any known word. A keyword of several words needs only one known word."""
    return {
        label: {
            keyword: find_similar_words(keyword.lower(), vocabulary.words)
            for keyword in keywords
            if not vocabulary.encode(keyword)
        }
        for label, keywords in labels.items()
    }


def check_keywords(
    labels: Mapping[str, Sequence[str]],
    missing_keywords: MissingKeywords,
    say: Callable[[str], None] | None = None,
) -> None:
    """Tell which keywords are unknown. Raise ZooError, with one line for each label, if labels have no known keyword."""
    problems = []
    for label, missing in missing_keywords.items():
        if len(missing) == len(labels[label]):
            similar = list(dict.fromkeys(word for words in missing.values() for word in words))[:5]
            hint = f"; similar words are: {', '.join(similar)}" if similar else ""
            problems.append(
                f"label {label!r}: none of its keywords ({', '.join(missing)}) is among the words of the texts{hint}; "
                "choose other keywords, or lower min_count"
            )
        if say:
            for word, near in missing.items():
                say(f"label {label!r}: no text has the keyword {word!r}{f'; did you mean {near[0]}?' if near else ''}")
    if problems:
        raise ZooError(*problems)


def find_similar_words(word: str, words: Sequence[str], count: int = 3) -> list[str]:
    """Find at most `count` of `words` that are spelt like `word`, the most similar first."""
    return difflib.get_close_matches(word, words, count, 0.6)
