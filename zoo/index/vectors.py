"""The vectors of rows: from the encoder, or from a file that the user gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo import encoding
from zoo.core.errors import ArtefactError, DataError, ZooError
from zoo.core.suggest import suggest
from zoo.index.arrays import Numbers, Vectors, unpack_signs

if TYPE_CHECKING:
    from zoo.bridge.bridge import Bridge
    from zoo.encoder import Encoder

LONG = ("cut", "windows")


class Encoded(NamedTuple):
    """The vectors of some rows.

    Attributes:
        vectors: (v, d) float32. The inner product of two of them is their score.
        places: (v, 3) int64: the number of the row, and the first character of its text and the one after the last. None if
            each row has one vector.
    """

    vectors: Vectors
    places: Numbers | None = None


class RowEncoder:
    """Encodes rows and queries so that the inner product of a query and a row is their score.

    Attributes:
        encoder: the encoder.
        long: `windows` gives each window of a long text a vector; `cut` leaves texts to the encoder.
        bridge: maps the queries of a new encoder to the vectors of the index, or None.
    """

    def __init__(self, encoder: Encoder, long: str = "cut", bridge: Bridge | None = None) -> None:
        if long not in LONG:
            raise ZooError(f"long: {long!r} is not one of {', '.join(LONG)}{suggest(str(long), LONG, listing='')}")
        if long == "windows" and not hasattr(encoder, "encode_windows"):
            raise ZooError(f"long: the family {encoder.spec.family} has no windows; leave --long out")
        self.encoder, self.long, self.bridge = encoder, long, bridge

    def encode_rows(self, inputs: list[Any]) -> Encoded:
        """Return the vectors of the texts or images of some rows, in order. Raise ZooError for an encoder behind a bridge."""
        if self.bridge is not None:
            raise ZooError("rows are added with the model that built the index; open the index without the bridge")
        if self.long == "windows":
            options = {"prompt_type": "document"} if self.encoder.has_roles else {}
            found = self.encoder.encode_windows(inputs, **options)  # type: ignore[attr-defined]
            return Encoded(self._prepare(found.vectors), np.column_stack([found.texts, found.spans]))
        return Encoded(self._prepare(self.encoder.encode_document(inputs)))

    def encode_queries(self, queries: list[Any]) -> Vectors:
        """Return the vectors (m, d) of queries."""
        vectors = self.encoder.encode_query(queries)
        return self._prepare(vectors) if self.bridge is None else self.bridge.map_queries(vectors)

    def convert_scores(self, scores: Vectors) -> Vectors:
        """Return inner products as the similarity of the encoder: a cosine, a dot product, or a negative Hamming distance."""
        if self.encoder.similarity_fn_name != "hamming":
            return scores
        return ((scores - self.encoder.dim) / 2).astype(np.float32)

    def _prepare(self, vectors: Any) -> Vectors:
        return prepare_vectors(np.asarray(vectors), self.encoder.similarity_fn_name, self.encoder)


def prepare_vectors(vectors: npt.NDArray[Any], similarity: str, encoder: Encoder) -> Vectors:
    """Return vectors whose inner products are the similarity. Raise ArtefactError for NaN and infinity."""
    if similarity == "hamming":
        if vectors.dtype != np.uint8:
            return np.where(vectors > 0, 1, -1).astype(np.float32)
        return unpack_signs(vectors, encoder.dim)
    floats = np.asarray(encoder.as_float_vectors(vectors), np.float32)
    if not np.isfinite(floats).all():
        raise ArtefactError("the encoder gives NaN or infinity; its weights are probably damaged: get the model again")
    return encoding.normalize(floats) if similarity == "cosine" else floats


class GivenVectors:
    """The rows of a .npy file of float vectors, read in order, in place of those of the encoder."""

    def __init__(self, path: Path, encoder: Encoder) -> None:
        try:
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as .npy: {str(error)[:80]}") from None
        if stored.ndim != 2 or stored.dtype.kind != "f":
            raise DataError(
                f"{path}: holds {stored.dtype} of shape {stored.shape}; it takes float vectors (rows, components)"
            )
        if stored.shape[1] != encoder.dim:
            raise DataError(
                f"{path}: its vectors have {stored.shape[1]} components, and the encoder gives {encoder.dim}"
            )
        self.path, self.count, self._encoder, self._next = path, len(stored), encoder, 0

    def encode_rows(self, inputs: list[Any]) -> Encoded:
        """Return the vectors of the next rows. The file is mapped for these rows alone, so that they leave the memory."""
        stored = np.load(self.path, mmap_mode="r", allow_pickle=False)
        start, self._next = self._next, self._next + len(inputs)
        block = np.array(stored[start : self._next], np.float32)
        return Encoded(prepare_vectors(block, self._encoder.similarity_fn_name, self._encoder))

    def require_count(self, rows: int) -> None:
        """Raise DataError unless there is a vector for each row."""
        if self.count != rows:
            raise DataError(f"{self.path}: holds {self.count:,} vectors for {rows:,} rows; give one for each row")
