"""The names of the losses for texts: the columns that each reads, when to use it, and which scores it takes. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Literal, NamedTuple

from zoo.schema import Roles

LossName = Literal["contrastive", "cosent", "angle", "triplet", "margin-mse", "kl", "proto-triplet", "icnn"]

NEGATIVES = ("negative", *(f"negative_{i}" for i in range(1, 33)))
"""Columns of hard negatives. A table may have any of them."""
NEGATIVE_SCORES = tuple(f"score_{name}" for name in NEGATIVES)
"""Columns with the teacher's score of the negative of the same name."""

LARGEST_SPREAD = 100.0
"""Largest difference of one row's teacher scores in temperatures, from which a float32 softmax is 0."""


class LossColumns(NamedTuple):
    """The columns of a loss, and when to use it.

    Attributes:
        required, optional: columns by role, each with the kind of its values.
        use: when to use the loss, in one sentence.
        least_negatives: smallest number of columns of NEGATIVES that the table must have.
        scores: columns that hold scores, all those that the loss may read.
        score_range: smallest and largest score; infinite ends mean any finite number.
        score_note: what scores are good for the loss, in one sentence; "" for a loss without scores.
    """

    required: Roles
    optional: Roles
    use: str
    least_negatives: int = 0
    scores: Sequence[str] = ()
    score_range: tuple[float, float] = (-math.inf, math.inf)
    score_note: str = ""


_TRIPLET: Roles = {"anchor": "text", "positive": "text"}
_NEGATIVES: Roles = dict.fromkeys(NEGATIVES, "text")
_SCORED_PAIR: Roles = {"sentence1": "text", "sentence2": "text", "score": "number"}
_TEACHER_SCORES: Roles = {"score_positive": "number", **dict.fromkeys(NEGATIVE_SCORES, "number")}
_LABELLED: Roles = {"text": "text", "label": "label"}
_ORDER_NOTE = "Only the order of the scores counts, so cosines, ratings from 0 to 5 and logits all work."

LOSS_COLUMNS: Mapping[LossName, LossColumns] = {
    "contrastive": LossColumns(
        _TRIPLET,
        _NEGATIVES,
        "For retrieval from pairs of a query and a right text: all other texts of the batch are negatives; the first choice.",
    ),
    "cosent": LossColumns(
        _SCORED_PAIR,
        {},
        "For pairs with a score of their similarity: a pair with a higher score must get the higher cosine.",
        scores=("score",),
        score_note=_ORDER_NOTE,
    ),
    "angle": LossColumns(
        _SCORED_PAIR,
        {},
        "For pairs with a score, like cosent, with a second term that still learns from pairs whose cosine is near 1 or -1.",
        scores=("score",),
        score_note=_ORDER_NOTE,
    ),
    "triplet": LossColumns(
        _TRIPLET,
        _NEGATIVES,
        "For triplets that must be apart by a margin and no further; for few or noisy pairs with negatives you trust.",
    ),
    "margin-mse": LossColumns(
        _TRIPLET,
        {**_NEGATIVES, **_TEACHER_SCORES},
        "For distillation from a cross-encoder or a larger model: learn by how much the positive is better than each negative.",
        least_negatives=1,
        scores=("score_positive", *NEGATIVE_SCORES),
        score_note="Differences of scores are copied, so the student's scale must reach them: with cosines at most twice the "
        "scale. Cosines of another model need a scale of about 1.",
    ),
    "kl": LossColumns(
        _TRIPLET,
        {**_NEGATIVES, **_TEACHER_SCORES},
        "For distillation with several negatives a row: learn the teacher's distribution over the candidates of the row.",
        least_negatives=1,
        scores=("score_positive", *NEGATIVE_SCORES),
        score_note="Scores are logits: cosines need a low teacher temperature (about 0.05), or the target is nearly uniform.",
    ),
    "proto-triplet": LossColumns(
        _LABELLED,
        {},
        "For texts with class labels and few rows a class: a row must be nearer to its class mean than to any other.",
    ),
    "icnn": LossColumns(
        _LABELLED,
        {},
        "For texts with class labels whose classes have several clusters: only the nearest rows of each row count.",
    ),
}


def find_column_mistake(loss: LossName, columns: Container[str], has_teacher: bool = False) -> str | None:
    """Return in one line which column of negatives or of teacher scores a table lacks for `loss`, or None.

    Columns that the loss always requires are not looked at.

    Args:
        columns: the columns of the table, by role.
        has_teacher: whether a teacher computes the scores; then columns of scores are not needed.
    """
    entry = LOSS_COLUMNS[loss]
    negatives = [name for name in NEGATIVES if name in columns]
    if len(negatives) < entry.least_negatives:
        return f"{loss} compares the positive with hard negatives: add a column `negative`"
    if "score_positive" not in entry.optional or has_teacher:
        return None
    missing = [name for name in ("score_positive", *(f"score_{name}" for name in negatives)) if name not in columns]
    if missing:
        return f"{loss} needs the teacher's scores: add a column `{missing[0]}`, or name a model in `teacher`"
    return None


def find_score_mistake(loss: LossName, column: str, score: float) -> str | None:
    """Return in one line what is wrong with a score of `column` for `loss`, or None if the loss takes it."""
    if column not in LOSS_COLUMNS[loss].scores:
        return None
    lowest, highest = LOSS_COLUMNS[loss].score_range
    if not math.isfinite(score):
        return f"{column}: {score} is not a finite number, which {loss} needs; correct the score or remove the row"
    if not lowest <= score <= highest:
        return f"{column}: {score:g} is out of range for {loss}: give a number from {lowest:g} to {highest:g}"
    return None


def find_text_columns(loss: LossName, column_names: Container[str]) -> list[str]:
    """Return the columns of texts that a loss reads and that are there. Other columns of the data are ignored."""
    roles = {**LOSS_COLUMNS[loss].required, **LOSS_COLUMNS[loss].optional}
    return [column for column, kind in roles.items() if kind == "text" and column in column_names]


def find_margin_mistake(positive: float, negative: float, scale: float) -> str | None:
    """Return in one line why cosines times `scale` cannot reach the margin of two teacher scores, or None if they can."""
    margin = positive - negative
    if abs(margin) <= 2 * scale:
        return None
    return (
        f"score_positive: margin-mse: the margin {positive:g} - {negative:g} = {margin:g} is beyond ±{2 * scale:g}, the most "
        f"that cosines with temperature {1 / scale:g} can reach; set temperature to {2 / abs(margin):.2g} or lower"
    )


def find_wide_scores_mistake(scores: Sequence[float], teacher_temperature: float) -> str | None:
    """Return in one line why the softmax of one row's teacher scores gives candidates no weight at all, or None.

    A float32 softmax is exactly 0 for a score about 100 temperatures below the largest.
    """
    spread = (max(scores) - min(scores)) / teacher_temperature
    if spread <= LARGEST_SPREAD:
        return None
    return (
        f"score_positive: kl: the scores of a row differ by {max(scores) - min(scores):g}, {spread:.0f} times the teacher's "
        f"temperature, so some count nothing; set the teacher's temperature to {(max(scores) - min(scores)) / 20:.2g} or higher"
    )
