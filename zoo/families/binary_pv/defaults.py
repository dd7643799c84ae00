"""Settings that follow the corpus if the recipe gives none."""

from __future__ import annotations

import numpy as np

MIN_EPOCHS, MAX_EPOCHS = 20, 50
TRAINED_WORDS = 500_000  # a small corpus is read until training has seen so many words
MANY_WORDS = 20_000  # a corpus of fewer words keeps those that occur once
SMALL_CORPUS = 1_000_000  # words; in a larger corpus, training alone finds better word vectors than LSA starts from


def choose_epochs(words: int) -> int:
    """Choose how often training reads a corpus of so many words: 20 times, and a small one up to 50 times."""
    return int(np.clip(TRAINED_WORDS // max(1, words), MIN_EPOCHS, MAX_EPOCHS))


def choose_min_count(words: int) -> int:
    """Choose how often a word must occur in a corpus of so many words: twice, or once in a small corpus."""
    return 1 if words < MANY_WORDS else 2
