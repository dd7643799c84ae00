"""Exact search for the nearest rows by inner product, in blocks: memory does not grow with the number of rows.

Equal scores are ordered by the number of the row, so that the result does not depend on the order of the computation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

CORPUS_BLOCK = 1 << 12  # rows; a block of scores of 1,024 queries has then 16 MiB
QUERY_BLOCK = 1 << 10
NOTHING = -1
"""In place of a row's number if fewer rows are left than were asked for; its score is -inf."""

Ids = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Pairs = tuple[Ids, Ids]
"""(n,) numbers of queries, ascending, and (n,) numbers of the row that each of them must not get."""
LOW_BITS = (1 << 32) - 1
SMALLEST = -(1 << 63)


def search(
    queries: Any,
    corpus: Any,
    k: int,
    *,
    excluded: Pairs | None = None,
    corpus_block: int = CORPUS_BLOCK,
    query_block: int = QUERY_BLOCK,
    device: str = "cpu",
) -> tuple[Scores, Ids]:
    """Return scores and row numbers (n, min(k, m)) of the best rows of `corpus` for each query, the best first.

    Args:
        queries: (n, d) float32 vectors, for example an array in memory or a memory-mapped file.
        corpus: (m, d) float32 vectors. One block is in memory at a time.
        k: number of rows that are returned for each query.
        excluded: pairs of a query and a row that it must not get.
        corpus_block, query_block: numbers of vectors of a block.
        device: where the products are computed.
    """
    count = min(k, len(corpus))
    scores = np.full((len(queries), count), -np.inf, np.float32)
    ids = np.full((len(queries), count), NOTHING, np.int64)
    for start in range(0, len(queries), query_block):
        part = slice(start, min(start + query_block, len(queries)))
        pairs = None if excluded is None else _cut_pairs(excluded, part.start, part.stop)
        scores[part], ids[part] = _search_block(queries[part], corpus, count, pairs, corpus_block, device)
    return scores, ids


def _cut_pairs(pairs: Pairs, start: int, stop: int) -> Pairs:
    """Return the pairs of the queries `start` … `stop` - 1, whose numbers then begin at 0."""
    first, last = np.searchsorted(pairs[0], (start, stop))
    return pairs[0][first:last] - start, pairs[1][first:last]


def _search_block(
    queries: Any, corpus: Any, k: int, excluded: Pairs | None, corpus_block: int, device: str
) -> tuple[Scores, Ids]:
    left = _to_tensor(queries, device)
    best = torch.empty((len(left), 0), dtype=torch.int64, device=device)
    for start in range(0, len(corpus), corpus_block):
        right = _to_tensor(corpus[start : start + corpus_block], device)
        scores = left @ right.T
        if excluded is not None:
            is_here = (excluded[1] >= start) & (excluded[1] < start + len(right))
            places = [torch.from_numpy(part[is_here]).to(device) for part in (excluded[0], excluded[1] - start)]
            scores[places[0], places[1]] = -torch.inf
        best = _merge(best, _select(scores, start, k), k) if best.shape[1] < k else _add(best, scores, start, k)
    values, ids = _unpack(best)
    ids[torch.isneginf(values)] = NOTHING
    return values.cpu().numpy(), ids.cpu().numpy()


def _to_tensor(vectors: Any, device: str) -> torch.Tensor:
    return torch.from_numpy(np.array(vectors, np.float32)).to(device)


def _merge(best: torch.Tensor, others: torch.Tensor, k: int) -> torch.Tensor:
    keys = torch.cat([best, others], dim=1)
    return keys.topk(min(k, keys.shape[1]), dim=1).values


def _add(best: torch.Tensor, scores: torch.Tensor, start: int, k: int) -> torch.Tensor:
    """Merge the entries of `scores` that beat the worst of the k best keys: few, once some blocks were seen."""
    # An equal score does not count, because its row has a higher number.
    rows, places = (scores > _unpack(best[:, -1:])[0]).nonzero(as_tuple=True)
    if not len(rows):
        return best
    counts = torch.bincount(rows, minlength=len(best))
    firsts = counts.cumsum(0) - counts
    keys = torch.full((len(best), int(counts.max())), SMALLEST, dtype=torch.int64, device=best.device)
    keys[rows, torch.arange(len(rows), device=best.device) - firsts[rows]] = _pack(scores[rows, places], places + start)
    return _merge(best, keys, k)


def _select(scores: torch.Tensor, start: int, k: int) -> torch.Tensor:
    """Return the keys (n, min(k, m)) of the best entries of each row of `scores` (n, m). Column 0 is row `start`."""
    count = min(k, scores.shape[1])
    values, places = scores.topk(count, dim=1, sorted=False)
    keys = _pack(values, places + start)
    lowest = values.amin(dim=1, keepdim=True)
    # `topk` takes any of the entries with the lowest score; the rows with the lowest numbers are wanted.
    is_open = ((scores >= lowest).sum(dim=1) > count) & ~torch.isneginf(lowest[:, 0])
    if is_open.any():
        numbers = torch.arange(start, start + scores.shape[1], device=scores.device)
        keys[is_open] = _pack(scores[is_open], numbers).topk(count, dim=1).values
    return keys


def _pack(scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return int64 keys: the larger the score, and then the lower the number, the larger is the key."""
    bits = (scores + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) + (LOW_BITS - ids)


def _unpack(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ordered = (keys >> 32).to(torch.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), LOW_BITS - (keys & LOW_BITS)
