"""Count texts that are longer than an encoder reads. Needs the tokenizer of the backbone only, and imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.artefact import transformer_folder
from zoo.core.errors import ZooError
from zoo.data.split import draw_positions
from zoo.hub import model_references
from zoo.spec import EncoderSpec, TextLimit
from zoo.text import architectures, spelled_words
from zoo.text.tokenizer_checks import DEFAULT_MAX_LENGTH

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST_TEXTS = 10_000  # of one column; of more, as many are drawn by seed 0
BATCH = 1_000
PART_ROLES = {"corpus": "document", "queries": "query"}
COLUMN_ROLES = {
    "anchor": "query",
    "query": "query",
    "positive": "document",
    "negative": "document",
    "document": "document",
}
"""The prompt of a column. The two sides of a scored pair and the texts of a classifier have none."""


@dataclass(frozen=True)
class LongTexts:
    """How many texts of a data set are longer than the limit.

    Attributes:
        name: the data set.
        counted: how many texts were tokenised or seen to be short.
        texts: how many texts there are; if more than `counted`, those were drawn.
        long: how many of the counted texts are longer than `limit` tokens.
        longest: tokens of the longest of them; 0 if there is none.
    """

    name: str
    counted: int
    texts: int
    long: int
    longest: int
    limit: int

    @property
    def excess(self) -> int:
        """By how many tokens the longest text is longer than the limit."""
        return max(0, self.longest - self.limit)

    def __str__(self) -> str:
        drawn = f" (drawn of {self.texts:,})" if self.texts > self.counted else ""
        verb = "is" if self.long == 1 else "are"
        texts = f"{self.name}: {self.long:,} of {self.counted:,} texts{drawn}"
        return f"{texts} {verb} longer than {self.limit:,} tokens, the longest by {self.excess:,}"


class TokenCounter:
    """Counts tokens as the encoder of a recipe does.

    Attributes:
        limit: the tokens that are read of a text, special tokens included.
        positions: the largest limit that the backbone allows, or None if it is not known.
        prompts: texts that the encoder puts before each "query" and each "document".
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        limit: int,
        positions: int | None,
        *,
        special_tokens: bool = True,
        prompts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._tokenizer, self.limit, self.positions, self.prompts = tokenizer, limit, positions, prompts
        self._special_tokens = special_tokens
        self._own_tokens = tokenizer.num_special_tokens_to_add(False) if special_tokens else 0
        tokenizer.no_truncation()
        tokenizer.no_padding()

    def count(self, name: str, texts: Sequence[str], total: int | None = None) -> LongTexts:
        """Count the long texts of a data set. If there are more than MOST_TEXTS, as many are drawn by seed 0.

        Args:
            total: how many texts the data set has, if `texts` were drawn from it.
        """
        drawn, long, longest = texts, 0, 0
        if len(texts) > MOST_TEXTS:
            drawn = [texts[position] for position in draw_positions(len(texts), MOST_TEXTS).tolist()]
        candidates = [text for text in drawn if self._may_be_long(text)]
        for start in range(0, len(candidates), BATCH):
            batch = [_replace_surrogates(text) for text in candidates[start : start + BATCH]]
            for encoding in self._tokenizer.encode_batch(batch, add_special_tokens=self._special_tokens):
                length = len(encoding.ids)
                long += length > self.limit
                longest = max(longest, length) if length > self.limit else longest
        return LongTexts(name, len(drawn), total or len(texts), long, longest, self.limit)

    def measure_spelled(self, texts: Sequence[str]) -> float:
        """Return the share of words that the tokenizer spells letter by letter or does not know, 0 to 1."""
        return spelled_words.measure_share(self._tokenizer, texts)

    def _may_be_long(self, text: str) -> bool:
        """Return whether a text must be tokenised. A token has at least one character, unless normalisation makes several."""
        return not text.isascii() or len(text) + self._own_tokens > self.limit

    def advise(self, field: str | None, *, has_windows: bool = False) -> str:
        """Say what to do about long texts.

        Args:
            field: the field of the recipe that sets the limit, or None.
            has_windows: whether the encoder has the field `long`.
        """
        if field is not None and (self.positions is None or self.positions > self.limit):
            most = f", up to {self.positions:,}" if self.positions else ""
            other = "set encoder.long: windows" if has_windows else "split the texts"
            return f"the rest of them is not read; raise encoder.{field}{most}, or {other}"
        if has_windows:
            return "the rest of them is not read; split the texts, or set encoder.long: windows"
        return "the rest of them is not read; split the texts, or choose a backbone that reads longer ones"


def open_counter(limit: TextLimit, folder: Path) -> TokenCounter | str:
    """Return the counter of a recipe's encoder, or why nothing can be counted, as a clause.

    A relative path of the backbone starts at `folder`. Nothing is downloaded.
    """
    try:
        local = model_references.locate(limit.backbone, folder) or _find_in_cache(limit)
        if local is None:
            return f"the tokenizer of {limit.backbone} is on the Hub and not on this machine yet"
        weights_folder = transformer_folder.find_transformer(local)
        file = next(
            (base / "tokenizer.json" for base in (weights_folder, local) if (base / "tokenizer.json").is_file()), None
        )
        if file is None:
            return f"{limit.backbone} has no tokenizer.json"
        positions = architectures.compute_max_length(_read_json(weights_folder / "config.json"))
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
    except (ZooError, OSError, ValueError, KeyError) as error:
        return str(error).splitlines()[0]
    except Exception as error:  # the tokenizers library raises plain Exceptions
        return f"the tokenizer of {limit.backbone} cannot be opened: {str(error)[:120]}"
    longest = limit.max_length or _read_default_limit(weights_folder, positions)
    if limit.special_tokens and positions:
        longest = min(longest, positions)
    allowed = positions if limit.special_tokens else None  # an encoder without a network has no positions
    prompts = _read_prompts(local) if limit.prompts is None else limit.prompts
    return TokenCounter(tokenizer, longest, allowed, special_tokens=limit.special_tokens, prompts=prompts)


def describe_unknown_words(spec: EncoderSpec, folder: Path, read_texts: Callable[[], Sequence[str]]) -> str:
    """Say, as a clause, that the backbone of an encoder does not know most words of texts.

    Empty if it knows them, if the encoder learns its own tokens, or if no tokenizer can be opened. Without a tokenizer
    the texts are not read.
    """
    limit = spec.text_limit
    counter = None if limit is None else open_counter(limit, folder)
    if limit is None or counter is None or isinstance(counter, str):
        return ""
    share = counter.measure_spelled(read_texts())
    if share <= spelled_words.MANY or spec.learns_vocabulary(share):
        return ""
    return spelled_words.describe(share, limit.backbone)


def _find_in_cache(limit: TextLimit) -> Path | None:
    """Return the folder of a Hub model in the cache, if its tokenizer and its config are there."""
    from huggingface_hub import try_to_load_from_cache

    files = [
        try_to_load_from_cache(limit.backbone, name, revision=limit.revision)
        for name in ("tokenizer.json", "config.json")
    ]
    first = files[0]
    return Path(first).parent if isinstance(first, str) and isinstance(files[1], str) else None


def _read_default_limit(folder: Path, positions: int | None) -> int:
    """Return the backbone's own limit: that of sentence-transformers, of its tokenizer, or of its positions."""
    settings = _read_json(folder / "sentence_bert_config.json"), _read_json(folder / "tokenizer_config.json")
    own = settings[0].get("max_seq_length") or settings[1].get("model_max_length")
    if isinstance(own, int) and 0 < own < 1 << 31:
        return own
    return positions or DEFAULT_MAX_LENGTH


def _read_prompts(folder: Path) -> dict[str, str]:
    """Return the backbone's own prompts. sentence-transformers has an empty one for each role that the file does not name."""
    prompts = _read_json(folder / "config_sentence_transformers.json").get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    return {role: str(prompts[role]) for role in ("query", "document") if prompts.get(role)}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def list_texts(columns: Mapping[str, Sequence[Any]], prompts: Mapping[str, str], name: str = "") -> list[str]:
    """Return the texts of a data set, each with its prompt.

    A title and a text are read as one, as in a corpus. The cells of other columns are texts or lists of texts.

    Args:
        name: the name of the data set. That of a corpus or of queries ends so, and then says the role of the column `text`.
    """
    columns = dict(columns)
    part = name.replace("/", ".").rpartition(".")[2]
    if {"title", "text"} <= columns.keys():
        pairs = zip(columns.pop("title"), columns.pop("text"), strict=True)
        columns["document"] = [f"{title or ''} {text or ''}".strip() for title, text in pairs]
    texts: list[str] = []
    for column, values in columns.items():
        role = PART_ROLES.get(part, "") if column == "text" else COLUMN_ROLES.get(column.partition("_")[0], "")
        prompt = prompts.get(role, "")
        for value in values:
            items = value if isinstance(value, list | tuple) else (value,)
            texts += [prompt + item for item in items if isinstance(item, str)]
    return texts


def _replace_surrogates(text: str) -> str:
    """Return the text with `?` for halves of surrogate pairs, which tokenizers cannot read."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
