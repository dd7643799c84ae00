"""Retrieval of and by texts, images and both, in mteb's form; and some answers, for the card's pictures."""

from __future__ import annotations

import base64
import hashlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval

from zoo.core.errors import DataError
from zoo.data import Table
from zoo.data.formats import image_files

Side = tuple[str, tuple[Any, ...]]
"""A text, and images as {"bytes", "path"}."""
TIE = 1e-6  # cosines of different batches differ by rounding; a smaller difference is a tie
QUERIES, ANSWERS, THUMBNAIL = 6, 5, 64  # in a picture: queries, answers of each, pixels of an image


def make_side(text: Any, images: Any) -> Side | None:
    """One side of a row, or None if it has neither a text nor an image."""
    present = tuple(image for image in images or () if image["bytes"] is not None or image["path"])
    return (text or "", present) if text or present else None


def make_id(side: Side) -> str:
    """An id that is equal for equal contents and does not depend on the row's position."""
    digest = hashlib.sha256(side[0].encode())
    for image in side[1]:
        digest.update(image["bytes"] or str(image["path"]).encode())
    return digest.hexdigest()[:24]


def shape_pairs(tables: Mapping[str, Table], title: str) -> Any:
    """Queries, candidates and relevance from rows (query, document) and further candidates.

    Equal sides are one. Documents that the table `known` pairs with a query are not candidates of that query. Raises DataError
    for a row without a query or without a document.
    """
    queries: dict[str, Side] = {}
    documents: dict[str, Side] = {}
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    for row in tables["corpus"].rows if "corpus" in tables else ():
        side = make_side(row.get("text"), row.get("image"))
        if side:
            documents[make_id(side)] = side
    for number, row in enumerate(tables["data"].rows, 1):
        query, document = _read_pair(row)
        if query is None or document is None:
            missing = "query" if query is None else "document"
            source = tables["data"].origin.name
            raise DataError(f"{title}: row {number} of {source} has no {missing}, neither text nor image")
        queries[make_id(query)], documents[make_id(document)] = query, document
        relevant[make_id(query)][make_id(document)] = 1
    known: dict[str, set[str]] = defaultdict(set)
    for row in tables["known"].rows if "known" in tables else ():
        query, document = _read_pair(row)
        if query and document:
            known[make_id(query)].add(make_id(document))
    candidates = {}
    for query_id in queries:
        left_out = known.get(query_id, set()) - relevant[query_id].keys()
        candidates[query_id] = [name for name in documents if name not in left_out]
    return shape_sides(queries, documents, dict(relevant), candidates if known else None)


def _read_pair(row: Mapping[str, Any]) -> tuple[Side | None, Side | None]:
    query = make_side(row.get("query"), row.get("query_image"))
    return query, make_side(row.get("document"), row.get("document_image"))


def shape_sides(queries: Mapping[str, Side], documents: Mapping[str, Side], relevant: Any, candidates: Any) -> Any:
    """The data of a task, and its category, by which mteb chooses the columns that it passes on."""
    sides = [_make_columns(queries), _make_columns(documents)]
    letters = ["".join(kind[0] for kind in ("image", "text") if kind in columns) for columns, _ in sides]
    split = {
        "corpus": sides[1][1],
        "queries": sides[0][1],
        "relevant_docs": relevant,
        "top_ranked": candidates,
    }
    return {"default": {"test": split}, "category": "2".join(letters)}


def list_modalities(task_data: Any) -> list[str]:
    """The modalities that occur in a task's data, from its category."""
    return [kind for kind in ("image", "text") if kind[0] in task_data["category"].replace("2", "")]


def _make_columns(sides: Mapping[str, Side]) -> tuple[set[str], Dataset]:
    columns: dict[str, Any] = {"id": list(sides)}
    features: dict[str, Any] = {"id": datasets.Value("string")}
    texts, images = [text for text, _ in sides.values()], [side_images for _, side_images in sides.values()]
    several = next((side_images for side_images in images if len(side_images) > 1), None)
    if several:
        raise DataError(f"an input of {len(several)} images: mteb's tasks have one an input")
    if any(texts):
        columns["text"], features["text"] = texts, datasets.Value("string")
    if any(images):
        columns["image"] = [side_images[0] if side_images else None for side_images in images]
        features["image"] = datasets.Image()
    return columns.keys() - {"id"}, Dataset.from_dict(columns, features=datasets.Features(features))


class StrictRetrieval(AbsTaskRetrieval):
    """Retrieval among each query's own candidates. A hit must score above every wrong candidate; a tie is a miss.

    A model that gives every input the same vector therefore scores 0.
    """

    k_values = (1, 5, 10)

    def task_specific_scores(
        self,
        scores: dict[str, dict[str, float]],
        qrels: Any,
        results: dict[str, dict[str, float]],
        hf_split: str,
        hf_subset: str,
    ) -> dict[str, float]:
        """`strict_hit_at_1`; `chance`, the score of a random choice; `candidates`, their mean number per query."""
        hits, chances = [], []
        candidates: Any = self.dataset[hf_subset][hf_split]["top_ranked"]
        for query, right in qrels.items():
            similarities = results.get(query, {})
            best = max((score for name, score in similarities.items() if right.get(name)), default=-np.inf)
            rival = max((score for name, score in similarities.items() if not right.get(name)), default=-np.inf)
            hits.append(best > rival + TIE)
            chances.append(len(right) / len(candidates[query]))
        count = float(np.mean([len(candidates[query]) for query in qrels]))
        return {"strict_hit_at_1": float(np.mean(hits)), "chance": float(np.mean(chances)), "candidates": count}


# -- the card's pictures ---------------------------------------------------------------------------------------------


def list_answers(task_data: Any, queries: np.ndarray, documents: np.ndarray) -> list[dict[str, Any]]:
    """The best candidates of a few queries, evenly spread over all queries, as JSON-able texts and small images.

    `queries` (q, d) and `documents` (n, d) are the vectors in the order of the task's data.
    """
    split = task_data["default"]["test"]
    count = len(split["queries"])
    row_of = {name: i for i, name in enumerate(split["corpus"]["id"])}
    answers = []
    for row in sorted({round(i * (count - 1) / max(1, QUERIES - 1)) for i in range(QUERIES)}):
        query = split["queries"][row]
        right = split["relevant_docs"][query["id"]]
        names = split["top_ranked"][query["id"]] if split["top_ranked"] else row_of
        rows = np.array([row_of[name] for name in names])
        best = rows[np.argsort(-(documents[rows] @ queries[row]), kind="stable")[:ANSWERS]]
        documents_shown = [split["corpus"][int(i)] for i in best]
        shown = [{**_show(document), "right": document["id"] in right} for document in documents_shown]
        answers.append({"query": _show(query), "found": shown})
    return answers


def _show(row: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"text": str(row.get("text") or "")[:80]}
    if (image := row.get("image")) is not None:
        thumbnail = image_files.normalise_image(image)
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        thumbnail.save(buffer, "PNG")
        shown["image"] = base64.b64encode(buffer.getvalue()).decode()
    return shown


def find_vectors(vectors: Mapping[str, Sequence[np.ndarray]], side: str, count: int) -> np.ndarray | None:
    """The `count` vectors of one side, or None if these are not all vectors that were computed."""
    blocks = vectors.get(side, [])
    return blocks[0] if len(blocks) == 1 and len(blocks[0]) == count else None
