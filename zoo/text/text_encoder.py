"""`TextEncoder`: what every encoder of texts with a Transformer backbone does when it encodes, and how it makes batches."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.core.inputs import check_texts
from zoo.encoder import Encoder as BaseEncoder
from zoo.encoder import TrainingRun
from zoo.graph import Graph
from zoo.ops.false_negatives import compute_text_key
from zoo.text import calibration, coded_table, text_graph
from zoo.text import engine as encoding
from zoo.text.backbone import Backbone, apply_linear_maps
from zoo.text.conversions import CACHE
from zoo.text.deferred import DeferredBackbone
from zoo.text.graph_engine import EngineSource
from zoo.text.int8_ranges import Calibration
from zoo.text.text_spec import TextSpec

if TYPE_CHECKING:
    from datasets import Dataset

ROLES = ("query", "document")
OPENED = ("backbone", "module", "heads")
"""Attributes that an encoder has once its backbone is open."""
MOST_VIEWS = 64  # whose engines are kept; the first engine of a view takes a few milliseconds
CHUNK_SIZE = 32  # texts of similar length that run together; on a CPU, more of them only add padding

_engines_lock = threading.RLock()


class TextEncoder(BaseEncoder):
    """Base of encoders with a Transformer backbone.

    Attributes:
        backbone: the whole backbone, which all views share.
        prompts: the text that `encode` puts before a "query" and before a "document".
        has_codable_table: whether the folder of the family can hold a coded token table.
        has_engines: whether `encode` is one pass of a network, which other engines than torch can compute.
        calibration: the ranges of activations that were measured on training texts, for int8.
        engines: chooses the engine that encodes; None for torch.
    """

    has_codable_table: ClassVar[bool] = False
    has_engines: ClassVar[bool] = True

    backbone: Backbone
    calibration: Calibration | None = None
    engines: EngineSource | None = None
    _deferred: DeferredBackbone | None = None

    def __init__(self, spec: TextSpec, backbone: Backbone | DeferredBackbone) -> None:
        super().__init__()
        prompts: Mapping[Any, str] = backbone.prompts if spec.prompts is None else spec.prompts
        self.prompts: dict[str, str] = dict(prompts)
        self.backbone_name, self.backbone_revision = backbone.name, backbone.revision
        self._view_engines: OrderedDict[Any, encoding.Engine] = OrderedDict()  # views share it
        if isinstance(backbone, DeferredBackbone):
            self._deferred, self.calibration = backbone, backbone.calibration
            return
        if any(self.prompts.values()) and not backbone.pooling.include_prompt:
            raise ZooError(
                f"backbone {backbone.name}: leaves prompts out of its pooling, which is not supported: set prompts: {{}}"
            )
        named_prompts = backbone.named_prompts if spec.prompts is None else {}
        self.backbone = replace(backbone, prompts=self.prompts, named_prompts=named_prompts)
        for name, parameter in backbone.model.named_parameters():
            # `pooler` is never used here. It is kept for other libraries that open the file.
            parameter.requires_grad_(not name.startswith("pooler."))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Open a deferred backbone when something asks for an attribute that only an open one has."""
            if name in OPENED and self._deferred is not None:
                self._open_backbone()
                return self.__dict__[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _open_backbone(self) -> None:
        """Take the modules of the deferred backbone. All views take the same ones."""
        deferred = self._deferred
        if deferred is not None:
            self.__dict__.update(deferred.open())
            self._view_engines.clear()  # of all views: from now on the weights may be trained
            self._deferred = None

    def _find_deferred(self) -> DeferredBackbone | None:
        """Return the deferred backbone while neither this view nor another one has opened it."""
        if self._deferred is not None and self._deferred.is_open:
            self._open_backbone()
        return self._deferred

    @property
    def is_deferred(self) -> bool:
        """Whether the backbone is not open yet, so that nobody can have changed its weights."""
        return self._find_deferred() is not None

    @property
    def device(self) -> torch.device:
        """The device that encodes."""
        return super().device if self._find_deferred() is None else torch.device("cpu")

    # -- encoding --------------------------------------------------------------------------------------------------

    def _encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
    ) -> np.ndarray:
        """Encode texts to (n, dim) float32 vectors, in the order of `inputs`.

        Args:
            precision: fp32, bf16, fp16, int8, or auto, which uses bf16 on hardware that is fast at it.
            prompt_type: "query" or "document" puts the prompt of that role, if there is one, before each text.

        Raises ZooError for an input that is not a string.
        """
        inputs = self._add_prompt(inputs, prompt_type)
        engine, precision = self._choose_engine(precision)
        return engine.encode(inputs, show_progress=show_progress, precision=precision)

    def _stream(
        self, inputs: Iterable[Any], *, precision: str = "fp32", prompt_type: str | None = None
    ) -> Iterator[np.ndarray]:
        """Encode in blocks, in order. The memory does not grow with the length of `inputs`."""
        engine, precision = self._choose_engine(precision)
        return engine.stream(self._add_prompt(inputs, prompt_type), precision=precision)

    def find_prompt(self, role: str | None) -> str:
        """The text that is put before a text of a role, "query" or "document", or of none; "" for nothing."""
        return self.prompts.get(role or "", "")

    def get_prompt(self, column: str, source: str | None = None) -> str:
        """The prompt before the texts of a training column. Sides of a scored pair and labelled texts have no role.

        Prompts of the source that the row is from replace those of the encoder.
        """
        role = {"anchor": "query", "sentence1": None, "sentence2": None, "text": None}.get(column, "document")
        own = self.sources[source].prompts if source in self.sources else {}
        return own.get(role or "", self.find_prompt(role))

    def _add_prompt(self, inputs: Iterable[Any], role: str | None) -> Iterable[Any]:
        if role not in (None, *ROLES):
            raise ZooError(f"prompt_type: {role!r} is not one of {', '.join(ROLES)}")
        prompt = self.find_prompt(role)
        if not prompt:
            return inputs
        texts = (prompt + text for text in check_texts(inputs))
        return list(texts) if isinstance(inputs, list | tuple) else texts

    def _forget_engines(self) -> None:
        self._view_engines = OrderedDict()  # other views may go on with theirs, which notice changed weights

    def _choose_engine(self, precision: str) -> tuple[encoding.Engine, str]:
        """Return the engine that encodes at a precision, and the precision that it is asked for."""
        return (self._get_engine(), precision) if self.engines is None else self.engines.choose(self, precision)

    def as_exact(self) -> Self:
        """Return the encoder with torch as its engine, at fp32. Tensors are shared."""
        if self.engines is None:
            return self
        twin = copy.copy(self)
        twin.engines, twin.default_precision = None, "fp32"
        return twin

    def get_torch_engine(self) -> encoding.Engine:
        """Return the engine of this view that computes with torch."""
        return self._get_engine()

    def _get_engine(self) -> encoding.Engine:
        """The engine of this view, built once. Views of one encoder share their engines."""
        self._find_deferred()
        engines, key = self._view_engines, self._get_view_key()
        with _engines_lock:
            if key not in engines:
                engines[key] = self._make_engine()
                engines[key].calibration = self.calibration
                if len(engines) > MOST_VIEWS:
                    engines.popitem(last=False)
            engines.move_to_end(key)
            return engines[key]

    def _get_view_key(self) -> Any:
        """A value that two views share only if they encode alike."""
        return tuple(sorted(self.view_options.items()))

    @property
    def converted_bytes(self) -> int:
        """Bytes of the copies of weights that encoding keeps for the precisions and views that were used.

        All encoders together keep at most ZOO_CONVERSIONS_MB (an environment variable, 2048 by default). The least recently
        used copies are dropped first.
        """
        engines = list(self._view_engines.values())
        return CACHE.count_bytes(*engines) if engines else 0

    def map_pooled(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map pooled states (n, width) of the last layer of this view to its vectors (n, dim), which are not normalised."""
        return apply_linear_maps(self.backbone.linear_maps, pooled)[:, : self.dim]

    def _make_engine(self) -> encoding.Engine:
        """The engine of this view: backbone, pooling, linear maps and normalisation as one module."""
        raise NotImplementedError

    def make_graph(self) -> Graph:
        """The graph of this view: its engine's module behind its tokenizer."""
        prompts = {role or "": self.find_prompt(role) for role in (None, *ROLES)}
        self._open_backbone()  # a graph is made of the modules of transformers
        module = text_graph.TokensToVector(self._get_engine().module)
        reader = text_graph.make_reader(self.backbone, prompts)
        return Graph({"": module}, reader=reader, similarity=self.similarity_fn_name)

    @property
    def depth(self) -> int:
        """Number of blocks of the whole backbone."""
        deferred = self._find_deferred()
        return self.backbone.depth if deferred is None else deferred.depth

    @property
    def max_length(self) -> int:
        """Tokens of a text after which it is cut."""
        deferred = self._find_deferred()
        return self.backbone.max_length if deferred is None else deferred.light.max_length

    @property
    def tokenizer(self) -> Any:
        """The tokenizer: that of transformers, or of the library `tokenizers` while the backbone is not open."""
        deferred = self._find_deferred()
        return self.backbone.tokenizer if deferred is None else deferred.light.tokenizer

    def list_token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, truncated."""
        deferred = self._find_deferred()
        return self.backbone.tokenize(texts) if deferred is None else deferred.light.tokenize(texts)

    @property
    def table_bytes(self) -> int:
        """Bytes of the token table, coded or not, in memory."""
        table = coded_table.find(self.backbone.model)
        if table is not None:
            return table.facts.bytes
        weight: torch.Tensor = self.backbone.model.get_input_embeddings().weight  # type: ignore[assignment]
        return weight.numel() * weight.element_size()

    def train(self, run: TrainingRun) -> float:
        """Train with `zoo.training`, and return the seconds it took.

        Raises ZooError for a coded token table, and if another engine than torch encodes.
        """
        if self.engines is not None:
            raise ZooError(
                f"{self.name}: another engine than torch encodes, which cannot learn: open it without `engine`"
            )
        self.calibration = None  # it is of the weights before
        table = coded_table.find(self.backbone.model)
        if table is not None:
            raise ZooError(
                f"{self.name}: its token table is coded ({table.facts.codec}) and cannot be trained: write a plain model with "
                "`zoo export MODEL OUT --table float` first"
            )
        return super().train(run)

    def measure_activations(self, rows: Dataset) -> None:
        """Measure the ranges of activations for int8 on a draw of training texts. No text is kept."""
        if self.has_engines:
            self.calibration = calibration.calibrate(self, rows)
            self._forget_engines()

    # -- batches of the training -----------------------------------------------------------------------------------

    def _chunk_texts(self, texts: Sequence[str], size: int) -> tuple[list[dict[str, torch.Tensor]], list[int]]:
        """Padded chunks of at most `size` texts of similar length, and the place of each of their rows in `texts`."""
        chunks, places = zip(*self.backbone.iterate_batches(texts, size), strict=True)
        return list(chunks), [place for chunk_places in places for place in chunk_places]

    def _collate_cells(self, cells: Sequence[str], columns: int, size: int) -> dict[str, Any]:
        """Every distinct text of a batch once, in chunks of similar length.

        Padding the texts of all columns together would cost twice as much.

        Args:
            cells: the texts of the first column, then of the second, and so on.
            columns: the number of columns.
            size: the number of texts of a chunk.

        Returns:
            chunks: tensors of `Backbone.pad`.
            cells: (columns, rows) int64, the position of each cell's text in the concatenated chunks.
            text_keys: (columns, rows) int64, equal for equal texts.
        """
        texts = list(dict.fromkeys(cells))
        chunks, order = self._chunk_texts(texts, size)
        position = {texts[place]: i for i, place in enumerate(order)}
        return {
            "chunks": chunks,
            "cells": torch.tensor([position[cell] for cell in cells]).view(columns, -1),
            "text_keys": torch.tensor([compute_text_key(cell) for cell in cells]).view(columns, -1),
        }
