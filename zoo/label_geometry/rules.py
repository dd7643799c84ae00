"""The two rules by which a family turns probabilities into a label, and their scores beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest
from zoo.label_geometry.frechet import predict_frechet, score_answers
from zoo.label_geometry.label_metric import Array, Label, LabelMetric

RULES = ("argmax", "frechet")
UNCALIBRATED = "The rule frechet needs calibrated probabilities, but the training had no validation rows."


def check_rule(rule: str, metric: LabelMetric | None) -> None:
    """Raise ZooError for an unknown rule, for `frechet` without a metric, and for a metric that the rule does not use."""
    if rule not in RULES:
        raise ZooError(f"rule: {rule!r} is unknown{suggest(str(rule), RULES)}")
    if rule == "frechet" and metric is None:
        raise ZooError("rule='frechet' needs `metric`: distances between the labels, for example TreeMetric(parents)")
    if rule == "argmax" and metric is not None:
        raise ZooError("rule='argmax' does not use `metric`: leave it out, or give rule='frechet'")


def compare_rules(
    probabilities: Array, classes: Sequence[Label], truth: Sequence[Label], metric: LabelMetric, answers: str
) -> tuple[dict[str, float], str]:
    """Score the most probable class beside the Fréchet answer.

    Args:
        probabilities: (n, classes) float64; rows sum to 1.
        truth: the label of each row.
        answers: see `predict_frechet`.

    Returns scores whose names begin with `frechet_` and `argmax_`, and a sentence that says whether the distances help.
    """
    found = predict_frechet(probabilities, classes, metric, answers=answers)
    given = {
        "frechet": [answer.label for answer in found],
        "argmax": [classes[best] for best in probabilities.argmax(1)],
    }
    scores = {rule: score_answers(truth, labels, metric) for rule, labels in given.items()}
    ours, plain = (scores[rule]["mean_squared_distance"] for rule in ("frechet", "argmax"))
    gain = scores["frechet"]["accuracy"] - scores["argmax"]["accuracy"]
    if ours < plain:
        verdict = f"The rule frechet lowers the mean squared distance to the true label from {plain:.3f} to {ours:.3f}"
    else:
        verdict = f"The rule frechet does not help here: mean squared distance {ours:.3f}, and {plain:.3f} by argmax"
    named = {f"{rule}_{name}": value for rule, entries in scores.items() for name, value in entries.items()}
    return named, f"{verdict}; accuracy changes by {gain:+.3f}."
