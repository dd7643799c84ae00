"""Token ids as inputs, and the number of tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from zoo.encoder import Encoder
from zoo.serve.errors import RequestError
from zoo.text.engine import CHARACTERS_PER_TOKEN, take_beginning

TOKENIZER_PATHS = (
    "tokenizer",
    "text_encoder.tokenizer",
    "tower.body.tokenizer",
    "bag.tokenizer",
    "vlm.tokenizer",
)
"""Where encoders keep their tokenizer. One that keeps it elsewhere takes texts only."""


def count_tokens(encoder: Encoder, texts: Sequence[str]) -> list[int]:
    """Return the number of tokens that the encoder reads of each text, special tokens included.

    A family without a tokenizer reads words, so their words are counted.
    """
    texts = [text if text.isascii() else text.encode("utf-8", "replace").decode() for text in texts]
    limit = getattr(encoder, "max_length", None)
    beginnings = [take_beginning(text, limit * CHARACTERS_PER_TOKEN) for text in texts] if limit else texts
    rows = encoder.list_token_ids(beginnings)
    if rows is None:
        return [len(text.split()) for text in texts]
    counts = [len(row) for row in rows]
    # A beginning that does not fill the limit says too little, so these texts are tokenised whole.
    short = [i for i, count in enumerate(counts) if limit and count < limit and len(beginnings[i]) < len(texts[i])]
    if short:
        for i, row in zip(short, encoder.list_token_ids([texts[i] for i in short]) or (), strict=True):
            counts[i] = len(row)
    return counts


def decode_token_ids(encoder: Encoder, ids: Sequence[int]) -> str:
    """Return the text of token ids of the model's own tokenizer, with or without special tokens.

    The text has exactly these tokens again. Raise RequestError otherwise, for example for ids of another tokenizer.
    """
    tokenizer = find_tokenizer(encoder)
    if tokenizer is None:
        raise RequestError(400, "this model takes texts, not token ids: send strings", param="input")
    try:
        text = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    except (OverflowError, TypeError, ValueError, IndexError, KeyError):
        text = ""
    (row,) = encoder.list_token_ids([text]) or [()]
    special = list_special_ids(tokenizer)
    plain = [token for token in ids if token not in special]
    again = [token for token in row if token not in special]
    limit = _find_limit(tokenizer)
    is_cut = len(row) == limit and plain[: len(again)] == again
    if not plain or (again != plain and not is_cut):
        message = "these token ids are not the tokens of a text for this model's tokenizer: send the text instead"
        raise RequestError(400, message, param="input", code="invalid_token_ids")
    return text


def find_tokenizer(encoder: Any) -> Any:
    """Return the encoder's tokenizer, which has `decode`, or None."""
    for path in TOKENIZER_PATHS:
        tokenizer = reduce(lambda value, name: getattr(value, name, None), path.split("."), encoder)
        if tokenizer is not None and hasattr(tokenizer, "decode"):
            return tokenizer
    return None


def list_special_ids(tokenizer: Any) -> set[int]:
    """Return the ids of the special tokens of a tokenizer of transformers or of the library `tokenizers`."""
    if hasattr(tokenizer, "all_special_ids"):
        return set(tokenizer.all_special_ids)
    return {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def _find_limit(tokenizer: Any) -> int | None:
    """Return the number of tokens after which texts are cut, or None."""
    truncation = getattr(tokenizer, "truncation", None)
    return truncation["max_length"] if truncation else getattr(tokenizer, "model_max_length", None)
