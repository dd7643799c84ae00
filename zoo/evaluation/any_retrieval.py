"""Retrieval of and by texts, images and both, as mteb wants it; and a few of its answers, for pictures of them."""

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
TIE = 1e-6  # cosines that differ by less are equal: they come from other batches
SHOWN, TOP, THUMB = 6, 5, 64  # queries and answers in a picture, and pixels of an image in it


def side(text: Any, images: Any) -> Side | None:
    """What a row has on one side; None for nothing."""
    held = tuple(each for each in images or () if each["bytes"] is not None or each["path"])
    return (text or "", held) if text or held else None


def name(given: Side) -> str:
    """An id that is equal for equal contents and tells nothing of a row's place."""
    seen = hashlib.sha256(given[0].encode())
    for image in given[1]:
        seen.update(image["bytes"] or str(image["path"]).encode())
    return seen.hexdigest()[:24]


def shaped(tables: Mapping[str, Table], task: str) -> Any:
    """Queries, candidates and which of them are right, of rows (query, document) and further candidates. Equal ones are one, and
    what is `known` to be right of a query besides is none of its candidates."""
    asked: dict[str, Side] = {}
    candidates: dict[str, Side] = {}
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    for row in tables["corpus"].rows if "corpus" in tables else ():
        if found := side(row.get("text"), row.get("image")):
            candidates[name(found)] = found
    for place, row in enumerate(tables["data"].rows, 1):
        query = side(row.get("query"), row.get("query_image"))
        document = side(row.get("document"), row.get("document_image"))
        if query is None or document is None:
            which = "query" if query is None else "document"
            raise DataError(
                f"{task}: row {place} of {tables['data'].origin.name} has no {which}, neither text nor image"
            )
        asked[name(query)], candidates[name(document)] = query, document
        relevant[name(query)][name(document)] = 1
    known: dict[str, set[str]] = defaultdict(set)
    for row in tables["known"].rows if "known" in tables else ():
        query, document = (
            side(row.get("query"), row.get("query_image")),
            side(row.get("document"), row.get("document_image")),
        )
        if query and document:
            known[name(query)].add(name(document))
    ranked = {
        query: [each for each in candidates if each not in known[query] - relevant[query].keys()] for query in asked
    }
    return split(asked, candidates, dict(relevant), ranked if known else None)


def split(asked: Mapping[str, Side], candidates: Mapping[str, Side], relevant: Any, ranked: Any) -> Any:
    """The data of a task, and its category in mteb's notation, by which mteb chooses the columns that it hands on."""
    sides = [_columns(asked), _columns(candidates)]
    category = "2".join("".join(kind[0] for kind in ("image", "text") if kind in held) for held, _ in sides)
    held = {"corpus": sides[1][1], "queries": sides[0][1], "relevant_docs": relevant, "top_ranked": ranked}
    return {"default": {"test": held}, "category": category}


def _columns(given: Mapping[str, Side]) -> tuple[set[str], Dataset]:
    columns: dict[str, Any] = {"id": list(given)}
    features: dict[str, Any] = {"id": datasets.Value("string")}
    texts, images = [text for text, _ in given.values()], [held for _, held in given.values()]
    if several := next((held for held in images if len(held) > 1), None):
        raise DataError(f"an input of {len(several)} images: mteb's tasks have one an input")
    if any(texts):
        columns["text"], features["text"] = texts, datasets.Value("string")
    if any(images):
        columns["image"], features["image"] = [held[0] if held else None for held in images], datasets.Image()
    return columns.keys() - {"id"}, Dataset.from_dict(columns, features=datasets.Features(features))


class Strict(AbsTaskRetrieval):
    """Retrieval among each query's own candidates, where a hit must be above every wrong candidate: a tie is a miss, so that a
    model that gives everything one vector scores nothing."""

    k_values = (1, 5, 10)

    def task_specific_scores(
        self,
        scores: dict[str, dict[str, float]],
        qrels: Any,
        results: dict[str, dict[str, float]],
        hf_split: str,
        hf_subset: str,
    ) -> dict[str, float]:
        """`strict_hit_at_1`; `chance`, what a random choice would score; `candidates`, how many a query has on average."""
        hits, chances = [], []
        ranked: Any = self.dataset[hf_subset][hf_split]["top_ranked"]
        for query, right in qrels.items():
            found = results.get(query, {})
            best = max((score for name, score in found.items() if right.get(name)), default=-np.inf)
            rival = max((score for name, score in found.items() if not right.get(name)), default=-np.inf)
            hits.append(best > rival + TIE)
            chances.append(len(right) / len(ranked[query]))
        count = float(np.mean([len(ranked[query]) for query in qrels]))
        return {"strict_hit_at_1": float(np.mean(hits)), "chance": float(np.mean(chances)), "candidates": count}


# -- what pictures show ------------------------------------------------------------------------------------------------


def examples(shaped: Any, queries: np.ndarray, documents: np.ndarray) -> list[dict[str, Any]]:
    """The best of the candidates of a few queries, evenly spread over them, as JSON-able texts and small images."""
    held = shaped["default"]["test"]
    count, place_of = len(held["queries"]), {name: i for i, name in enumerate(held["corpus"]["id"])}
    out = []
    for place in sorted({round(i * (count - 1) / max(1, SHOWN - 1)) for i in range(SHOWN)}):
        query = held["queries"][place]
        right = held["relevant_docs"][query["id"]]
        ranked = held["top_ranked"][query["id"]] if held["top_ranked"] else place_of
        own = np.array([place_of[name] for name in ranked])
        order = own[np.argsort(-(documents[own] @ queries[place]), kind="stable")[:TOP]]
        answers = [held["corpus"][int(i)] for i in order]
        out.append({"query": _shown(query), "found": [{**_shown(a), "right": a["id"] in right} for a in answers]})
    return out


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"text": str(row.get("text") or "")[:80]}
    if (image := row.get("image")) is not None:
        small = image_files.normalise_image(image)
        small.thumbnail((THUMB, THUMB))
        kept = io.BytesIO()
        small.save(kept, "PNG")
        out["image"] = base64.b64encode(kept.getvalue()).decode()
    return out


def kept(vectors: Mapping[str, Sequence[np.ndarray]], side: str, count: int) -> np.ndarray | None:
    """The `count` vectors of one side, if they are all that were made."""
    found = vectors.get(side, [])
    return found[0] if len(found) == 1 and len(found[0]) == count else None
