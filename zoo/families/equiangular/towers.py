"""A backbone of either modality behind one face: inputs to a batch, a batch to features, inputs to unit vectors, files.

    Texts     a sentence encoder, kept as stock sentence-transformers modules
    ImageBackbone    a vision backbone (`zoo.vision.backbone`)

A family that only needs features writes its head once and takes both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ArtefactError
from zoo.core.lazy import lazy
from zoo.ops.inference import evaluation_mode
from zoo.text import backbone, sentence_transformers_format
from zoo.text import engine as encoding
from zoo.vision import pretrained
from zoo.vision.backbone import BLOCK, ImageBackbone
from zoo.vision.spec import Vision

if TYPE_CHECKING:
    import numpy as np
    import torch

    from zoo.text.backbone import Backbone
else:
    np, torch = lazy("numpy"), lazy("torch")

LIKE = 8  # texts of like lengths that go through the backbone together


@dataclass
class Texts:
    """A text backbone; the attributes and methods are those of `zoo.vision.backbone.ImageBackbone`."""

    body: Backbone
    modality = "text"

    def __post_init__(self) -> None:
        self.module: torch.nn.Module = self.body.model
        self.width, self.name, self.revision = self.body.width, self.body.name, self.body.revision
        self._engine: tuple[torch.nn.Module, encoding.Engine] | None = None
        for name, parameter in self.body.model.named_parameters():
            parameter.requires_grad_(
                not name.startswith("pooler.")
            )  # kept for those who load the file, never used here

    @property
    def max_length(self) -> int:
        """In tokens."""
        return self.body.max_length

    def batch(self, inputs: Sequence[str]) -> dict[str, torch.Tensor]:
        """Padded tokens of texts."""
        return self.body.pad(self.body.tokenize(inputs))

    def features(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, width) pooled. On a CPU texts of like lengths go through the backbone together, since padding costs as much there
        as text does; their pooled states are the same."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        lengths = mask.sum(1)
        order = lengths.argsort(stable=True)
        parts = order.split(LIKE if ids.device.type == "cpu" else len(ids))
        pooled = []
        for part in parts:
            own = mask[part, : int(lengths[part].max())]
            states = self.body.model(input_ids=ids[part, : own.shape[1]], attention_mask=own).last_hidden_state
            pooled.append(self.body.pool(states, own))
        return torch.cat(pooled)[order.argsort()]

    def _runner(self, project: torch.nn.Module, dim: int) -> encoding.Engine:
        if self._engine is None or self._engine[0] is not project:
            module = backbone.PooledBackbone(self.body, project, dim)
            self._engine = (
                project,
                encoding.Engine(module, self.body.tokenize, self.body.pad, dim, self.body.max_length),
            )
        return self._engine[1]

    def encode(
        self,
        project: torch.nn.Module,
        dim: int,
        inputs: Iterable[Any],
        *,
        show_progress: bool = False,
        precision: str = "fp32",
    ) -> np.ndarray:
        """Unit vectors (n, dim) float32 of texts."""
        return self._runner(project, dim).encode(inputs, show_progress=show_progress, precision=precision)

    def stream(
        self, project: torch.nn.Module, dim: int, inputs: Iterable[Any], precision: str = "fp32"
    ) -> Iterator[np.ndarray]:
        """`encode` in blocks."""
        return self._runner(project, dim).stream(inputs, precision=precision)

    def save(self, folder: Path, project: torch.nn.Module, dim: int) -> None:
        """As stock sentence-transformers modules, `project` as its Dense."""
        heads: dict[int, Any] = {self.body.depth: project} if isinstance(project, torch.nn.Linear) else {}
        sentence_transformers_format.write(folder, self.body, heads, dim)

    def state(self) -> dict[str, Any]:
        """Nothing: the modules say it."""
        return {}


Tower = Texts | ImageBackbone


def build(spec: str | Vision, *, revision: str | None, max_length: int | None, folder: Path) -> Tower:
    """The backbone as it comes. Raises ZooError where it cannot be had."""
    if isinstance(spec, Vision):
        return pretrained.build(spec, folder)
    return Texts(backbone.load(spec, revision=revision, folder=folder, max_length=max_length))


def features(tower: Tower, inputs: Iterable[Any]) -> torch.Tensor:
    """(n, width) float32 of texts or images by the backbone alone, not normalised, BLOCK at a time."""
    held, parts = list(inputs), []
    with evaluation_mode(tower.module), torch.inference_mode():
        device = next(tower.module.parameters()).device
        for start in range(0, len(held), BLOCK):
            batch = tower.batch(held[start : start + BLOCK])
            parts.append(tower.features({k: v.to(device) for k, v in batch.items()}).float().cpu())
    return torch.cat(parts).clone() if parts else torch.empty(0, tower.width)


def read(spec: str | Vision, folder: Path, config: Mapping[str, Any], dim: int) -> tuple[Tower, torch.nn.Module]:
    """The tower that `save` wrote, and its `project`: a linear map to `dim` components, or the identity. Raises ArtefactError."""
    if isinstance(spec, Vision):
        tower, found = pretrained.load_from_model_folder(spec, folder, config)
        return tower, _linear(found, tower.width, dim, folder)
    body = backbone.load_from_model_folder(folder, spec)
    heads = sentence_transformers_format.read_heads(folder, body, dim)
    if set(heads) - {body.depth}:
        raise ArtefactError(f"{folder}: holds heads of shallow layers, which this family has not")
    project = heads.get(body.depth)
    if project is None and dim != body.width:
        raise ArtefactError(f"{folder}: has no map from {body.width} to {dim} components")
    return Texts(body), project if project is not None else torch.nn.Identity()


def _linear(found: Mapping[str, torch.Tensor], width: int, dim: int, folder: Path) -> torch.nn.Module:
    if not found and width == dim:
        return torch.nn.Identity()
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if shapes != {"weight": (dim, width), "bias": (dim,)} or not all(t.isfinite().all() for t in found.values()):
        raise ArtefactError(f"{folder}: the map from {width} to {dim} components is not there, or not one")
    project = torch.nn.Linear(width, dim)
    project.load_state_dict(dict(found))
    return project
