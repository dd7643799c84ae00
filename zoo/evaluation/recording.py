"""Records what mteb computes on the way to a score, so that two encoders can be compared query by query or row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.metrics.outcomes import Outcomes

TOLERANCE = 1e-4  # mteb rounds the scores of a search to five digits
TREC_NAMES = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}
"""The names of mteb's measures in pytrec_eval."""

PAIR_SCORES = {
    "similarity": ("similarity_scores", 1),
    "cosine": ("cosine_scores", 1),
    "dot": ("dot_scores", 1),
    "manhattan": ("manhattan_distances", -1),
    "euclidean": ("euclidean_distances", -1),
}
"""mteb's kinds of similarities, the predictions that hold them, and -1 for distances."""


class Recorder:
    """Keeps the predictions of one run of a task of mteb. It takes the place of the method that would write them to a file."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.predictions: list[tuple[str, str, Any]] = []
        self.scores_by_query: list[Mapping[str, Mapping[str, float]]] = []
        self.task._save_task_predictions = self._keep_predictions
        if hasattr(task, "task_specific_scores"):
            self._compute_specific_scores = task.task_specific_scores
            self.task.task_specific_scores = self._keep_scores

    def _keep_predictions(self, predictions: Any, *_: Any, hf_split: str, hf_subset: str, **__: Any) -> None:
        self.predictions.append((hf_subset, hf_split, predictions))

    def _keep_scores(self, scores: Mapping[str, Mapping[str, float]], *arguments: Any, **options: Any) -> Any:
        self.scores_by_query.append(scores)
        return self._compute_specific_scores(scores, *arguments, **options)

    def find_outcomes(self, scores: Mapping[str, Any], value: float) -> Outcomes | None:
        """Return the outcomes behind the score `value`.

        Args:
            scores: mteb's result of the first split and subset.

        Return None for a task whose score is not a plain statistic of them, for example a mean over several languages.
        """
        kind, measure = self.task.metadata.type, self.task.metadata.main_score
        outcomes = None
        if len(self.scores_by_query) == 1:
            outcomes = _read_queries(self.scores_by_query[0], measure)
        elif len(self.predictions) == 1:
            subset, split, predictions = self.predictions[0]
            read = next((read for ending, read in _READERS.items() if kind.endswith(ending)), None)
            if read is not None:
                outcomes = read(self.task, _find_rows(self.task, subset, split), predictions, measure, scores)
        if outcomes is None or not len(outcomes.values) or abs(outcomes.compute_score() - value) > TOLERANCE:
            return None
        return outcomes


def _find_rows(task: Any, subset: str, split: str) -> Any:
    return task.dataset[subset][split] if subset in task.dataset else task.dataset[split]


def _read_queries(scores: Mapping[str, Mapping[str, float]], measure: str) -> Outcomes | None:
    name, _, cut_off = measure.partition("_at_")
    key = f"{TREC_NAMES.get(name)}_{cut_off}"
    queries = sorted(scores)
    if not queries or key not in scores[queries[0]]:
        return None
    return Outcomes("queries", "mean", np.array([scores[query][key] for query in queries]))


def _read_classes(task: Any, rows: Any, predictions: Any, measure: str, scores: Any) -> Outcomes | None:
    """Each row's share of right answers over the repetitions."""
    if measure != "accuracy":
        return None
    labels = np.asarray(rows[task.label_column_name])
    hits = [np.asarray(answers) == labels for answers in predictions if len(answers) == len(labels)]
    return Outcomes("rows", "mean", np.mean(hits, axis=0)) if hits else None


def _read_nearest_names(task: Any, rows: Any, predictions: Any, measure: str, scores: Any) -> Outcomes | None:
    if measure != "accuracy":
        return None
    labels = task._normalize_labels(rows[task.label_column_name], task.get_candidate_labels())
    return Outcomes("rows", "mean", (np.argmax(predictions, axis=1) == np.asarray(labels)).astype(float))


def _read_similarities(task: Any, rows: Any, predictions: Any, measure: str, scores: Any) -> Outcomes | None:
    name = "cosine_scores" if measure.startswith("cosine") else "similarity_scores"
    if not measure.endswith("spearman") or predictions.get(name) is None:
        return None
    values = np.column_stack([np.asarray(predictions[name], float).ravel(), np.asarray(rows["score"], float)])
    return Outcomes("pairs", "rank correlation", values)


def _read_pairs(task: Any, rows: Any, predictions: Any, measure: str, scores: Mapping[str, Any]) -> Outcomes | None:
    """The similarities of the kind whose average precision is the largest, which is the score."""
    if measure != "max_ap":
        return None
    best = max(PAIR_SCORES, key=lambda name: scores.get(f"{name}_ap") or 0.0)
    column, sign = PAIR_SCORES[best]
    labels = rows[task.label_column_name]
    values = np.column_stack([sign * np.asarray(predictions[column], float).ravel(), np.asarray(labels, float)])
    return Outcomes("pairs", "average precision", values)


def _read_repetitions(
    task: Any, rows: Any, predictions: Any, measure: str, scores: Mapping[str, Any]
) -> Outcomes | None:
    """The score of each repetition. The repetitions draw the same rows for every encoder."""
    levels = scores.get("v_measures") or {}
    if measure != "v_measure" or len(levels) != 1:
        return None
    return Outcomes("repetitions", "mean", np.array(next(iter(levels.values())), dtype=float))


_READERS = {
    "ZeroShotClassification": _read_nearest_names,
    "PairClassification": _read_pairs,
    "Classification": _read_classes,
    "Clustering": _read_repetitions,
    "STS": _read_similarities,
}
"""How the predictions of a task are read, by the end of its type. The first that fits counts."""
