"""`Verdict`, the result of a comparison, and what a source of vectors must offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zoo.core.errors import ZooError

ADVICE = {
    "pooling": "set the pooling of the server to that of the model: {own}",
    "pooling and head": "let the server run every module of modules.json, or use an export that has them inside the graph",
    "head": "let the server run the modules after the pooling, for example 2_Dense, or use an export that has them inside",
    "layer": "serve the view that you verify: export it with `zoo export`, or verify another one with --layers",
    "prompt": "change the prompt of the server, or say with --prompt and --send-prompt how it is asked",
    "truncation": "set the token limit of the server to that of the model: {limit} tokens, cut on the right",
    "special tokens": "let the server add the special tokens as tokenizer.json says",
    "lower-casing": "give the server the tokenizer files of this model",
    "tokenizer": "give the server the tokenizer files of this model",
    "whitespace": "do not change the texts before they are tokenised",
    "padding": "leave padding out of the attention and out of the pooling",
    "order": "return the vectors in the order of the inputs, with the right `index`",
    "dimension": "ask for {dim} components, or verify another view with --dim",
    "normalisation": "normalise vectors after the last step exactly if the model does",
    "quantised vectors": "ask for float vectors; whole numbers are quantised vectors",
    "precision": "use a finer arithmetic, or allow this one with --precision",
    "revision": "give the server the files of this revision",
    "model": "check the name of the model on the server",
    "unknown": "compare tokenizer, pooling and modules of the server with the files of the model",
}
"""What to do about each fault."""


class RefusedInputError(ZooError):
    """A server refused the inputs themselves, for example because one is too long."""


class Source(Protocol):
    """Something that should have the space of a model."""

    name: str

    def embed(self, inputs: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Return vectors (n, d) in the order of the inputs. Raise RefusedInputError for inputs that it does not take."""
        ...


@dataclass(frozen=True)
class Fault:
    """A way in which a server differs from the model.

    Attributes:
        cause: a key of ADVICE.
        detail: how it shows, in a clause.
        advice: what to do.
    """

    cause: str
    detail: str
    advice: str


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison.

    Attributes:
        is_same: whether the source has the space of the model.
        precision: the arithmetic that explains the distances: to the vectors of the model, or of the fault that was found.
        faults: what is wrong, the most important one first.
        notes: what is worth knowing besides.
        count: inputs that were compared.
        lowest_cosine, mean_cosine: to the vectors of the model, over the components that both have.
        explained_cosine: the lowest cosine to the vectors of the fault; None if no fault explains the vectors.
    """

    is_same: bool
    precision: str | None
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    count: int
    lowest_cosine: float
    mean_cosine: float
    explained_cosine: float | None = None

    def describe(self) -> dict[str, Any]:
        """Return the verdict as JSON can hold it."""
        return asdict(self)
