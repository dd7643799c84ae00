"""Towers: text and image backbones behind one interface, so that a head is written once for both modalities.

A `TextTower` wraps a sentence encoder, and is saved as stock sentence-transformers modules. `ImageBackbone` of
`zoo.vision.backbone` wraps a vision backbone, and has the same attributes and methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.core.errors import ArtefactError
from zoo.core.inputs import iterate_inputs
from zoo.ops.inference import evaluation_mode
from zoo.text import backbone, sentence_transformers_format
from zoo.text import engine as encoding
from zoo.text.backbone import Backbone
from zoo.vision import pretrained
from zoo.vision.backbone import BLOCK, ImageBackbone
from zoo.vision.spec import Vision

SIMILAR_LENGTHS = 8  # on a CPU, this many texts of similar lengths go through the backbone together


@dataclass
class TextTower:
    """A text backbone with the interface of `zoo.vision.backbone.ImageBackbone`."""

    body: Backbone
    modality = "text"

    def __post_init__(self) -> None:
        self.module: torch.nn.Module = self.body.model
        self.width, self.name, self.revision = self.body.width, self.body.name, self.body.revision
        self._engine: tuple[torch.nn.Module, encoding.Engine] | None = None
        self._feature_engine: encoding.Engine | None = None
        for name, parameter in self.body.model.named_parameters():
            # The pooler is saved for other programs that open the folder. It gets no gradient here, so it is not trained.
            parameter.requires_grad_(not name.startswith("pooler."))

    @property
    def max_length(self) -> int:
        """Longest input in tokens."""
        return self.body.max_length

    def batch(self, inputs: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the padded tokens of texts."""
        return self.body.pad(self.body.tokenize(inputs))

    def features(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return pooled features (n, width).

        On a CPU, texts of similar lengths go through the backbone together, because padding costs as much as text there. The
        features are the same.
        """
        ids, mask = batch["input_ids"], batch["attention_mask"]
        lengths = mask.sum(1)
        order = lengths.argsort(stable=True)
        size = SIMILAR_LENGTHS if ids.device.type == "cpu" else len(ids)
        pooled = []
        for part in torch.split(order, size):
            part_mask = mask[part, : int(lengths[part].max())]
            part_ids = ids[part, : part_mask.shape[1]]
            states = self.body.model(input_ids=part_ids, attention_mask=part_mask).last_hidden_state
            pooled.append(self.body.pool(states, part_mask))
        return torch.cat(pooled)[order.argsort()]

    def compute_features(self, inputs: Sequence[str]) -> torch.Tensor:
        """Return pooled features (n, width) float32 without a gradient, as fast as `encode`."""
        if self._feature_engine is None:
            module = backbone.PooledBackbone(self.body, None, self.width, normalizes=False)
            self._feature_engine = self._make_engine(module, self.width)
        return torch.from_numpy(self._feature_engine.encode(inputs))

    def _get_engine(self, projection: torch.nn.Module, dim: int) -> encoding.Engine:
        if self._engine is None or self._engine[0] is not projection:
            module = backbone.PooledBackbone(self.body, projection, dim)
            self._engine = (projection, self._make_engine(module, dim))
        return self._engine[1]

    def _make_engine(self, module: torch.nn.Module, dim: int) -> encoding.Engine:
        return encoding.Engine(module, self.body.tokenize, self.body.pad, dim, self.body.max_length)

    def encode(
        self,
        projection: torch.nn.Module,
        dim: int,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
    ) -> np.ndarray:
        """Return unit vectors (n, dim) float32 of texts."""
        return self._get_engine(projection, dim).encode(inputs, show_progress=show_progress, precision=precision)

    def stream(
        self, projection: torch.nn.Module, dim: int, inputs: Iterable[Any], precision: str = "fp32"
    ) -> Iterator[np.ndarray]:
        """Encode in blocks, in order."""
        return self._get_engine(projection, dim).stream(inputs, precision=precision)

    def save(self, folder: Path, projection: torch.nn.Module, dim: int) -> None:
        """Write stock sentence-transformers modules, with `projection` as their Dense module."""
        heads: dict[int, Any] = {self.body.depth: projection} if isinstance(projection, torch.nn.Linear) else {}
        sentence_transformers_format.write(folder, self.body, heads, dim)

    def state(self) -> dict[str, Any]:
        """Return {}: the sentence-transformers modules hold all that `load` needs."""
        return {}


Tower = TextTower | ImageBackbone


def build(spec: str | Vision, *, revision: str | None, max_length: int | None, folder: Path) -> Tower:
    """Load the pretrained backbone, or make a new one. Raises ZooError if it cannot be loaded."""
    if isinstance(spec, Vision):
        return pretrained.build(spec, folder)
    return TextTower(backbone.load(spec, revision=revision, folder=folder, max_length=max_length))


def compute_features(tower: Tower, inputs: Iterable[Any]) -> torch.Tensor:
    """Return features (n, width) float32 of texts or images, not normalised. BLOCK images are processed at a time."""
    inputs = list(iterate_inputs(inputs, tower.modality, (str, bytes, Path)))
    if isinstance(tower, TextTower):
        return tower.compute_features(inputs)
    blocks = []
    with evaluation_mode(tower.module), torch.inference_mode():
        device = next(tower.module.parameters()).device
        for start in range(0, len(inputs), BLOCK):
            batch = tower.batch(inputs[start : start + BLOCK])
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            blocks.append(tower.features(batch).float().cpu())
    # `cat` makes a normal tensor here. Tensors that were made in inference mode cannot be used in training.
    return torch.cat(blocks) if blocks else torch.empty(0, tower.width)


def load(spec: str | Vision, folder: Path, config: Mapping[str, Any], dim: int) -> tuple[Tower, torch.nn.Module]:
    """Open the tower that `save` wrote, and its projection: a linear layer to `dim` components, or the identity.

    `config` is what the tower's `state` returned. Raises ArtefactError.
    """
    if isinstance(spec, Vision):
        tower, tensors = pretrained.load_from_model_folder(spec, folder, config)
        return tower, _load_projection(tensors, tower.width, dim, folder)
    body = backbone.load_from_model_folder(folder, spec)
    heads = sentence_transformers_format.read_heads(folder, body, dim)
    if set(heads) - {body.depth}:
        raise ArtefactError(f"{folder}: holds heads of shallow layers, which this family does not have")
    projection = heads.get(body.depth)
    if projection is None and dim != body.width:
        raise ArtefactError(f"{folder}: the linear layer from {body.width} to {dim} components is missing")
    return TextTower(body), projection if projection is not None else torch.nn.Identity()


def _load_projection(tensors: Mapping[str, torch.Tensor], width: int, dim: int, folder: Path) -> torch.nn.Module:
    """Return the linear layer of these tensors, or the identity if there are none. Raises ArtefactError."""
    if not tensors and width == dim:
        return torch.nn.Identity()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    is_finite = all(tensor.isfinite().all() for tensor in tensors.values())
    if shapes != {"weight": (dim, width), "bias": (dim,)} or not is_finite:
        raise ArtefactError(
            f"{folder}: the linear layer from {width} to {dim} components is missing, has other shapes, or is not finite"
        )
    projection = torch.nn.Linear(width, dim)
    projection.load_state_dict(dict(tensors))
    return projection
