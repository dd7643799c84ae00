"""Scores of pairs of texts by a teacher, and vectors of texts by a guide: computed once, and cached.

A teacher is a cross-encoder (`cross_encoder.CrossEncoderScorer`) or an encoder (`EncoderScorer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.core.progress import Advance
from zoo.text.block_cache import BLOCK_SIZE, Array, compute_cached, compute_digest

Pair = tuple[str, str]
"""An anchor and a candidate."""

LISTED = 60  # characters of a text in a message


class PairScorer(Protocol):
    """A teacher. Equal fingerprints promise equal scores of equal pairs."""

    reference: str
    fingerprint: str

    def score(self, pairs: Sequence[Pair]) -> Array:
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

    def score(self, pairs: Sequence[Pair]) -> Array:
        """Return the cosines (n,) float32 of n pairs."""
        anchors, candidates = zip(*pairs, strict=True)
        cosines: Array = np.einsum(
            "nd,nd->n",
            _encode_unit_rows(self._encoder.encode_query, anchors),
            _encode_unit_rows(self._encoder.encode_document, candidates),
        )
        return cosines


def _encode_unit_rows(encode: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> Array:
    places = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    vectors = np.asarray(encode(list(places)), np.float32)
    # A vector of zeros has the cosine 0 with all others.
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    rows: Array = vectors[[places[text] for text in texts]]
    return rows


def compute_scores(
    scorer: PairScorer,
    pairs: Sequence[Pair],
    cache: Path,
    *,
    block_size: int = BLOCK_SIZE,
    advance: Advance = lambda count: None,
) -> Array:
    """Return the scores (n,) float32 of n pairs, from the cache or by the scorer. Equal pairs of a block are scored once.

    The file is scores-KEY.npy, and KEY is a hash of the teacher and of all texts. The array is mapped from the file. Look
    scores up by their texts with `block_cache.RowsByText`.

    Args:
        scorer: the teacher.
        pairs, block_size, advance: as in `block_cache.compute_cached`.
        cache: the folder of the cache.

    Raises ZooError if the teacher gives NaN or infinity; nothing of such a block is kept.
    """
    path = cache / f"scores-{compute_digest(scorer.fingerprint, pairs)}.npy"
    return compute_cached(partial(_score, scorer), pairs, path, block_size=block_size, advance=advance)


def compute_vectors(
    encode: Callable[[Sequence[str]], Any],
    texts: Sequence[str],
    cache: Path,
    fingerprint: str,
    *,
    block_size: int = BLOCK_SIZE,
    advance: Advance = lambda count: None,
) -> Array:
    """Return the vectors (n, d) float32 of n texts, from the cache or by `encode`, for example those of a guide.

    The file is vectors-KEY.npy, and KEY is a hash of the fingerprint and of all texts. The array is mapped from the file.

    Args:
        encode: returns the vectors (b, d) of b texts, for example `encoder.encode_document`.
        texts, block_size, advance: as in `block_cache.compute_cached`.
        cache: the folder of the cache.
        fingerprint: changes whenever a vector changes, for example the sha256 of the weights with the prompt of the role.
    """
    path = cache / f"vectors-{compute_digest(fingerprint, texts)}.npy"
    return compute_cached(lambda block: np.asarray(encode(block)), texts, path, block_size=block_size, advance=advance)


def _score(scorer: PairScorer, block: Sequence[Pair]) -> Array:
    places = {pair: i for i, pair in enumerate(dict.fromkeys(block))}
    unique_scores = np.asarray(scorer.score(list(places)), np.float32)
    scores: Array = unique_scores[[places[pair] for pair in block]]
    if not np.isfinite(scores).all():
        place = int(np.flatnonzero(~np.isfinite(scores))[0])
        anchor, candidate = block[place]
        raise ZooError(
            f"{scorer.reference}: gave {scores[place]} for the pair {anchor[:LISTED]!r}, {candidate[:LISTED]!r}; its weights "
            "are probably corrupted: download the model again"
        )
    return scores
