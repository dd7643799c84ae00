"""BM25: documents ranked by the words that they share with the query, as mteb's own baseline does it with bm25s.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

from mteb.models.model_implementations.bm25 import BM25Search
from mteb.models.model_meta import ModelMeta

from zoo.evaluation.baselines.baseline import Baseline, BaselineScore, ends_with, score_model
from zoo.evaluation.task import ReadyTask


class Bm25(Baseline):
    """BM25 on tasks that search texts. It learns nothing from the training rows."""

    name = "BM25"
    needs_rows = False

    def suits(self, task: ReadyTask) -> bool:
        """Searches of texts."""
        return task.modalities == {"text"} and ends_with(task, "Retrieval", "Reranking")

    def score(self, task: ReadyTask) -> list[BaselineScore]:
        """Stop words and stems are used where mteb knows the language of the task."""
        with contextlib.redirect_stderr(io.StringIO()):  # bm25s shows a progress bar for every step
            return [score_model(self.name, _Search(), task)]


class _Search(BM25Search):
    """mteb's search, which looks for the candidates of a query among all documents, not among the best ones only."""

    mteb_model_meta = ModelMeta.create_empty(overwrites={"name": "zoo/bm25", "revision": "baseline"})

    def search(self, queries: Any, *, top_k: int, top_ranked: Any = None, **options: Any) -> Any:
        depth = len(self.corpus_idx_to_id) if top_ranked else top_k
        return super().search(queries, top_k=depth, top_ranked=top_ranked, **options)
