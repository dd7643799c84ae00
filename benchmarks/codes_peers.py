"""Peers of benchmarks/codes.py: what other libraries find with codes of about equal bytes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from codes_data import Search

from zoo.after.codes import figures
from zoo.ops import codes

PEER_ROWS = 10_000  # that a peer is trained on, and on which zoo fits rotation and levels
Array = np.ndarray


def score(found: Array, exact: Array, search: Search) -> dict[str, float]:
    return {"recall": figures.compute_recall(found, exact), "ndcg": figures.compute_ndcg(found, search.answers)}


def search_faiss(search: Search, description: str, sample: Array) -> Array:
    """The numbers that an index of faiss finds by inner products."""
    import faiss

    index = faiss.index_factory(search.documents.shape[1], description, faiss.METRIC_INNER_PRODUCT)
    if hasattr(index, "rq"):
        index.rq.max_beam_size = 1  # the default of 5 takes five times as long
    index.train(sample)
    index.add(search.documents)
    return np.asarray(index.search(search.queries, figures.TOP)[1])


def search_itq(search: Search, bits: int, sample: Array) -> Array:
    """Signs of rotated components, as float queries find them."""
    mean = sample.mean(0)
    columns = codes.fit_iterative_quantisation(torch.from_numpy(sample - mean), bits, seed=0).numpy()
    signs = np.sign((search.documents - mean) @ columns)
    return figures.search_top(search.queries @ columns, signs)


def search_ubinary(search: Search, rescore: bool) -> Array:
    from sentence_transformers.util.quantization import quantize_embeddings, semantic_search_faiss

    packed = quantize_embeddings(search.documents, "ubinary")
    queries = search.queries if rescore else quantize_embeddings(search.queries, "ubinary")
    hits, _ = semantic_search_faiss(
        queries, corpus_embeddings=packed, corpus_precision="ubinary", top_k=figures.TOP, rescore=rescore, exact=True
    )
    return np.array([[hit["corpus_id"] for hit in row] for row in hits])


PEERS: dict[str, tuple[int, Callable[[Search, Array], Array]]] = {
    "sentence-transformers ubinary": (48, lambda search, _: search_ubinary(search, rescore=False)),
    "sentence-transformers ubinary, rescored": (48, lambda search, _: search_ubinary(search, rescore=True)),
    "ITQ, 384 bits, float query": (48, lambda search, sample: search_itq(search, 384, sample)),
    "faiss PQ48": (48, lambda search, sample: search_faiss(search, "PQ48", sample)),
    "faiss OPQ48,PQ48": (48, lambda search, sample: search_faiss(search, "OPQ48,PQ48", sample)),
    "faiss RQ48x8, beam of 1": (48, lambda search, sample: search_faiss(search, "RQ48x8", sample)),
    "faiss PCAR320,RaBitQ": (48, lambda search, sample: search_faiss(search, "PCAR320,RaBitQ", sample)),
    "faiss RR,RaBitQ": (56, lambda search, sample: search_faiss(search, "RR,RaBitQ", sample)),
}


PEERS_WITH_WORDS = ("faiss PQ48", "faiss OPQ48,PQ48", "faiss RQ48x8, beam of 1")
"""Their words take more bytes than the vectors of fewer than PEER_ROWS documents, so smaller sets leave them out."""
PEERS_OF_24 = {
    "ITQ, 192 bits, float query": lambda search, sample: search_itq(search, 192, sample),
    "faiss PCAR128,RaBitQ": lambda search, sample: search_faiss(search, "PCAR128,RaBitQ", sample),
}


def measure_peer(find: Callable[[Search, Array], Array], size: int, search: Search, exact: Array) -> dict[str, float]:
    import faiss

    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    sample = search.documents[np.sort(rng.permutation(len(search.documents))[:PEER_ROWS])]
    start = time.process_time()
    found = find(search, sample)
    return {"bytes": size, "seconds": time.process_time() - start, **score(found, exact, search)}
