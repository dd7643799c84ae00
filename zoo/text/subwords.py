"""`Subwords`, a vocabulary learned from the training texts: byte-pair merges in plain JSON, and the tokenizer built from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.text import tokenizer_checks

FORMAT = 1
PAD, UNKNOWN = 0, 1
SPECIAL = ("[PAD]", "[UNK]")
INSIDE = "##"


class Subwords:
    """Splits texts at spaces and punctuation, then into subwords (byte-pair encoding: Sennrich et al., arXiv 1508.07909).

    Texts are lower-cased and lose their accents first.

    Attributes:
        pieces: subwords by id. The first two stand for padding and for an unknown character.
        merges: pairs of subwords that are joined, in the order of their use.
        prefix: "##" if subwords inside a word begin with it, and so differ from those at its start; else "".
    """

    def __init__(self, pieces: Sequence[str], merges: Sequence[tuple[str, str]], prefix: str = "") -> None:
        self.pieces, self.merges, self.prefix = list(pieces), list(merges), prefix

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int, *, marks_inside: bool = False) -> Subwords:
        """Learn at most `vocab_size` subwords; the same texts give the same ones. `marks_inside` gives them the prefix.

        Raise ZooError if the texts contain no character to learn from.
        """
        texts, prefix = list(texts), INSIDE if marks_inside else ""
        tokenizer = _build_tokenizer(tokenizers.models.BPE(unk_token=SPECIAL[UNKNOWN], **_make_options(prefix)))
        # The trainer would number characters with a prefix in a random order, on which merges depend, so they are listed here.
        inner = _find_inner_characters(tokenizer, texts) if prefix else []
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[*SPECIAL, *(prefix + character for character in inner)],
            show_progress=False,
            **_make_options(prefix),
        )
        tokenizer.train_from_iterator(texts, trainer)
        model = json.loads(tokenizer.to_str())["model"]
        pieces = sorted(model["vocab"], key=model["vocab"].get)
        if len(pieces) <= len(SPECIAL):
            raise ZooError("the training texts contain no character to learn subwords from: check the text columns")
        return cls(pieces, [(left, right) for left, right in model["merges"]], prefix)

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """A tokenizer built from `pieces` and `merges` alone."""
        vocabulary = {piece: i for i, piece in enumerate(self.pieces)}
        with tokenizer_checks.as_zoo_error("the subwords make no tokenizer"):
            options = _make_options(self.prefix)
            return _build_tokenizer(
                tokenizers.models.BPE(vocabulary, self.merges, unk_token=SPECIAL[UNKNOWN], **options)
            )

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Return the ids of each text, at most `max_length`; [UNKNOWN] for a text without any."""
        with tokenizer_checks.as_zoo_error("the tokenizer does not take a text"):
            encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids[:max_length] or [UNKNOWN] for encoding in encodings]

    def save(self, path: Path) -> None:
        """Write {"format", "pieces", "merges"}, and "prefix" if there is one."""
        content = {"format": FORMAT, "pieces": self.pieces, "merges": self.merges}
        content |= {"prefix": self.prefix} if self.prefix else {}
        atomic_files.write_text(path, json.dumps(content, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> Subwords:
        """Read what `save` wrote. Raise ArtefactError for any other file."""
        try:
            content = atomic_files.read_json(path)
            pieces, merges = content["pieces"], [(left, right) for left, right in content["merges"]]
            distinct, prefix = set(pieces), content.get("prefix", "")
            is_valid = content["format"] == FORMAT and len(pieces) == len(distinct) and tuple(pieces[:2]) == SPECIAL
            is_valid = is_valid and all(isinstance(piece, str) for piece in pieces) and prefix in ("", INSIDE)
            is_valid = is_valid and all(
                {left, right, left + right.removeprefix(prefix)} <= distinct for left, right in merges
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtefactError(f"{path}: cannot be read as subwords: {str(error)[:120]}") from None
        if not is_valid:
            raise ArtefactError(
                f"{path}: is not a list of subwords of format {FORMAT}: pieces must be distinct, and merges must join them; "
                "download or save the model again"
            )
        return cls(pieces, merges, prefix)


def _find_inner_characters(tokenizer: tokenizers.Tokenizer, texts: Iterable[str]) -> list[str]:
    """Find the characters that follow another one in a word, sorted."""
    words = {
        word
        for text in texts
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    }
    return sorted({character for word in words for character in word[1:]})


def _make_options(prefix: str) -> dict[str, Any]:
    return {"continuing_subword_prefix": prefix} if prefix else {}


def _build_tokenizer(model: Any) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(strip_accents=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return tokenizer
