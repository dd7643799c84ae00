"""A corpus as word rows in a temporary file, and the documents of it that a step trains on; memory does not grow with it."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple, Self

import numpy as np

from zoo.core.errors import ZooError
from zoo.paragraph_vectors.vocabulary import Vocabulary


class Batch(NamedTuple):
    """Documents: `tokens` (T,) int32, where each one `starts` and `ends` (m,) int64, and its row among all, (m,) int64."""

    tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    owners: np.ndarray

    @classmethod
    def of(cls, documents: Sequence[Sequence[int]]) -> Self:
        """The documents as they stand, their places their rows."""
        ends = np.cumsum([len(document) for document in documents], dtype=np.int64)
        tokens = np.fromiter(chain.from_iterable(documents), dtype=np.int32, count=int(ends[-1]) if len(ends) else 0)
        return cls(tokens, np.concatenate((np.zeros(1, np.int64), ends))[: len(ends)], ends, np.arange(len(ends)))


class Corpus:
    """Documents as rows of a vocabulary, int32 on disk.

    Attributes:
        words: how many there are.
        ends: (n,) int64, where each document ends.
    """

    def __init__(self, texts: Iterable[str], vocabulary: Vocabulary) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it is read as long as this object lives
        ends, total = array("q"), 0
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str):
                raise ZooError(f"text {number} is {type(text).__name__}, not a string")
            rows = np.asarray(vocabulary.encode(text), dtype=np.int32)
            self._file.write(rows.tobytes())
            total += len(rows)
            ends.append(total)
        if not total:
            raise ZooError("no text holds a word of the vocabulary")
        self._file.flush()
        self.words = total
        self.ends = np.asarray(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def take(self, documents: np.ndarray) -> Batch:
        """Those documents, read into memory."""
        starts = np.concatenate((np.zeros(1, np.int64), self.ends[:-1]))[documents]
        ends = np.cumsum(self.ends[documents] - starts)
        batch = Batch(np.empty(ends[-1], np.int32), ends - np.diff(ends, prepend=0), ends, documents)
        for place, start, end in zip(starts, batch.starts, ends, strict=True):
            self._file.seek(int(place) * batch.tokens.itemsize)
            self._file.readinto(batch.tokens[start:end])  # type: ignore[arg-type]
        return batch


def cut(
    tokens: np.ndarray, lengths: np.ndarray, size: int, offsets: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Documents into chunks of at most `size` consecutive words.

    Args:
        tokens, lengths: the documents one after another, and how many words each has.
        offsets: words by which the first chunk of each document is shorter, so that chunks end elsewhere each time.

    Returns (C, size) int64 rows, -1 where a chunk has no more words, and the place of each chunk's document, (C,) int64.
    """
    offsets = np.zeros(len(lengths), dtype=np.int64) if offsets is None else offsets
    count = np.where(lengths > 0, -(-(lengths + offsets) // size), 0)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + offsets[owner]
    chunk = (np.cumsum(count) - count)[owner] + within // size
    words = np.full((int(count.sum()), size), -1, dtype=np.int64)
    words[chunk, within % size] = tokens
    return words, np.repeat(np.arange(len(lengths)), count)
