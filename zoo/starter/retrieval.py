"""Folders of retrieval data: join queries and documents into a file of pairs, which families train on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import data
from zoo.core import atomic_files
from zoo.core.errors import DataError, ZooError
from zoo.data.spec import FileData
from zoo.evaluation import retrieval_folder
from zoo.schema import Kind

TRAINING_SPLITS = ("train", "test", "dev", "validation")
TEST_SPLITS = ("test", "dev", "validation")
ROLES: dict[str, tuple[dict[str, Kind], dict[str, Kind]]] = {
    "corpus": ({"id": "id", "text": "caption"}, {"title": "caption"}),
    "queries": ({"id": "id", "text": "text"}, {}),
    "qrels": ({"query_id": "id", "document_id": "id"}, {"score": "number"}),
}


@dataclass(frozen=True)
class RetrievalData:
    """The pairs that were written, and what the evaluation reads.

    Attributes:
        pairs: the file of pairs, with the columns query_id, document_id, query, document and score.
        folder: the folder of retrieval data.
        sources: its parts, as the split of the training has them.
        training_split: the split whose judgements became pairs.
        test_split: another split for the evaluation, or None if queries have to be held out.
        left_out: judgements without a query or a document.
    """

    pairs: Path
    folder: Path
    sources: Mapping[str, FileData]
    training_split: str
    test_split: str | None
    left_out: int


def is_retrieval_folder(path: Path) -> bool:
    """Return whether a folder has a corpus and queries as BEIR and mteb lay them out."""
    return path.is_dir() and all(any(path.glob(pattern)) for pattern in ("corpus*", "queries*"))


def write_pairs(folder: Path, out: Path, *, force: bool) -> RetrievalData:
    """Write a pair for each judgement that is not 0, beside the recipe `out`. Raise ZooError if there is such a file already."""
    splits = [split for split in TRAINING_SPLITS if _has_split(folder, split)]
    if not splits:
        retrieval_folder.find_sources(folder, "test")  # says what is missing
    training_split = splits[0]
    sources = retrieval_folder.find_sources(folder.absolute(), training_split)
    pairs = out.with_name(f"{out.stem}-pairs.jsonl")
    if os.path.lexists(pairs) and not force:
        raise ZooError(f"{pairs} is there already; remove it, choose another --out, or give --force to write it anew")
    tables = {part: data.read(sources[part], *ROLES[part], folder=Path()).rows for part in retrieval_folder.NEEDED}
    queries = dict(zip(tables["queries"]["id"], tables["queries"]["text"], strict=True))
    documents = _join_titles(tables["corpus"])
    judgements = tables["qrels"]
    scores = judgements["score"] if "score" in judgements.column_names else [1.0] * len(judgements)
    left_out = written = 0
    with atomic_files.replace_file(pairs) as partial, partial.open("w", encoding="utf-8") as file:
        for query_id, document_id, score in zip(judgements["query_id"], judgements["document_id"], scores, strict=True):
            if score <= 0:
                continue
            query, document = queries.get(query_id), documents.get(document_id, "")
            if query is None or not document:
                left_out += 1
                continue
            row = {"query_id": query_id, "document_id": document_id, "query": query, "document": document}
            file.write(json.dumps({**row, "score": score}, ensure_ascii=False) + "\n")
            written += 1
        if not written:
            raise DataError(f"{folder}: no judgement of {training_split} names a query and a document; check the ids")
    tests = [split for split in TEST_SPLITS if split != training_split and split in splits]
    return RetrievalData(pairs, folder, sources, training_split, next(iter(tests), None), left_out)


def _has_split(folder: Path, split: str) -> bool:
    patterns = (pattern.format(split=split) for pattern in retrieval_folder.PATTERNS["qrels"] if "{split}" in pattern)
    has_one_file = split == "test" and any(folder.glob("qrels.*"))
    return has_one_file or any(any(folder.glob(pattern)) for pattern in patterns)


def _join_titles(corpus: Any) -> dict[str, str]:
    """Return the text of each document after its title, as mteb joins them."""
    titles = corpus["title"] if "title" in corpus.column_names else [""] * len(corpus)
    texts = zip(corpus["id"], titles, corpus["text"], strict=True)
    return {name: f"{title} {text}".strip() for name, title, text in texts}
