"""Texts to sums of token vectors: a tokenizer and a table, without torch.

Opening a static model and encoding with it imports tokenizers, safetensors, NumPy and SciPy alone, so that the first vector
comes in a fraction of a second.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from tokenizers import Tokenizer

Array = npt.NDArray[Any]
_SLICE = 128  # texts tokenised in one call: the records of more of them leave the processor's cache
_EPSILON = 1e-12  # as in torch.nn.functional.normalize


@dataclass(frozen=True)
class TokenBag:
    """A tokenizer and the vector of each of its tokens.

    Attributes:
        tokenizer: adds no padding; truncates if the model has a longest input.
        table: (tokens, dim) float32.
    """

    tokenizer: Tokenizer
    table: Array

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return int(self.table.shape[1])

    def tokenize(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Token ids of all texts in a row, and where each text begins and the last one ends: (tokens,) and (texts + 1,)."""
        rows: list[list[int]] = []
        for start in range(0, len(texts), _SLICE):
            slice_ = [_replace_surrogates(text) for text in texts[start : start + _SLICE]]
            encodings = self.tokenizer.encode_batch_fast(slice_, add_special_tokens=False)
            rows += [encoding.ids for encoding in encodings]
        ends = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return np.fromiter(chain.from_iterable(rows), np.int64, count=int(ends[-1])), ends

    def count_tokens(self, texts: Sequence[str]) -> csr_array:
        """Sparse counts (texts, tokens) float32; a token that a text has twice stands in it twice."""
        from scipy.sparse import csr_array

        ids, ends = self.tokenize(texts)
        return csr_array((np.ones(len(ids), np.float32), ids, ends), shape=(len(texts), len(self.table)))

    def truncate(self, dim: int) -> TokenBag:
        """The first `dim` components, contiguous: SciPy would copy a slice at every call."""
        return TokenBag(self.tokenizer, np.ascontiguousarray(self.table[:, :dim]))

    def encode(self, texts: Sequence[str]) -> Array:
        """Unit vectors (texts, dim) float32; a text without tokens, or of unknown ones alone, is zeros.

        The sum of the token vectors points where their mean does, so it is not divided by their number.
        """
        sums: Array = self.count_tokens(texts) @ self.table
        with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
            sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), _EPSILON)
        return sums


def count_ids(tokenizer: Tokenizer) -> int:
    """One more than the largest id that the tokenizer gives: the rows that a table needs."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def find_unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id of the token for characters outside the vocabulary; None if there is no such token."""
    model = tokenizer.model
    if hasattr(model, "unk_token"):  # WordPiece, BPE, WordLevel
        return None if model.unk_token is None else tokenizer.token_to_id(model.unk_token)
    unknown: int | None = json.loads(tokenizer.to_str())["model"].get("unk_id")
    return unknown


def set_max_length(tokenizer: Tokenizer, max_length: int | None) -> None:
    """Let a tokenizer read `max_length` tokens of a text, or all of them, and pad nothing."""
    tokenizer.no_padding()
    if max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_length)


def _replace_surrogates(text: str) -> str:
    """The text with `?` for halves of surrogate pairs, which tokenizers cannot read."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
