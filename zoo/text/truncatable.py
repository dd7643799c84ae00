"""`TruncatableEncoder`: a Transformer backbone that is cut in layers and in dimensions when it is loaded.

A family that trains such an encoder derives from this class and adds the training.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from zoo.core.errors import ArtefactError, ZooError
from zoo.core.inputs import check_texts
from zoo.encoder import Encoder as BaseEncoder
from zoo.graph import Graph
from zoo.hub.model_references import locate
from zoo.text import backbone as backbones
from zoo.text import calibration, coded_table, sentence_transformers_format
from zoo.text import engine as encoding
from zoo.text.backbone import Backbone
from zoo.text.deferred import DeferredBackbone, defer
from zoo.text.text_encoder import TextEncoder
from zoo.text.truncatable_spec import TruncatableSpec, describe_misfit


class TruncatableEncoder(TextEncoder):
    """A backbone and linear heads that encode at every number of layers and of components. Vectors have unit norm.

    Attributes:
        heads: linear heads by layer; a layer without a head uses its pooled vectors unchanged.
        layers, dim: what `encode` uses; `truncate` gives a view with other values over the same tensors.
    """

    has_codable_table = True

    def __init__(
        self,
        spec: TruncatableSpec,
        backbone: Backbone | DeferredBackbone,
        heads: Mapping[int, torch.nn.Linear] | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__(spec, backbone)
        self.spec: TruncatableSpec = spec
        self.layers, self.dim = backbone.depth, dim or backbone.width
        self._max_dim, self._max_layers = self.dim, self.layers
        if isinstance(backbone, DeferredBackbone):
            self._light_heads = dict(heads or {})
        else:
            self.heads = torch.nn.ModuleDict({str(n): head for n, head in (heads or {}).items()})
            self.module = torch.nn.ModuleDict({"backbone": backbone.model, "heads": self.heads})
        self._shared_pass: _SharedPass | None = None

    @classmethod
    def build(cls, spec: Any, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The untrained backbone without heads."""
        backbone = backbones.load(spec.backbone, revision=spec.revision, folder=folder, max_length=spec.max_length)
        encoder = cls(spec, backbone)
        encoder.seed, encoder.folder = seed, folder
        return encoder

    @classmethod
    def open_untrained(cls, spec: Any) -> Self:
        """The encoder of `build`, whose modules are opened when they are asked for, if its folder allows that."""
        folder = locate(spec.backbone)
        deferred = None if spec.max_length else defer(folder, spec, lambda _: cls.build(spec))
        return cls.build(spec) if deferred is None else cls(spec, deferred)

    # -- heads and views -------------------------------------------------------------------------------------------

    def set_heads(self, heads: Mapping[int, torch.nn.Linear]) -> None:
        """Set the heads of these layers, which count from 1. The heads of other layers stay."""
        self._forget_engines()  # they hold the old heads
        for n, head in heads.items():
            self.heads[str(n)] = head

    def _get_head(self, layer: int) -> torch.nn.Module | None:
        return self.heads[str(layer)] if str(layer) in self.heads else None

    def apply_head(self, layer: int, vectors: torch.Tensor) -> torch.Tensor:
        """Apply the head of a layer to its pooled vectors (..., d); return them unchanged if it has no head."""
        head = self._get_head(layer)
        if head is None:
            return vectors
        outputs: torch.Tensor = head(vectors)
        return outputs

    def map_pooled(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map pooled states (n, width) of the last layer of this view to its vectors (n, dim), which are not normalised."""
        return self.apply_head(self.layers, pooled)[:, : self.dim]

    def truncate(self, layers: int | None = None, dim: int | None = None) -> Self:
        """A view with the first `layers` blocks and the first `dim` components.

        The view shares every tensor, and its vectors have unit norm. Raises ZooError for a size that this encoder lacks.
        """
        return self.view(layers=layers, dim=dim)

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        layers, dim = options.get("layers"), options.get("dim")
        misfit = describe_misfit(layers, dim, self._max_layers, self._max_dim)
        if misfit:
            raise ZooError(misfit)
        view = copy.copy(self)
        view.layers, view.dim = layers or self.layers, dim or self.dim
        view.view_options = {"layers": view.layers, "dim": view.dim}
        view._shared_pass = None
        return view

    def _get_view_key(self) -> Any:
        return self.layers, self.dim

    def views_sharing_a_pass(self, views: Sequence[Mapping[str, Any]]) -> list[Self]:
        """One view for each set of options. Together they run each text through the backbone once, at fp32."""
        shared_pass = _SharedPass(self)
        encoders = [self.view(**options) for options in views]
        for encoder in encoders:
            encoder._shared_pass = shared_pass
        return encoders

    def baseline(self) -> BaseEncoder | None:
        """The untrained backbone, cut to the size that this encoder has; None if it cannot be loaded (any more)."""
        try:
            untrained = type(self).build(self.spec, folder=self.folder)
        except ZooError:
            return None
        is_cut = self.backbone.depth < untrained.backbone.depth or self._max_dim < untrained.dim
        return untrained.truncate(self.backbone.depth, self._max_dim) if is_cut else untrained

    # -- encoding --------------------------------------------------------------------------------------------------

    def _encode(
        self,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
        prompt_type: str | None = None,
    ) -> np.ndarray:
        """Encode texts to (n, dim) float32 vectors of unit norm, in the order of `inputs`.

        Args:
            precision: fp32, bf16, fp16, int8, or auto, which uses bf16 on hardware that is fast at it.
            prompt_type: "query" or "document" puts the prompt of that role, if there is one, before each text.

        Raises ZooError for an input that is not a string.
        """
        inputs = self._add_prompt(inputs, prompt_type)
        shared_pass = self._shared_pass
        if (
            shared_pass is not None
            and self.engines is None
            and precision == "fp32"
            and isinstance(inputs, list)
            and shared_pass.has_room_for(inputs)
        ):
            return shared_pass.encode(inputs, self.layers, self.dim)
        engine, precision = self._choose_engine(precision)
        return engine.encode(inputs, show_progress=show_progress, precision=precision)

    def encode_layers(self, texts: Sequence[str], *, batch_size: int = 32) -> dict[int, np.ndarray]:
        """Vectors (n, dim) float32 of every layer, from one pass over each text.

        They are not normalised: the first m components, normalised, equal `truncate(layer, m).encode(texts)`.
        """
        texts = list(check_texts(texts))
        vectors = {n: np.empty((len(texts), self._max_dim), dtype=np.float32) for n in range(1, self.layers + 1)}
        backbone = self.backbone.cut(self.layers)
        model: torch.nn.Module = backbone.model
        model.eval()
        with torch.inference_mode():
            for chunk, places in self.backbone.iterate_batches(texts, batch_size):
                states = backbone.compute_states(move_to_device(backbone.model.device, chunk), list(vectors))
                for n, state in zip(vectors, states, strict=True):
                    vectors[n][places] = self.apply_head(n, state)[:, : self._max_dim].cpu().numpy()
        return vectors

    def _make_engine(self) -> encoding.Engine:
        """The engine of this view: cut backbone, pooling, head and normalisation as one module."""
        deferred = self._find_deferred()
        if deferred is not None:
            return deferred.make_engine(self.layers, self._light_heads.get(self.layers), self.dim)
        cut = self.backbone.cut(self.layers) if self.layers < self.backbone.depth else self.backbone
        module = backbones.PooledBackbone(cut, self._get_head(self.layers), self.dim)
        return encoding.Engine(module, cut.tokenize, cut.pad, self.dim, cut.max_length)

    def make_graph(self) -> Graph:
        """The graph of this view, whose vectors can be cut further."""
        return replace(super().make_graph(), can_be_cut=True, layers=self.layers)

    # -- model folder ----------------------------------------------------------------------------------------------

    def write_weights(self, folder: Path) -> None:
        """Write this view as stock sentence-transformers modules, without deeper layers and further components."""
        heads: Any = {int(n): head for n, head in self.heads.items()}
        sentence_transformers_format.write(folder, self.backbone.cut(self.layers), heads, self.dim)
        calibration.write(self, folder, self.layers)

    @classmethod
    def load(cls, spec: Any, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote. Raises ArtefactError if a tensor is missing, extra, mis-shaped or not finite."""
        table = config.get("table")
        deferred = defer(
            folder, spec, lambda place: cls._load_open(spec, place, config), is_model_folder=True, table=table
        )
        if deferred is not None:
            dim = config.get("dim", deferred.width)
            if isinstance(dim, int) and 1 <= dim <= deferred.width:
                heads = sentence_transformers_format.read_heads(folder, deferred, dim)
                return cls(spec, deferred, heads, dim)
        return cls._load_open(spec, folder, config)

    @classmethod
    def _load_open(cls, spec: Any, folder: Path, config: Mapping[str, Any]) -> Self:
        backbone = backbones.load_from_model_folder(folder, spec.backbone, table=config.get("table"))
        dim = config.get("dim", backbone.width)
        if not isinstance(dim, int) or not 1 <= dim <= backbone.width:
            raise ArtefactError(f"{folder}: config.json: dim {dim!r} is outside 1…{backbone.width}")
        encoder = cls(spec, backbone, sentence_transformers_format.read_heads(folder, backbone, dim), dim)
        encoder.calibration = calibration.read(backbone.model, folder)
        encoder.module.eval()
        return encoder

    def extra_config(self) -> dict[str, Any]:
        """The number of components that the model folder holds, and facts of a coded token table."""
        return {"dim": self.dim, **coded_table.describe(self.backbone.model)}

    def card_facts(self) -> dict[str, Any]:
        """Architecture, layers, components, parameters by number of layers, token limit and prompts."""
        parameters = {}
        for n in range(1, self.layers + 1):
            parameters[str(n)] = coded_table.count_parameters(self.backbone.cut(n).model)
        return {
            "architecture": self.backbone.model.config.model_type,
            "layers": self.layers,
            "dim": self.dim,
            "parameters": parameters,
            "max_length": self.backbone.max_length,
            "prompts": self.prompts,
        }


class _SharedPass:
    """Vectors of every layer for each text seen, computed once, for as many texts as fit into LIMIT floats."""

    LIMIT = 1 << 27

    def __init__(self, encoder: TruncatableEncoder) -> None:
        self.encoder = encoder
        self._vectors: dict[str, list[np.ndarray]] = {}

    def has_room_for(self, texts: list[str]) -> bool:
        """Whether the vectors of these texts fit into LIMIT. False for inputs that are not strings."""
        count = (len(self._vectors) + len(texts)) * self.encoder.layers * self.encoder.dim
        return count <= self.LIMIT and all(isinstance(text, str) for text in texts)

    def encode(self, texts: list[str], layer: int, dim: int) -> np.ndarray:
        """(n, dim) float32 of unit norm, from the vectors of one layer."""
        new_texts = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new_texts:
            layers = list(self.encoder.encode_layers(new_texts).values())
            self._vectors |= {text: [vectors[i] for vectors in layers] for i, text in enumerate(new_texts)}
        rows = [self._vectors[text][layer - 1][:dim] for text in texts]
        vectors = np.array(rows, dtype=np.float32).reshape(-1, dim)
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def move_to_device(device: torch.device, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a batch on `device`."""
    return {name: values.to(device) for name, values in batch.items()}
