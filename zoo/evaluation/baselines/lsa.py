"""Latent semantic analysis: a truncated singular value decomposition of the TF-IDF of the training texts.

Source: Deerwester et al., "Indexing by Latent Semantic Analysis", 1990.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from zoo.evaluation.baselines.baseline import Array, Baseline, BaselineScore, VectorModel, score_model
from zoo.evaluation.task import ReadyTask

COMPONENTS = 256


class Lsa(Baseline):
    """LSA on every task of mteb on texts."""

    name = f"LSA of {COMPONENTS} components"

    @cached_property
    def model(self) -> LsaModel:
        """The decomposition, fitted once."""
        return LsaModel(self.training.texts, COMPONENTS)

    def suits(self, task: ReadyTask) -> bool:
        """Every task of mteb on texts."""
        return task.modalities == {"text"} and task.measure is None

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Fit the decomposition to the training texts."""
        return [score_model(self.name, self.model, task, bytes_per_vector=4 * self.model.width)]


class LsaModel(VectorModel):
    """Vectors of at most `components` components. Raises ValueError for texts without words."""

    def __init__(self, texts: Sequence[str], components: int, seed: int = 0) -> None:
        super().__init__("lsa")
        self.vectorizer = TfidfVectorizer(sublinear_tf=True)
        counts = self.vectorizer.fit_transform(texts)
        self.width = min(components, counts.shape[0] - 1, counts.shape[1] - 1)
        if self.width < 1:
            raise ValueError("the training texts have too few words")
        self.decomposition = TruncatedSVD(self.width, n_iter=4, random_state=seed).fit(counts)

    def compute_vectors(self, inputs: Sequence[str]) -> Array:
        """Return (n, components) float32."""
        vectors: Array = self.decomposition.transform(self.vectorizer.transform(inputs))
        return vectors
