"""TF-IDF: a text is the counts of its words, weighted by their rarity among the training texts."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer

from zoo.evaluation.baselines.baseline import Array, Baseline, BaselineScore, VectorModel, ends_with, score_model
from zoo.evaluation.task import ReadyTask

MAX_WORDS = 4096
"""mteb's probes take dense vectors, so only so many of the most frequent words count."""


class Tfidf(Baseline):
    """TF-IDF on tasks that compare or classify texts.

    Searches have BM25 instead. Clusters have LSA instead: k-means of thousands of components takes ten times as long.
    """

    name = "TF-IDF"

    def suits(self, task: ReadyTask) -> bool:
        """Every task of mteb on texts, except searches and clusters."""
        return task.modalities == {"text"} and ends_with(task, "STS", "Classification")

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Fit the weights to the training texts."""
        return [score_model(self.name, _Model(self.training.texts), task)]


class _Model(VectorModel):
    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__("tfidf")
        self.vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=MAX_WORDS).fit(texts)

    def compute_vectors(self, inputs: Sequence[str]) -> Array:
        """Return (n, words) float32."""
        vectors: Array = self.vectorizer.transform(inputs).toarray()
        return vectors
