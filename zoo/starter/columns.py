"""Tell the content of columns by a closed table of usual names and by their first values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zoo.data.formats import image_files

Content = Literal["text", "whole", "number", "flag", "image", "vector", "texts", "empty", "other"]

NAMES: dict[str, tuple[str, ...]] = {
    "anchor": (
        *(
            "anchor",
            "query",
            "question",
            "search",
            "sentence1",
            "sentence_1",
            "sentence_a",
            "text1",
            "text_1",
            "text_a",
        ),
        *("premise", "question1", "user_query", "search_term", "left"),
    ),
    "positive": (
        *("positive", "pos", "answer", "document", "passage", "response", "reply", "sentence2", "sentence_2"),
        *("sentence_b", "text2", "text_2", "text_b", "hypothesis", "question2", "doc", "context", "right", "abstract"),
    ),
    "negative": (
        "negative",
        "neg",
        "hard_negative",
        "hard_neg",
        "negative_passage",
        "sentence3",
        "text3",
        "distractor",
        "wrong",
        "wrong_answer",
        "incorrect",
    ),
    "score": (
        *("score", "similarity", "similarity_score", "relevance", "relatedness", "relatedness_score", "sim", "rating"),
        *("grade", "gold", "label", "labels"),
    ),
    "label": (
        *("label", "label_text", "labels", "class", "category", "topic", "intent", "target", "genre", "sentiment"),
        *("tag", "group", "y"),
    ),
    "text": (
        *("text", "sentence", "content", "document", "review", "comment", "message", "utterance", "body"),
        *("description", "abstract", "tweet", "post", "title", "headline"),
    ),
    "keywords": ("keywords", "keyword", "words", "seed_words", "seeds", "terms"),
    "image": ("image", "img", "picture", "photo", "image_path", "file_name", "filename", "file", "path"),
    "caption": (
        "caption",
        "captions",
        "description",
        "text",
        "alt",
        "alt_text",
        "title",
        "prompt",
        "sentence",
        "query",
    ),
    "vector": ("vector", "vectors", "embedding", "embeddings", "features"),
    "id": ("id", "uid", "uuid", "guid", "index", "idx", "key", "row", "number", "nr", "no", "line", "unnamed_0"),
}
"""The usual names of each role, the surest first. A name may stand for several roles; the contents then decide."""
NUMBERED = re.compile(r"(?:negative|neg|hard_negative|hard_neg)_?(\d+)")
MOST_NEGATIVES = 32
SHARE = 0.9  # of the values that must look alike
MOST_CLASS_WORDS = 8
_WHOLE = re.compile(r"\s*[-+]?\d{1,18}(?:\.0+)?\s*")


@dataclass(frozen=True)
class Column:
    """A column of the first rows.

    Attributes:
        name: the name in the data.
        content: what most values are.
        values: the values that are not empty.
        distinct: the number of different values.
        words: the mean number of words of a text.
    """

    name: str
    content: Content
    values: tuple[Any, ...]
    distinct: int
    words: float

    @property
    def plain_name(self) -> str:
        """The name in lower case with `_` between its words, as NAMES has it."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name)
        return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_") or "_"

    def is_named(self, role: str) -> bool:
        """Return whether the name is a usual one of a role."""
        return self.plain_name in NAMES[role]

    @property
    def is_number(self) -> bool:
        """Return whether all values are numbers."""
        return self.content in ("whole", "number")

    @property
    def is_id(self) -> bool:
        """Return whether each row has a value of its own that says nothing, such as a row number or a code."""
        if self.is_named("id") or self.plain_name.endswith("_id"):
            return True
        if self.content == "whole":  # a few numbers of rows may stand twice
            return self.distinct > max(2, len(self.values) // 2) and not self.is_named("score")
        if self.distinct < len(self.values):
            return False
        is_code = all(not re.search(r"\s", str(value)) and re.search(r"\d", str(value)) for value in self.values)
        return self.content == "text" and is_code

    @property
    def is_class(self) -> bool:
        """Return whether a few short values repeat, as those of a class do."""
        repeats = 2 <= self.distinct <= max(2, len(self.values) // 2)
        return self.content in ("text", "whole", "flag") and repeats and self.words <= MOST_CLASS_WORDS

    @property
    def is_text(self) -> bool:
        """Return whether the values are texts that say something of their own."""
        return self.content == "text" and not self.is_id


def describe_columns(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Describe the columns of the first rows."""
    return [describe_column(name, [row.get(name) for row in rows]) for name in names]


def describe_column(name: str, values: Iterable[Any]) -> Column:
    """Describe one column by its values."""
    filled = tuple(
        value for value in values if value is not None and not (isinstance(value, str) and not value.strip())
    )
    content = _find_content(filled)
    distinct = len({_make_hashable(value) for value in filled})
    words = sum(len(str(value).split()) for value in filled) / max(1, len(filled)) if content == "text" else 1.0
    return Column(name, content, filled, distinct, words)


def _find_content(values: Sequence[Any]) -> Content:
    if not values:
        return "empty"
    tests: tuple[tuple[Content, Callable[[Any], bool]], ...] = (
        ("flag", lambda value: isinstance(value, bool)),
        ("image", _is_image),
        ("whole", lambda value: bool(_WHOLE.fullmatch(str(value))) and isinstance(value, str | int | float)),
        ("number", _is_number),
        ("vector", lambda value: _is_list_of(value, int | float)),
        ("texts", lambda value: _is_list_of(value, str)),
        ("text", lambda value: isinstance(value, str)),
    )
    for content, test in tests:
        # One value that is no number makes a column of texts; a wrong path of an image is a bad row.
        needed = SHARE * len(values) if content == "image" else len(values)
        if sum(map(test, values)) >= needed:
            return content
    return "other"


def _is_image(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and value.keys() <= {"bytes", "path"}
    return isinstance(value, bytes) or (isinstance(value, str) and value.lower().endswith(image_files.ENDINGS))


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        number = float(value)
    except ValueError:
        return False
    return number == number and "_" not in str(value)


def _is_list_of(value: Any, kind: Any) -> bool:
    """Return whether a value is a list of one type, or the JSON of one, as a csv cell holds it."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, kind) for item in value)


def _make_hashable(value: Any) -> Hashable:
    return value if isinstance(value, str | int | float | bytes) else repr(value)
