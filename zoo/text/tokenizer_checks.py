"""Whether a tokenizer is one that its model can take every text from: else encoding ends in the midst of somebody's data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zoo.core.errors import ZooError

DEFAULT = 512
PROBE = "an unknown word \U0001d537 \x00"


def of(transformer: Any, reference: str, wanted: int | None = None) -> int:
    """The limit of a text in tokens: `wanted`, or what the sentence-transformers Transformer says. Raises ZooError for one
    beyond the model's positions, for ids that the model has no rows for, and for a tokenizer that refuses a text."""
    model, tokenizer = transformer.auto_model, transformer.tokenizer
    limit = wanted or transformer.max_seq_length or DEFAULT
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or not 0 < limit <= (positions or limit):
        raise ZooError(f"backbone {reference}: {str(limit)[:40]!r} tokens a text, where it has {positions} positions")
    rows = model.get_input_embeddings().num_embeddings
    if max(tokenizer.get_vocab().values(), default=0) >= rows:
        raise ZooError(
            f"backbone {reference}: its tokenizer gives ids of {rows} and more, which the model has no rows for"
        )
    with told(f"backbone {reference}: its tokenizer does not take every text"):
        tokenizer(PROBE)
    return min(limit, _places(model) or limit)


def _places(model: Any) -> int | None:
    """Tokens that the position table has rows for: RoBERTa and its kin leave those up to the padding's unused."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and hasattr(module, "num_embeddings"):
            return module.num_embeddings - (-1 if module.padding_idx is None else module.padding_idx) - 1
    return None


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what the tokenizers library raises into a ZooError: plain Exceptions, and its panics, which are none."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ZooError(f"{what}: {str(error)[:120]}") from error
