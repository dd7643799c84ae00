"""Which keywords of which label a vocabulary knows, and what could be meant by those that it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.core.errors import ZooError
from zoo.families.lbl2vec import topics
from zoo.paragraph_vectors.vocabulary import Vocabulary

Coverage = dict[str, dict[str, list[str]]]
"""Label → keyword without a known word → the known words nearest to it by spelling; a label all of whose keywords are known
has none."""


def of(labels: Mapping[str, Sequence[str]], vocabulary: Vocabulary) -> Coverage:
    """What `vocabulary` lacks of the keywords; of several words one that is known is enough."""
    return {
        label: {
            each: topics.close_words(each.lower(), vocabulary.words) for each in words if not vocabulary.encode(each)
        }
        for label, words in labels.items()
    }


def check(labels: Mapping[str, Sequence[str]], found: Coverage) -> None:
    """Raises ZooError, one line a label, for labels without any known keyword."""
    lines = []
    for label, missing in found.items():
        if len(missing) == len(labels[label]):
            near = list(dict.fromkeys(word for words in missing.values() for word in words))[:5]
            hint = f"; near them are: {', '.join(near)}" if near else ""
            lines.append(
                f"label {label!r}: none of its keywords ({', '.join(missing)}) is among the words of the texts{hint}; "
                "give others, or lower min_count"
            )
    if lines:
        raise ZooError(*lines)
