"""An encoder as mteb wants it, and what one run of one task cost."""

from __future__ import annotations

import inspect
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction

from zoo.core.errors import ZooError
from zoo.encoder import Encoder
from zoo.ops import codes

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from torch.utils.data import DataLoader

MODALITIES = ("text", "image", "audio", "video")  # the columns of a batch that hold content, as mteb names them
SEARCH = ("Retrieval", "Reranking")  # how the types of tasks end that use vectors through `similarity` alone


class MtebModel(AbsEncoder):
    """Wraps one view of an encoder for mteb; counts the inputs and the seconds spent in `encode`, and may `keep` the
    vectors.

    An encoder whose `encode` has a parameter `prompt_type` is told "query", "document" or None.
    """

    def __init__(
        self, encoder: Encoder, precision: str, *, show_progress: bool = False, keep_vectors: bool = False
    ) -> None:
        self.model = encoder
        self.options: dict[str, Any] = {"precision": precision, "show_progress": show_progress}
        self.prompted = "prompt_type" in inspect.signature(encoder.encode).parameters
        self.texts, self.seconds = 0, 0.0
        self.keep_vectors = keep_vectors
        self.vectors: dict[str, list[np.ndarray]] = {}
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
        """Vectors of what the loader holds, in order: (n, dim) float32.

        Packed codes stay packed, (n, ceil(dim / 8)) uint8, for searches, which ask only `similarity`. Everything else in
        mteb computes with the components, and gets the bits as -1 and 1: their cosine falls with the Hamming distance.
        Raises ZooError for content that the encoder does not read, and for vectors that are not finite, which mteb would
        score.
        """
        items = [item for batch in inputs for item in self._content(batch, task_metadata.name)]
        if self.prompted:
            self.options["prompt_type"] = getattr(prompt_type, "value", prompt_type)
        began = time.perf_counter()
        vectors = self.model.encode(items, **self.options)
        self.seconds += time.perf_counter() - began
        self.texts += len(items)
        if self.keep_vectors:
            self.vectors.setdefault(str(getattr(prompt_type, "value", prompt_type)), []).append(vectors)
        if self.model.similarity == "hamming":
            if task_metadata.type.endswith(SEARCH):
                return vectors
            return np.unpackbits(vectors, axis=1, count=self.model.dim).astype(np.float32) * 2 - 1
        vectors = self.model.as_float_vectors(vectors)
        if not np.isfinite(vectors).all():
            bad = int((~np.isfinite(vectors)).any(axis=1).sum())
            view = self.model.view_options or "the whole encoder"
            raise ZooError(f"{task_metadata.name} at {view}: {bad} of {len(vectors)} vectors are not finite")
        return vectors

    def _content(self, batch: Any, task: str) -> Any:
        held = [modality for modality in MODALITIES if modality in batch]
        if held == ["text", "image"] and self.model.accepts_mixed_inputs:
            return [_both(text, image) for text, image in zip(batch["text"], batch["image"], strict=True)]
        if len(held) != 1 or held[0] not in self.model.modalities:
            raise ZooError(
                f"{task}: an input holds {' and '.join(held) or 'nothing'}; {self.model.name} reads "
                f"{' or '.join(self.model.modalities)}"
            )
        return batch[held[0]]

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosine, or for codes the negative Hamming distance in bits, (n, m)."""
        if self.model.similarity != "hamming":
            return torch.as_tensor(super().similarity(embeddings1, embeddings2))
        a, b = np.asarray(embeddings1), np.asarray(embeddings2)
        if a.dtype != np.uint8:
            return torch.from_numpy(a @ b.T - self.model.dim) / 2
        return -torch.from_numpy(codes.compute_hamming_distances(a, b)).float()

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """The same row by row, (n,)."""
        if self.model.similarity != "hamming":
            return torch.as_tensor(super().similarity_pairwise(embeddings1, embeddings2))
        a, b = np.asarray(embeddings1), np.asarray(embeddings2)
        if a.dtype != np.uint8:
            return torch.from_numpy((a * b).sum(axis=1) - self.model.dim) / 2
        return -torch.from_numpy(np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int32)).float()


def _both(text: str, image: Any) -> Any:
    """One input of a text and an image, either of which may be missing."""
    return text if image is None else {"image": image, "text": text}


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
