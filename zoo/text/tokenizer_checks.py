"""Check before encoding that a tokenizer fits its model, so that encoding does not fail in the middle of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.artefact import preflight
from zoo.core import atomic_files
from zoo.core.errors import ZooError

DEFAULT_MAX_LENGTH = 512
POSITION_TABLES = ("position_embeddings", "wpe")  # what architectures call the table of absolute positions
PROBE = "an unknown word \U0001d537 \x00"


def prepare_padding(transformer: Any, reference: str) -> None:
    """Give a tokenizer without a padding token the one that ends a text, and pad on the right where positions are absolute.

    Padding is masked, so any token will do. A model with a table of positions would read a text that is padded on the left at
    other positions. Raises ZooError for a tokenizer that cannot pad, or that cuts long texts on the left.
    """
    tokenizer = transformer.tokenizer
    if tokenizer.truncation_side != "right":
        raise ZooError(
            f"backbone {reference}: its tokenizer truncates long texts on the left; only the right is supported"
        )
    if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ZooError(
            f"backbone {reference}: its tokenizer has no padding token and no token that ends a text, so texts cannot be "
            "batched: set `pad_token` in its tokenizer_config.json"
        )
    if _count_positions(transformer.auto_model) is not None:
        tokenizer.padding_side = "right"


def append_end_token(tokenizer: Any, folder: Path) -> None:
    """Let a tokenizer end each text with its end token, if the settings in its `folder` say so and it does not do so.

    Some classes of transformers ignore the setting `add_eos_token`. A decoder that is pooled at its last token was trained with
    it.
    """
    path = folder / "tokenizer_config.json"
    settings = preflight.read_json(path) if path.is_file() else {}
    wanted = isinstance(settings, dict) and settings.get("add_eos_token") is True and tokenizer.eos_token is not None
    if not wanted or tokenizer(PROBE)["input_ids"][-1:] == [tokenizer.eos_token_id]:
        return
    from tokenizers import processors

    token = (str(tokenizer.eos_token), tokenizer.eos_token_id)
    end = processors.TemplateProcessing(single=f"$A {token[0]}", special_tokens=[token])
    backend = tokenizer.backend_tokenizer
    own = backend.post_processor
    backend.post_processor = end if own is None else processors.Sequence([own, end])


def check_tokenizer(transformer: Any, reference: str, max_length: int | None = None) -> int:
    """Return the limit of a text in tokens.

    Args:
        transformer: a sentence-transformers Transformer.
        reference: the backbone's name, for messages.
        max_length: the limit that a recipe gives; by default the Transformer's own.

    Raises ZooError for a limit beyond the model's positions, for token ids without an embedding, and for a tokenizer that
    fails on a text.
    """
    model, tokenizer = transformer.auto_model, transformer.tokenizer
    limit = max_length or transformer.max_seq_length or DEFAULT_MAX_LENGTH
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or not 0 < limit <= (positions or limit):
        raise ZooError(
            f"backbone {reference}: texts of {str(limit)[:40]!r} tokens, but the model has {positions} positions"
        )
    embedding_rows = model.get_input_embeddings().num_embeddings
    if max(tokenizer.get_vocab().values(), default=0) >= embedding_rows:
        raise ZooError(
            f"backbone {reference}: its tokenizer gives ids of {embedding_rows} and more, but the model has only "
            f"{embedding_rows} embeddings; use the tokenizer that belongs to the model"
        )
    with as_zoo_error(f"backbone {reference}: its tokenizer does not take every text"):
        tokenizer(PROBE)
    return min(limit, _count_positions(model) or limit)


def _count_positions(model: Any) -> int | None:
    """Return how many tokens the position table has rows for; None if the model has no such table.

    RoBERTa and similar models leave the rows up to the padding token's id unused.
    """
    for name, module in model.named_modules():
        if name.endswith(POSITION_TABLES) and hasattr(module, "num_embeddings"):
            padding_index = -1 if module.padding_idx is None else module.padding_idx
            return int(module.num_embeddings) - padding_index - 1
    return None


@contextmanager
def as_zoo_error(message: str) -> Iterator[None]:
    """Turn an error of the tokenizers library inside the block into a ZooError that starts with `message`.

    The library raises plain Exceptions, and PanicExceptions, which do not derive from Exception.
    """
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ZooError(f"{message}: {str(error)[:120]}") from error


def read_plain_texts(transformer: Any, reference: str, folder: Path) -> None:
    """Let sentence-transformers read texts as they are, also if the tokenizer has a chat template.

    The library would write each text as a message of that template, before and after the training. zoo does not.
    Raise ZooError for a folder of sentence-transformers whose own settings ask for messages.
    """
    if "message" not in transformer.modality_config or "text" not in transformer.modality_config:
        return
    settings = folder / "sentence_bert_config.json"
    own = atomic_files.read_json_object(settings) if settings.exists() else {}
    if "message" in (own.get("modality_config") or {}):
        raise ZooError(
            f"backbone {reference}: writes each text as a chat message, which is not supported; take `message` out of "
            f"modality_config in {settings.name}"
        )
    transformer.modality_config = {name: way for name, way in transformer.modality_config.items() if name != "message"}


def prepare_tokenizer(transformer: Any, reference: str, folder: Path) -> None:
    """Prepare how texts become tokens: no chat template, a token for padding, and an end token where the model expects one.

    `folder` holds the files of the transformer. Raise ZooError if that is not possible.
    """
    read_plain_texts(transformer, reference, folder)
    prepare_padding(transformer, reference)
    append_end_token(transformer.tokenizer, folder)
