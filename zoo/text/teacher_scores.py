"""Scores of pairs of texts by a teacher, computed once in blocks and cached, so that a killed run goes on where it stopped.

A teacher is a cross-encoder (`cross_encoder.CrossEncoderScorer`) or an encoder (`EncoderScorer`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.core.npy import write_npy
from zoo.core.progress import Advance

Pair = tuple[str, str]
"""An anchor and a candidate."""
Scores = np.ndarray[Any, Any]

BLOCK_SIZE = 2048  # pairs that are lost at most if a run is killed
LISTED = 60  # characters of a text in a message


class PairScorer(Protocol):
    """A teacher. Equal fingerprints promise equal scores of equal pairs."""

    reference: str
    fingerprint: str

    def score(self, pairs: Sequence[Pair]) -> Scores:
        """Return the scores (n,) float32 of n pairs."""


class TextEncoder(Protocol):
    """The part of an encoder that a teacher uses."""

    def encode_query(self, inputs: Iterable[Any], **options: Any) -> Any:
        """Return the vectors (n, d) of n anchors."""

    def encode_document(self, inputs: Iterable[Any], **options: Any) -> Any:
        """Return the vectors (n, d) of n candidates."""


class EncoderScorer:
    """An encoder as a teacher: the score of a pair is the cosine of its vectors. Each text of a block is encoded once.

    Args:
        encoder: encodes anchors as queries and candidates as documents, with the prompts that it has for them.
        reference: its name, for messages.
        fingerprint: changes whenever a vector changes, for example the sha256 of the weights with the prompts.
    """

    def __init__(self, encoder: TextEncoder, reference: str, fingerprint: str) -> None:
        self._encoder, self.reference = encoder, reference
        self.fingerprint = atomic_files.digest(["encoder", fingerprint])

    def score(self, pairs: Sequence[Pair]) -> Scores:
        """Return the cosines (n,) float32 of n pairs."""
        sides = []
        for texts, encode in zip(
            zip(*pairs, strict=True), (self._encoder.encode_query, self._encoder.encode_document), strict=True
        ):
            places = {text: i for i, text in enumerate(dict.fromkeys(texts))}
            vectors = np.asarray(encode(list(places)), np.float32)
            # A vector of zeros has the cosine 0 with all others.
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            sides.append(vectors[[places[text] for text in texts]])
        cosines: Scores = np.einsum("nd,nd->n", *sides)
        return cosines


class PairScores:
    """Look up the scores of pairs by their texts. It needs 12 bytes a pair.

    Args:
        pairs: n pairs.
        scores: (n,) float32, as `compute_scores` returns them.
    """

    def __init__(self, pairs: Iterable[Pair], scores: Scores) -> None:
        keys = np.fromiter(map(_compute_key, pairs), np.int64)
        self._keys, first_places = np.unique(keys, return_index=True)
        self._scores = np.asarray(scores, np.float32)[first_places]

    def find(self, pairs: Sequence[Pair]) -> Scores:
        """Return the scores (n,) float32 of n pairs. Raises KeyError for a pair that `__init__` did not get."""
        keys = np.fromiter(map(_compute_key, pairs), np.int64, len(pairs))
        places = np.searchsorted(self._keys, keys).clip(max=max(0, len(self._keys) - 1))
        is_known = self._keys[places] == keys if len(self._keys) else np.zeros(len(keys), bool)
        if not is_known.all():
            raise KeyError(pairs[int(np.flatnonzero(~is_known)[0])])
        scores: Scores = self._scores[places]
        return scores


def compute_scores(
    scorer: PairScorer,
    pairs: Sequence[Pair],
    cache: Path,
    *,
    block_size: int = BLOCK_SIZE,
    advance: Advance = lambda count: None,
) -> Scores:
    """Return the scores (n,) float32 of n pairs, from the cache or by the scorer. Equal pairs of a block are scored once.

    A finished file is scores-KEY.npy, where KEY is a hash of the teacher and of all texts. Until then the blocks lie in a
    folder beside it, each written whole or not at all. The array is mapped from the file.

    Args:
        scorer: the teacher.
        pairs: only slices are read, so the texts need not be in memory.
        cache: the folder of the cache.
        block_size: pairs of one block.
        advance: called with the number of pairs after each block.

    Raises ZooError if the teacher gives NaN or infinity; nothing of such a block is kept.
    """
    key = _compute_digest(scorer.fingerprint, pairs, block_size)
    path, folder = cache / f"scores-{key}.npy", cache / f"scores-{key}.blocks"
    if (scores := _read(path, len(pairs))) is None:
        write_npy(_compute_blocks(scorer, pairs, folder, block_size, advance), str(path))
        scores = _read(path, len(pairs))
    assert scores is not None  # it was written above
    shutil.rmtree(folder, ignore_errors=True)
    return scores


def _compute_blocks(
    scorer: PairScorer, pairs: Sequence[Pair], folder: Path, block_size: int, advance: Advance
) -> Iterator[Scores]:
    """Yield the blocks of scores in order. Those that an earlier run has written are read."""
    if not len(pairs):
        yield np.empty(0, np.float32)
    for start in range(0, len(pairs), block_size):
        block = pairs[start : start + block_size]
        path = folder / f"{start:012d}-{block_size}.npy"
        if (scores := _read(path, len(block))) is None:
            scores = _score(scorer, block)
            with atomic_files.replace_file(path) as partial, partial.open("wb") as file:
                np.save(file, scores)
        yield scores
        advance(len(block))


def _score(scorer: PairScorer, block: Sequence[Pair]) -> Scores:
    places = {pair: i for i, pair in enumerate(dict.fromkeys(block))}
    unique_scores = np.asarray(scorer.score(list(places)), np.float32)
    scores: Scores = unique_scores[[places[pair] for pair in block]]
    if not np.isfinite(scores).all():
        anchor, candidate = block[int(np.flatnonzero(~np.isfinite(scores))[0])]
        raise ZooError(
            f"{scorer.reference}: gave {scores[~np.isfinite(scores)][0]} for the pair {anchor[:LISTED]!r}, "
            f"{candidate[:LISTED]!r}; its weights are probably corrupted: download the model again"
        )
    return scores


def _read(path: Path, count: int) -> Scores | None:
    """Map the scores in a file, or return None if there are none, or not `count` finite numbers of float32."""
    try:
        scores: Scores = np.load(path, mmap_mode="r" if count else None, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return scores if scores.shape == (count,) and scores.dtype == np.float32 else None


def _compute_digest(fingerprint: str, pairs: Sequence[Pair], block_size: int) -> str:
    """Compute a hash of the teacher and of all texts. Lengths stand before the texts, so that no two lists have one hash."""
    state = hashlib.sha256(fingerprint.encode())
    for start in range(0, len(pairs), block_size):
        for text in (text for pair in pairs[start : start + block_size] for text in pair):
            content = _encode(text)
            state.update(len(content).to_bytes(8, "little") + content)
    return state.hexdigest()[:24]


def _compute_key(pair: Pair) -> int:
    anchor, candidate = map(_encode, pair)
    content = len(anchor).to_bytes(8, "little") + anchor + candidate
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) >> 1


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
