"""What a user would do instead of learning topics: count the keywords."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from zoo.evaluation.baselines.baseline import Array, Baseline, BaselineScore
from zoo.evaluation.task import ReadyTask
from zoo.families.lbl2vec.spec import Spec
from zoo.metrics.outcomes import Outcomes

TOKEN = r"(?u)\b\w+\b"


class CountKeywords(Baseline):
    """The label whose keywords occur most often in a text. A tie counts as a guess among its labels."""

    name = "counting the keywords"
    needs_rows = False

    def suits(self, task: ReadyTask) -> bool:
        """Zero-shot tasks whose classes are the labels of the recipe."""
        if task.spec.task != "zero-shot" or not task.tables:
            return False
        return set(map(str, task.tables["data"].rows["label"])) <= set(self._spec.labels)

    @property
    def _spec(self) -> Spec:
        spec = self.training.encoder.spec
        assert isinstance(spec, Spec)
        return spec

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Choose among the labels that occur, as the task itself does."""
        assert task.tables is not None
        rows = task.tables["data"].rows
        answers = list(map(str, rows["label"]))
        keywords = {label: self._spec.labels[label] for label in sorted(set(answers))}
        counts = count_keywords(rows["text"], keywords)
        is_best = counts == counts.max(1, keepdims=True)
        right = np.array([list(keywords).index(label) for label in answers])
        hits = is_best[np.arange(len(right)), right] / is_best.sum(1)
        return [BaselineScore(self.name, float(hits.mean()), Outcomes("rows", "mean", hits))]


def count_keywords(texts: Sequence[str], keywords: Mapping[str, Sequence[str]]) -> Array:
    """Return how often the keywords of each label occur in each text, (texts, labels) int64. Case does not count."""
    phrases = {
        label: [" ".join(re.findall(TOKEN, word.lower())) for word in words] for label, words in keywords.items()
    }
    vocabulary = sorted({phrase for words in phrases.values() for phrase in words if phrase})
    longest = max(len(phrase.split()) for phrase in vocabulary)
    vectorizer = CountVectorizer(vocabulary=vocabulary, ngram_range=(1, longest), token_pattern=TOKEN)
    occurrences = vectorizer.transform(texts)
    belongs = np.array([[phrase in words for words in phrases.values()] for phrase in vocabulary], dtype=np.int64)
    counts: Array = occurrences @ belongs
    return counts
