"""Fit the map of a hybrid search to queries whose answers are known.

Every figure, and what the regression reads, comes from held-out predictions: a query's scores are mapped by maps that were fitted
without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo.after.relevance.cut_off import choose_cut_off, compute_calibration_error, measure_cut
from zoo.after.relevance.mapping import compute_sigmoid
from zoo.after.relevance.searching import MIN_PAIRS, MIN_QUERIES, Searched
from zoo.core.errors import ZooError
from zoo.index import answers, candidates, changes, folder, hybrid_map, identity, lexical, measure
from zoo.index.arrays import EXACT_CODES, ArrayVectors, Vectors
from zoo.index.candidates import Candidates
from zoo.index.hybrid_map import Floats, HybridMap
from zoo.index.model_file import find_score_step
from zoo.index.rows import ID

if TYPE_CHECKING:
    from zoo.after.relevance.mapping import RelevanceMap
    from zoo.index.measure import Question
    from zoo.index.opened import OpenIndex

FOLDS = 3
LIST = 50
"""First scores of a ranking that a map looks at."""
DOCUMENTS, ENCODED = 2000, 500
"""Vectors of rows from which the maps read in which directions rows lie, and how many are encoded if an index keeps none."""
PRECISION = 0.9
"""The aim of the cut-off."""
Labels = npt.NDArray[np.bool_]


def fit_hybrid(index: OpenIndex, questions: Sequence[Question], say: Callable[[str], Any], seed: int = 0) -> HybridMap:
    """Fit the map, keep it in the folder of the index, and return it.

    Args:
        index: an index of texts.
        questions: queries and the ids of the rows that answer them; the others are left out.
        say: receives lines about the figures.
        seed: of the folds and of the training of the maps.

    Raise ZooError for too few queries or answers, and for an id that is not in the index.
    """
    judged = [question for question in questions if question.relevant]
    _check(index, judged)
    vectors = index.row_encoder.encode_queries([question.text for question in judged])
    found = candidates.collect(index, [question.text for question in judged], vectors, index.find_rows())
    labels = _label(index, judged, found)
    if int(labels.sum()) < MIN_PAIRS:
        raise ZooError(
            f"--fit-hybrid: only {int(labels.sum())} right rows are among the first {lexical.DEPTH} of the queries, and "
            f"{MIN_PAIRS} are needed; give more queries, or check the ids in the column relevant"
        )
    fitted = _fit(index, judged, vectors, found, labels, seed)
    with folder.change(index.path) as change:
        changes.require_current(change, index)
        name = change.name_file("hybrid", ".safetensors")
        fitted.write(change.folder / name)
        before = index.manifest
        change.commit(replace(before, parts={**before.parts, "hybrid": name}), [name])
    say(describe(fitted))
    return fitted


def describe(fitted: HybridMap) -> str:
    """Say in two sentences how the map did on held-out queries."""
    facts = fitted.facts
    scores = ", ".join(f"{name} {value:.4f}" for name, value in facts["ndcg@10"].items())
    cut = f"cut-off {fitted.threshold:.3g}: precision {facts['precision']:.2f} and recall {facts['recall']:.2f}"
    return f"nDCG@10 of {facts['queries']:,} queries, held out: {scores}. {cut}"


def _check(index: OpenIndex, judged: Sequence[Question]) -> None:
    count = len({question.text for question in judged})
    if count < MIN_QUERIES:
        raise ZooError(
            f"--fit-hybrid needs at least {MIN_QUERIES} different queries with `relevant` ids, and there are {count}; give more"
        )
    if len(index) < LIST:
        raise ZooError(f"--fit-hybrid needs an index of at least {LIST} rows; search this one with --hybrid rank")


def _label(index: OpenIndex, judged: Sequence[Question], found: Candidates) -> Labels:
    """Return which candidates (m, c) answer their queries. Raise ZooError for an id that is not in the index."""
    numbers = _number_ids(index, [one for question in judged for one in question.relevant])
    return np.stack(
        [np.isin(own, [numbers[one] for one in q.relevant]) for own, q in zip(found.numbers, judged, strict=True)]
    )


def _number_ids(index: OpenIndex, ids: Sequence[str]) -> dict[str, int]:
    """Return the number of the row with each id. Raise ZooError for an id that is not there."""
    wanted = np.sort(index.find_ids(ids))
    names: dict[str, int] = {}
    for start, shard in zip(index.starts, index.shards, strict=False):
        own = wanted[(wanted >= start) & (wanted < start + shard.count)]
        names |= dict(zip(shard.read_columns([ID])[ID].take(own - start).to_pylist(), own.tolist(), strict=True))
    return names


def _fit(
    index: OpenIndex, judged: Sequence[Question], vectors: Vectors, found: Candidates, labels: Labels, seed: int
) -> HybridMap:
    documents = _sample_documents(index, seed)
    step = find_score_step(index.encoder)
    _, groups = np.unique([question.text for question in judged], return_inverse=True)  # a text is in one fold
    folds = np.random.default_rng(seed).permutation(int(groups.max()) + 1)[groups] % FOLDS
    _check_side(found.words, labels, "BM25")

    def fit_side(scores: Vectors, rows: npt.NDArray[Any]) -> RelevanceMap:
        return _fit_map(vectors[rows], scores[rows], labels[rows], documents, seed)

    def predict_side(scores: Vectors) -> Floats:
        log_odds = np.empty(scores.shape)
        for fold in range(FOLDS):
            own = folds == fold
            mapped = fit_side(scores, ~own)
            log_odds[own] = hybrid_map.compute_log_odds(mapped.apply, vectors[own], scores[own])
        return log_odds

    words = predict_side(found.words)
    if step is None:
        _check_side(found.products, labels, "the encoder")
        products = predict_side(found.products)
    else:
        asked = answers.transform_queries(index.encoder, vectors)
        products = hybrid_map.compute_log_odds(step.map_scores, asked, found.products)
    features, is_row = hybrid_map.join_features(products, words), found.numbers >= 0
    predicted = _predict_held_out(features, labels, is_row, folds)
    cut_off = choose_cut_off(predicted, labels, PRECISION)
    facts = {
        "queries": len(judged),
        "rows": len(index),
        "ndcg@10": _compare(found, judged, labels, predicted),
        "calibration_error": compute_calibration_error(predicted[is_row], labels[is_row]),
        **measure_cut(predicted, labels, cut_off.threshold),
        "reaches_target": cut_off.is_reached,
    }
    everyone = np.ones(len(judged), bool)
    return HybridMap(
        fit_side(found.words, everyone),
        fit_side(found.products, everyone) if step is None else None,
        None if step is None else identity.hash_step(step),
        fit_weights(features[is_row], labels[is_row]),
        cut_off.threshold,
        facts,
    )


def _check_side(scores: Vectors, labels: Labels, name: str) -> None:
    """Raise ZooError if one side finds so few right rows that there is nothing to learn from."""
    places = np.argsort(-scores, axis=1, kind="stable")[:, :LIST]
    right = int((np.take_along_axis(labels, places, 1) & (np.take_along_axis(scores, places, 1) != 0)).sum())
    if right < MIN_PAIRS:
        raise ZooError(
            f"--fit-hybrid: {name} finds only {right} right rows among the first {LIST} of all queries, and {MIN_PAIRS} are "
            "needed; give more queries, or search without --hybrid"
        )


def _predict_held_out(features: Floats, labels: Labels, is_row: Labels, folds: npt.NDArray[np.int64]) -> Floats:
    """Return the probabilities (m, c) of candidates, each by weights that were fitted without its query's fold."""
    predicted = np.zeros(labels.shape)
    for fold in range(FOLDS):
        is_other = (folds != fold)[:, None] & is_row
        weights = fit_weights(features[is_other], labels[is_other])
        predicted[folds == fold] = compute_sigmoid(features[folds == fold] @ weights)
    return np.where(is_row, predicted, 0.0)


def _sample_documents(index: OpenIndex, seed: int) -> Vectors:
    """Return vectors of sampled rows: those of the index, or encoded anew if it keeps codes."""
    draw = np.random.default_rng(seed)
    if all(isinstance(shard.vectors, ArrayVectors) for shard in index.shards) and index.codec.name in EXACT_CODES:
        counts = [len(shard.vectors) for shard in index.shards]
        chosen = np.sort(draw.permutation(sum(counts))[:DOCUMENTS])
        parts, start = [], 0
        for shard, count in zip(index.shards, counts, strict=True):
            assert isinstance(shard.vectors, ArrayVectors)  # as was asked above
            parts.append(shard.vectors.read(chosen[(chosen >= start) & (chosen < start + count)] - start))
            start += count
        return np.concatenate(parts)
    layout = index.model.layout
    kept = [np.ones(s.count, bool) if m is None else m for s, m in zip(index.shards, index.find_rows(), strict=True)]
    numbers = np.sort(draw.permutation(np.flatnonzero(np.concatenate(kept)))[:ENCODED])
    texts = []
    for start, shard in zip(index.starts.tolist(), index.shards, strict=False):
        own = numbers[(numbers >= start) & (numbers < start + shard.count)] - start
        rows = shard.read_rows(own.tolist())
        texts += [layout.join_texts(rows[number]) for number in own.tolist()]
    return index.row_encoder.encode_rows(texts).vectors


def _fit_map(vectors: Vectors, scores: Vectors, labels: Labels, documents: Vectors, seed: int) -> RelevanceMap:
    """Fit the map of one side to the first scores of each query."""
    from zoo.after.relevance.fitting import fit_map

    places = np.argsort(-scores, axis=1, kind="stable")[:, :LIST]
    lists, right = np.take_along_axis(scores, places, 1), np.take_along_axis(labels, places, 1)
    return fit_map(Searched(vectors, lists, right), None, documents, PRECISION, seed).map


def fit_weights(features: Floats, labels: Labels) -> Floats:
    """Return the weights (4,) of a logistic regression of labels (n,) on features (n, 4), the first three at least 0."""
    from scipy.optimize import minimize

    signs = np.where(labels, 1.0, -1.0)

    def compute_loss(weights: Floats) -> tuple[float, Floats]:
        margins = signs * (features @ weights)
        slopes = -signs * compute_sigmoid(-margins)
        return float(np.logaddexp(0, -margins).mean()), slopes @ features / len(features)

    start, bounds = np.array([0.3, 0.3, 0.3, 0.0]), [(0, None)] * 3 + [(None, None)]
    fitted: Floats = minimize(compute_loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return fitted


def _compare(found: Candidates, judged: Sequence[Question], labels: Labels, predicted: Floats) -> dict[str, float]:
    """Return the nDCG@10 of the encoder, of BM25, and of both joined in two ways."""
    by_words = np.where(found.words > 0, found.words, -np.inf)
    ranked = []
    for scores in (found.products, by_words):
        places = np.argsort(-scores, axis=1, kind="stable")[:, : lexical.DEPTH]
        is_found = np.isfinite(np.take_along_axis(scores, places, 1))
        ranked.append(np.where(is_found, np.take_along_axis(found.numbers, places, 1), -1))
    _, fused = lexical.fuse(ranked, measure.TOP)
    places = found.order(predicted, measure.TOP)
    rankings = {"encoder": ranked[0], "BM25": ranked[1], "rank": fused}
    rankings["relevance"] = np.take_along_axis(found.numbers, places, 1)
    right = [own[is_right] for own, is_right in zip(found.numbers, labels, strict=True)]
    counts = [len(question.relevant) for question in judged]
    return {
        name: float(
            np.mean([measure.compute_gain(np.isin(o, r), c) for o, r, c in zip(ranking, right, counts, strict=True)])
        )
        for name, ranking in rankings.items()
    }
