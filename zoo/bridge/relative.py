"""`RelativeEncoder`: an encoder whose vectors are cosines with anchors, so that they mean the same for every encoder."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from zoo.bridge.anchors import Anchors
from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.encoder import Encoder
from zoo.fitted_steps import prepare_vectors
from zoo.metrics.encoded_rows import as_float_vectors, encode_inputs

LEAST = 2
COPIED = ("spec", "module", "name", "revision", "seed", "folder", "backbone_name", "backbone_revision", "tables")


class RelativeEncoder(Encoder):
    """A view of an encoder whose component i is the cosine of an input with anchor i.

        view = zoo.RelativeEncoder(encoder, anchors)
        vectors = view.encode(texts)     # (n, number of anchors), float32

    A classifier that was trained on such vectors of one encoder reads those of another one without training, if both have the
    same anchors in the same order. A rotation or a scale of the space changes nothing, and a shift neither if the vectors are
    centred. The vectors cost accuracy, and a fitted map of `zoo.Bridge` keeps more; see docs/guides/bridge.md.

    Args:
        encoder: any encoder, or a view of one. Bits of codes count as -1 and 1.
        anchors: different inputs of the encoder, in an order that every encoder shares.
        is_centred: whether the mean of the anchors is subtracted first, from anchors and inputs.
        prompt_name: the role "query" or "document" of the anchors.

    Raises ZooError for fewer than two anchors, for equal ones, and for anchors whose vectors are all equal.
    """

    similarity_fn_name = "cosine"

    def __init__(
        self, encoder: Encoder, anchors: Sequence[Any], *, is_centred: bool = True, prompt_name: str | None = None
    ) -> None:
        super().__init__()
        inputs = list(anchors)
        texts = [item for item in inputs if isinstance(item, str)]
        if len(set(texts)) < len(texts) or len(inputs) < LEAST:
            raise ZooError(f"anchors: give {LEAST} or more inputs that differ; these are {len(inputs)}")
        for name in COPIED:
            if hasattr(encoder, name):
                setattr(self, name, getattr(encoder, name))
        self._encoder, self.dim = encoder, len(inputs)
        vectors = encode_inputs(encoder, inputs, prompt_name=prompt_name)
        self.anchors = Anchors.place(vectors, is_centred=is_centred)
        if not self.anchors.unit.any():
            raise ZooError(f"anchors: {encoder.name} gives all {len(inputs)} of them one vector; give others")
        # An index or a bridge compares it, because the weights are those of the encoder.
        digest = atomic_files.digest([is_centred, prompt_name, [_as_text(item) for item in inputs]])[:16]
        self.view_options = {**encoder.view_options, "anchors": digest}

    @property
    def has_roles(self) -> bool:
        """Whether the encoder tells queries from documents."""
        return self._encoder.has_roles

    @property
    def device(self) -> Any:
        """The device that encodes."""
        return self._encoder.device

    def to(self, device: Any) -> Self:
        """Move the encoder. The anchors stay as they are."""
        self._encoder.to(device)
        return self

    def is_usable(self) -> bool:
        """Whether the encoder can encode."""
        return self._encoder.is_usable()

    def _encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
    ) -> np.ndarray:
        """Encode inputs to (n, anchors) float32 cosines."""
        vectors = self._encoder.encode(
            inputs, show_progress_bar=show_progress, precision=precision, prompt_type=prompt_type
        )
        return self._describe(vectors)

    def _stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[np.ndarray]:
        return map(self._describe, self._encoder.stream(inputs, precision=precision, prompt_type=prompt_type))

    def _describe(self, vectors: np.ndarray) -> np.ndarray:
        floats = as_float_vectors(self._encoder, vectors)
        return self.anchors.compute_cosines(prepare_vectors(floats, self._encoder.similarity_fn_name))

    def view(self, **options: Any) -> Self:
        """The same view. Raises ZooError for options of another one, which the encoder takes before it becomes relative."""
        if not options.items() <= self.view_options.items():
            raise ZooError(
                "a relative view has no other views: make it of a view, RelativeEncoder(encoder.view(…), anchors)"
            )
        return copy.copy(self)

    def write_weights(self, folder: Path) -> None:
        """Raise ZooError, because the vectors follow from the encoder and the anchors."""
        raise ZooError("a relative view is not saved: save the encoder, and keep the file of the anchors")


def _as_text(item: Any) -> str:
    """Return a text as it is, and the sha256 of the numbers of an image or a vector."""
    if isinstance(item, str | Path):
        return str(item)
    return hashlib.sha256(np.ascontiguousarray(item).tobytes()).hexdigest()
