"""The share of words that a tokenizer does not know, counted by hand."""

from __future__ import annotations

import pytest
import tiny
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from zoo.spec import TextLimit
from zoo.text import long_texts, spelled_words

LETTERS = "абвгде"


def make_tokenizer(*words: str) -> Tokenizer:
    """A WordPiece tokenizer with these words and the letters of LETTERS."""
    pieces = ["[UNK]", *words, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("known Known", 0),
        ("абв known", 1 / 2),  # three letters, three tokens
        ("know known", 1 / 2),  # "know" has a letter that is not in the vocabulary
        ("аб known", 0),  # two letters and two tokens: too short to say anything
        ("а known", 0),  # one token
        ("knownаб known", 0),  # seven letters, three tokens
        ("漢字 known", 2 / 3),  # each of these is a word
        ("12345 !! known", 0),  # no letters
        ("", 0),
        ("!!", 0),
        ("\ud800 known", 0),
    ],
)
def test_a_word_is_spelled_if_it_has_as_many_tokens_as_letters(text, share):
    assert spelled_words.measure_share(make_tokenizer("known"), [text]) == pytest.approx(share)


def test_the_words_of_all_texts_count_alike():
    texts = ["known known known", "абв", ""]
    assert spelled_words.measure_share(make_tokenizer("known"), texts) == pytest.approx(1 / 4)


def test_bytes_of_letters_are_spelled_too():
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert spelled_words.measure_share(tokenizer, ["абв где"]) == 1
    assert spelled_words.measure_share(tokenizer, [""]) == 0


def test_many_texts_are_drawn_by_a_fixed_seed():
    texts = ["known"] * spelled_words.MOST_TEXTS + ["абв"] * spelled_words.MOST_TEXTS
    shares = {spelled_words.measure_share(make_tokenizer("known"), texts) for _ in range(2)}
    assert len(shares) == 1
    assert 0.4 < shares.pop() < 0.6


def test_a_counter_of_a_backbone_measures_whole_texts(tmp_path):
    counter = long_texts.open_counter(
        TextLimit(tiny.backbone(tmp_path / "b", layers=1, hidden=16), max_length=2), tmp_path
    )
    assert counter.measure_spelled([" ".join(tiny.WORDS[:9]) + " совсем"]) == pytest.approx(1 / 10)


def test_the_tokens_of_a_text_are_copied_once():
    text = "абв known " * 50
    encoding = make_tokenizer("known").encode(text)
    reads = []

    class Counted:
        def __getattr__(self, name):
            reads.append(name)
            return getattr(encoding, name)

    assert spelled_words._count(text, Counted(), "[UNK]") == (100, 50)
    assert sorted(reads) == ["offsets", "tokens", "word_ids"], (
        "a list of all tokens for each word takes hours for long texts"
    )
