"""Measures of concepts and explanations on held-out pairs, for the card.

They answer three questions. Do the concepts that explain a score really make it? How often is the model right about each
concept? How well does the space rank, compared with an opaque one?

An explanation is faithful if deleting its leading concepts lowers the score more than deleting others (deletion curves:
Samek et al., arXiv 1509.06321). After each deletion the vectors are scaled to unit length again, as in an edited view.
Otherwise the curve would follow from the contributions alone, because they sum to the score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.families.sesa.concepts import Concepts
from zoo.families.sesa.spec import SIDES, TAG_COLUMNS
from zoo.metrics import ranking

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.families.sesa.concept_encoder import ConceptEncoder

FACT_KEYS = (
    *("bare", "bare_count", "examples", "reliable", "unreliable", "choice"),
    *("deletion", "deleted_more", "ranking", "pairs"),
)
"""Keys of the measurements in config.json."""
MIN_TEXTS = 5  # held-out texts in which a concept must be the likeliest before its precision is reported
MAX_LISTED_CONCEPTS, EXAMPLE_COUNT, EXAMPLE_CONTRIBUTIONS, EXAMPLE_CHARACTERS = 8, 4, 3, 160
COMPARED_DELETIONS = 5  # leading concepts that are compared with as many random ones
MAX_DELETIONS = 20  # on the curve
MAX_PAIRS = 2000
MIN_NORM = 1e-12


def measure_held_out(
    encoder: ConceptEncoder, concepts: Concepts, rows: Dataset, opaque_baseline: ConceptEncoder | None
) -> dict[str, Any]:
    """Measure an encoder on the first MAX_PAIRS held-out pairs. Return JSON-able values under FACT_KEYS."""
    rows = rows.select(range(min(len(rows), MAX_PAIRS)))
    anchors, positives = list(rows["anchor"]), list(rows["positive"])
    queries = encoder.encode(anchors, prompt_type="query")
    documents = encoder.encode(positives, prompt_type="document")
    curves, share_deleted_more = compute_deletion_curves(queries, documents, encoder.seed, concept_count=len(concepts))
    encoders = [encoder] if opaque_baseline is None else [encoder, opaque_baseline]
    precisions = _measure_precisions(encoder, concepts, rows)
    order = np.argsort(-(queries * documents).sum(1), kind="stable")
    shown = order[np.linspace(0, len(order) // 2, EXAMPLE_COUNT).astype(int)] if len(order) else []
    return {
        "pairs": len(rows),
        "ranking": {one.spec.space: list(measure_ranking(one, anchors, positives)) for one in encoders},
        "deletion": curves,
        "deleted_more": share_deleted_more,
        "reliable": precisions[:MAX_LISTED_CONCEPTS],
        "unreliable": precisions[MAX_LISTED_CONCEPTS:][-MAX_LISTED_CONCEPTS:][::-1],
        "examples": [_build_example(encoder, anchors[i], positives[i]) for i in dict.fromkeys(int(i) for i in shown)],
    }


def measure_ranking(encoder: ConceptEncoder, anchors: list[str], positives: list[str]) -> ranking.RankingQuality:
    """Measure how well distinct anchors retrieve their positives among all distinct positives."""
    queries, documents = list(dict.fromkeys(anchors)), list(dict.fromkeys(positives))
    query_rows = {text: row for row, text in enumerate(queries)}
    document_rows = {text: row for row, text in enumerate(documents)}
    relevant = np.zeros((len(queries), len(documents)), dtype=bool)
    for anchor, positive in zip(anchors, positives, strict=True):
        relevant[query_rows[anchor], document_rows[positive]] = True
    scores = encoder.encode(queries, prompt_type="query") @ encoder.encode(documents, prompt_type="document").T
    return ranking.compute_ranking_quality(scores, relevant)


def compute_deletion_curves(
    queries: np.ndarray,
    documents: np.ndarray,
    seed: int,
    max_deletions: int = MAX_DELETIONS,
    *,
    concept_count: int | None = None,
) -> tuple[dict[str, list[float]], float]:
    """Compute the scores of n pairs of unit vectors after 0, 1, … concepts are deleted.

    The concepts are the first `concept_count` components; by default all components.

    Returns:
        The mean score by number of deleted concepts. "explained" deletes the largest contributions first, "random" the
        concepts that are active in either text in a random order.
        The share of pairs whose score falls lower by COMPARED_DELETIONS explained deletions than by as many random ones.
    """
    rng = np.random.default_rng(seed)
    named_queries, named_documents = queries[:, :concept_count], documents[:, :concept_count]
    is_active = (named_queries > 0) | (named_documents > 0)
    orders = {
        "explained": np.argsort(-(named_queries * named_documents), axis=1, kind="stable"),
        "random": np.argsort(np.where(is_active, rng.random(is_active.shape), 2.0), axis=1, kind="stable"),
    }
    deletions = min(max_deletions, is_active.shape[1])
    curves: dict[str, list[float]] = {}
    compared_scores: dict[str, np.ndarray] = {}
    rows = np.arange(len(queries))
    for name, order in orders.items():
        left, right = queries.astype(np.float64), documents.astype(np.float64)
        curves[name] = []
        for count in range(deletions + 1):
            if count:
                left[rows, order[:, count - 1]] = right[rows, order[:, count - 1]] = 0
            norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
            scores = (left * right).sum(1) / np.maximum(norms, MIN_NORM)
            curves[name].append(round(float(scores.mean()), 6) if len(scores) else 0.0)
            if count == min(COMPARED_DELETIONS, deletions):
                compared_scores[name] = scores
    falls_lower = compared_scores["explained"] < compared_scores["random"]
    return curves, float(falls_lower.mean()) if len(queries) else 0.0


def _measure_precisions(encoder: ConceptEncoder, concepts: Concepts, rows: Dataset) -> list[dict[str, Any]]:
    """Measure the precision of concepts on the tagged columns of `rows`; [] if there are no tags."""
    probabilities, tags = [], []
    for (side, text_column), tag_column in zip(SIDES.items(), TAG_COLUMNS, strict=True):
        if tag_column in rows.column_names and any(rows[tag_column]):
            probabilities.append(encoder.probabilities(list(rows[text_column]), prompt_type=side))
            tags += rows[tag_column]
    return compute_precisions(concepts, np.concatenate(probabilities), tags) if probabilities else []


def compute_precisions(
    concepts: Concepts, probabilities: np.ndarray, tags: list[list[str] | None]
) -> list[dict[str, Any]]:
    """Compute how often each concept, where it is the likeliest of its level, is a tag of the text.

    Texts without a tag on a level are left out there. Concepts that are the likeliest for fewer than MIN_TEXTS texts are left
    out. The most precise concepts come first.
    """
    levels = np.asarray(concepts.levels)
    is_tagged = np.zeros(probabilities.shape, dtype=bool)
    for row, ids in zip(is_tagged, tags, strict=True):
        row[concepts.find_rows_with_ancestors(ids or ())] = True
    results = []
    for level in range(levels.max() + 1):
        columns = np.flatnonzero(levels == level)
        texts = np.flatnonzero(is_tagged[:, columns].any(1))
        if not len(texts):
            continue
        likeliest = columns[probabilities[np.ix_(texts, columns)].argmax(1)]
        for column in columns:
            led_texts = texts[likeliest == column]
            if len(led_texts) >= MIN_TEXTS:
                precision = float(is_tagged[led_texts, column].mean())
                concept = {"id": concepts.ids[column], "name": concepts.names[column]}
                results.append({**concept, "precision": precision, "texts": len(led_texts)})
    return sorted(results, key=lambda result: (-result["precision"], -result["texts"], result["id"]))


def _build_example(encoder: ConceptEncoder, query: str, document: str) -> dict[str, Any]:
    """Explain one pair for the card, with texts of at most EXAMPLE_CHARACTERS."""
    explanation = encoder.explain(query, document, top=EXAMPLE_CONTRIBUTIONS)
    total = max(explanation.score, MIN_NORM)
    parts = [{"name": part.name, "share": part.value / total} for part in explanation.parts]
    return {
        "a": " ".join(query.split())[:EXAMPLE_CHARACTERS],
        "b": " ".join(document.split())[:EXAMPLE_CHARACTERS],
        "score": explanation.score,
        "parts": parts,
    }
