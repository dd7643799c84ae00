"""The vectors that a server would give if something were wrong with it in a known way, one fault after another."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError
from zoo.encoder import Encoder
from zoo.text.text_encoder import TextEncoder
from zoo.verify import text_states
from zoo.verify.comparison import Fit, compare, compare_common
from zoo.verify.text_states import TextStates

Array = npt.NDArray[Any]
KNOWN_PROMPTS = (
    "query: ",
    "passage: ",
    "search_query: ",
    "search_document: ",
    "Represent this sentence for searching relevant passages: ",
    "task: search result | query: ",
    "title: none | text: ",
)
"""Prompts of well-known models, which a server may put before each text."""
FIRST_CUTS = (4, 8, 16, 32, 64, 128, 192, 256, 320, 384, 448, 512, 640, 768)
"""Numbers of tokens at which a search for the place of a cut begins."""
CHARACTERS = (64, 100, 128, 200, 250, 256, 400, 500, 512, 1000, 1024, 2000, 2048, 4000, 4096)
"""Numbers of characters at which a server may cut texts."""
MAX_PADDING = 512
"""Largest number of tokens to which texts are padded to see whether a server counts the padding."""
TEXT_CHANGES: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("lower-casing", "the texts are made lower case", str.lower),
    ("whitespace", "white space around the texts is removed", str.strip),
    ("whitespace", "line breaks become spaces", lambda text: text.replace("\n", " ")),
    ("whitespace", "runs of white space become one space", lambda text: " ".join(text.split())),
    ("tokenizer", "the texts are brought to the Unicode form NFKC", lambda text: unicodedata.normalize("NFKC", text)),
    ("tokenizer", "characters that are not ASCII are lost", lambda text: text.encode("ascii", "ignore").decode()),
)


class Hypothesis(NamedTuple):
    """A fault, and the vectors that a server with it gives.

    Attributes:
        cause: the name of the fault, for example "pooling".
        detail: how it shows, in a clause.
        compute: takes places of inputs, and returns their vectors (places, d), which are not normalised.
    """

    cause: str
    detail: str
    compute: Callable[[Sequence[int]], Array]


class Expectation:
    """The vectors that a server of the model must give.

    Args:
        encoder: the model at its view.
        inputs: texts, or inputs of the kind that the encoder takes.
        role: "query", "document" or None.
        has_prompt: whether the inputs that a server gets begin with the prompt of the role already.
    """

    def __init__(self, encoder: Encoder, inputs: Sequence[Any], role: str | None = None, *, has_prompt: bool = False):
        self.encoder, self.inputs, self.role, self.has_prompt = encoder, list(inputs), role, has_prompt
        self.vectors = as_floats(encoder, encoder.encode(self.inputs, prompt_name=role))
        self.prompt = self.find_prompt(role)

    def find_prompt(self, role: str | None) -> str:
        """Return the prompt of a role; "" for an encoder without prompts."""
        find_prompt = getattr(self.encoder, "find_prompt", None)
        return str(find_prompt(role)) if find_prompt else ""

    @property
    def reads_texts(self) -> bool:
        """Whether the inputs are texts."""
        return all(isinstance(item, str) for item in self.inputs)

    @property
    def texts(self) -> list[str]:
        """The texts as they are tokenised, with the prompt."""
        return [self.prompt + text for text in self.inputs]

    def encode_whole(self, texts: Sequence[str]) -> Array:
        """Return the vectors of texts to which no prompt is added. They are not normalised if the Transformer is known."""
        if self.states is not None:
            return self.states.compute(self.states.tokenize(texts))
        return as_floats(self.encoder, self.encoder.encode(list(texts)))

    @cached_property
    def states(self) -> TextStates | None:
        """The steps of the encoder if they are known: computed again, they must give the vectors of `encode`."""
        if not isinstance(self.encoder, TextEncoder) or not self.reads_texts:
            return None
        states = TextStates(self.encoder)
        again = states.compute(states.tokenize(self.texts))
        return states if again.shape == self.vectors.shape and compare(again, self.vectors).rank == 0 else None


def as_floats(encoder: Encoder, vectors: Any) -> Array:
    """Return vectors (n, d) float64; codes become the values that they stand for."""
    return np.asarray(encoder.as_float_vectors(np.asarray(vectors)), np.float64)


def list_hypotheses(expected: Expectation, answered: Array, fit: Fit) -> Iterator[Hypothesis]:
    """Yield the known faults, the most common ones first.

    Args:
        expected: the vectors of the model, and how they are computed.
        answered: those of the server (n, d). Only the search for the place of a cut reads them.
        fit: how near they are to those of the model.
    """
    if not expected.reads_texts:
        return
    states = expected.states
    yield from _list_prompts(expected)
    yield from _list_views(expected)
    if states is not None:
        yield from _list_variants(expected, states)
        yield from _list_cuts(expected, states, answered, fit)
        yield from _list_token_faults(expected, states)
    for cause, detail, change in TEXT_CHANGES:
        yield _suppose(expected, cause, detail, [expected.prompt + change(text) for text in expected.inputs])
    for length in CHARACTERS:
        shortened = [text[:length] for text in expected.texts]
        if shortened != expected.texts:
            yield _suppose(expected, "truncation", f"texts are cut after {length} characters", shortened)
    if states is not None:
        yield from _list_paddings(expected, states)


def _suppose(expected: Expectation, cause: str, detail: str, texts: Sequence[str]) -> Hypothesis:
    """Return the hypothesis that a server reads these texts."""
    return Hypothesis(cause, detail, lambda places: expected.encode_whole([texts[place] for place in places]))


def _suppose_rows(states: TextStates, cause: str, detail: str, rows: text_states.Rows) -> Hypothesis:
    """Return the hypothesis that a server reads these rows of token ids."""
    return Hypothesis(cause, detail, lambda places: states.compute([rows[place] for place in places]))


def _list_prompts(expected: Expectation) -> Iterator[Hypothesis]:
    own, inputs = expected.prompt, expected.inputs
    if own:
        yield _suppose(expected, "prompt", f"the prompt {own!r} is missing", inputs)
        doubled = [own + own + text for text in inputs]
        yield _suppose(expected, "prompt", f"the prompt {own!r} stands before each text twice", doubled)
    named = getattr(getattr(expected.encoder, "backbone", None), "named_prompts", {})
    others = [expected.find_prompt(role) for role in ("query", "document", None)]
    for other in dict.fromkeys((*others, *named.values(), *KNOWN_PROMPTS)):
        if other and other != own:
            instead = f" instead of {own!r}" if own else ", and the model has no prompt here"
            detail = f"{other!r} stands before each text{instead}"
            yield _suppose(expected, "prompt", detail, [other + text for text in inputs])


def _list_views(expected: Expectation) -> Iterator[Hypothesis]:
    """Yield the same model at every other number of layers, if it can be cut."""
    encoder: Any = expected.encoder
    if "layers" not in encoder.spec.View.model_fields:
        return
    for layers in range(1, encoder.backbone.depth + 1):
        try:
            view = encoder.view(layers=layers)
        except ZooError:
            continue

        def compute(places: Sequence[int], view: Encoder = view) -> Array:
            inputs = [expected.inputs[place] for place in places]
            return as_floats(view, view.encode(inputs, prompt_name=expected.role))

        detail = f"the vectors are those of {layers} layers instead of {encoder.layers}"
        yield Hypothesis("layer", detail, compute)


def _list_variants(expected: Expectation, states: TextStates) -> Iterator[Hypothesis]:
    """Yield other poolings, layers and heads."""
    rows = states.tokenize(expected.texts)
    for name in states.list_variants(rows[0]):

        def compute(places: Sequence[int], name: tuple[str, str] = name) -> Array:
            return np.stack([states.list_variants(rows[place])[name] for place in places])

        yield Hypothesis(*name, compute)


def _list_cuts(expected: Expectation, states: TextStates, answered: Array, fit: Fit) -> Iterator[Hypothesis]:
    """Yield texts that are cut on the left, and texts that are cut after the number of tokens that fits the answer best."""
    left = states.tokenize(expected.texts, side="left")
    if left != states.tokenize(expected.texts):
        detail = f"long texts lose their beginning, not their end, beyond {states.limit} tokens"
        yield _suppose_rows(states, "truncation", detail, left)
    longest = int(np.argmax([len(text) for text in expected.texts]))
    limit = find_cut(expected, states, answered) if fit.distances.argmax() == longest else None
    if limit is not None:
        detail = f"texts are cut after {limit} tokens instead of {states.limit}"
        yield _suppose_rows(states, "truncation", detail, states.tokenize(expected.texts, limit=limit))


def _list_paddings(expected: Expectation, states: TextStates) -> Iterator[Hypothesis]:
    """Yield a server that pads every text to the limit of the model and lets the padding count."""
    if states.limit > MAX_PADDING or states.backbone.tokenizer.pad_token_id is None:
        return
    rows = states.tokenize(expected.texts)
    for attends in (False, True):

        def compute(places: Sequence[int], attends: bool = attends) -> Array:
            return states.compute_padded([rows[place] for place in places], states.limit, attends=attends)

        seen = " and in the attention" if attends else ""
        detail = f"texts are padded to {states.limit} tokens, and the padding counts in the pooling{seen}"
        yield Hypothesis("padding", detail, compute)


def find_cut(expected: Expectation, states: TextStates, answered: Array) -> int | None:
    """Return the number of tokens of the longest text that gives the answered vector best. None if texts are never cut.

    The search begins with FIRST_CUTS, and looks between the neighbours of the best one until no number is left out.
    """
    most = states.positions or MAX_PADDING * 2
    lengths = [len(row) for row in states.tokenize(expected.texts, limit=most)]
    place = int(np.argmax(lengths))
    text, row = expected.texts[place], answered[place : place + 1]
    distances: dict[int, float] = {}

    def measure(limit: int) -> float:
        if limit not in distances:
            vectors = states.compute(states.tokenize([text], limit=limit)).astype(np.float64)
            distances[limit] = compare_common(row, vectors).worst
        return distances[limit]

    numbers = sorted({*(cut for cut in FIRST_CUTS if cut <= lengths[place]), lengths[place]})
    while True:
        best = min(numbers, key=measure)
        near = numbers.index(best)
        low, high = numbers[max(0, near - 1)], numbers[min(len(numbers) - 1, near + 1)]
        step = max(1, (high - low) // 8)
        finer = sorted({*range(low, high + 1, step), best})
        if distances[best] == 0 or step == 1:
            best = min(finer, key=measure)
            return None if best in (states.limit, lengths[place]) and lengths[place] <= states.limit else best
        numbers = finer


def _list_token_faults(expected: Expectation, states: TextStates) -> Iterator[Hypothesis]:
    texts, own = expected.texts, states.tokenize(expected.texts)
    tokenizer: Any = states.backbone.tokenizer
    candidates: list[tuple[str, str, text_states.Rows]] = [
        ("special tokens", "no special tokens are added", states.tokenize(texts, has_special_tokens=False)),
        ("special tokens", "the last special token is missing", states.drop_special(own, -1)),
        ("special tokens", "the first special token is missing", states.drop_special(own, 0)),
    ]
    if getattr(tokenizer, "is_fast", False):
        kept = states.tokenize_otherwise(texts, text_states.keep_case)
        bare = states.tokenize_otherwise(texts, text_states.drop_normalizer)
        candidates.append(("lower-casing", "the tokenizer no longer makes texts lower case", kept))
        candidates.append(("tokenizer", "the tokenizer has lost its normaliser", bare))
    for cause, detail, rows in candidates:
        if rows != own and all(rows):  # a model reads no text without tokens
            yield _suppose_rows(states, cause, detail, rows)
