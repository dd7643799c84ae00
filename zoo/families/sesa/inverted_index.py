"""`InvertedIndex` of sparse vectors: for each component, the items in which it is not 0.

A search reads only the lists of a query's own components, so searching a million items takes a fraction of a second. Vectors
are scipy CSR arrays, (n, components) float32. `scipy.sparse` saves them for other engines, and `to_torch` converts them for
the searches of sentence-transformers' SparseEncoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError

MAX_SCORES = 1 << 24  # scores in memory at a time
TENSORS = ("starts", "items", "weights", "shape")


def to_csr(blocks: Iterable[np.ndarray]) -> sparse.csr_array:
    """Stack dense blocks (n, components) into one CSR array float32. Only one block is dense at a time."""
    return sparse.csr_array(sparse.vstack([sparse.csr_array(block) for block in blocks], format="csr"))


def to_torch(vectors: sparse.csr_array) -> torch.Tensor:
    """Convert vectors to a sparse COO tensor, the format of sentence-transformers' SparseEncoder."""
    coo = vectors.tocoo()
    coordinates = torch.from_numpy(np.stack(coo.coords).astype(np.int64))
    return torch.sparse_coo_tensor(coordinates, torch.from_numpy(coo.data), coo.shape).coalesce()


class InvertedIndex:
    """Items by component: `lists` is a CSR array (components, items)."""

    def __init__(self, lists: sparse.csr_array) -> None:
        self.lists = lists

    @classmethod
    def from_vectors(cls, vectors: sparse.csr_array) -> InvertedIndex:
        """Build an index from the vectors of the items, (items, components)."""
        return cls(sparse.csr_array(vectors.T.tocsr()))

    def __len__(self) -> int:
        return int(self.lists.shape[1])

    def search(self, queries: sparse.csr_array, top: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Find the `top` items for each of q queries (q, components) by dot product.

        Return item numbers int64 and scores float32, (q, top) each, the best first. Equal scores keep the order of the
        items. Raise ZooError for queries of another width.
        """
        component_count = self.lists.shape[0]
        if queries.shape[1] != component_count:
            raise ZooError(
                f"the queries have {queries.shape[1]} components, but the index has {component_count}: "
                "encode queries and documents with the same model"
            )
        top = min(top, len(self))
        items = np.empty((queries.shape[0], top), dtype=np.int64)
        scores = np.empty((queries.shape[0], top), dtype=np.float32)
        block_size = max(1, MAX_SCORES // max(1, len(self)))
        for start in range(0, queries.shape[0], block_size):
            block = (queries[start : start + block_size] @ self.lists).toarray()
            for row, item_scores in enumerate(block, start):
                best = _select_best(item_scores, top)
                items[row], scores[row] = best, item_scores[best]
        return items, scores

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        content = {
            "starts": self.lists.indptr.astype(np.int64),
            "items": self.lists.indices.astype(np.int32),
            "weights": self.lists.data.astype(np.float32),
            "shape": np.asarray(self.lists.shape, dtype=np.int64),
        }
        with atomic_files.replace_file(path) as partial:
            save_file(content, partial)

    @classmethod
    def load(cls, path: Path) -> InvertedIndex:
        """Read what `save` wrote. Raise ArtefactError for any other file."""
        try:
            content = load_file(path)
            starts, items, weights, (component_count, item_count) = (content[name] for name in TENSORS)
            is_valid = len(content) == len(TENSORS) and len(starts) == component_count + 1
            is_valid = is_valid and len(items) == len(weights) == starts[-1]
            is_valid = is_valid and starts[0] == 0 and (np.diff(starts) >= 0).all() and np.isfinite(weights).all()
            is_valid = is_valid and (not len(items) or (items.min() >= 0 and items.max() < item_count))
        except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
            raise ArtefactError(f"{path}: cannot be read as an index: {str(error)[:120]}") from None
        if not is_valid:
            raise ArtefactError(
                f"{path}: is not an index: its lists do not fit its shape; build and save the index again"
            )
        return cls(sparse.csr_array((weights, items, starts), shape=(int(component_count), int(item_count))))


def _select_best(scores: np.ndarray, top: int) -> np.ndarray:
    """Return the positions of the `top` largest scores, the largest first; equal scores in their order."""
    if top < len(scores):
        lowest = np.partition(scores, len(scores) - top)[len(scores) - top]
        above = np.flatnonzero(scores > lowest)
        best = np.concatenate([above, np.flatnonzero(scores == lowest)[: top - len(above)]])
    else:
        best = np.arange(len(scores))
    return best[np.lexsort((best, -scores[best]))]
