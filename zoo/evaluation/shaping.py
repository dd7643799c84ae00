"""Shapes that several tasks over the user's own data share: corpora, train and test splits, labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.core import atomic_files
from zoo.core.errors import DataError
from zoo.data import Table, kinds

if TYPE_CHECKING:
    from datasets import Dataset

CUT_OFFS = (1, 3, 5, 10, 20, 100)
"""Ranks at which retrieval is scored. mteb's own thousand per query takes longer than most encoders."""


def make_text_id(text: str) -> str:
    """An id that does not depend on the text's position. mteb breaks ties by id, and short codes tie often."""
    return atomic_files.digest(text)[:24]


def check_labels(title: str, labels: Sequence[Any]) -> None:
    """Raise DataError unless there are at least two different labels."""
    values = set(labels)
    if len(values) < 2:
        raise DataError(f"{title}: every label is {next(iter(values))!r}; it takes two classes")


def shape_classification(title: str, tables: Mapping[str, Table], columns: list[str]) -> Any:
    """Train and test rows. Raises DataError for a single class, and for a test label without a training row."""
    from datasets import DatasetDict

    train, test = (tables[part].rows.select_columns(columns) for part in ("train", "data"))
    check_labels(title, train["label"])
    labels = kinds.match_labels(test["label"], set(train["label"]))
    unknown = sorted({str(label) for label in set(labels) - set(train["label"])})
    if unknown:
        raise DataError(f"{title}: labels without a training example: {', '.join(unknown[:5])}")
    if test.features["label"] != train.features["label"]:
        test = test.cast_column("label", train.features["label"])
    classes = sorted(set(train["label"]))
    if len(classes) == 2 and 1 not in classes:
        train, test = (_number_labels(rows, classes) for rows in (train, test))
    return DatasetDict(train=train, test=test)


def _number_labels(rows: Dataset, classes: Sequence[Any]) -> Dataset:
    """Replace labels by their places among `classes`. mteb takes 1 for the positive one of two classes."""
    from datasets import Value

    numbers = [classes.index(label) for label in rows["label"]]
    return rows.remove_columns("label").add_column("label", numbers).cast_column("label", Value("int64"))


def shape_corpus(
    documents: Mapping[str, str],
    queries: Mapping[str, str],
    relevant: Mapping[str, Mapping[str, int]],
    candidates: Mapping[str, Sequence[str]] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Any:
    """mteb's form of a retrieval task, from texts by id.

    Args:
        relevant: grades by query and document; candidates: the documents that a query may choose from, if not all.
        titles: by document, if it has any.
    """
    from datasets import Dataset

    corpus = {"id": list(documents), "text": list(documents.values())}
    if titles:
        corpus["title"] = [titles[name] for name in documents]
    split = {
        "corpus": Dataset.from_dict(corpus),
        "queries": Dataset.from_dict({"id": list(queries), "text": list(queries.values())}),
        "relevant_docs": relevant,
        "top_ranked": candidates,
    }
    return {"default": {"test": split}}


def read_grades(qrels: Table, documents: Mapping[str, str], queries: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Grades by query and document. Raises DataError for an unknown id, a grade that is not a count, and two grades."""
    rows, source = qrels.rows, qrels.origin.name
    grades = rows["score"] if "score" in rows.column_names else [1.0] * len(rows)
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    for query, document, grade in zip(rows["query_id"], rows["document_id"], grades, strict=True):
        if query not in queries or document not in documents:
            missing = f"query {query!r}" if query not in queries else f"document {document!r}"
            raise DataError(f"{source}: {missing} of the qrels is not there")
        if grade != int(grade) or grade < 0:
            raise DataError(f"{source}: a relevance grade is a whole number from 0 on, not {grade}")
        if relevant[query].setdefault(document, int(grade)) != int(grade):
            raise DataError(f"{source}: query {query!r} and document {document!r} have two grades")
    return relevant


def read_by_id(table: Table, column: str) -> dict[str, str]:
    """The values of a column by id. Raises DataError for two different values under one id."""
    values: dict[str, str] = {}
    for name, text in zip(table.rows["id"], table.rows[column], strict=True):
        if values.setdefault(name, text) != text:
            raise DataError(f"{table.origin.name}: two rows have the id {name!r}")
    return values
