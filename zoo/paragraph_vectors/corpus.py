"""A corpus as word rows in a temporary file, and batches of its documents. Memory does not grow with the corpus."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError
from zoo.paragraph_vectors.vocabulary import Vocabulary

Array = npt.NDArray[Any]


class Batch(NamedTuple):
    """The words of m documents.

    Attributes:
        tokens: (T,) int32, rows of the vocabulary.
        starts, ends: (m,) int64, where each document starts and ends in `tokens`.
        document_rows: (m,) int64, the row of each document among all documents.
    """

    tokens: Array
    starts: Array
    ends: Array
    document_rows: Array

    @classmethod
    def from_token_lists(cls, documents: Sequence[Sequence[int]]) -> Self:
        """Make a batch of `documents`; their rows are 0 to m - 1."""
        ends = np.cumsum([len(document) for document in documents], dtype=np.int64)
        tokens = np.fromiter(chain.from_iterable(documents), dtype=np.int32, count=int(ends[-1]) if len(ends) else 0)
        starts = np.concatenate((np.zeros(1, np.int64), ends))[: len(ends)]
        return cls(tokens, starts, ends, np.arange(len(ends)))


class Corpus:
    """Tokenised documents on disk, as int32 rows of a vocabulary.

    Attributes:
        word_count: number of words in all documents.
        ends: (n,) int64, where each document ends, in words.

    Raises ZooError for a text that is not a string, and if no text has a word of the vocabulary.
    """

    def __init__(self, texts: Iterable[str], vocabulary: Vocabulary) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  the object reads the file as long as it lives
        ends, word_count = array("q"), 0
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str):
                raise ZooError(f"text {number} is {type(text).__name__}, not a string: give texts only")
            tokens = np.asarray(vocabulary.encode(text), dtype=np.int32)
            self._file.write(tokens.tobytes())
            word_count += len(tokens)
            ends.append(word_count)
        if not word_count:
            raise ZooError("no text holds a word of the vocabulary: give more text, or lower min_count")
        self._file.flush()
        self.word_count = word_count
        self.ends = np.asarray(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def read(self, documents: Array) -> Batch:
        """Read the documents at these rows, (m,) int64, into memory."""
        file_starts = np.concatenate((np.zeros(1, np.int64), self.ends[:-1]))[documents]
        ends = np.cumsum(self.ends[documents] - file_starts)
        batch = Batch(np.empty(ends[-1], np.int32), ends - np.diff(ends, prepend=0), ends, documents)
        for file_start, start, end in zip(file_starts, batch.starts, ends, strict=True):
            self._file.seek(int(file_start) * batch.tokens.itemsize)
            self._file.readinto(batch.tokens[start:end])  # type: ignore[arg-type]
        return batch


def split_into_chunks(tokens: Array, lengths: Array, size: int, offsets: Array | None = None) -> tuple[Array, Array]:
    """Split documents into chunks of at most `size` consecutive words.

    Args:
        tokens: the words of the documents, one document after another.
        lengths: the number of words of each document.
        offsets: by how many words the first chunk of each document is shorter, so that chunks end elsewhere in each pass.

    Returns the chunks (C, size) int64, padded with -1, and the position of the document of each chunk, (C,) int64.
    """
    offsets = np.zeros(len(lengths), dtype=np.int64) if offsets is None else offsets
    chunk_counts = np.where(lengths > 0, -(-(lengths + offsets) // size), 0)
    document = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + offsets[document]
    chunk = (np.cumsum(chunk_counts) - chunk_counts)[document] + place // size
    chunks = np.full((int(chunk_counts.sum()), size), -1, dtype=np.int64)
    chunks[chunk, place % size] = tokens
    return chunks, np.repeat(np.arange(len(lengths)), chunk_counts)
