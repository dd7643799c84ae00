"""The words of a shard on the disk: which rows hold a word, and how often. BM25 is computed from these numbers.

    shard-00001.words.parquet    the words in order, and the number of rows that hold each
    shard-00001.postings.npy     for each word in turn its rows: the number of the row, and how often the word is in it
    shard-00001.lengths.npy      words of each row

BM25 weighs a word by the number of rows of the whole index, so a shard keeps counts and not scores. They stay right if other
shards come and go. The lists of all words are mapped, and a search reads those of its own words.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ArtefactError

if TYPE_CHECKING:
    from zoo.index.rows import Layout

ENDINGS = WORDS, POSTINGS, LENGTHS = ".words.parquet", ".postings.npy", ".lengths.npy"
POSTING = np.dtype([("row", "<i4"), ("count", "<u2")])
MOST_COUNTED = int(np.iinfo(np.uint16).max)
"""A row that holds a word more often counts as this. Its BM25 differs by less than one part in 10,000."""
BLOCK = 1 << 20
"""Postings that are sorted at once."""
_WORD = re.compile(r"\w+")

Numbers = npt.NDArray[np.int64]


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, in order."""
    return _WORD.findall(text.lower())


def find_words(text: str) -> list[tuple[str, tuple[int, int]]]:
    """Return the words of a text in lower case, each with its first character and the one after its last."""
    return [(match[0].lower(), match.span()) for match in _WORD.finditer(text)]


def write_words(texts: Iterable[Sequence[str]], folder: Path, shard: str, temporary: Path) -> list[str]:
    """Count the words of a shard's rows, write the three files, and return their names.

    Args:
        texts: the texts of the rows in order, in batches.
        folder: where the files are written.
        shard: the name of the shard.
        temporary: a file for the postings in the order of the rows, which is deleted. Thus the memory holds the distinct words
            and one block of postings.
    """
    names = [f"{shard}{ending}" for ending in ENDINGS]
    try:
        words, row_counts, lengths = _count_words(texts, temporary)
        order = np.array(sorted(range(len(words)), key=words.__getitem__), np.int64)
        _write_sorted(temporary, folder / names[1], order, row_counts)
    finally:
        temporary.unlink(missing_ok=True)
    _write_table(folder / names[0], [words[place] for place in order], row_counts[order])
    np.save(folder / names[2], lengths, allow_pickle=False)
    return names


def _count_words(texts: Iterable[Sequence[str]], temporary: Path) -> tuple[list[str], Numbers, npt.NDArray[np.int32]]:
    """Write the postings of rows, and return the words, the number of rows that hold each, and the length of each row.

    A word is written as its place in the list of words.
    """
    numbers: dict[str, int] = {}
    lengths: list[int] = []
    row_counts: Numbers = np.zeros(0, np.int64)
    with temporary.open("wb") as file:
        for batch in texts:
            entries: list[tuple[int, int, int]] = []
            for text in batch:
                own = split_words(text)
                for word, count in Counter(own).items():
                    entries.append((numbers.setdefault(word, len(numbers)), len(lengths), min(count, MOST_COUNTED)))
                lengths.append(len(own))
            block = np.array(entries, np.int32).reshape(-1, 3)
            file.write(block.tobytes())
            added = np.bincount(block[:, 0], minlength=len(numbers))
            row_counts = added + np.pad(row_counts, (0, len(added) - len(row_counts)))
    return list(numbers), row_counts, np.array(lengths, np.int32)


def _write_sorted(temporary: Path, target: Path, order: Numbers, row_counts: Numbers) -> None:
    """Write the postings word by word. Those of a word keep the order of the rows."""
    total = int(row_counts.sum())
    if not total:
        np.save(target, np.empty(0, POSTING), allow_pickle=False)
        return
    heads: Numbers = np.empty(len(order), np.int64)
    heads[order] = np.cumsum(row_counts[order]) - row_counts[order]
    sorted_postings = np.lib.format.open_memmap(target, mode="w+", dtype=POSTING, shape=(total,))
    for block in _read_blocks(temporary):
        by_word = block[np.argsort(block[:, 0], kind="stable")]
        found, firsts, counts = np.unique(by_word[:, 0], return_index=True, return_counts=True)
        places = np.repeat(heads[found] - firsts, counts) + np.arange(len(by_word))
        sorted_postings["row"][places], sorted_postings["count"][places] = by_word[:, 1], by_word[:, 2]
        heads[found] += counts
    sorted_postings.flush()


def _read_blocks(path: Path) -> Iterator[npt.NDArray[np.int32]]:
    with path.open("rb") as file:
        while content := file.read(12 * BLOCK):
            yield np.frombuffer(content, np.int32).reshape(-1, 3)


def _write_table(path: Path, words: list[str], row_counts: Numbers) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema({"word": pa.large_string(), "rows": pa.int64()})
    pq.write_table(pa.table({"word": words, "rows": row_counts}, schema=schema), path)


def read_texts(path: Path, layout: Layout, rows: int) -> Iterator[list[str]]:
    """Yield the texts of the rows in a parquet file of a shard, in batches of this number of rows."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=rows, columns=list(layout.texts)):
            yield [layout.join_texts(row) for row in batch.to_pylist()]


class ShardWords:
    """The words of a shard, opened. Its files were checked by their sha256.

    Attributes:
        lengths: (rows,) int32 words of each row.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        import pyarrow.parquet as pq

        table = pq.read_table(files[0])
        self._words: Any = table["word"].combine_chunks()
        self._ends: Numbers = np.cumsum(table["rows"].to_numpy())
        self._postings = np.load(files[1], mmap_mode="r", allow_pickle=False)
        self.lengths: npt.NDArray[np.int32] = np.load(files[2], allow_pickle=False)
        total = int(self._ends[-1]) if len(self._ends) else 0
        if self._postings.shape != (total,) or self._postings.dtype != POSTING:
            raise ArtefactError(f"{files[1]}: does not fit the words of the shard; build the index again")

    def find(self, word: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint16]]:
        """Return the numbers of the rows that hold a word, ascending, and how often each holds it."""
        place = bisect.bisect_left(self._words, word, key=lambda entry: entry.as_py())
        if place == len(self._words) or self._words[place].as_py() != word:
            start, end = 0, 0
        else:
            start, end = int(self._ends[place - 1]) if place else 0, int(self._ends[place])
        own = self._postings[start:end]
        return np.asarray(own["row"]), np.asarray(own["count"])
