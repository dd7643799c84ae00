"""Late interaction: the MaxSim scores of sets of token vectors.

MaxSim adds, over the tokens of a query, the largest inner product with any token of the document (Khattab and Zaharia, "ColBERT",
arXiv 2004.12832, equation 3).
"""

from __future__ import annotations

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.ops.exact_search import Ids, Scores
from zoo.ops.token_sets import Floats, Integers, TokenSets, check_token_sets, select_token_sets

QUERY_TOKENS = 1 << 10  # of a block; a block of products has then 16 MiB
DOCUMENT_TOKENS = 1 << 12
TRAINING_PRODUCTS = 1 << 24  # products of tokens that a block of a batch computes at once


def compute_maxsim(
    queries: TokenSets,
    documents: TokenSets,
    *,
    query_tokens: int = QUERY_TOKENS,
    document_tokens: int = DOCUMENT_TOKENS,
) -> Scores:
    """Return the scores (n, m) float32 of n queries with m documents. Memory beside the result does not grow with them.

    Args:
        queries: tokens (t, d) float32 of all queries, and offsets (n + 1,) at which each begins.
        documents: the same of m documents.
        query_tokens, document_tokens: tokens of a block. A longer set is a block of its own.

    A set without tokens has the score 0. Raises ZooError for arrays that do not fit.
    """
    query_vectors, query_offsets = check_token_sets(*queries)
    vectors, offsets = check_token_sets(*documents)
    if query_vectors.shape[1] != vectors.shape[1]:
        raise ZooError(
            f"queries have tokens of {query_vectors.shape[1]} components and documents of {vectors.shape[1]}; use one encoder"
        )
    scores = np.zeros((len(query_offsets) - 1, len(offsets) - 1), np.float32)
    rows, columns = np.flatnonzero(np.diff(query_offsets)), np.flatnonzero(np.diff(offsets))
    for some_rows in _plan_blocks(np.diff(query_offsets)[rows], query_tokens):
        left, left_offsets = select_token_sets(query_vectors, query_offsets, rows[some_rows])
        for some_columns in _plan_blocks(np.diff(offsets)[columns], document_tokens):
            right, right_offsets = select_token_sets(vectors, offsets, columns[some_columns])
            block = _score_block(left, left_offsets, right, right_offsets)
            scores[np.ix_(rows[some_rows], columns[some_columns])] = block
    return scores


def _plan_blocks(lengths: Integers, budget: int) -> list[slice]:
    """Cut sets with these numbers of tokens into runs of at most `budget` tokens."""
    blocks, start, filled = [], 0, 0
    for number, length in enumerate(lengths):
        if number > start and filled + length > budget:
            blocks.append(slice(start, number))
            start, filled = number, 0
        filled += int(length)
    return [*blocks, slice(start, len(lengths))] if len(lengths) else []


def _score_block(left: Floats, left_offsets: Integers, right: Floats, right_offsets: Integers) -> Scores:
    """Return the scores of sets that all have tokens, by one product of matrices."""
    products = (torch.from_numpy(right) @ torch.from_numpy(left).T).numpy()
    best = np.maximum.reduceat(products, right_offsets[:-1], axis=0)
    summed: Scores = np.add.reduceat(best, left_offsets[:-1], axis=1).T
    return summed


def compute_candidate_maxsim(queries: TokenSets, documents: TokenSets, candidates: Ids) -> Scores:
    """Return the scores (n, k) float32 of each query with its own k candidates.

    Args:
        queries, documents: as in `compute_maxsim`.
        candidates: (n, k) int64 numbers of documents. A negative number fills a row, and has the score -inf.
    """
    query_vectors, query_offsets = check_token_sets(*queries)
    vectors, offsets = check_token_sets(*documents)
    scores = np.full(candidates.shape, -np.inf, np.float32)
    for number, row in enumerate(candidates):
        is_there = row >= 0
        query = query_vectors[query_offsets[number] : query_offsets[number + 1]]
        own = (query, np.array([0, len(query)]))
        scores[number, is_there] = compute_maxsim(own, select_token_sets(vectors, offsets, row[is_there]))[0]
    return scores


def rerank(queries: TokenSets, documents: TokenSets, candidates: Ids) -> tuple[Scores, Ids]:
    """Sort the candidates (n, k) of each query by MaxSim. Return their scores and numbers, the best first.

    The lower number comes first if two scores are equal.
    """
    scores = compute_candidate_maxsim(queries, documents, candidates)
    order = np.lexsort((candidates, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def compute_batch_maxsim(
    queries: torch.Tensor, query_mask: torch.Tensor, documents: torch.Tensor, document_mask: torch.Tensor
) -> torch.Tensor:
    """Return the scores (n, m) of padded queries and documents, divided by the number of the query's tokens.

    The mean over the tokens of unit vectors lies between -1 and 1, as a cosine does. A set without tokens has the score 0.

    Args:
        queries: (n, s, d) unit vectors.
        query_mask: (n, s) bool, true for a token that counts.
        documents: (m, t, d) unit vectors.
        document_mask: (m, t) bool.
    """
    counts = query_mask.sum(1, keepdim=True).clamp_min(1)
    is_filled = document_mask.any(1)
    size = max(1, TRAINING_PRODUCTS // max(1, queries.shape[1] * documents.shape[0] * documents.shape[1]))
    blocks = []
    with torch.autocast(queries.device.type, enabled=False):
        for start in range(0, len(queries), size):
            part, mask = queries[start : start + size], query_mask[start : start + size]
            products = torch.einsum("nsd,mtd->nmst", part.float(), documents.float())
            products = products.masked_fill(~document_mask[None, :, None, :], torch.finfo(torch.float32).min)
            best = products.max(-1).values.masked_fill(~is_filled[None, :, None], 0.0)
            blocks.append((best * mask[:, None, :]).sum(-1))
    return torch.cat(blocks) / counts
