"""The steps `int8` and `binary` beside the quantisation of sentence-transformers, at equal bytes.

    python benchmarks/after.py [--quick] [--work FOLDER] [--write FILE]

The vectors are those of all-MiniLM-L6-v2. Every description of ICD-10-CM is a document, and 500 inclusion terms are queries.
Ranges, means and scales are those of all documents, for zoo and for sentence-transformers alike. Nothing is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from codes_data import Search, read_vectors
from codes_peers import score, search_ubinary
from common import Results, finish, save_table

from zoo import after
from zoo.after.codes import figures
from zoo.after.material import Material
from zoo.after.step import CodeStep

Array = np.ndarray
Figures = dict[str, Any]
ABOUT = (
    "vectors of all-MiniLM-L6-v2, every description of ICD-10-CM as a document, 500 inclusion terms as queries. "
    "Bytes are those of one document, with the store for rescoring. `read first` is the part that every query reads."
)
STEPS: dict[str, tuple[str, Figures]] = {
    "int8": ("int8", {}),
    "int8, clip .0005": ("int8", {"clip": 0.0005}),
    "int8, clip .005": ("int8", {"clip": 0.005}),
    "binary, signs of queries, not centred": ("binary", {"query": "signs", "centred": False}),
    "binary, signs of queries": ("binary", {"query": "signs"}),
    "binary, not centred": ("binary", {"centred": False}),
    "binary": ("binary", {}),
    "binary, rescored by int8, 2 × 10": ("binary", {"rescore": "int8", "candidates": 2}),
    "binary, rescored by int8, 4 × 10": ("binary", {"rescore": "int8"}),
    "binary, rescored by int8, 10 × 10": ("binary", {"rescore": "int8", "candidates": 10}),
    "binary, signs of queries, rescored by int8, 4 × 10": ("binary", {"rescore": "int8", "query": "signs"}),
}


def measure_step(search: Search, exact: Array, name: str, fields: Figures) -> Figures:
    spec = after.load_spec(name).model_validate({"step": name, **fields})
    step = after.load_step(name).fit(spec, Material(search.documents))
    assert isinstance(step, CodeStep)
    _, found = step.search(search.queries, step.encode(search.documents), figures.TOP)
    return {"bytes": step.bytes_per_vector, "first": step.first_bytes, **score(found, exact, search)}


def search_uint8(search: Search, rescore: bool) -> Array:
    """The rows that sentence-transformers finds in a faiss index of uint8 codes, with the ranges of the documents."""
    from sentence_transformers.util.quantization import quantize_embeddings, semantic_search_faiss

    ranges = np.vstack([search.documents.min(0), search.documents.max(0)])
    hits, _ = semantic_search_faiss(
        search.queries,
        corpus_embeddings=quantize_embeddings(search.documents, "uint8", ranges=ranges),
        corpus_precision="uint8",
        ranges=ranges,
        top_k=figures.TOP,
        rescore=rescore,
        exact=True,
    )
    return np.array([[hit["corpus_id"] for hit in row] for row in hits])


PEERS: dict[str, tuple[int, Callable[[Search], Array]]] = {
    "sentence-transformers uint8": (1, lambda search: search_uint8(search, rescore=False)),
    "sentence-transformers uint8, its rescoring, 2 × 10": (1, lambda search: search_uint8(search, rescore=True)),
    "sentence-transformers ubinary": (8, lambda search: search_ubinary(search, rescore=False)),
    "sentence-transformers ubinary, its rescoring, 2 × 10": (8, lambda search: search_ubinary(search, rescore=True)),
}
"""Components of a byte of each peer's code, and its search."""


def measure_peer(search: Search, exact: Array, share: int, find: Callable[[Search], Array]) -> Figures:
    size = -(-search.documents.shape[1] // share)
    return {"bytes": size, "first": size, **score(find(search), exact, search)}


def measure_all(search: Search, results: Results) -> Figures:
    exact = figures.search_top(search.queries, search.documents)
    size = 4 * search.documents.shape[1]
    table: Figures = {"float32": {"bytes": size, "first": size, **score(exact, exact, search)}}
    for arm, (name, fields) in STEPS.items():
        key = arm.replace(" ", "-").replace(",", "")
        table[arm] = results.get(key, lambda name=name, fields=fields: measure_step(search, exact, name, fields))
    for arm, (share, find) in PEERS.items():
        key = arm.replace(" ", "-").replace(",", "")
        table[arm] = results.get(key, lambda share=share, find=find: measure_peer(search, exact, share, find))
    return table


def write_table(table: Figures, count: int) -> list[str]:
    """Return the table with codes of equal bytes beside one another."""
    base = table["float32"]["ndcg"]
    lines = [
        f"{count:,} documents.",
        "",
        "| codes | bytes | read first | share of the exact top 10 | nDCG@10 | of float32 |",
    ]
    lines.append("|:---|---:|---:|---:|---:|---:|")
    for arm, run in sorted(table.items(), key=lambda item: (-item[1]["bytes"], item[0].startswith("sentence"))):
        cells = [arm, f"{run['bytes']:,}", f"{run['first']:,}", f"{run['recall']:.4f}", f"{run['ndcg']:.4f}"]
        lines.append(f"| {' | '.join([*cells, format(run['ndcg'] / base, '.3f')])} |")
    return [*lines, "", *describe(table)]


def describe(table: Figures) -> list[str]:
    """Say where centring pays and where it does not, and that exact neighbours and nDCG may disagree."""
    centred, plain, peer = (table[name] for name in ("binary", "binary, not centred", list(PEERS)[-1]))
    text = f"Centred signs keep {centred['recall']:.3f} of the exact top 10 and plain ones {plain['recall']:.3f}. "
    text += f"Their nDCG@10 is {centred['ndcg']:.3f} and {plain['ndcg']:.3f}, "
    text += f"and that of `{list(PEERS)[-1]}` {peer['ndcg']:.3f}: "
    if centred["ndcg"] < plain["ndcg"]:
        return [
            text + "on these queries, `centred: false` ranks the answers better, although it keeps fewer neighbours."
        ]
    return [text + "centring pays for both."]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3,000 documents")
    parser.add_argument("--work", help="a folder that keeps vectors and figures")
    parser.add_argument("--write", metavar="FILE", help="write the table to this page of Markdown")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(args.work)
    search = read_vectors("icd10cm", args.work, args.quick)
    table = measure_all(search, results)
    lines = write_table(table, len(search.documents))
    print("\n".join(lines))
    if args.write:
        save_table(Path(args.write), "int8 and binary", "benchmarks/after.py", ABOUT, lines)
    finish({"after": table})


if __name__ == "__main__":
    main()
