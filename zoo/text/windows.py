"""Texts that are longer than an encoder reads: cut them into windows, and give each window a vector.

`mean` encodes every window by itself. `late` runs the whole text through the backbone once, as far as its positions reach, and
pools the tokens of each window, so that they have seen their surroundings. Source: Günther et al., "Late Chunking", arXiv
2409.04701, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.text.backbone import Backbone, apply_linear_maps
from zoo.text.tokenizer_checks import as_zoo_error

WindowMode = Literal["mean", "late"]
Array = np.ndarray[Any, Any]
LATE_TOKENS = 8192  # tokens of one pass if the positions of the backbone have no limit


class Windows(NamedTuple):
    """The windows of texts, in the order of the texts.

    Attributes:
        vectors: (windows, dim) float32.
        texts: (windows,) int64, the number of the text that each window is of.
        spans: (windows, 2) int64, the first character of the window in its text, and the one after its last.
    """

    vectors: Array
    texts: Array
    spans: Array


class TokenWindow(NamedTuple):
    """A window of one text: its first token and the one after its last, and the same for its characters."""

    tokens: tuple[int, int]
    characters: tuple[int, int]


def count_special_tokens(backbone: Backbone) -> int:
    """Return how many tokens the tokenizer puts around a text."""
    return int(backbone.tokenizer.num_special_tokens_to_add(pair=False))


def split_text(backbone: Backbone, text: str) -> list[TokenWindow]:
    """Split a text into windows of at most `max_length` tokens, special tokens included. A window ends after a whole word.

    Token numbers do not count special tokens. A word that is longer than a window is divided. A text without tokens is one
    window.
    """
    size = max(1, backbone.max_length - count_special_tokens(backbone))
    with as_zoo_error(f"backbone {backbone.name}: its tokenizer does not take a text"):
        encoding: Any = backbone.tokenizer(
            text, add_special_tokens=False, truncation=False, return_offsets_mapping=True
        )
    offsets, words = encoding["offset_mapping"], encoding.word_ids(0)
    windows, start = [], 0
    while start < len(offsets):
        end = min(start + size, len(offsets))
        while end < len(offsets) and end > start + 1 and words[end] is not None and words[end] == words[end - 1]:
            end -= 1
        if end == start + 1 and size > 1 and end < len(offsets) and words[end] == words[start]:
            end = min(start + size, len(offsets))  # one word fills the window
        windows.append(TokenWindow((start, end), (offsets[start][0], offsets[end - 1][1])))
        start = end
    return windows or [TokenWindow((0, 0), (0, len(text)))]


def encode_late(backbone: Backbone, text: str, windows: Sequence[TokenWindow]) -> Array:
    """Return the pooled vectors (windows, width) float32 of a text's windows, from as few passes as the positions allow."""
    special = count_special_tokens(backbone)
    longest = _find_longest_pass(backbone)
    vectors = []
    for group in _group_windows(windows, longest - special):
        first, last = group[0], group[-1]
        part = text[first.characters[0] : last.characters[1]]
        ids = backbone.tokenizer(part, truncation=True, max_length=longest)["input_ids"]
        batch = {name: values.to(backbone.model.device) for name, values in backbone.pad([ids]).items()}
        states = backbone.model(**batch).last_hidden_state
        mask = torch.as_tensor(backbone.tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)) == 0
        places = mask.nonzero()[:, 0].to(states.device)  # of the text's own tokens
        for window in group:
            start, end = (token - first.tokens[0] for token in window.tokens)
            own = states[:, places[start:end]] if end > start else states
            vectors.append(backbone.pool(own, torch.ones(own.shape[:2], dtype=torch.int64, device=own.device)))
    return apply_linear_maps(backbone.linear_maps, torch.cat(vectors)).float().cpu().numpy()


def _find_longest_pass(backbone: Backbone) -> int:
    """Return the tokens of the longest pass: all positions of the backbone, but no fewer than `max_length`."""
    from zoo.text.architectures import compute_max_length

    positions = compute_max_length(backbone.model.config.to_dict()) or LATE_TOKENS
    return max(backbone.max_length, min(positions, LATE_TOKENS))


def _group_windows(windows: Sequence[TokenWindow], size: int) -> Iterator[list[TokenWindow]]:
    """Yield windows that follow each other and have at most `size` tokens together."""
    group: list[TokenWindow] = []
    for window in windows:
        if group and window.tokens[1] - group[0].tokens[0] > size:
            yield group
            group = []
        group.append(window)
    yield group


def average_windows(windows: Windows, count: int, *, normalizes: bool) -> Array:
    """Return the mean vector (count, dim) float32 of the windows of each text, with unit norm if `normalizes`."""
    sums = np.zeros((count, windows.vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, windows.texts, windows.vectors)
    means = sums / np.bincount(windows.texts, minlength=count).clip(min=1)[:, None]
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    unit: Array = means / np.maximum(norms, np.finfo(np.float32).tiny) if normalizes else means
    return unit


def refuse_long_texts(backbone: Backbone, texts: Sequence[str]) -> None:
    """Raise ZooError for the first text that is longer than the backbone reads, with its position and its length."""
    for number, text in enumerate(texts, 1):
        if len(text) + count_special_tokens(backbone) <= backbone.max_length and text.isascii():
            continue  # a token has a character at least
        length = len(backbone.tokenizer(text, truncation=False)["input_ids"])
        if length > backbone.max_length:
            raise ZooError(
                f"input {number} has {length} tokens, and {backbone.max_length} are read: split it, raise `max_length`, or set "
                "`long: windows` or `long: cut`"
            )
