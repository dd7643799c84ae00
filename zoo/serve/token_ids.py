"""Token ids as inputs, and the number of tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from zoo.encoder import Encoder
from zoo.serve.errors import RequestError

TOKENIZER_PATHS = (
    "backbone.tokenizer",
    "text_encoder.backbone.tokenizer",
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
    rows = encoder.list_token_ids(texts)
    return [len(text.split()) for text in texts] if rows is None else [len(row) for row in rows]


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
    special = set(getattr(tokenizer, "all_special_ids", ()))
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


def _find_limit(tokenizer: Any) -> int | None:
    """Return the number of tokens after which texts are cut, or None."""
    truncation = getattr(tokenizer, "truncation", None)
    return truncation["max_length"] if truncation else getattr(tokenizer, "model_max_length", None)
