"""Wrap an encoder for mteb, and measure the time and memory of a task."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psutil
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction

from zoo.core.errors import ZooError
from zoo.encoder import Encoder
from zoo.ops import codes
from zoo.ops.maxsim import compute_maxsim
from zoo.ops.token_sets import join_token_sets, split_token_sets

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from torch.utils.data import DataLoader

    from zoo.evaluation.kept_vectors import KeptVectors

Array = npt.NDArray[Any]

CONTENT_COLUMNS = ("text", "image", "audio", "video")
"""The columns of mteb's batches that hold inputs."""
SEARCH_SUFFIXES = ("Retrieval", "Reranking")
"""Endings of the types of tasks that use vectors through `similarity` alone."""
SAMPLING_SECONDS = 0.02

SCORING_FUNCTIONS = {
    "cosine": ScoringFunction.COSINE,
    "dot": ScoringFunction.DOT_PRODUCT,
    "hamming": ScoringFunction.CUSTOM,
}
"""What mteb compares vectors with, by `similarity_fn_name` of an encoder."""


class MtebModel(AbsEncoder):
    """One view of an encoder as a model of mteb.

    An encoder that tells queries from documents receives "query", "document" or None.

    Attributes:
        input_count: the number of encoded inputs.
        seconds: the time that the encoder's `encode` took.
        vectors: the encoded vectors by prompt type, if `keep_vectors`.
        kept: holds the vectors of other evaluations of this view, or None.
        uses_tokens: whether a search compares token vectors, which an encoder may say of itself.
    """

    def __init__(
        self,
        encoder: Encoder,
        precision: str,
        *,
        show_progress: bool = False,
        keep_vectors: bool = False,
        kept: KeptVectors | None = None,
    ) -> None:
        self.model = encoder
        self.options: dict[str, Any] = {"precision": precision, "show_progress_bar": show_progress}
        self.accepts_prompt_type = encoder.has_roles
        self.input_count, self.seconds = 0, 0.0
        self.keep_vectors, self.kept = keep_vectors, kept
        self.vectors: dict[str, list[Array]] = {}
        self.is_binary = encoder.similarity_fn_name == "hamming"
        self.uses_tokens = encoder.searches_by_tokens
        self.token_set_count, self.token_bytes = 0, 0
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={
                "name": f"zoo/{encoder.name}",
                "revision": encoder.revision or "untrained",
                "embed_dim": encoder.dim,
                "similarity_fn_name": SCORING_FUNCTIONS[encoder.similarity_fn_name],
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
    ) -> Any:
        """Encode the inputs of the loader in order. Return (n, dim) float32.

        A search uses `similarity` alone, so packed codes stay packed for it: (n, ceil(dim / 8)) uint8. If the encoder compares
        token vectors in a search, it gets a list of n sets (t, d) float32. Other tasks compute
        with the components. For these, bits become -1 and 1, whose cosine falls with the Hamming distance. Raise ZooError for
        inputs that the encoder does not read. Raise ZooError also for vectors that are not finite, because mteb would score
        them.
        """
        prompt_name = getattr(prompt_type, "value", prompt_type)
        items = [item for batch in inputs for item in self._list_inputs(batch, task_metadata.name)]
        is_search = task_metadata.type.endswith(SEARCH_SUFFIXES)
        if is_search and self.uses_tokens:
            return self._encode_tokens(items, prompt_name)
        if self.accepts_prompt_type:
            self.options["prompt_type"] = prompt_name
        vectors = self._encode_once(items, prompt_name)
        if self.keep_vectors:
            self.vectors.setdefault(str(prompt_name), []).append(vectors)
        if self.is_binary:
            return (
                vectors
                if is_search
                else np.unpackbits(vectors, axis=1, count=self.model.dim).astype(np.float32) * 2 - 1
            )
        vectors = self.model.as_float_vectors(vectors)
        self._check_finite(vectors, task_metadata.name)
        return vectors

    def _encode_once(self, items: list[Any], prompt_name: str | None) -> Array:
        """Return the vectors of the inputs, from an earlier evaluation if it kept them."""
        options = [self.options["precision"], prompt_name]
        found = None if self.kept is None else self.kept.find(items, options)
        if found is not None:
            return found
        start = time.perf_counter()
        vectors: Array = self.model.encode(items, **self.options)
        self.seconds += time.perf_counter() - start
        self.input_count += len(items)
        if self.kept is not None:
            self.kept.keep(items, options, vectors)
        return vectors

    def _encode_tokens(self, texts: list[str], prompt_name: str | None) -> Any:
        """Return the token vectors of each text, and count what those of documents take."""
        start = time.perf_counter()
        tokens, offsets = self.model.encode_tokens(texts, prompt_name, precision=self.options["precision"])
        self.seconds += time.perf_counter() - start
        self.input_count += len(texts)
        if prompt_name != "query":
            self.token_set_count += len(texts)
            self.token_bytes += tokens.nbytes
        return [torch.from_numpy(own) for own in split_token_sets(tokens, offsets)]

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one encoded document: of its vector, or on average of its token vectors."""
        has_sets = self.token_set_count > 0
        return round(self.token_bytes / self.token_set_count) if has_sets else self.model.bytes_per_vector

    def _list_inputs(self, batch: Any, task: str) -> Any:
        columns = [column for column in CONTENT_COLUMNS if column in batch]
        if columns == ["text", "image"] and self.model.accepts_mixed_inputs:
            return [_join_text_and_image(*pair) for pair in zip(batch["text"], batch["image"], strict=True)]
        if len(columns) != 1 or columns[0] not in self.model.modalities:
            raise ZooError(
                f"{task}: an input holds {' and '.join(columns) or 'nothing'}; {self.model.name} reads "
                f"{' or '.join(self.model.modalities)}. Choose another task or another model."
            )
        return batch[columns[0]]

    def _check_finite(self, vectors: Array, task: str) -> None:
        bad_count = int((~np.isfinite(vectors)).any(axis=1).sum())
        if bad_count:
            view = self.model.view_options or "the whole encoder"
            raise ZooError(
                f"{task} at {view}: {bad_count} of {len(vectors)} vectors are not finite. The weights are probably "
                "corrupted: download the model again or retrain it."
            )

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the cosines (n, m), the negative Hamming distances of codes in bits, or MaxSim of sets of token vectors."""
        if isinstance(embeddings2, list) and self.uses_tokens:
            width = embeddings2[0].shape[1] if embeddings2 else 0
            queries, documents = (join_token_sets(list(each), width) for each in (embeddings1, embeddings2))
            return torch.from_numpy(compute_maxsim(queries, documents))
        if not self.is_binary:
            return torch.as_tensor(super().similarity(embeddings1, embeddings2))
        a, b = np.asarray(embeddings1), np.asarray(embeddings2)
        if a.dtype != np.uint8:
            return torch.from_numpy(a @ b.T - self.model.dim) / 2
        return -torch.from_numpy(codes.compute_hamming_distances(a, b)).float()

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the similarity of each pair of rows, (n,)."""
        if not self.is_binary:
            return torch.as_tensor(super().similarity_pairwise(embeddings1, embeddings2))
        a, b = np.asarray(embeddings1), np.asarray(embeddings2)
        if a.dtype != np.uint8:
            return torch.from_numpy((a * b).sum(axis=1) - self.model.dim) / 2
        return -torch.from_numpy(np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int32)).float()


def _join_text_and_image(text: str, image: Any) -> Any:
    """Return one input of a text and an image. The image may be None."""
    return text if image is None else {"image": image, "text": text}


class PeakMemory:
    """Measure the largest resident memory of this process while the block runs.

    Attributes:
        megabytes: the largest value so far in MB (10^6 bytes), sampled every 20 ms.
    """

    def __enter__(self) -> PeakMemory:
        self._process, self._stop = psutil.Process(), threading.Event()
        self.megabytes = self._process.memory_info().rss / 1e6
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLING_SECONDS):
            self.megabytes = max(self.megabytes, self._process.memory_info().rss / 1e6)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
