"""Folders of retrieval data as BEIR and mteb lay them out: a corpus, queries, judgements and, for reranking, candidates.

    BEIR    corpus.jsonl, queries.jsonl, qrels/test.tsv
    mteb    the same names with jsonl or parquet files, or a folder of each name: corpus/test-00000-of-00001.parquet

The columns are found by the names that BEIR and mteb use: `_id` or `id`, `query-id`, `corpus-id`, `score`.
"""

from __future__ import annotations

from pathlib import Path

from zoo import data
from zoo.core import confinement
from zoo.core.errors import DataError
from zoo.data.formats import tabular
from zoo.data.sources import file
from zoo.data.spec import FileData

PATTERNS = {
    "corpus": ("corpus.*", "corpus/{split}[-.]*", "corpus/corpus[-.]*", "corpus/*"),
    "queries": ("queries.*", "queries/{split}[-.]*", "queries/queries[-.]*", "queries/*"),
    "qrels": ("qrels/{split}[-.]*", "default/{split}[-.]*", "data/{split}[-.]*", "qrels.*"),
    "top_ranked": ("top_ranked.*", "top_ranked/{split}[-.]*", "top_ranked/*"),
}
COLUMN_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "corpus": {"id": ("_id", "id"), "text": ("text",), "title": ("title",)},
    "queries": {"id": ("_id", "id"), "text": ("text",)},
    "qrels": {
        "query_id": ("query-id", "query_id", "qid"),
        "document_id": ("corpus-id", "corpus_id", "document_id", "docid"),
        "score": ("score", "relevance"),
    },
    "top_ranked": {
        "query_id": ("query-id", "query_id", "qid"),
        "document_ids": ("corpus-ids", "corpus_ids", "document_ids"),
    },
}
NEEDED = ("corpus", "queries", "qrels")


def find_sources(base: Path, split: str) -> dict[str, FileData]:
    """Return the data section of each part that a folder holds. Only `top_ranked` may be absent.

    Raises:
        DataError: if there is no such folder, if a part is missing, or if several files could be meant.
    """
    confinement.check_path(base)
    if not base.is_dir():
        raise DataError(f"{base}: there is no such folder")
    sources = {part: source for part in PATTERNS if (source := _find_part(base, part, split)) is not None}
    missing = [PATTERNS[part][0].format(split=split) for part in NEEDED if part not in sources]
    if missing:
        raise DataError(f"{base}: holds no {' and no '.join(missing)}; it takes a corpus, queries and qrels as in BEIR")
    return sources


def resolve(path: str, folder: Path) -> Path:
    """Return the folder that a recipe names. A relative path starts at `folder`."""
    return (folder / file.expand_path(path)).absolute()


def _find_part(base: Path, part: str, split: str) -> FileData | None:
    for pattern in PATTERNS[part]:
        filled = pattern.format(split=split)
        paths = sorted(path for path in base.glob(filled) if path.is_file() and tabular.is_table(path))
        stems = {path.name.split(".")[0] for path in paths}
        if len(paths) > len(stems):
            raise DataError(f"{paths[0].parent} holds {' and '.join(path.name for path in paths)}; keep one of them")
        if paths:
            path = paths[0] if len(paths) == 1 else base / filled
            return _name_columns(FileData(source="file", path=str(path)), part)
    return None


def _name_columns(source: FileData, part: str) -> FileData:
    """Return the section with the columns of its roles. A role without a column is left for the check of columns to report."""
    present = data.peek(source, folder=Path()) or ()
    columns = {
        role: next((name for name in names if name in present), None) for role, names in COLUMN_NAMES[part].items()
    }
    return source.model_copy(update={"columns": {role: name for role, name in columns.items() if name is not None}})
