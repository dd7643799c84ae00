"""The words of `vocabulary.tokenise` as a file of the library `tokenizers`, so that other programs read texts in the same way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from zoo.paragraph_vectors.vocabulary import Vocabulary

PROBES, LONGEST_PROBE = 40, 100
UNKNOWN = "[unknown]"
"""The token of a word that the vocabulary lacks. Its id is the number of known words."""
# Python counts letters and numerals such as ½ or Ⅷ as word characters, and leaves decimal digits out here. The library has
# other classes, so the general categories of Unicode are named.
LETTER = r"\p{L}\p{Nl}\p{No}"
LETTERS = rf"[{LETTER}]{{2,40}}"
OTHER = "\ue000"
"""The token of a run of digits, underscores and single letters: a character of the private use area."""
FINAL_SIGMA = r"(?<=\p{L})\x{03A3}(?!\p{L})"
"""A capital sigma at the end of a word, whose small letter is another one than within a word. `Lowercase` does not know this."""


def make_tokenizer(vocabulary: Vocabulary, max_words: int) -> Tokenizer:
    """Return a tokenizer from texts to rows of the vocabulary, cut after `max_words` words. Unknown words get one id."""
    ids = {**vocabulary.rows, UNKNOWN: len(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(vocab=ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(FINAL_SIGMA), "\u03c2"), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(LETTERS), behavior="removed", invert=True)
    tokenizer.enable_truncation(max_words)
    return tokenizer


def make_phrase_tokenizer(vocabulary: Vocabulary, further: Sequence[str], max_tokens: int) -> tuple[Tokenizer, int]:
    """Return a tokenizer that also keeps where words begin and end, and the id of its separator.

    The ids are rows of the vocabulary, then that of unknown words, those of `further` words, the separator, and one id for
    digits, underscores and single letters. Between two separators stands a run of letters, digits and underscores.
    """
    words = [*vocabulary.words, UNKNOWN, *further, " ", OTHER]
    tokenizer = Tokenizer(
        models.WordLevel(vocab={word: number for number, word in enumerate(words)}, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(FINAL_SIGMA), "\u03c2"),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(rf"[^{LETTER}\p{{Nd}}_]+"), " "),
            normalizers.Replace(Regex(rf"(?:[\p{{Nd}}_]|(?<![{LETTER}])[{LETTER}](?![{LETTER}]))+"), OTHER),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", behavior="isolated"), pre_tokenizers.Split(Regex(LETTERS), behavior="isolated")]
    )
    tokenizer.enable_truncation(max_tokens)
    return tokenizer, len(words) - 2


def make_probes(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return texts of known words, from 1 to LONGEST_PROBE words and as frequent as in training. The same at every call."""
    generator = np.random.default_rng(0)
    shares = np.asarray(vocabulary.counts, np.float64) / sum(vocabulary.counts)
    lengths = np.geomspace(1, LONGEST_PROBE, PROBES).round().astype(int)
    rows = [generator.choice(len(vocabulary), size=length, p=shares) for length in lengths]
    return tuple(" ".join(vocabulary.words[row] for row in own) for own in rows)
