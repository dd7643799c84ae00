"""Look at a tokenizer.json before it is run: nothing in it may make a text, a list of tokens or a run time grow without limit.

The tokenizers library runs whatever the file describes, in native code that cannot be interrupted. So the limits are those of
real tokenizers with room above them.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.core import strict_json
from zoo.core.errors import ArtefactError

GROWTH = 32
"""Largest factor by which all normalisers, or all decoders, may make a text longer."""
STEPS = 100
"""Most steps of a sequence of normalisers, pre-tokenizers, post-processors or decoders."""
CONTENT = 64
"""Most characters that one step puts in the place of others."""
PATTERN = 2000
"""Most characters of a regular expression."""
REPEATS = 1000
"""Largest product of the numbers of repeats in a regular expression, for example of {3,40}."""
MAYBE_EMPTY = re.compile(r"^$|\(\?|\\[bBAzZGK]|[\^$*?|]|\{0|\{,")
"""What occurs in every regular expression that may match between any two characters, where its content then grows the text."""
TEMPLATE = 64
"""Most tokens that a template adds to a text."""
ADDED = 20_000
"""Most added tokens."""
TOKEN = 1000
"""Most characters of a token."""
TOKENS = 2_000_000
"""Most tokens of a vocabulary."""
WORD = 1000
"""Most characters of a word that WordPiece splits; its time grows with the square of them."""
LENGTH = 1 << 20
"""Most tokens to which a text is padded or cut."""


def check(path: Path, rows: int | None = None) -> None:
    """Raise ArtefactError for a tokenizer.json that is not one, or that breaks a limit of this module.

    Args:
        path: the file.
        rows: number of embeddings of the model beside it, if known; every token's id must be below.
    """
    try:
        content = strict_json.read(path, may_repeat_keys=True)
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: cannot be read as JSON: {str(error)[:120]}; download the model again") from None
    try:
        _check_parts(content, rows if rows is not None else TOKENS)
    except ValueError as error:
        raise ArtefactError(f"{path}: {error}; do not open this model") from None
    except (TypeError, KeyError, AttributeError, IndexError, RecursionError, struct.error, binascii.Error) as error:
        raise ArtefactError(f"{path}: is not a tokenizer: {str(error)[:80]}; download the model again") from None


def _check_parts(content: Any, rows: int) -> None:
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError("is not a tokenizer")
    for part in ("normalizer", "decoder"):
        factor = _compute_growth(content.get(part), part)
        if factor > GROWTH:
            raise ValueError(f"its {part} can make a text {factor} times as long, more than {GROWTH}")
    for _ in _list_steps(content.get("pre_tokenizer"), "pre_tokenizer"):
        pass  # the walk itself checks each step
    for step in _list_steps(content.get("post_processor"), "post_processor"):
        _check_template(step, rows)
    _check_lengths(content)
    _check_added_tokens(content.get("added_tokens") or [], rows)
    _check_model(content["model"], rows)


# -- steps -----------------------------------------------------------------------------------------------------------


def _list_steps(step: Any, part: str) -> Iterator[Mapping[str, Any]]:
    """Yield every step of nested sequences, and raise ValueError for too many of them or for a heavy pattern."""
    waiting, count = [step] if step else [], 0
    while waiting:
        current, count = waiting.pop(), count + 1
        if count > STEPS:
            raise ValueError(f"its {part} has more than {STEPS} steps")
        pattern = current.get("pattern")
        if isinstance(pattern, dict) and "Regex" in pattern:
            _check_pattern(pattern["Regex"], part)
        for name in ("normalizers", "pretokenizers", "processors", "decoders"):
            inner = current.get(name)
            if inner is not None:
                waiting += reversed(inner[: STEPS + 1])
        yield current


def _check_pattern(pattern: str, part: str) -> None:
    """Raise ValueError for a regular expression whose compiled form would be large."""
    product = 1
    for numbers in re.findall(r"\{(\d*),?(\d*)\}", pattern[: PATTERN + 1]):
        product *= max([1, *(int(number[:9]) for number in numbers if number)])
    if len(pattern) > PATTERN or product > REPEATS:
        raise ValueError(f"its {part} has a regular expression that is too large: {pattern[:40]!r}")


def _compute_growth(step: Any, part: str) -> int:
    """Compute by which factor all steps of a normaliser or decoder can make a text longer."""
    factor = 1
    for current in _list_steps(step, part):
        kind = current.get("type")
        if kind == "Replace":
            pattern = current["pattern"]
            plain = pattern.get("String") if isinstance(pattern, dict) else pattern
            replaced = len(plain) if isinstance(plain, str) else int(not MAYBE_EMPTY.search(pattern["Regex"]))
            _check_content(current["content"], part)
            factor *= max(1, -(-len(current["content"]) // replaced) if replaced else 1 + len(current["content"]))
        elif kind == "Precompiled":
            factor *= max(1, _measure_charsmap(current["precompiled_charsmap"]))
        for name in ("prepend", "prefix", "suffix", "replacement", "content", "word_delimiter_token", "pad_token"):
            _check_content(current.get(name) or "", part)
    return factor


def _check_content(content: Any, part: str) -> None:
    if not isinstance(content, str) or len(content) > CONTENT:
        raise ValueError(f"its {part} puts {len(str(content))} characters into a text, more than {CONTENT}")


def _measure_charsmap(encoded: str) -> int:
    """Return the characters of the longest text that SentencePiece's table puts in the place of one character."""
    data = base64.b64decode(encoded)
    if len(data) < 4:
        raise ValueError("its normalizer has a damaged table of characters")
    (size,) = struct.unpack("<I", data[:4])
    return max(len(text.decode("utf-8", "replace")) for text in data[4 + size :].split(b"\0"))


# -- templates, lengths and tokens -----------------------------------------------------------------------------------


def _check_template(step: Mapping[str, Any], rows: int) -> None:
    """Raise ValueError for a post-processor that adds many tokens, a text twice, or a token without an embedding."""
    tokens = step.get("special_tokens") or {}
    if not isinstance(tokens, dict) or len(tokens) > TEMPLATE:
        raise ValueError(f"its template knows more than {TEMPLATE} tokens")
    for token in tokens.values():
        for number in token["ids"][: TEMPLATE + 1]:
            _check_id(number, rows, "its template")
    for name in ("single", "pair"):
        pieces = step.get(name) or []
        if not isinstance(pieces, list):
            continue  # older files hold a text, which names each token once
        added = sum(len(tokens[piece["SpecialToken"]["id"]]["ids"]) for piece in pieces if "SpecialToken" in piece)
        copies = sum("Sequence" in piece for piece in pieces)
        if added > TEMPLATE or copies > 2:
            raise ValueError(
                f"its template adds {added} tokens to {copies} texts; at most {TEMPLATE} and 2 are allowed"
            )
    for name in ("sep", "cls"):  # of BertProcessing and RobertaProcessing
        if step.get(name) is not None:
            _check_id(step[name][1], rows, "its post-processor")


def _check_lengths(content: Mapping[str, Any]) -> None:
    padding, truncation = content.get("padding") or {}, content.get("truncation") or {}
    strategy = padding.get("strategy")
    fixed = strategy.get("Fixed", 0) if isinstance(strategy, dict) else 0
    for number in (fixed, padding.get("pad_to_multiple_of") or 0, truncation.get("max_length") or 0):
        if type(number) is not int or not 0 <= number <= LENGTH:
            raise ValueError(f"it pads or cuts texts to {str(number)[:20]} tokens; the limit is {LENGTH}")


def _check_added_tokens(added_tokens: list[Any], rows: int) -> None:
    if len(added_tokens) > ADDED:
        raise ValueError(f"it has {len(added_tokens)} added tokens; the limit is {ADDED}")
    for token in added_tokens:
        _check_id(token["id"], rows, "its list of added tokens")
        if not 0 < len(token["content"]) <= TOKEN:
            raise ValueError(f"it has an added token of {len(token['content'])} characters; the limit is {TOKEN}")


def _check_model(model: Mapping[str, Any], rows: int) -> None:
    vocabulary = model.get("vocab") or {}
    if isinstance(vocabulary, dict):
        for number in vocabulary.values():
            _check_id(number, rows, "its vocabulary")
    elif len(vocabulary) > rows:
        raise ValueError(f"it has {len(vocabulary)} tokens, but the model has {rows} embeddings")
    word = model.get("max_input_chars_per_word")
    if word is not None and not 0 <= word <= WORD:
        raise ValueError(f"max_input_chars_per_word: {str(word)[:20]} is beyond {WORD}")
    if model.get("dropout"):
        raise ValueError("its dropout draws other tokens at every call")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        if len(model.get(name) or "") > TOKEN:
            raise ValueError(f"{name} has more than {TOKEN} characters")


def _check_id(number: Any, rows: int, place: str) -> None:
    if type(number) is not int or not 0 <= number < rows:
        raise ValueError(f"{place} has the id {str(number)[:20]}, but ids must be from 0 to {rows - 1}")
