"""Subwords learned from the training texts alone: byte-pair merges in plain JSON, from which the tokenizer is made anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.lazy import lazy
from zoo.text import tokenizer_checks

if TYPE_CHECKING:
    import tokenizers
else:
    tokenizers = lazy("tokenizers")

FORMAT = 1
PAD, UNKNOWN = 0, 1
SPECIAL = ("[PAD]", "[UNK]")


class Pieces:
    """Lower-cased text without accents, split at spaces and punctuation, then merged (Sennrich et al., arXiv 1508.07909).

    Attributes:
        pieces: by id; the first two stand for padding and for a character never seen.
        merges: pairs of pieces, the first one first.
    """

    def __init__(self, pieces: Sequence[str], merges: Sequence[tuple[str, str]]) -> None:
        self.pieces, self.merges = list(pieces), list(merges)

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> Pieces:
        """At most `size` pieces, the same ones for the same texts. Raises ZooError where no text holds a letter."""
        model = _plain(tokenizers.models.BPE(unk_token=SPECIAL[UNKNOWN]))
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
        model.train_from_iterator(texts, trainer)
        told = json.loads(model.to_str())["model"]
        pieces = sorted(told["vocab"], key=told["vocab"].get)
        if len(pieces) <= len(SPECIAL):
            raise ZooError("the training texts hold no character to learn subwords from")
        return cls(pieces, [(a, b) for a, b in told["merges"]])

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """Made of pieces and merges alone."""
        vocabulary = {piece: i for i, piece in enumerate(self.pieces)}
        with tokenizer_checks.as_zoo_error("the subwords make no tokenizer"):
            return _plain(tokenizers.models.BPE(vocabulary, self.merges, unk_token=SPECIAL[UNKNOWN]))

    def encode(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        """Ids of each text, at most `limit`; one UNKNOWN for a text without any."""
        with tokenizer_checks.as_zoo_error("the tokenizer does not take a text"):
            found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [each.ids[:limit] or [UNKNOWN] for each in found]

    def save(self, path: Path) -> None:
        """Write {"format", "pieces", "merges"}."""
        told = {"format": FORMAT, "pieces": self.pieces, "merges": self.merges}
        atomic_files.write_text(path, json.dumps(told, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> Pieces:
        """Raises ArtefactError for a file that `save` did not write."""
        try:
            told = atomic_files.read_json(path)
            pieces, merges = told["pieces"], [(a, b) for a, b in told["merges"]]
            known = set(pieces)
            good = told["format"] == FORMAT and len(pieces) == len(known) and tuple(pieces[:2]) == SPECIAL
            good = good and all(isinstance(word, str) for word in pieces)
            good = good and all(a in known and b in known and a + b in known for a, b in merges)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtefactError(f"{path}: cannot be read as subwords: {str(error)[:120]}") from None
        if not good:
            raise ArtefactError(f"{path}: holds no subwords of format {FORMAT}: distinct pieces, and merges among them")
        return cls(pieces, merges)


def _plain(model: Any) -> tokenizers.Tokenizer:
    made: Any = tokenizers.Tokenizer(model)
    made.normalizer = tokenizers.normalizers.BertNormalizer(strip_accents=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return made
