"""An inverted index of sparse vectors: for each component the items that have it. A search reads the lists of a query's own
components and nothing else, so that a million items are searched in moments.

Vectors are scipy CSR, (n, components) float32. Other engines take the same numbers: `scipy.sparse` for files, torch's sparse
tensors for the searches of sentence-transformers' SparseEncoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse as sparse
    import torch
else:
    np, sparse, torch = lazy("numpy"), lazy("scipy.sparse"), lazy("torch")

HELD = 1 << 24  # scores in memory at a time
NAMES = ("starts", "items", "weights", "shape")


def csr(blocks: Iterable[np.ndarray]) -> sparse.csr_array:
    """Dense blocks (n, components), one after the other, as one CSR array float32 that was never dense as a whole."""
    return sparse.csr_array(sparse.vstack([sparse.csr_array(block) for block in blocks], format="csr"))


def as_torch(vectors: sparse.csr_array) -> torch.Tensor:
    """The same as a sparse COO tensor, as sentence-transformers' SparseEncoder puts them out."""
    coo = vectors.tocoo()
    places = torch.from_numpy(np.stack(coo.coords).astype(np.int64))
    return torch.sparse_coo_tensor(places, torch.from_numpy(coo.data), coo.shape).coalesce()


class Index:
    """Items by component: `lists` is a CSR array (components, items)."""

    def __init__(self, lists: sparse.csr_array) -> None:
        self.lists = lists

    @classmethod
    def of(cls, vectors: sparse.csr_array) -> Index:
        """From the vectors of the items, (items, components)."""
        return cls(sparse.csr_array(vectors.T.tocsr()))

    def __len__(self) -> int:
        return self.lists.shape[1]

    def search(self, queries: sparse.csr_array, top: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """For each of q queries (q, components) the `top` items by dot product: their places and scores, (q, top) each, the
        best first, equal ones in the order of the items. Raises ZooError for vectors of another width."""
        if queries.shape[1] != self.lists.shape[0]:
            raise ZooError(f"the queries have {queries.shape[1]} components, the index {self.lists.shape[0]}")
        top = min(top, len(self))
        places = np.empty((queries.shape[0], top), dtype=np.int64)
        scores = np.empty((queries.shape[0], top), dtype=np.float32)
        some = max(1, HELD // max(1, len(self)))
        for start in range(0, queries.shape[0], some):
            for row, found in enumerate((queries[start : start + some] @ self.lists).toarray(), start):
                best = _best(found, top)
                places[row], scores[row] = best, found[best]
        return places, scores

    def save(self, path: Path) -> None:
        """One safetensors file."""
        from safetensors.numpy import save_file

        held = self.lists
        with atomic_files.replace_file(path) as partial:
            save_file(
                {
                    "starts": held.indptr.astype(np.int64),
                    "items": held.indices.astype(np.int32),
                    "weights": held.data.astype(np.float32),
                    "shape": np.asarray(held.shape, dtype=np.int64),
                },
                partial,
            )

    @classmethod
    def load(cls, path: Path) -> Index:
        """Raises ArtefactError for a file that `save` did not write."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            held = load_file(path)
            starts, items, weights, (components, count) = (held[name] for name in NAMES)
            good = (
                len(held) == len(NAMES) and len(starts) == components + 1 and len(items) == len(weights) == starts[-1]
            )
            good = good and starts[0] == 0 and (np.diff(starts) >= 0).all() and np.isfinite(weights).all()
            good = good and (not len(items) or (items.min() >= 0 and items.max() < count))
        except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
            raise ArtefactError(f"{path}: cannot be read as an index: {str(error)[:120]}") from None
        if not good:
            raise ArtefactError(f"{path}: is no index: its lists do not fit its shape")
        return cls(sparse.csr_array((weights, items, starts), shape=(int(components), int(count))))


def _best(scores: np.ndarray, top: int) -> np.ndarray:
    if top < len(scores):
        least = np.partition(scores, len(scores) - top)[len(scores) - top]
        sure = np.flatnonzero(scores > least)
        some = np.concatenate([sure, np.flatnonzero(scores == least)[: top - len(sure)]])
    else:
        some = np.arange(len(scores))
    return some[np.lexsort((some, -scores[some]))]
