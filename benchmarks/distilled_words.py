"""Product quantisation whose words follow the rankings of the float vectors: the experiment of `codes.py --only vq`.

Source: Xiao et al. 2022, "Distill-VQ", arXiv 2204.00185. The codes are those of faiss's optimised product quantisation. They
stay, and the words that they stand for are learned by the loss ListNet with the temperature of the encoder, .05. The authors'
temperature of 1 is for scores that are not cosines. A live index then needs no new codes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
import torch.nn.functional as F

from zoo.after.codes.training import rank_documents
from zoo.ops import distillation

Array = np.ndarray
BATCH, HARD, LEARNING_RATE, TEMPERATURE = 64, 10, 1e-3, 0.05


class Words:
    """A rotation, words, and the codes of documents; the codes are fixed."""

    def __init__(self, documents: Array, sample: Array, parts: int, work: str | None = None) -> None:
        """Train faiss's index on `sample`. The folder `work` keeps it."""
        path = Path(work or tempfile.mkdtemp()) / f"opq{parts}.faiss"
        if path.exists():
            index = faiss.read_index(str(path))
        else:
            index = faiss.index_factory(documents.shape[1], f"OPQ{parts},PQ{parts}")
            index.train(sample)
            faiss.write_index(index, str(path))
        matrix = faiss.downcast_VectorTransform(index.chain.at(0))
        quantiser = faiss.downcast_index(index.index).pq
        rotated = matrix.apply(documents)
        self.rotate: Callable[[Array], Array] = lambda vectors: np.asarray(matrix.apply(vectors))
        self._index = index  # whose memory the rotation reads
        self.codes = torch.from_numpy(quantiser.compute_codes(rotated).astype(np.int64))
        self.words = torch.from_numpy(faiss.vector_to_array(quantiser.centroids).reshape(parts, 256, -1).copy())

    @staticmethod
    def _get(words: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        return words[torch.arange(len(words)), chosen].flatten(1)

    def distil(self, queries: Array, documents: Array, steps: int, seed: int, own: Array | None = None) -> Any:
        """Return learned words. With `own`, queries are documents of these numbers, which are not their own neighbours."""
        ranking = rank_documents(torch.from_numpy(queries), torch.from_numpy(documents), lambda rows: rows)
        rotated = torch.from_numpy(self.rotate(queries))
        words = self.words.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([words], lr=LEARNING_RATE)
        rng = np.random.default_rng(seed)
        for step in range(steps):
            chosen = rng.integers(0, len(queries), BATCH)
            nearest = ranking.nearest[chosen]
            others = np.take_along_axis(nearest, rng.integers(HARD, nearest.shape[1], (BATCH, HARD)), 1)
            numbers = np.unique(np.concatenate([nearest[:, : HARD + 1], others], axis=1))
            teacher = ranking.targets[0][chosen] @ ranking.targets[1][numbers].T
            scores = rotated[chosen] @ self._get(words, self.codes[numbers]).T
            present = torch.ones_like(scores, dtype=torch.bool)
            if own is not None:
                present = torch.from_numpy(own[chosen][:, None] != numbers[None])
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
            optimiser.zero_grad()
            distillation.compute_kl_loss(scores, teacher, TEMPERATURE, present=present).backward()
            optimiser.step()
        return words.detach()

    def decode_with(self, words: torch.Tensor, is_unit: bool) -> Array:
        """The rotated documents as other words give them; with `is_unit`, scaled to length 1."""
        decoded = self._get(words, self.codes)
        return (F.normalize(decoded, dim=1) if is_unit else decoded).numpy()
