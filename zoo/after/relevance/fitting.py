"""The fit of the map, and its figures on queries that each part was fitted without."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.after.relevance import gate as gates
from zoo.after.relevance import mapping
from zoo.after.relevance.cut_off import CutOff, choose_cut_off, compute_calibration_error, measure_cut
from zoo.after.relevance.familiarity import Familiarity
from zoo.after.relevance.lines import FOLDS
from zoo.after.relevance.mapping import Inputs, RelevanceMap, Scaling
from zoo.after.relevance.order import round_in_order
from zoo.after.relevance.score_lists import BASELINES, ScoreLists
from zoo.after.relevance.searching import Searched

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]

DOCUMENT_SAMPLE = 10_000
"""Documents from which the scores of random documents are estimated."""

PRICE = 0.08
"""Share of the gain in average precision over plain scores that the gate may cost."""
MAX_ADDED_ERROR = 0.015
"""What the gate may add to the calibration error."""


@dataclass(frozen=True)
class Fitted:
    """A map, its cut-off, and figures."""

    map: RelevanceMap
    cut_off: CutOff
    facts: dict[str, Any]


@dataclass
class _Parts:
    """The parts of a map that are known so far, as `mapping.read_inputs` reads them."""

    shape: ScoreLists
    familiarity: Familiarity
    baseline: str
    scaling: Scaling


def fit_map(own: Searched, foreign: Searched | None, documents: Vectors, precision: float, seed: int) -> Fitted:
    """Fit the map to lists of queries that the documents answer and of foreign ones, and choose the cut-off.

    All figures and the cut-off come from held-out predictions: each query is mapped by the network, and judged by the gate, that
    were fitted without its fold.
    """
    from zoo.after.relevance import line_training

    rng = np.random.default_rng(seed)
    folds = _draw_folds(own.queries, rng)
    sample = documents[rng.permutation(len(documents))[:DOCUMENT_SAMPLE]]
    familiarity = Familiarity.fit(own.queries, sample)
    lists = own.scores.astype(np.float64)
    shape = ScoreLists.fit(lists)
    measured = _measure_held_out(own.queries, folds, familiarity)
    raw_features = mapping.join_list_features(shape, lists, measured)
    scaling = Scaling(raw_features.mean(0), raw_features.std(0) + 1e-6)
    parts = _choose_baseline(_Parts(shape, familiarity, BASELINES[0], scaling), own, lists, measured)
    inputs = mapping.read_inputs(parts, own.queries, lists, lists, measured)
    line = fit_line(inputs.evidence, own.labels)
    lines = line_training.fit_lines(inputs.whitened, inputs.features, inputs.evidence, own.labels, folds, line, seed)
    slopes, offsets = lines.apply(inputs.whitened, inputs.features)
    rows = np.arange(len(folds))
    log_odds = slopes[folds, rows, None] * inputs.evidence + offsets[folds, rows, None]
    calibration = fit_line(log_odds, own.labels)
    log_odds = mapping.calibrate(log_odds, calibration)

    other = None if foreign is None else _read_foreign(parts, foreign)
    other_folds = np.empty(0, np.int64) if foreign is None else _draw_folds(foreign.queries, rng)
    other_features = None if other is None else other.gate
    values, other_values = gates.measure_held_out(inputs.gate, folds, other_features, other_folds)
    place = _place_gate(own, log_odds, values)
    predicted = _predict(log_odds, values, place, own.scores)
    cut_off = choose_cut_off(predicted, own.labels, precision)
    gate = replace(gates.Gate.fit(inputs.gate, other_features), place=place)
    fitted = RelevanceMap(shape, familiarity, parts.baseline, parts.scaling, lines, gate, calibration)
    facts = _describe(own, inputs.evidence, predicted, cut_off, parts.baseline)
    if foreign is not None and other is not None:
        slope, offset = (part.mean(0)[:, None] for part in lines.apply(other.whitened, other.features))
        other_odds = mapping.calibrate(slope * other.evidence + offset, calibration)
        other_predicted = _predict(other_odds, other_values, place, foreign.scores)
        facts |= _describe_rejection(own, foreign, predicted, other_predicted, cut_off)
    return Fitted(fitted, cut_off, facts)


def _place_gate(own: Searched, log_odds: Floats, values: Floats) -> float:
    """Return the place of the gate: the highest quantile of own queries that costs little average precision.

    The nearer the gate stands to own queries, the more foreign queries it rejects, also of unknown kinds. It may cost PRICE of
    the precision that the map adds to that of the scores, and MAX_ADDED_ERROR of calibration.
    """
    from sklearn.metrics import average_precision_score

    flat = own.labels.ravel()
    free = float(average_precision_score(flat, own.scores.ravel()))
    least = (1 - PRICE) * float(average_precision_score(flat, log_odds.ravel())) + PRICE * free
    most = MAX_ADDED_ERROR + compute_calibration_error(mapping.compute_sigmoid(log_odds), own.labels)
    place = 0.0
    for quantile in gates.PLACES:
        place = float(np.quantile(values, quantile))
        gated = mapping.join(log_odds, gates.to_log_odds(values, place))
        error = compute_calibration_error(mapping.compute_sigmoid(gated), own.labels)
        if error <= most and average_precision_score(flat, gated.ravel()) >= least:
            break
    return place


def fit_line(evidence: Floats, labels: Labels) -> tuple[float, float]:
    """Return slope > 0 and offset of the log-odds of right pairs, by logistic regression (Platt scaling).

    Evidence against the order of the list would give a negative slope; it is then set to a small positive number.
    """
    from sklearn.linear_model import LogisticRegression

    flat, right = evidence.ravel(), labels.ravel()
    model = LogisticRegression(C=1e6, max_iter=1000).fit(flat[:, None], right)
    slope = float(model.coef_[0, 0])
    if slope <= 0:
        share = right.mean()
        return 1e-3, float(np.log(share / (1 - share)))
    return slope, float(model.intercept_[0])


def _draw_folds(queries: Vectors, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the fold (n,) of each query. Equal queries get the same one."""
    _, numbers = np.unique(queries, axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    folds: npt.NDArray[np.int64] = rng.permutation(int(numbers.max()) + 1)[numbers] % FOLDS
    return folds


def _measure_held_out(queries: Vectors, folds: npt.NDArray[np.int64], familiarity: Familiarity) -> Floats:
    """Return features of familiarity (n, 4), each by directions that were fitted without the query's fold.

    Queries lie nearer to directions that were fitted to them than new ones do.
    """
    from zoo.after.relevance.familiarity import MAX_BYTES, Directions

    features = familiarity.measure(queries)
    for fold in range(FOLDS):
        is_out = folds == fold
        directions = Directions.fit(queries[~is_out], MAX_BYTES)
        features[is_out] = Familiarity(directions, familiarity.documents).measure(queries[is_out])
    return features


def _choose_baseline(parts: _Parts, own: Searched, lists: Floats, measured: Floats) -> _Parts:
    """Return the parts with the free baseline of the best average precision, standardised."""
    from sklearn.metrics import average_precision_score

    best = -1.0
    chosen = parts
    for name in BASELINES:
        trial = _Parts(parts.shape, parts.familiarity, name, Scaling(parts.scaling.mean, parts.scaling.deviation))
        evidence = mapping.read_inputs(trial, own.queries, lists, lists, measured).evidence
        value = float(average_precision_score(own.labels.ravel(), evidence.ravel()))
        if value > best:
            best = value
            spread = (float(evidence.mean()), float(evidence.std()) + 1e-9)
            chosen = _Parts(
                parts.shape, parts.familiarity, name, Scaling(parts.scaling.mean, parts.scaling.deviation, *spread)
            )
    return chosen


def _read_foreign(parts: _Parts, foreign: Searched) -> Inputs:
    lists = foreign.scores.astype(np.float64)
    return mapping.read_inputs(parts, foreign.queries, lists, lists, parts.familiarity.measure(foreign.queries))


def _predict(log_odds: Floats, values: Floats, place: float, scores: Vectors) -> Vectors:
    joined = mapping.join(log_odds, gates.to_log_odds(values, place))
    return round_in_order(mapping.compute_sigmoid(joined), scores)


def _describe(own: Searched, evidence: Floats, predicted: Vectors, cut_off: CutOff, baseline: str) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score

    flat = own.labels.ravel()
    values = (own.scores, evidence, predicted)
    raw, free, mapped = (float(average_precision_score(flat, value.ravel())) for value in values)
    return {
        "queries": len(own.queries),
        "threshold": cut_off.threshold,
        "reaches_target": cut_off.is_reached,
        **measure_cut(predicted, own.labels, cut_off.threshold),
        "average_precision": mapped,
        "average_precision_of_score": raw,
        "best_baseline": baseline,
        "average_precision_of_best_baseline": free,
        "calibration_error": compute_calibration_error(predicted, own.labels),
    }


def _describe_rejection(
    own: Searched, foreign: Searched, predicted: Vectors, foreign_predicted: Vectors, cut_off: CutOff
) -> dict[str, Any]:
    from zoo.metrics.classification import compute_auroc

    return {
        "foreign_queries": len(foreign.queries),
        "foreign_auroc": compute_auroc(predicted[:, 0], foreign_predicted[:, 0]),
        "foreign_auroc_of_score": compute_auroc(own.scores[:, 0], foreign.scores[:, 0]),
        "foreign_empty": float((foreign_predicted[:, 0] < cut_off.threshold).mean()),
    }
