"""Decide which shape a table has, and which column plays which role."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.core.errors import DataError
from zoo.families.starters import Shape
from zoo.starter.columns import MOST_NEGATIVES, NAMES, NUMBERED, Column
from zoo.starter.look import Table

Goal = Literal["retrieval", "sts", "classification", "topics"]
GOALS: tuple[Goal, ...] = ("retrieval", "sts", "classification", "topics")
NEEDS: dict[Goal, str] = {
    "retrieval": "two columns of texts that belong together, for example question and answer, or images with captions",
    "sts": "two columns of texts and a column of numbers that says how alike they are",
    "classification": "texts or images with a column of a few labels, or a folder of images with a folder for each class",
    "topics": "texts, and a second file with the columns label and keywords",
}
FITS: dict[Goal, tuple[Shape, ...]] = {
    "retrieval": ("pairs", "triplets", "captions"),
    "sts": ("scored-pairs",),
    "classification": ("labels", "images"),
    "topics": ("topics",),
}
POSITIVE_VALUES = ("entailment", "positive", "duplicate", "relevant", "true", "yes", "1")
MOST_GRADES = 12


@dataclass
class Finding:
    """The shape of the data, and the column of each role.

    Attributes:
        columns: role → name of the column.
        where: rows to keep.
        doubts: what could be otherwise, each a sentence.
    """

    shape: Shape
    columns: dict[str, str]
    where: dict[str, Any] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


def find_shape(table: Table, goal: Goal | None) -> Finding:
    """Find the shape of a table that stands alone. Raise DataError if it has none, or if `goal` does not fit."""
    finding = _find_by_contents(table, goal)
    if finding is None:
        raise DataError(
            f"{table.path}: has no columns that a recipe could use; there are: {table.describe_columns()}. "
            "zoo init knows texts, texts with labels or scores, images and vectors; name the columns, for example text and label"
        )
    if goal is not None and finding.shape not in FITS[goal]:
        _refuse_goal(table, goal)
    return finding


def _refuse_goal(table: Table, goal: Goal) -> None:
    others = [name for name in GOALS if name != goal and _suits(table, name)]
    advice = f"; --goal {' or '.join(others)} fits them" if others else "; leave --goal out"
    raise DataError(
        f"{table.path}: --goal {goal} needs {NEEDS[goal]}; the columns are: {table.describe_columns()}{advice}"
    )


def _suits(table: Table, goal: Goal) -> bool:
    try:
        finding = _find_by_contents(table, goal)
    except DataError:
        return False
    if finding is None or finding.shape not in FITS[goal]:
        return False
    return goal != "topics" or "label" in finding.columns  # without labels, a second file is needed


def _find_by_contents(table: Table, goal: Goal | None) -> Finding | None:
    steps: tuple[Callable[[Table, Goal | None], Finding | None], ...] = (
        _find_images,
        _find_vectors,
        _find_pairs,
        _find_labels,
        _find_texts,
    )
    return next((finding for step in steps if (finding := step(table, goal)) is not None), None)


# -- images and vectors --------------------------------------------------------------------------------------------------


def _find_images(table: Table, goal: Goal | None) -> Finding | None:
    images = _sort_by_name([column for column in table.columns if column.content == "image"], "image")
    if not images:
        return None
    if table.is_folder_of_images:
        _check_classes(table)
        return Finding("images", {"image": "image", "label": "label"})
    others = [column for column in table.columns if column is not images[0]]
    captions = _sort_by_name([column for column in others if column.is_text], "caption")
    labels = _sort_by_name([column for column in others if column.is_class], "label")
    doubts = _doubt_choice("image", images, named=images[0].is_named("image"))
    wants_labels = goal == "classification" or (goal is None and bool(labels) and labels[0].is_named("label"))
    if labels and (wants_labels or not captions):
        doubts += _doubt_choice("label", labels, named=labels[0].is_named("label"))
        if captions and goal is None:
            doubts.append(f"{captions[0].name} could be the captions of the images: --goal retrieval reads it so")
        return Finding("images", {"image": images[0].name, "label": labels[0].name}, doubts=doubts)
    if captions:
        doubts += _doubt_choice("caption", captions, named=captions[0].is_named("caption"))
        return Finding("captions", {"query": captions[0].name, "positive_image": images[0].name}, doubts=doubts)
    raise DataError(
        f"{table.path}: has images in the column {images[0].name}, but neither texts nor labels beside them; the columns are: "
        f"{table.describe_columns()}. Add a column caption or label"
    )


def _check_classes(table: Table) -> None:
    labels = table.find_column("label")
    if labels.distinct < 2:
        raise DataError(
            f"{table.path}: all images are in the folder {labels.values[0]!r}, so they are of one class; put the images of each "
            "class into a folder of its own, or write a table with the columns image and caption beside them"
        )


def _find_vectors(table: Table, goal: Goal | None) -> Finding | None:
    vectors = _sort_by_name([column for column in table.columns if column.content == "vector"], "vector")
    if not vectors or any(column.is_text for column in table.columns):
        return None
    return Finding("vectors", {"vector": vectors[0].name}, doubts=_doubt_choice("vector", vectors, named=True))


# -- pairs of texts ------------------------------------------------------------------------------------------------------


def _find_pairs(table: Table, goal: Goal | None) -> Finding | None:
    texts = [column for column in table.columns if column.is_text and not _is_negative(column)]
    anchors, positives = ([column for column in _sort_by_name(texts, role) if column.is_named(role)] for role in SIDES)
    labels = [column for column in table.columns if column.is_class and column.is_named("label")]
    if anchors and positives:
        pair, is_sure = (anchors[0], next((c for c in positives if c is not anchors[0]), positives[0])), True
    else:
        long_texts = [
            column for column in texts if not (column.is_class and (column.is_named("label") or len(texts) == 2))
        ]
        if len(long_texts) < 2 or goal in ("classification", "topics") or (goal is None and labels):
            return None
        pair, is_sure = _guess_pair(long_texts, anchors, positives), False
    if goal in ("classification", "topics"):
        return None
    doubts = [] if is_sure else [_say_pair(table, pair)]
    return _score_pairs(table, goal, pair, doubts)


SIDES = ("anchor", "positive")


def _guess_pair(
    texts: Sequence[Column], anchors: Sequence[Column], positives: Sequence[Column]
) -> tuple[Column, Column]:
    """Return a named side with the first other text, or the first two texts; a longer second text is the answer."""
    if anchors:
        return anchors[0], next(column for column in texts if column is not anchors[0])
    if positives:
        return next(column for column in texts if column is not positives[0]), positives[0]
    return texts[0], texts[1]


def _say_pair(table: Table, pair: tuple[Column, Column]) -> str:
    names = ", ".join(column.name for column in table.columns)
    return f"{pair[0].name} is read as the query and {pair[1].name} as its answer, of the columns {names}"


def _score_pairs(table: Table, goal: Goal | None, pair: tuple[Column, Column], doubts: list[str]) -> Finding | None:
    """Return triplets, scored pairs or pairs, by the columns beside the two texts."""
    negatives = _find_negatives(table, doubts)
    others = [column for column in table.columns if column not in (*pair, *negatives.values())]
    scores = [column for column in _sort_by_name(others, "score") if column.is_number and column.distinct > 1]
    named = [column for column in scores if column.is_named("score")]
    score = next(iter(named), None)
    if score is None and not negatives:
        score = next((column for column in scores if not column.is_id), None)
        if score is not None and not negatives:
            doubts.append(
                f"{score.name} is read as the score of a pair; write `columns: {{…: …}}` without it if it is none"
            )
    if negatives or score is None or goal == "retrieval":
        columns = {"anchor": pair[0].name, "positive": pair[1].name}
        where = _choose_positives(table, score, others, doubts) if not negatives else {}
        columns |= {role: column.name for role, column in negatives.items()}
        if goal is None and (unread := [column.name for column in others if column.is_text and not column.is_class]):
            doubts.append(
                f"texts of {', '.join(unread)} are not read; call a column `negative` if it holds wrong answers"
            )
        return Finding("triplets" if negatives else "pairs", columns, where, doubts)
    if score.is_named("label") and 2 < score.distinct <= MOST_GRADES:
        doubts.append(f"the numbers of {score.name} are read as scores, and a larger one means more alike")
    columns = {"sentence1": pair[0].name, "sentence2": pair[1].name, "score": score.name}
    return Finding("scored-pairs", columns, doubts=doubts)


def _choose_positives(
    table: Table, score: Column | None, others: Sequence[Column], doubts: list[str]
) -> dict[str, Any]:
    """Return the filter that keeps pairs that belong together, by a score of few grades or by a class such as `entailment`."""
    if score is not None:
        grades = sorted({float(value) for value in score.values})
        if len(grades) > MOST_GRADES:
            raise DataError(
                f"{table.path}: --goal retrieval needs pairs that belong together, but {score.name} has many values; write the "
                "good pairs to a file of their own, or use --goal sts"
            )
        middle = (grades[0] + grades[-1]) / 2
        kept = [int(grade) if grade == int(grade) else grade for grade in grades if grade > middle]
        doubts.append(f"pairs whose {score.name} is above {middle:g} are read as pairs that belong together")
        return {score.name: kept[0] if len(kept) == 1 else kept}
    for column in others:
        values = {str(value).strip().lower(): value for value in column.values}
        word = next((word for word in POSITIVE_VALUES if word in values), None)
        if column.is_class and not column.is_number and word is not None and len(values) <= MOST_GRADES:
            doubts.append(f"only pairs whose {column.name} is {values[word]} are read as pairs that belong together")
            return {column.name: values[word]}
    return {}


def _is_negative(column: Column) -> bool:
    return column.is_named("negative") or NUMBERED.fullmatch(column.plain_name) is not None


def _find_negatives(table: Table, doubts: list[str]) -> dict[str, Column]:
    """Return the columns of hard negatives by their roles: negative, then negative_1 and so on."""
    found = [column for column in table.columns if _is_negative(column)]
    lists = [
        column.name for column in table.columns if column.content == "texts" and column.plain_name.startswith("neg")
    ]
    doubts += [
        f"{name} holds lists, and one text is read of a column; write negative_1, negative_2 … to use them"
        for name in lists
    ]
    texts = [column for column in found if column.content == "text"][: MOST_NEGATIVES + 1]
    roles = ["negative", *(f"negative_{number}" for number in range(1, MOST_NEGATIVES + 1))]
    return dict(zip(roles, texts, strict=False))


# -- single texts --------------------------------------------------------------------------------------------------------


def _find_labels(table: Table, goal: Goal | None) -> Finding | None:
    labels = _sort_by_name([column for column in table.columns if column.is_class], "label")
    if not labels:
        return None
    texts = [column for column in table.columns if column.is_text and column is not labels[0]]
    texts = [column for column in texts if not column.is_class] or texts
    text = _choose_text(texts)
    if text is None:
        return None
    label, labels = _prefer_names(labels)
    doubts = _doubt_choice("label", labels, named=label.is_named("label"))
    if len(texts) > 1:
        doubts.append(f"{text.name} is read as the text, of {', '.join(column.name for column in texts)}")
    if label.content == "whole":
        doubts.append(f"the numbers of {label.name} are read as classes, not as amounts")
    return Finding("topics" if goal == "topics" else "labels", {"text": text.name, "label": label.name}, doubts=doubts)


def _prefer_names(labels: Sequence[Column]) -> tuple[Column, list[Column]]:
    """Return the label and the other candidates. Names of the classes are better than their numbers, which are left out."""
    first = labels[0]
    names = [
        column
        for column in labels[1:]
        if column.is_named("label") and column.content == "text" and column.distinct == first.distinct
    ]
    if first.content == "whole" and names:
        return names[0], [names[0], *(column for column in labels if column not in (first, names[0]))]
    return first, list(labels)


def _find_texts(table: Table, goal: Goal | None) -> Finding | None:
    texts = [column for column in table.columns if column.is_text]
    text = _choose_text(texts)
    if text is None:
        return None
    doubts = [f"{text.name} is read as the text, of {', '.join(c.name for c in texts)}"] if len(texts) > 1 else []
    return Finding("topics" if goal == "topics" else "texts", {"text": text.name}, doubts=doubts)


def _choose_text(texts: Sequence[Column]) -> Column | None:
    """Return the text of a usual name, or else the longest."""
    named = [column for column in _sort_by_name(texts, "text") if column.is_named("text")]
    return next(iter(named), None) or max(texts, key=lambda column: column.words, default=None)


# -- shared --------------------------------------------------------------------------------------------------------------


def _sort_by_name(columns: Sequence[Column], role: str) -> list[Column]:
    """Return the columns of usual names first, the surest first."""
    names = NAMES[role]
    return sorted(columns, key=lambda column: names.index(column.plain_name) if column.is_named(role) else len(names))


def _doubt_choice(role: str, columns: Sequence[Column], *, named: bool) -> list[str]:
    """Return the doubt about a choice among several columns, or about a column of an unusual name."""
    others = [column.name for column in columns[1:]]
    if others and not (named and not columns[1].is_named(role)):
        return [f"{columns[0].name} is read as the {role}; {' and '.join(others)} could be as well"]
    return [] if named else [f"{columns[0].name} is read as the {role}, by its contents alone"]
