"""Measure how many words of texts a tokenizer does not know. Needs tokenizers only, and imports no torch.

A backbone that was not trained on a script has no words of it. Its tokenizer spells them letter by letter or gives the unknown
token, and the backbone's vectors then say little about the texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.data.split import draw_positions

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

MOST_TEXTS = 1000  # of more, as many are drawn by seed 0
MIN_LETTERS = 3  # shorter words have few tokens in any vocabulary
MANY = 0.5  # of the words: a backbone that spells more does not know the script
ADVICE = "choose a backbone that was trained on their language, or `family: static`, which learns words from your texts"


def measure_share(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Return the share of words, 0 to 1, that the tokenizer spells or does not know; 0 for texts without words.

    A word of MIN_LETTERS letters or more is spelled if it has at least as many tokens as letters. A shorter word counts only
    if it is one token. The tokenizer must not truncate texts.
    """
    if len(texts) > MOST_TEXTS:
        texts = [texts[position] for position in draw_positions(len(texts), MOST_TEXTS).tolist()]
    texts = [text if text.isascii() else text.encode("utf-8", "replace").decode() for text in texts]
    counts = [
        _count(text, encoding, getattr(tokenizer.model, "unk_token", None))
        for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True)
    ]
    words = sum(count for count, _ in counts)
    return sum(spelled for _, spelled in counts) / words if words else 0.0


def describe(share: float, backbone: str) -> str:
    """Say that a backbone does not know the words of texts, as a clause."""
    return f"{share:.0%} of the words are spelled letter by letter, because {backbone} does not know them"


def _count(text: str, encoding: Encoding, unknown: str | None) -> tuple[int, int]:
    """Return the number of words of a text, and how many of them are spelled or unknown."""
    offsets, tokens = encoding.offsets, encoding.tokens  # each access copies the list of all tokens
    tokens_of: dict[int, list[int]] = {}
    for position, word in enumerate(encoding.word_ids):
        if word is not None:
            tokens_of.setdefault(word, []).append(position)
    words = spelled = 0
    for positions in tokens_of.values():
        first, last = offsets[positions[0]][0], offsets[positions[-1]][1]
        letters = sum(character.isalpha() for character in text[first:last])
        if not letters or (letters < MIN_LETTERS and len(positions) > 1):
            continue
        words += 1
        is_unknown = len(positions) == 1 and tokens[positions[0]] == unknown
        spelled += is_unknown or (letters >= MIN_LETTERS and len(positions) >= letters)
    return words, spelled
