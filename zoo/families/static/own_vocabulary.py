"""A vocabulary of the training texts, for a backbone that does not know their script.

Token vectors that are distilled from such a backbone stand for letters, and say little about words. Subwords are learned from the
training texts instead, and start at the vectors of latent semantic analysis (`zoo.ops.lsa`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from zoo.families.static import token_bag
from zoo.families.static.token_bag import TokenBag
from zoo.text import lexical, spelled_words
from zoo.text.subwords import SPECIAL, Subwords

VOCABULARY_SIZE = 30_000  # subwords at most, as many as BERT has
UNSEEN_LENGTH = 0.4  # of the random vector of a subword that no training text has
LENGTH = 0.5  # of the other vectors, as the root of the mean square


def measure_spelled(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """The share of words of texts that the tokenizer spells letter by letter or does not know, 0 to 1."""
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    return spelled_words.measure_share(whole, texts)


def learn(texts: Sequence[str], dim: int, max_length: int | None, seed: int) -> TokenBag:
    """Learn subwords of texts, and the `dim` components of each by LSA, times its inverse document frequency.

    Words of later texts may be split into subwords that no training text has. These get random vectors, so that they can be
    recognised. Raises ZooError if the texts have no character to learn from.
    """
    tokenizer = Subwords.learn(texts, VOCABULARY_SIZE, marks_inside=True).tokenizer
    token_bag.set_max_length(tokenizer, max_length)
    size = token_bag.count_ids(tokenizer)
    ids, ends = TokenBag(tokenizer, np.zeros((size, 0), np.float32)).tokenize(texts)
    rows = [part.tolist() for part in np.split(ids, ends[1:-1])]
    table = lexical.compute_table(rows, size, dim, weight=0.0, seed=seed, analysed=dim).numpy()
    is_seen = np.linalg.norm(table, axis=1) > 0
    if is_seen.any():
        mean_square = np.square(table[is_seen]).sum(axis=1).mean()
        table *= LENGTH / np.sqrt(mean_square)
    unseen = np.flatnonzero(~is_seen)[len(SPECIAL) :]
    directions = np.random.default_rng(seed).standard_normal((len(unseen), dim))
    table[unseen] = UNSEEN_LENGTH * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return TokenBag(tokenizer, table)
