"""`ServedModel`: one encoder with its views, and the operations that requests ask for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo import encoding
from zoo.after.step import CodeStep
from zoo.core.errors import ZooError
from zoo.deploy import engines
from zoo.encoder import Encoder
from zoo.hub import model_references
from zoo.hub.fetch import fetch
from zoo.index.index import Index
from zoo.serve import token_ids
from zoo.serve.errors import RequestError
from zoo.serve.settings import Settings

IMAGE_TOKENS = 256
"""An image counts as much as a text of so many tokens when batches are made."""
CHARACTERS_PER_TOKEN = 4
"""Characters of a token of English text, for an estimate before the text is tokenised."""
PREDICTORS = ("predict", "classify")
"""Methods that take inputs and return a prediction for each."""
View = tuple[tuple[str, Any], ...]
"""The options of a view as sorted pairs."""
BATCH_TOKENS_CPU, BATCH_TOKENS_ACCELERATOR = 8192, 32768


@dataclass(frozen=True)
class TokenIds:
    """An input that is given as token ids."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """How an input is processed. Inputs of equal operations run together.

    Attributes:
        name: "embed", "codes", "decoded", "explain", "predict", "traverse" or "search".
        view: the options of the view, as sorted pairs.
        role: "query", "document" or None.
        index: the name of the index that is searched; "" for none.
        options: further options, as sorted pairs.
    """

    name: str
    view: View = ()
    role: str | None = None
    index: str = ""
    options: tuple[tuple[str, Any], ...] = ()


class ServedModel:
    """One encoder that is served.

    Everything but `check_view` runs in one thread at a time, because neither encoders nor tokenizers promise more.

    Attributes:
        name: the name that requests use.
        encoder: the whole encoder.
        max_tokens: the tokens that are encoded together.
        created: seconds since 1970 at which the model was opened.
        indexes: the indexes that are searched with the model, by name.
        folder: the folder from which the model was opened, or None.
        encodes_to_codes: whether `encode` gives integers, for example packed bits.
    """

    def __init__(self, encoder: Encoder, settings: Settings) -> None:
        self.encoder, self.name = encoder, encoder.name
        self.precision, self.created = settings.precision or encoder.default_precision, int(time.time())
        if settings.device is not None:
            encoder.to(settings.device)
        default = BATCH_TOKENS_CPU if encoder.device.type == "cpu" else BATCH_TOKENS_ACCELERATOR
        self.max_tokens = settings.max_tokens or default
        self._view_count = settings.limits.views
        self._views: OrderedDict[View, Encoder] = OrderedDict()
        self._valid_views: set[View] = set()
        self.indexes: dict[str, Index] = {}
        self.folder: Path | None = None
        self.encodes_to_codes = False

    @classmethod
    def open(cls, reference: str, settings: Settings) -> ServedModel:
        """Open a model and encode one input, so that the first request finds it ready. Raise ZooError.

        With another engine than torch, the graph of the whole model is made here, and no request makes one.
        """
        encoder = engines.open_encoder(reference, engine=settings.engine, max_loss=settings.max_loss)
        model = cls(encoder, settings)
        model.folder = model_references.locate(reference) or fetch(reference)
        probe = model.encoder.make_probes()[:1]
        model.encodes_to_codes = model.run(Operation("embed"), probe).dtype.kind != "f"
        engines.freeze(encoder)
        return model

    # -- what requests may ask for -------------------------------------------------------------------------------------

    def check_view(self, layers: int | None, dimensions: int | None) -> View:
        """Return the options of a view as sorted pairs. Raise RequestError for a view that this model does not have."""
        options = {}
        known = self.encoder.spec.View.model_fields
        for param, name, value in (("layers", "layers", layers), ("dimensions", "dim", dimensions)):
            if value is None:
                continue
            if name in known:
                options[name] = value
            elif name != "dim" or value != self.encoder.dim:
                raise RequestError(400, f"the model {self.name!r} has no choice of {param}: leave it out", param=param)
        view = tuple(sorted(options.items()))
        if view in self._valid_views:
            return view
        try:
            self.encoder.view(**options)
        except ZooError as error:
            param = "dimensions" if str(error).startswith("dim") else "layers"
            raise RequestError(400, str(error), param=param) from None
        self._valid_views.add(view)
        return view

    def check_precision(self, name: str | None) -> str:
        """Return a precision of the arithmetic; that of the server for None. Raise RequestError for an unknown one."""
        try:
            return self.precision if name is None else encoding.read_precision(name)
        except ZooError as error:
            raise RequestError(400, str(error), param="precision") from None

    @property
    def can_explain(self) -> bool:
        """Whether the model says why two texts score as they do."""
        return hasattr(self.encoder, "explain")

    @property
    def has_code_step(self) -> bool:
        """Whether a step after training turns the vectors into codes."""
        return any(isinstance(step, CodeStep) for step in self.encoder.steps)

    @property
    def can_traverse(self) -> bool:
        """Whether the model decodes an input with one latent changed."""
        return hasattr(self.encoder, "traverse")

    @property
    def can_predict(self) -> bool:
        """Whether the model has classes or topics."""
        return any(hasattr(self.encoder, name) for name in PREDICTORS)

    def estimate_tokens(self, item: Any) -> int:
        """Estimate the tokens of an input without tokenising it."""
        if isinstance(item, TokenIds):
            return len(item.ids)
        if isinstance(item, str):
            return 2 + len(item) // CHARACTERS_PER_TOKEN
        if isinstance(item, tuple):
            return sum(map(self.estimate_tokens, item))
        text = item.get("text") if isinstance(item, Mapping) else None
        return IMAGE_TOKENS + (self.estimate_tokens(text) if text else 0)

    def describe(self) -> dict[str, Any]:
        """Return the entry of the list of models."""
        encoder = self.encoder
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "zoo",
            "family": encoder.spec.family,
            "dimensions": encoder.dim,
            "modalities": list(encoder.modalities),
            "similarity": encoder.similarity_fn_name,
            "view_options": sorted(set(encoder.spec.View.model_fields) & {"layers", "dim"}),
            "has_roles": encoder.has_roles,
            "gives_codes": self.encodes_to_codes or self.has_code_step,
            "explains": self.can_explain,
            "predicts": self.can_predict,
            "indexes": {name: len(index) for name, index in self.indexes.items()},
            "revision": encoder.revision,
        }

    # -- in the thread of the model ------------------------------------------------------------------------------------

    def prepare(self, items: Sequence[Any]) -> tuple[list[Any], list[int]]:
        """Return the inputs with token ids as texts, and the tokens of each input. Raise RequestError."""
        inputs = [
            token_ids.decode_token_ids(self.encoder, item.ids) if isinstance(item, TokenIds) else item for item in items
        ]
        texts = [text for item in inputs for text in _list_texts(item)]
        counts = iter(token_ids.count_tokens(self.encoder, texts) if texts else [])
        tokens = [sum(next(counts) for _ in _list_texts(item)) + _count_images(item) * IMAGE_TOKENS for item in inputs]
        return inputs, tokens

    def run(self, operation: Operation, inputs: Sequence[Any]) -> Any:
        """Return the result of each input: a vector, a code, an explanation, a prediction or hits. Raise ZooError."""
        options = dict(operation.options)
        if operation.name == "explain":
            return [asdict(self.encoder.explain(*pair, **options)) for pair in inputs]  # type: ignore[attr-defined]
        if operation.name == "predict":
            return self._predict(list(inputs), **options)
        if operation.name == "traverse":
            return [self.encoder.traverse(item, **options) for item in inputs]  # type: ignore[attr-defined]
        if operation.name == "search":
            return self.indexes[operation.index].search(list(inputs), **options)
        encoder = self._get_view(operation.view)
        role = operation.role if encoder.has_roles else None
        precision = options.get("precision") or self.precision
        if operation.name == "decoded":
            return _encode_as_compared(encoder, list(inputs), precision, is_query=operation.role == "query")
        encode = encoder.codes if operation.name == "codes" else encoder.encode
        return encode(list(inputs), precision=precision, prompt_type=role)

    def _predict(self, inputs: list[Any], top: int = 0) -> list[dict[str, Any]]:
        """Return a prediction for each input. With `top`, classes come with their scores, the best first."""
        name = next(name for name in PREDICTORS if hasattr(self.encoder, name))
        predictions = [asdict(prediction) for prediction in getattr(self.encoder, name)(inputs)]
        if top and hasattr(self.encoder, "rank_classes"):
            ranked = self.encoder.rank_classes(inputs, top)
            return [
                {**own, "classes": list(map(asdict, classes))} for own, classes in zip(predictions, ranked, strict=True)
            ]
        return predictions

    def _get_view(self, options: View) -> Encoder:
        """Return a view that is kept ready. The one that was not used for longest goes first."""
        if not options:
            return self.encoder
        view = self._views.pop(options, None) or self.encoder.view(**dict(options))
        self._views[options] = view
        while len(self._views) > self._view_count:
            self._views.popitem(last=False)
        return view


def _encode_as_compared(encoder: Encoder, inputs: list[Any], precision: str, *, is_query: bool) -> np.ndarray[Any, Any]:
    """Return vectors whose inner products are the scores of queries with codes: decoded codes, or transformed queries."""
    if not is_query:
        return encoder.decode(encoder.codes(inputs, precision=precision))
    vectors = encoder.prepare_vectors(encoder.encode_query(inputs, precision=precision))
    transformed: np.ndarray[Any, Any] = encoder.find_code_step().transform_queries(vectors)
    return transformed


def _list_texts(item: Any) -> list[str]:
    """Return the texts of an input: itself, the two of a pair, or the text beside an image."""
    if isinstance(item, str):
        return [item]
    if isinstance(item, tuple):
        return list(item)
    text = item.get("text") if isinstance(item, Mapping) else None
    return [text] if text else []


def _count_images(item: Any) -> int:
    if isinstance(item, Mapping):
        return int(item.get("image") is not None)
    return int(not isinstance(item, str | tuple))
