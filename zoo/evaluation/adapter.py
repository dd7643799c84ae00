"""An encoder as mteb wants it, and what one run of one task cost."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction

from zoo.errors import ZooError
from zoo.families import Encoder

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from torch.utils.data import DataLoader

CONTENT = {"text": "text", "image": "image"}


class Adapter(AbsEncoder):
    """Wraps one view of an encoder for mteb; counts the inputs and the seconds spent in `encode`."""

    def __init__(self, encoder: Encoder, precision: str) -> None:
        self.model, self.precision = encoder, precision
        self.texts, self.seconds = 0, 0.0
        hamming = encoder.similarity == "hamming"
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={
                "name": f"zoo/{encoder.name}",
                "revision": encoder.revision or "untrained",
                "embed_dim": encoder.dim,
                "similarity_fn_name": ScoringFunction.CUSTOM if hamming else ScoringFunction.COSINE,
                "modalities": list(encoder.modalities),
                "framework": ["PyTorch"],
                "experiment_kwargs": dict(encoder.view_options) or None,
            }
        )

    def encode(
        self,
        inputs: DataLoader[Any],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Vectors of what the loader holds, in order. Raises ZooError for a modality the encoder does not read, and for
        vectors that are not finite, which mteb would score."""
        given = set(task_metadata.modalities) - set(self.model.modalities)
        if given:
            raise ZooError(
                f"{task_metadata.name}: holds {', '.join(sorted(given))}, which {self.model.name} does not read"
            )
        modality = next(m for m in task_metadata.modalities if m in CONTENT)
        items = [item for batch in inputs for item in batch[CONTENT[modality]]]
        began = time.perf_counter()
        vectors = self.model.encode(items, precision=self.precision)
        self.seconds += time.perf_counter() - began
        self.texts += len(items)
        if not np.isfinite(vectors).all():
            bad = int((~np.isfinite(vectors)).any(axis=1).sum())
            raise ZooError(
                f"{task_metadata.name} at {self.model.view_options or 'the whole encoder'}: {bad} vectors are not finite"
            )
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosine, or for packed codes the negative Hamming distance, (n, m)."""
        if self.model.similarity != "hamming":
            return torch.as_tensor(super().similarity(embeddings1, embeddings2))
        a, b = np.asarray(embeddings1), np.asarray(embeddings2)
        rows = [np.bitwise_count(row[None, :] ^ b).sum(axis=1, dtype=np.int32) for row in a]
        return -torch.from_numpy(np.stack(rows)).float()

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """The same row by row, (n,)."""
        if self.model.similarity != "hamming":
            return torch.as_tensor(super().similarity_pairwise(embeddings1, embeddings2))
        a, b = np.asarray(embeddings1), np.asarray(embeddings2)
        return -torch.from_numpy(np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int32)).float()


class PeakMemory:
    """The largest resident memory of this process, in MB (10^6 bytes), while the block runs, looked at every 20 ms."""

    def __enter__(self) -> PeakMemory:
        self._process, self._done = psutil.Process(), threading.Event()
        self.megabytes = self._process.memory_info().rss / 1e6
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.megabytes = max(self.megabytes, self._process.memory_info().rss / 1e6)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
